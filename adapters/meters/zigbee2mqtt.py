"""Zigbee2MQTT water meters and valves: `zigbee2mqtt/{friendly name}`. Pure.

`water_consumed` is litres in one model and cubic metres in another, and only the bridge's device list says which: it
stays an index until the registry states the unit.
"""

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
)

_FAULTS = {
    "leakage": "leak",
    "leak": "leak",
    "water_leakage": "leak",
    "backflow": "backflow",
    "reverse_flow": "backflow",
    "low_battery": "low_battery",
    "battery_alarm": "low_battery",
    "empty_pipe": "dry",
    "tamper": "tamper",
    "magnetic_interference": "tamper",
    "high_flow": "high_flow",
    # the fault bits of Tuya's water meters, as the converters name them
    "magnetism_alarm": "tamper",
    "cover_alarm": "tamper",
    "revflow_alarm": "backflow",
    "empty_pip_alarm": "dry",
    "overflow_alarm": "high_flow",
}
# What converters of other makes say with a member of its own.
_TOLD = {"water_leak": "leak", "battery_low": "low_battery", "tamper": "tamper"}
_ABOUT = frozenset({"availability", "set", "get", "action"})


def recognises(topic: str, payload: bytes) -> bool:
    """By topic; a friendly name may have levels of its own, the bridge and what is about a device are no device."""
    levels = topic.split("/")
    return len(levels) >= 2 and levels[0] == "zigbee2mqtt" and levels[1] != "bridge" and levels[-1] not in _ABOUT


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the meter's own number where it is sent, else the friendly name."""
    message = strict.json_object(payload)
    name = strict.text(topic.partition("/")[2] or topic, "topic")
    meter = message.get("meter_id")
    device = meter.strip() if isinstance(meter, str) and meter.strip() else name
    return [
        Envelope("zigbee2mqtt", strict.text(device, "meter_id"), fields=message, decoder="zigbee2mqtt", aliases=(name,))
    ]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The counter as an index, faults as alarm words."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a device's state is an object")
    value = envelope.fields.get("water_consumed")
    if value is None:
        return Decoded("no_reading", reason="no_register", detail="the state has no water_consumed")
    said = envelope.fields.get("faults")
    words = said if isinstance(said, list) else str(said or "").split(",")
    found = [_FAULTS[str(word).strip()] for word in words if str(word).strip() in _FAULTS]
    found += [flag for name, flag in _TOLD.items() if envelope.fields.get(name) is True]
    flags = tuple(dict.fromkeys(found))
    return Decoded(
        "readings", [MeterReading(envelope.device, INDEX_RAW, strict.number(value), None, None, "receipt", flags)]
    )


ADAPTER = EnvelopeAdapter("zigbee2mqtt", "Zigbee2MQTT", ("zigbee2mqtt/+",), recognises, read)
DECODER = DeviceDecoder("zigbee2mqtt", "2", "Zigbee2MQTT water meters", None, decode)
