"""Strict reading of what strangers send: JSON, numbers, instants, hexadecimal and base64. Pure; raises `Malformed`.

Looser parsers turn a broken message into a wrong register: bare NaN, a key given twice, 16-digit floats, a local time
taken for UTC. Here each of them has a reason word under which it is counted and kept.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from adapters.contracts import Malformed

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 32
MAX_ITEMS = 10_000

_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_DIGITS = 15
_SMALLEST_EXPONENT = -20


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("duplicate_key", "a member of an object is given twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise Malformed("not_a_number", f"{word} is not a JSON value")


# Reads ten times as fast but keeps the last of two equal keys without a word; see `_fast`.
_FAST = msgspec.json.Decoder(float_hook=Decimal)
_WRITER = msgspec.json.Encoder()
# A single byte is looked for many times as fast as two, and most messages hold none of these.
_SPACED = ((b" ", b" :"), (b"\n", b"\n:"), (b"\t", b"\t:"), (b"\r", b"\r:"))


def _members(value: Any) -> int:
    """How many members all the objects in `value` have."""
    if type(value) is dict:
        return len(value) + sum([_members(one) for one in value.values() if type(one) is dict or type(one) is list])
    return sum([_members(one) for one in value if type(one) is dict or type(one) is list])


def _fast(payload: bytes) -> Any:
    """The JSON object in `payload`, or None where the careful reader must look.

    Every member of an object is written `":` unless a space stands before its colon. So where none does, as many
    members read as there are `":` prove that no key was given twice. Written anew, a value without escapes has one
    `":` for each of its members, and counting those is quicker than going through it.
    """
    try:
        value = _FAST.decode(payload)
        if type(value) is not dict:
            return None
        for space, before in _SPACED:
            if space in payload and before in payload:
                return None
        members = _members(value) if b"\\" in payload else _WRITER.encode(value).count(b'":')
    except (ValueError, TypeError, RecursionError, ArithmeticError):
        return None
    return value if members == payload.count(b'":') else None


class Members:
    """A JSON object whose members are read, as strictly as `json_value` reads, only when they are asked for.

    Networks wrap ten times as much around a register as it takes; a member nobody asks for is only known to be JSON.
    """

    __slots__ = ("_members",)

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._members = found

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> Any:
        """The member's value, None when it is not there. Raises Malformed as `json_value`."""
        found = self._members.get(name)
        if type(found) is not msgspec.Raw:
            return found
        raw = bytes(found)
        if raw[:1] in _BRACKETS:
            return json_value(raw)
        try:
            return _FAST.decode(raw)
        except (ValueError, ArithmeticError):
            return json_value(raw)

    def inner(self, name: str) -> "Members | None":
        """The member where it is an object, its own members unread; else None."""
        found = self._members.get(name)
        if type(found) is not msgspec.Raw:
            return Members(found) if isinstance(found, dict) else None
        raw = bytes(found)
        return members(raw) if raw[:1] == b"{" else None


_UNREAD = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BRACKETS = frozenset({b"{", b"["})


def members(payload: bytes) -> Members:
    """The object in `payload` with its members unread; Malformed as `json_object`.

    The members and their punctuation filling the payload to the last byte prove that none was given twice; where they
    do not, the careful reader reads all of it.
    """
    if len(payload) <= MAX_BYTES:
        try:
            found = _UNREAD.decode(payload)
            filled = 1 + sum([len(raw) for raw in found.values()]) + sum([len(name) + 4 for name in found])
            if filled == len(payload) and found:
                return Members(found)
        except (ValueError, TypeError, RecursionError):
            pass
    return Members(json_object(payload))


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_no_constant)


def json_value(payload: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The JSON value in `payload`, fractions as Decimal.

    Raises Malformed: too_large, not_utf8, too_deep, duplicate_key, not_a_number, not_json.
    """
    if len(payload) > max_bytes:
        raise Malformed("too_large", f"{len(payload)} bytes; the limit is {max_bytes}")
    flat = payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH
    if flat and (value := _fast(payload)) is not None:
        return value
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("not_utf8", f"not UTF-8 at byte {error.start}") from None
    if not flat:
        if _depth(payload) > MAX_DEPTH:
            raise Malformed("too_deep", f"nested more than {MAX_DEPTH} deep")
        if (value := _fast(payload)) is not None:
            return value
    try:
        return _DECODER.decode(text)
    except Malformed:
        raise
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise Malformed("not_json", f"not JSON: {error}") from None


def _depth(payload: bytes) -> int:
    """Deepest nesting, brackets inside strings counted too: an upper bound is enough for a cap."""
    deepest = now = 0
    for letter in payload.translate(None, _NO_BRACKETS):
        now += 1 if letter in b"[{" else -1
        deepest = max(deepest, now)
    return deepest


def json_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`; Malformed as `json_value`, and not_an_object."""
    value = json_value(payload)
    if not isinstance(value, dict):
        raise Malformed("not_an_object", "the message is not a JSON object")
    return value


def text(value: Any, name: str, *, longest: int = 200) -> str:
    """A non-empty string that a database can keep; Malformed bad_field else. Whole numbers become their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Malformed("bad_field", f"{name} is not a text")
    if len(value) > longest:
        raise Malformed("bad_field", f"{name} is longer than {longest} characters")
    if not value.isprintable() and ("\x00" in value or _SURROGATE.search(value)):
        raise Malformed("bad_field", f"{name} holds characters that are no text")
    return value.strip()


def number(value: Any, name: str = "value") -> Decimal:
    """A finite decimal from a JSON number or a numeric string.

    Raises Malformed: no_value (null or empty is not zero), not_a_number, out_of_range.
    """
    if type(value) is Decimal:
        found = value
    elif type(value) is int:
        if abs(value) >= 10**_DIGITS:
            raise Malformed("out_of_range", f"{name} is beyond any register")
        return Decimal(value)
    elif value is None or value == "":
        raise Malformed("no_value", f"{name} is empty")
    elif isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise Malformed("not_a_number", f"{name} is not a number: {value[:40]!r}")
        try:
            found = Decimal(value.strip())
        except InvalidOperation:
            raise Malformed("not_a_number", f"{name} is not a number: {value[:40]!r}") from None
    else:
        raise Malformed("not_a_number", f"{name} is not a number")
    # by its digits: arithmetic with an exponent of millions raises
    if not found.is_finite() or int(found.as_tuple().exponent) < _SMALLEST_EXPONENT:
        raise Malformed("out_of_range", f"{name} is beyond any register")
    if not found:
        return Decimal(0)
    if found.adjusted() >= _DIGITS:
        raise Malformed("out_of_range", f"{name} is beyond any register")
    return found


def _local(shown: datetime, zone: str, again: bool) -> datetime:
    """The instant at which clocks in `zone` show that; ValueError where they never do."""
    clock = ZoneInfo(zone)
    found = shown.replace(tzinfo=clock, fold=again).astimezone(UTC)
    if found.astimezone(clock).replace(tzinfo=None, fold=0) != shown:
        # that clock runs in another zone, or on standard time all year: every other time of its would be wrong as well
        raise ValueError(f"clocks in {zone} never showed {shown}")
    return found


def instant(value: Any, name: str = "time", *, zone: str | None = None, again: bool = False) -> datetime | None:
    """An aware UTC datetime from ISO 8601 text; None when it is local time and no `zone` says where.

    In the hour that the clock shows twice in autumn a local time is the first one, or the second when said `again`; one
    of the hour that is left out in spring is no possible time.
    Raises Malformed bad_time for text that is no time. Fractions beyond the microsecond are cut.
    """
    if not isinstance(value, str) or not _ISO.fullmatch(value.strip()):
        raise Malformed("bad_time", f"{name} is not an ISO 8601 time: {str(value)[:40]!r}")
    try:
        found = datetime.fromisoformat(value.strip().upper())
        if found.tzinfo is UTC:
            return found
        if found.tzinfo is None:
            return None if zone is None else _local(found, zone, again)
        return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Malformed("bad_time", f"{name} is no possible time: {error}") from None


def epoch(seconds: int | Decimal, name: str = "time") -> datetime:
    """An aware UTC datetime from Unix seconds; Malformed bad_time when outside the calendar."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed("bad_time", f"{name} is no possible time: {seconds}") from None


def from_base64(value: Any, name: str = "data") -> bytes:
    """Bytes from strict base64; Malformed bad_field else."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Malformed("bad_field", f"{name} is not base64") from None


def from_hex(value: Any, name: str = "data") -> bytes:
    """Bytes from hexadecimal text; Malformed bad_field else."""
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        raise Malformed("bad_field", f"{name} is not hexadecimal") from None


def count(data: bytes, order: Literal["big", "little"], name: str = "register") -> int:
    """The count in a register's bytes; Malformed sentinel where all bits are set: so does a frame say "no value"."""
    if not data.strip(b"\xff"):
        raise Malformed("sentinel", f"the {name} holds the device's word for 'no value'")
    return int.from_bytes(data, order)


def bcd(value: Decimal, name: str = "value") -> int:
    """The decimal register that a receiver took for binary (2381589, hexadecimal 245715, says 245715).

    Raises Malformed not_a_number when the digits are no decimal ones.
    """
    digits = f"{int(value):x}" if value >= 0 and value == int(value) else "-"
    if not digits.isdigit():
        raise Malformed("not_a_number", f"{name} is no binary-coded decimal: {digits}")
    return int(digits)


def eui(value: Any, name: str = "devEui") -> str:
    """A radio identity in lower case without separators; Malformed bad_field else."""
    found = text(value, name, longest=40).replace("-", "").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{8,16}", found):
        raise Malformed("bad_field", f"{name} is not a radio identity: {found[:40]!r}")
    return found
