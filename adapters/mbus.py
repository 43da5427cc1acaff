"""Records of the M-Bus application layer (EN 13757-3), as meters put them into frames of any radio. Pure.

Only what water meters need: integers and BCD, volumes, dates, the compact profile of logged values (annex F).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import NamedTuple

from adapters.contracts import Malformed

INSTANTANEOUS = 0
# Orthogonal VIFEs: a flow backwards; a profile whose values go back in time.
REVERSE, INVERSE_PROFILE = 0x3C, 0x13
_SIZES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 6, 7: 8, 8: 0, 9: 1, 10: 2, 11: 3, 12: 4, 14: 6}
_LVAR, _FILLER = 13, 0x2F
_MOST_RECORDS = 500


class Record(NamedTuple):
    """One record. `function` 0 is a present value, 1 a maximum, 2 a minimum; `storage` 0 is now, others are logs."""

    function: int
    storage: int
    tariff: int
    vif: int
    vifes: tuple[int, ...]
    coding: int
    data: bytes


class Profile(NamedTuple):
    """Logged differences going back from a base value: (step back in time, signed differences)."""

    step: timedelta
    differences: list[int]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        if self.at + length > len(self.data):
            raise Malformed("implausible_frame", "a record is longer than the frame")
        self.at += length
        return self.data[self.at - length : self.at]

    def chain(self, first: int) -> Iterator[int]:
        """The extension bytes that follow `first`."""
        byte, count = first, 0
        while byte & 0x80:
            byte = self.take(1)[0]
            count += 1
            if count > 10:
                raise Malformed("implausible_frame", "a record's header does not end")
            yield byte


def application_data(frame: bytes) -> bytes:
    """The records of a frame that begins with its CI field. Raises Malformed: implausible_frame, encrypted."""
    header = {0x78: 0, 0x7A: 4, 0x72: 12}.get(frame[0]) if frame else None
    if header is None or len(frame) < 1 + header:
        raise Malformed("implausible_frame", "the frame begins with no known M-Bus header")
    if header and int.from_bytes(frame[header - 1 : header + 1], "little") & 0x1F00:
        raise Malformed("encrypted", "the frame is encrypted: the network that holds the key must decode it")
    return frame[1 + header :]


def records(data: bytes) -> list[Record]:
    """The records in order. Raises Malformed implausible_frame."""
    reader = _Reader(data)
    found: list[Record] = []
    while reader.at < len(data):
        dif = reader.take(1)[0]
        if dif == _FILLER:
            continue
        if dif & 0x0F == 0x0F or len(found) > _MOST_RECORDS:
            raise Malformed("implausible_frame", f"record type {dif:#04x} is not used by meters we know")
        storage, tariff = dif >> 6 & 1, 0
        for place, dife in enumerate(reader.chain(dif)):
            storage |= (dife & 0x0F) << (1 + 4 * place)
            tariff |= (dife >> 4 & 3) << (2 * place)
        vif = reader.take(1)[0]
        vifes = tuple(byte & 0x7F for byte in reader.chain(vif))
        coding = dif & 0x0F
        size = reader.take(1)[0] if coding == _LVAR else _SIZES.get(coding)
        if size is None:
            raise Malformed("implausible_frame", f"data coding {coding} is not used by meters we know")
        found.append(Record(dif >> 4 & 3, storage, tariff, vif & 0x7F, vifes, coding, reader.take(size)))
    return found


def integer(record: Record) -> int | None:
    """A binary or BCD number; None where the record says "no value"."""
    if record.coding in (9, 10, 11, 12, 14):
        digits = record.data[::-1].hex()
        return int(digits) if digits.isdigit() else None
    found = int.from_bytes(record.data, "little", signed=True)
    return None if not record.data or found == -1 << (8 * len(record.data) - 1) else found


def is_volume(record: Record) -> bool:
    """Whether the record counts a volume at all, with whatever extensions."""
    return 0x10 <= record.vif <= 0x17


def cubic_metres(record: Record, count: int) -> Decimal:
    """`count` of a volume record in m³ (VIF 0x10 … 0x17: millilitres to ten cubic metres)."""
    return Decimal(count).scaleb(record.vif - 0x16)


def moment(record: Record, clock: tzinfo) -> datetime | None:
    """A date (type G) or date and time (types F, I) by a clock that runs in the zone `clock`; None for "no time"."""
    if record.vif not in (0x6C, 0x6D) or record.vifes:
        return None
    raw = record.data
    try:
        if len(raw) == 2:
            return datetime(2000 + (raw[0] >> 5 | (raw[1] & 0xF0) >> 1), raw[1] & 0x0F, raw[0] & 0x1F, tzinfo=clock)
        if len(raw) == 4 and not raw[0] & 0x80:
            year = raw[2] >> 5 | (raw[3] & 0xF0) >> 1
            century = 1900 + 100 * (raw[1] >> 5 & 3)
            base = century if century > 1900 or year > 80 else 2000
            hour, minute = raw[1] & 0x1F, raw[0] & 0x3F
            return datetime(base + year, raw[3] & 0x0F, raw[2] & 0x1F, hour, minute, tzinfo=clock)
        if len(raw) == 6 and not raw[1] & 0x80:
            year = 2000 + (raw[3] >> 5 | (raw[4] & 0xF0) >> 1)
            hour, minute, second = raw[2] & 0x1F, raw[1] & 0x3F, raw[0] & 0x3F
            return datetime(year, raw[4] & 0x0F, raw[3] & 0x1F, hour, minute, second, tzinfo=clock)
    except ValueError:
        return None
    return None


def profile(record: Record) -> Profile | None:
    """The differences of an inverse compact profile in seconds to days; None for spacings by month or unknown."""
    if len(record.data) < 2:
        return None
    control, spacing = record.data[0], record.data[1]
    size, unit, mode = control & 0x0F, control >> 4 & 3, control >> 6
    if not 1 <= size <= 4 or mode == 0 or not 0 < spacing < 251:
        return None
    step = spacing * (timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))[unit]
    differences = []
    for at in range(2, len(record.data) - size + 1, size):
        raw = record.data[at : at + size]
        value = int.from_bytes(raw, "little", signed=mode == 3)
        if value == (-1 << (8 * size - 1) if mode == 3 else (1 << 8 * size) - 1):
            break
        differences.append(-value if mode == 2 else value)
    return Profile(step, differences)
