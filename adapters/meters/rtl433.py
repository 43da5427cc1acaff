"""rtl_433 events in JSON, one model per kind of meter. Pure.

Only water meters make readings: by model, by what an ERT meter says of its type, or because a member's name states a
volume (`volume_gal`). Arad states its unit beside the value; ERT, R900 and Orion counts have none. `time` is local
without a zone, seconds since 1970, an offset into a sample (`@0.01s`), or missing; numbers may be hexadecimal text.
Layouts: the rtl_433 project's device decoders.
"""

import re
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

_EPOCH = re.compile(r"\d{9,10}(\.\d{1,9})?", re.ASCII)
_IDENTITIES = ("id", "EndpointID", "ERTSerialNumber")
_NAMED = {"volume_m3": "m3", "volume_l": "l", "volume_gal": "gal", "volume_ft3": "cf", "total_m3": "m3"}
_WATER_TYPES = frozenset({3, 11, 13})


def recognises(topic: str, payload: bytes) -> bool:
    """By the model member and the topic, or the model alone for the meters we know."""
    return b'"model"' in payload and ("rtl_433" in topic or any(name.encode() in payload for name in _MODELS))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per event; a device without identity is a sensor we do not need."""
    message = strict.json_object(payload)
    identity = next((message[name] for name in _IDENTITIES if message.get(name) is not None), None)
    if identity is None or not (str(message.get("model")) in _MODELS or _NAMED.keys() & message.keys()):
        return [Envelope("rtl433", None, kind="other_model")]
    return [Envelope("rtl433", strict.text(identity, "id", longest=60), fields=message, decoder="rtl433")]


def _number(value: Any) -> Decimal:
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            value = int(value[:40], 16)
        except ValueError:
            raise Malformed("not_a_number", "a hexadecimal count cannot be read") from None
    return strict.number(value)


def _on(value: Any) -> bool:
    return value is True or (type(value) is int and value > 0)


def _time(fields: dict[str, Any], zone: str | None) -> datetime | None:
    stamp = fields.get("time")
    if not isinstance(stamp, str) or stamp.startswith("@"):
        return None
    if _EPOCH.fullmatch(stamp):
        return strict.epoch(Decimal(stamp), "time")
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
    said = fields.get("MeterType")
    if said is None:
        kind = next((fields[name] for name in ("ert_type", "ERTType", "EndpointType") if fields.get(name)), None)
        water = kind is not None and int(_number(kind)) & 0x0F in _WATER_TYPES
    else:
        water = str(said).lower() == "water"
    names = ("Consumption", "consumption_data", "LastConsumptionCount")
    return (INDEX_RAW, next((fields[n] for n in names if fields.get(n) is not None), None), None, ()) if water else None


def _orion(fields: dict[str, Any]) -> tuple[str, Any, str | None, tuple[str, ...]]:
    return INDEX_RAW, fields.get("reading"), None, ("leak",) if _on(fields.get("leaking")) else ()


def _named(fields: dict[str, Any]) -> tuple[str, Any, str | None, tuple[str, ...]] | None:
    name = next((name for name in _NAMED if fields.get(name) is not None), None)
    if name is None:
        return None
    flags = tuple(flag for word, flag in (("leaking", "leak"), ("leak", "leak")) if _on(fields.get(word)))
    return VOLUME, fields[name], _NAMED[name], tuple(dict.fromkeys(flags))


_MODELS: dict[str, Model] = {
    "AradMsMeter-Dialog3G": _arad,
    "Neptune-R900": _r900,
    "SCMplus": _ert,
    "ERT-SCM": _ert,
    "IDM": _ert,
    "NETIDM": _ert,
    "Orion-Endpoint": _orion,
    "Badger-ORION": _named,
    "Mueller-Hot-Rod": _named,
}


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """What the model says; gas and electricity meters of the same models are not ours."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        raise Malformed("not_an_object", "an event is an object")
    found = _MODELS.get(str(fields.get("model")), _named)(fields)
    if found is None:
        return Decoded("no_reading", reason="other_commodity", detail="the meter does not say that it is water")
    register, value, unit, flags = found
    if register == INDEX_RAW and config.options.get("bcd") is True:
        value = strict.bcd(_number(value))
    at = _time(fields, config.time_zone)
    reading = MeterReading(envelope.device, register, _number(value), unit, at, "gateway" if at else "receipt", flags)
    return Decoded("readings", [reading])


ADAPTER = EnvelopeAdapter("rtl433", "rtl_433", ("rtl_433/+/events",), recognises, read)
DECODER = DeviceDecoder("rtl433", "2", "rtl_433 water meters", None, decode)
