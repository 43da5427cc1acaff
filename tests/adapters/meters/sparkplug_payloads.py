"""Sparkplug B payloads for tests, by an encoder of its own, so that the reading of them is not judged by itself."""

import struct

INT8, INT32, INT64, UINT64, FLOAT, DOUBLE, BOOLEAN = 1, 3, 4, 8, 9, 10, 11


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _property(value: str | int) -> bytes:
    if isinstance(value, str):
        return _number(1, 12) + _bytes(8, value.encode())
    return _number(1, INT32) + _number(3, value)


def _properties(**values: str | int) -> bytes:
    keys = b"".join(_bytes(1, key.encode()) for key in values)
    packed = b"".join(_bytes(2, _property(value)) for value in values.values())
    return keys + packed


def metric(
    name: str | None = None,
    value: float | int | bool | None = None,
    *,
    alias: int | None = None,
    at: int | None = None,
    datatype: int | None = None,
    historical: bool = False,
    **properties: str | int,
) -> bytes:
    """One metric; `value` None is null; `at` counts milliseconds."""
    found = _bytes(1, name.encode()) if name is not None else b""
    found += _number(2, alias) if alias is not None else b""
    found += _number(3, at) if at is not None else b""
    found += _number(4, datatype) if datatype is not None else b""
    found += _number(5, 1) if historical else b""
    if value is None:
        found += _number(7, 1)
    found += _bytes(9, _properties(**properties)) if properties else b""
    if isinstance(value, bool):
        found += _number(14, int(value))
    elif isinstance(value, int):
        wide = datatype in (INT64, UINT64)
        found += _number(11 if wide else 10, value & ((1 << (64 if wide else 32)) - 1))
    elif isinstance(value, float) and datatype == FLOAT:
        found += _varint(12 << 3 | 5) + struct.pack("<f", value)
    elif isinstance(value, float):
        found += _varint(13 << 3 | 1) + struct.pack("<d", value)
    return _bytes(2, found)


def payload(at: int, seq: int | None, *metrics: bytes) -> bytes:
    """A payload of that time (milliseconds) and sequence number."""
    return _number(1, at) + b"".join(metrics) + (_number(3, seq) if seq is not None else b"")
