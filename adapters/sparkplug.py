"""Sparkplug B payloads: reading the Protobuf message, and writing the one command the hub sends. Pure.

Layout: Eclipse Sparkplug 3.0, chapter 6. Only numbers, names and the properties `engUnit` and `Quality` are read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from adapters import strict
from adapters.contracts import Malformed

_MOST_METRICS = 10_000
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
_BOOLEAN = 11
REBIRTH = "Node Control/Rebirth"


@dataclass(slots=True)
class Metric:
    """One metric as sent; `value` None when null, of no number type or beyond any register.

    `quality` is 192 for good, 0 for bad, 500 for stale; None when not said. An integer is as it travelled (`signed`).
    """

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    value: Decimal | None = None
    historical: bool = False
    unit: str | None = None
    datatype: int | None = None
    quality: int | None = None


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
        return value.decode("utf-8").replace("\0", "\ufffd") if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        raise Malformed("not_utf8", "a name of the payload is not UTF-8") from None


def _real(value: int | bytes, code: str) -> Decimal | None:
    """A float with the digits it holds; None for what is no register (NaN, infinity, beyond any)."""
    if not isinstance(value, bytes) or len(value) != struct.calcsize(code):
        return None
    (found,) = struct.unpack(code, value)
    try:
        return strict.number(Decimal(repr(found) if code == "<d" else f"{found:.7g}"))
    except Malformed:
        return None


def _properties(data: int | bytes) -> dict[str, int | bytes]:
    """The property set, each value as it stands in its field."""
    if not isinstance(data, bytes):
        return {}
    keys: list[str | None] = []
    values: list[bytes] = []
    for number, value in _fields(data):
        if number == 1:
            keys.append(_text(value))
        elif number == 2 and isinstance(value, bytes):
            values.append(value)
    found: dict[str, int | bytes] = {}
    for key, packed in zip(keys, values, strict=False):
        inner = next((value for number, value in _fields(packed) if number in (3, 4, 8)), None)
        if key is not None and inner is not None:
            found[key] = inner
    return found


def _metric(data: bytes) -> Metric:
    found = Metric()
    null, raw = False, None
    for number, value in _fields(data):
        if number == 1:
            found.name = _text(value)
        elif number == 2 and isinstance(value, int):
            found.alias = value
        elif number == 3 and isinstance(value, int):
            found.timestamp = value
        elif number == 4 and isinstance(value, int):
            found.datatype = value
        elif number == 5:
            found.historical = bool(value)
        elif number == 7:
            null = bool(value)
        elif number == 9:
            properties = _properties(value)
            unit, quality = properties.get("engUnit"), properties.get("Quality")
            found.unit = _text(unit) if unit is not None else None
            found.quality = quality if isinstance(quality, int) else None
        elif number in (10, 11) and isinstance(value, int):
            raw = value
        elif number == 12:
            found.value = _real(value, "<f")
        elif number == 13:
            found.value = _real(value, "<d")
    if raw is not None:
        found.value = Decimal(raw)
    if null:
        found.value = None
    return found


def signed(value: Decimal, datatype: int | None) -> Decimal:
    """An integer as its datatype means it: signed types travel in two's complement, in unsigned fields."""
    bits = _SIGNED_BITS.get(datatype or 0)
    whole = int(value)
    return Decimal(whole - (1 << bits)) if bits and whole == value and whole >> (bits - 1) & 1 else value


def rebirth_command(milliseconds: int) -> bytes:
    """The payload that asks an edge node for its births, of that time."""
    name = REBIRTH.encode()
    metric = b"\x0a" + bytes([len(name)]) + name + b"\x20" + bytes([_BOOLEAN]) + b"\x70\x01"
    return b"\x08" + _written(milliseconds) + b"\x12" + bytes([len(metric)]) + metric


def _written(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


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
