"""rtl_433 events in JSON, one model per kind of meter. Pure.

Only models known to be water meters make readings. Arad states its unit; ERT and R900 counts have none. `time` is local
without a zone, an offset into a sample (`@0.01s`), or missing; numbers may be hexadecimal text.
Layouts: the rtl_433 project's device decoders.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
)


def recognises(topic: str, payload: bytes) -> bool:
    """By the model member and the topic, or the model alone for the meters we know."""
    return b'"model"' in payload and ("rtl_433" in topic or any(name.encode() in payload for name in _MODELS))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per event; a device without identity is a sensor we do not need."""
    message = strict.json_object(payload)
    identity = message.get("id", message.get("EndpointID"))
    if identity is None or message.get("model") not in _MODELS:
        return [Envelope("rtl433", None, kind="other_model")]
    return [Envelope("rtl433", strict.text(identity, "id", longest=60), fields=message, decoder="rtl433")]


def _number(value: Any) -> Decimal:
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return Decimal(int(value, 16))
        except ValueError:
            raise Malformed("not_a_number", "a hexadecimal count cannot be read") from None
    return strict.number(value)


def _on(value: Any) -> bool:
    return value is True or (type(value) is int and value > 0)


def _time(fields: dict[str, Any], zone: str | None) -> datetime | None:
    stamp = fields.get("time")
    if not isinstance(stamp, str) or stamp.startswith("@"):
        return None
    return strict.instant(stamp, "time", zone=zone)


Model = Callable[[dict[str, Any]], tuple[str, Any, str | None, tuple[str, ...]] | None]


def _arad(fields: dict[str, Any]) -> tuple[str, Any, str | None, tuple[str, ...]]:
    unit = fields.get("unit")
    return (
        VOLUME,
        fields.get("volume"),
        unit if isinstance(unit, str) else None,
        ("leak",) if _on(fields.get("leaking")) else (),
    )


def _r900(fields: dict[str, Any]) -> tuple[str, Any, str | None, tuple[str, ...]]:
    named = {"backflow": "backflow", "leaknow": "leak", "leak": "leak_history"}
    return (
        INDEX_RAW,
        fields.get("consumption"),
        None,
        tuple(flag for name, flag in named.items() if _on(fields.get(name))),
    )


def _ert(fields: dict[str, Any]) -> tuple[str, Any, str | None, tuple[str, ...]] | None:
    if str(fields.get("MeterType", "")).lower() != "water":
        return None
    return INDEX_RAW, fields.get("Consumption", fields.get("consumption_data")), None, ()


_MODELS: dict[str, Model] = {
    "AradMsMeter-Dialog3G": _arad,
    "Neptune-R900": _r900,
    "SCMplus": _ert,
    "ERT-SCM": _ert,
    "IDM": _ert,
    "NETIDM": _ert,
}


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """What the model says; gas and electricity meters of the same models are not ours."""
    fields = envelope.fields
    model = _MODELS.get(str(fields.get("model"))) if isinstance(fields, dict) else None
    if model is None:
        raise Malformed("other_model", "not a water meter's model")
    found = model(fields)
    if found is None:
        return Decoded("no_reading", reason="other_commodity", detail="the meter does not say that it is water")
    register, value, unit, flags = found
    at = _time(fields, config.time_zone)
    reading = MeterReading(envelope.device, register, _number(value), unit, at, "gateway" if at else "receipt", flags)
    return Decoded("readings", [reading])


ADAPTER = EnvelopeAdapter("rtl433", "rtl_433", ("rtl_433/+/events",), recognises, read)
DECODER = DeviceDecoder("rtl433", "1", "rtl_433 water meters", lambda envelope: False, decode)
