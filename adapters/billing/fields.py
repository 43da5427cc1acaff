"""The fields of a billing message, each read as what it must be. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from adapters.contracts import Heading, MalformedEvent, Moment

LONGEST_ID = 128
# A day of another time is a slip of the pen; the end of something may lie beyond, as many systems write "never".
YEARS = range(1900, 2201)
LONGEST_TEXT = 4000
MOST_ITEMS = 100_000
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def shown_value(value: Any) -> str:
    """A refused value as a sentence can repeat it."""
    return ascii(value)[:80]


class Fields:
    """The fields of one JSON object, each read as what it must be; refusals name the field by its path."""

    def __init__(self, values: Mapping[str, Any], path: str, heading: Heading) -> None:
        self.values, self.path, self.heading = values, path, heading

    def missing(self, name: str) -> MalformedEvent:
        return MalformedEvent("missing_field", f"{self.path}{name} is missing.", self.heading)

    def bad(self, name: str, wanted: str) -> MalformedEvent:
        given = shown_value(self.values.get(name))
        return MalformedEvent("bad_value", f"{self.path}{name} is {given}; it must be {wanted}.", self.heading)

    def inside(self, name: str) -> "Fields":
        """The object under `name`."""
        value = self.values.get(name)
        if value is None:
            raise self.missing(name)
        if not isinstance(value, dict):
            raise self.bad(name, "an object")
        return Fields(value, f"{self.path}{name}.", self.heading)

    def optional_inside(self, name: str) -> "Fields | None":
        return None if self.values.get(name) is None else self.inside(name)

    def items(self, name: str) -> list["Fields"]:
        """The objects of the list under `name`; an absent list is empty."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MOST_ITEMS or not all(isinstance(v, dict) for v in value):
            raise self.bad(name, "a list of objects")
        return [Fields(v, f"{self.path}{name}[{i}].", self.heading) for i, v in enumerate(value)]

    def optional_identifier(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**LONGEST_ID:
            value = str(value)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or UNPRINTABLE.search(value):
            raise self.bad(name, f"a text of 1 to {LONGEST_ID} printable characters")
        return value

    def optional_text(self, name: str) -> str | None:
        """Free text as it can be stored: NUL and lone surrogates become U+FFFD, overlong text is cut."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(name, "a text")
        return _UNSTORABLE.sub("\ufffd", value[:LONGEST_TEXT])

    def optional_count(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            raise self.bad(name, "a whole number from 0")
        return value

    def optional_truth(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def optional_decimal(self, name: str) -> Decimal | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            value = Decimal(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**20:
            value = Decimal(value)
        digits = value.as_tuple().digits if isinstance(value, Decimal) else ()
        if not isinstance(value, Decimal) or len(digits) > 30 or (value and not -20 < value.adjusted() < 20):
            raise self.bad(name, "a number or a decimal text")
        return value

    def optional_money(self, name: str) -> Decimal | None:
        value = self.optional_decimal(name)
        if value is None:
            return None
        if abs(value) >= 10**11 or value != round(value, 2):
            raise self.bad(name, "an amount of money with at most two decimal places")
        return round(value, 2)

    def optional_instant(self, name: str) -> datetime | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and INSTANT.fullmatch(value):
            try:
                instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
            except (ValueError, OverflowError):
                instant = None
            if instant is not None and instant.year in YEARS:
                return instant
        raise self.bad(name, "an RFC 3339 timestamp of our time, such as 2026-11-23T07:30:00Z")

    def optional_moment(self, name: str) -> Moment | None:
        value = self.values.get(name)
        if isinstance(value, str) and _DAY.fullmatch(value):
            try:
                day = date.fromisoformat(value)
            except ValueError:
                day = date.min
            if day.year not in YEARS:
                raise self.bad(name, "a day of our time such as 2026-11-23, or an RFC 3339 timestamp")
            return day
        return self.optional_instant(name)

    def optional_end(self, name: str) -> Moment | None:
        """Until when something holds; None, and any day after the last of YEARS, is without end."""
        value = self.values.get(name)
        written = isinstance(value, str) and (_DAY.fullmatch(value) or INSTANT.fullmatch(value))
        if isinstance(value, str) and written and int(value[:4]) >= YEARS.stop:
            return None
        return self.optional_moment(name)

    def optional_day(self, name: str) -> date | None:
        """A calendar day; of an instant the day as it was written, in the offset it was written with."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and (_DAY.fullmatch(value) or INSTANT.fullmatch(value)):
            try:
                day = date.fromisoformat(value[:10])
            except ValueError:
                day = date.min
            if day.year in YEARS:
                return day
        raise self.bad(name, "a day of our time such as 2026-11-23")

    def optional_span(self, name: str) -> tuple[datetime, datetime] | None:
        inside = self.optional_inside(name)
        if inside is None:
            return None
        begin, end = inside.instant("from"), inside.instant("to")
        if end <= begin:
            raise self.bad(name, "a span whose `to` lies after its `from`")
        return begin, end

    def identifier(self, name: str) -> str:
        value = self.optional_identifier(name)
        if value is None:
            raise self.missing(name)
        return value

    def instant(self, name: str) -> datetime:
        value = self.optional_instant(name)
        if value is None:
            raise self.missing(name)
        return value

    def moment(self, name: str) -> Moment:
        value = self.optional_moment(name)
        if value is None:
            raise self.missing(name)
        return value

    def day(self, name: str) -> date:
        value = self.optional_day(name)
        if value is None:
            raise self.missing(name)
        return value

    def decimal(self, name: str) -> Decimal:
        value = self.optional_decimal(name)
        if value is None:
            raise self.missing(name)
        return value
