"""Innotas LoRa water meters: `ZS` (Zählerstand) in whole cubic metres, as frames or as the codec's object. Pure.

Ports 1 to 4 begin with the register (32 bits, the high byte first); port 2 adds the due-date register (`STZS`) and the
error bits, ports 3 and 4 flow figures. Layout: the vendor's codec in the Actility device catalogue.
"""

from decimal import Decimal

from adapters import strict
from adapters.contracts import VOLUME, Decoded, DeviceConfig, DeviceDecoder, Envelope, Malformed, MeterReading
from adapters.meters import mapping

_LAYOUT = mapping.JsonMapping(
    "innotas_wm",
    "Innotas LoRa water meter (ZS: Zählerstand in m³)",
    (mapping.Field("ZS", unit="m3"),),
    (
        mapping.Alarm("STATUS.ERROR_LECK", "leak"),
        mapping.Alarm("STATUS.ERROR_SABOT", "tamper"),
        mapping.Alarm("STATUS.ERROR_BATT", "low_battery"),
    ),
)
_BESIDE = frozenset({"STZS", "STATUS", "Max_DF_L_pro_h", "Min_DF_L_pro_h", "DF_L_h1"})
_REGISTER_PORTS, _STATUS_PORT = (1, 2, 3, 4), 2


def recognises(envelope: Envelope) -> bool:
    """By the register and any of its German neighbours."""
    return isinstance(envelope.fields, dict) and "ZS" in envelope.fields and bool(_BESIDE & envelope.fields.keys())


def _frame(envelope: Envelope, data: bytes) -> Decoded:
    if len(data) < 4:
        raise Malformed("implausible_frame", f"a register needs four bytes, the frame has {len(data)}")
    value = Decimal(strict.count(data[:4], "big"))
    alarms = []
    if envelope.port == _STATUS_PORT and len(data) >= 10:
        errors, states = data[8], data[9]
        found = ((states & 0x80, "leak"), (errors & 2, "tamper"), (errors & 4, "low_battery"))
        alarms = [flag for bit, flag in found if bit]
    at, source = envelope.time, envelope.time_source
    reading = MeterReading(envelope.device, VOLUME, value, "m3", at, source, seq=envelope.counter)
    return mapping.settled(envelope, [reading], [], tuple(alarms), at, source)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The codec's object, else the frame."""
    if isinstance(envelope.fields, dict):
        return mapping.apply(_LAYOUT, envelope, config)
    if envelope.data and envelope.port in _REGISTER_PORTS:
        return _frame(envelope, envelope.data)
    return Decoded("no_reading", reason="other_frame", detail=f"port {envelope.port} carries no register")


DECODER = DeviceDecoder("innotas_wm", "2", "Innotas LoRa water meter", recognises, decode)
