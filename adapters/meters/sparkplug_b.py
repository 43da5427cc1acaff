"""Sparkplug B: `spBv1.0/{group}/{type}/{node}[/{device}]`, Protobuf. Pure.

A metric is a register when the registry names it (`config.metrics`: {"Volume": {"unit": "m3"}}) or its `engUnit`
property is a unit of volume. Data may name metrics by the alias that a birth gave them; an alias without its birth is
no reading, and says so, so that a rebirth can be asked for. Layout: Eclipse Sparkplug 3.0, chapter 6.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
)
from adapters.units import canonical

_TOPIC = re.compile(r"spBv1\.0/([^/]+)/([A-Z]+)/([^/]+)(?:/([^/]+))?")
_DATA = frozenset({"NDATA", "DDATA", "NBIRTH", "DBIRTH"})
_MOST_METRICS = 10_000


@dataclass(slots=True)
class Metric:
    """One metric as sent; `value` None when null or of no number type."""

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    value: Decimal | None = None
    historical: bool = False
    unit: str | None = None


@dataclass(slots=True)
class Payload:
    """A decoded payload."""

    timestamp: int | None = None
    seq: int | None = None
    metrics: list[Metric] = field(default_factory=list)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise Malformed("not_protobuf", "a number of the payload does not end")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in order; lengths are held against the bytes there are."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Malformed("not_protobuf", f"wire type {kind} is not used")
        if at + length > len(data):
            raise Malformed("not_protobuf", "a field is longer than the payload")
        yield key >> 3, data[at : at + length]
        at += length


def _text(value: int | bytes) -> str | None:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        raise Malformed("not_utf8", "a name of the payload is not UTF-8") from None


def _real(value: int | bytes, code: str) -> Decimal | None:
    if not isinstance(value, bytes) or len(value) != struct.calcsize(code):
        return None
    (found,) = struct.unpack(code, value)
    return strict.number(Decimal(repr(found) if code == "<d" else f"{found:.7g}"))


def _eng_unit(data: int | bytes) -> str | None:
    """The property set's `engUnit`."""
    if not isinstance(data, bytes):
        return None
    keys: list[str | None] = []
    values: list[bytes] = []
    for number, value in _fields(data):
        if number == 1:
            keys.append(_text(value))
        elif number == 2 and isinstance(value, bytes):
            values.append(value)
    for key, packed in zip(keys, values, strict=False):
        if key == "engUnit":
            return next((_text(value) for number, value in _fields(packed) if number == 8), None)
    return None


def _metric(data: bytes) -> Metric:
    found = Metric()
    datatype, null = 0, False
    for number, value in _fields(data):
        if number == 1:
            found.name = _text(value)
        elif number == 2 and isinstance(value, int):
            found.alias = value
        elif number == 3 and isinstance(value, int):
            found.timestamp = value
        elif number == 4 and isinstance(value, int):
            datatype = value
        elif number == 5:
            found.historical = bool(value)
        elif number == 7:
            null = bool(value)
        elif number == 9:
            found.unit = _eng_unit(value)
        elif number in (10, 11) and isinstance(value, int):
            # signed types travel in two's complement
            bits = {1: 8, 2: 16, 3: 32, 4: 64}.get(datatype, 0)
            found.value = Decimal(value - (1 << bits) if bits and value >> (bits - 1) & 1 else value)
        elif number == 12:
            found.value = _real(value, "<f")
        elif number == 13:
            found.value = _real(value, "<d")
    if null:
        found.value = None
    return found


def parse(data: bytes) -> Payload:
    """The payload. Raises Malformed not_protobuf, too_many."""
    found = Payload()
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            found.timestamp = value
        elif number == 2 and isinstance(value, bytes):
            found.metrics.append(_metric(value))
            if len(found.metrics) > _MOST_METRICS:
                raise Malformed("too_many", "more metrics than a payload may have")
        elif number == 3 and isinstance(value, int):
            found.seq = value
    return found


def recognises(topic: str, payload: bytes) -> bool:
    """By topic."""
    return topic.startswith("spBv1.0/")


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the device is `{group}/{node}[/{device}]`."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Malformed("no_device", "the topic is not spBv1.0/{group}/{type}/{node}")
    device = strict.text("/".join(part for part in (found[1], found[3], found[4]) if part), "topic")
    if found[2] not in _DATA:
        return [Envelope("sparkplug_b", device, kind=found[2])]
    return [Envelope("sparkplug_b", device, data=payload, time_source="gateway", decoder="sparkplug_b")]


def _instant(milliseconds: int | None) -> Any:
    return None if milliseconds is None else strict.epoch(Decimal(milliseconds) / 1000)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Metrics in a unit of volume, or named in the registry."""
    payload = parse(envelope.data or b"")
    named = config.options.get("metrics")
    declared: dict[str, Any] = named if isinstance(named, dict) else {}
    found = []
    unknown = 0
    for metric in payload.metrics:
        if metric.name is None:
            unknown += metric.alias is not None
            continue
        entry = declared.get(metric.name)
        unit = entry.get("unit") if isinstance(entry, dict) else metric.unit
        if metric.value is None or (metric.name not in declared and canonical(metric.unit) is None):
            continue
        at = _instant(metric.timestamp if metric.timestamp is not None else payload.timestamp)
        flags = ("q:historic",) if metric.historical else ()
        found.append(MeterReading(envelope.device, VOLUME, metric.value, unit, at, "gateway", flags, metric.name[:80]))
    if found:
        return Decoded("readings", found)
    if unknown:
        return Decoded("no_reading", reason="alias_without_birth", detail=f"{unknown} metrics named by alias only")
    return Decoded("no_reading", reason="no_register", detail="no metric is a volume")


ADAPTER = EnvelopeAdapter("sparkplug_b", "Sparkplug B", ("spBv1.0/#",), recognises, read)
DECODER = DeviceDecoder("sparkplug_b", "1", "Sparkplug B metrics", lambda envelope: False, decode)
