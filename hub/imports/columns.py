"""The columns of import files: what each may hold, and how a cell becomes a value. Pure; writes nothing."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from hub.imports.rows import PROGRESS_STEP, Fault, Progress, Row, Table, shown
from hub.paths import nameable

MAX_TEXT_CHARS = 10_000
# Beyond any register or amount; a longer number is a key that slipped into the wrong column.
MAX_DIGITS = 30
# A year beyond these is a slip of the pen.
YEARS = range(1900, 2201)
_COMMA = re.compile(r"^[+-]?\d+,\d+$")
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n"})


@dataclass(slots=True, frozen=True)
class Context:
    """What cells are read against: the utility's time zone, and whether the file writes decimals with a comma."""

    zone: ZoneInfo
    decimal_comma: bool = False


class BadCell(ValueError):
    """A cell that cannot be taken: the problem, and the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


_Day = TypeVar("_Day", date, datetime)
Parser = Callable[[Any, Context], Any]


@dataclass(slots=True, frozen=True)
class Column:
    """One column of a kind of file: its name, the SQL type it is staged as, how it is read, and whether it must be."""

    name: str
    sql_type: str
    parse: Parser
    required: bool = False


def parse_rows(
    table: Table, columns: Sequence[Column], zone: ZoneInfo, progress: Progress | None = None
) -> tuple[list[list[Any]], list[Fault]]:
    """Each row's values in the order of `columns` (None where blank or absent), and every fault found."""
    context = Context(zone, table.decimal_comma)
    absent = [c.name for c in columns if c.required and c.name not in table.columns]
    if absent:
        found = shown(", ".join(table.columns)) or "none"
        remedy = f"Add {'it' if len(absent) == 1 else 'them'}; columns found: {found}."
        return [], [Fault(None, ", ".join(absent), None, "is missing" if len(absent) == 1 else "are missing", remedy)]
    faults: list[Fault] = []
    parsed = []
    for index, row in enumerate(table.rows):
        parsed.append([_cell(row, column, context, faults) for column in columns])
        if progress and index % PROGRESS_STEP == 0:
            progress("checked", index, len(table.rows))
    if progress:
        progress("checked", len(table.rows), len(table.rows))
    return parsed, faults


def _cell(row: Row, column: Column, context: Context, faults: list[Fault]) -> Any:
    raw = row.values.get(column.name)
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        if column.required:
            faults.append(Fault(row.number, column.name, None, "is blank", "Every row needs it."))
        return None
    try:
        return column.parse(raw, context)
    except BadCell as error:
        faults.append(Fault(row.number, column.name, shown(raw), error.problem, error.remedy))
        return None


def text(raw: Any, context: Context) -> str:
    """Text as PostgreSQL can keep it, without blanks around it. A whole number from a map file loses its `.0`."""
    if isinstance(raw, bool | dict | list):
        raise BadCell("is not plain text", "Write one word or sentence.")
    if isinstance(raw, float) and raw.is_integer() and abs(raw) < 1e15:
        raw = int(raw)
    value = str(raw).strip()
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise BadCell("holds a character that cannot be stored", "Export the file again as plain UTF-8 text.")
    if len(value) > MAX_TEXT_CHARS:
        raise BadCell(f"is longer than {MAX_TEXT_CHARS} characters", "Check the quotes in this row.")
    return value


def key(raw: Any, context: Context) -> str:
    """An identifier: one line of at most 200 characters."""
    value = text(raw, context)
    if len(value) > 200 or not value.isprintable():
        raise BadCell("is no identifier", "Use at most 200 printable characters.")
    if not nameable(value):
        raise BadCell("is no identifier", "Dots alone cannot stand in an address; use another name.")
    return value


def number(raw: Any, context: Context) -> Decimal:
    """A finite decimal number, exactly as written."""
    if isinstance(raw, bool):
        raise BadCell("is not a number", "Write digits, e.g. 12.5.")
    if isinstance(raw, float):
        if not math.isfinite(raw):
            raise BadCell("is not a finite number", "Write digits, e.g. 12.5.")
        raw = repr(raw)
    value = str(raw).strip()
    if context.decimal_comma and _COMMA.match(value):
        value = value.replace(",", ".")
    try:
        parsed = Decimal(value)
    except InvalidOperation:
        raise BadCell("is not a number", "Write digits with a decimal point, without thousands separators.") from None
    if not parsed.is_finite():
        raise BadCell("is not a finite number", "Write digits, e.g. 12.5.")
    if abs(parsed.adjusted()) > MAX_DIGITS or len(parsed.as_tuple().digits) > MAX_DIGITS:
        raise BadCell("is too long a number", f"At most {MAX_DIGITS} digits are kept.")
    return parsed


def at_least_zero(raw: Any, context: Context) -> Decimal:
    """A number that is not negative."""
    value = number(raw, context)
    if value < 0:
        raise BadCell("is negative", "Write zero or more.")
    return value


def above_zero(raw: Any, context: Context) -> Decimal:
    """A number greater than zero."""
    value = number(raw, context)
    if value <= 0:
        raise BadCell("is not greater than zero", "Leave it blank if it is not known.")
    return value


def whole(low: int, high: int) -> Parser:
    """A whole number within limits."""

    def parse(raw: Any, context: Context) -> int:
        value = number(raw, context)
        if value != value.to_integral_value() or not low <= value <= high:
            raise BadCell(f"is not a whole number from {low} to {high}", "Correct it, or leave it blank.")
        return int(value)

    return parse


def money(raw: Any, context: Context) -> Decimal:
    """An amount with at most two decimals."""
    value = number(raw, context)
    if abs(value) >= Decimal("1e12") or value != round(value, 2):
        raise BadCell("is not an amount of money", "Write it with at most two decimals, e.g. 123.45.")
    return value


def choice(*allowed: str) -> Parser:
    """One of a few words, in any case."""

    def parse(raw: Any, context: Context) -> str:
        value = text(raw, context).lower().replace(" ", "_").replace("-", "_")
        if value not in allowed:
            raise BadCell("is not one of the known words", f"Use {', '.join(allowed)}.")
        return value

    return parse


def flag(raw: Any, context: Context) -> bool:
    """Yes or no."""
    if isinstance(raw, bool):
        return raw
    value = text(raw, context).lower()
    if value in TRUE_WORDS or value in FALSE_WORDS:
        return value in TRUE_WORDS
    raise BadCell("is neither yes nor no", "Write yes or no.")


def day(raw: Any, context: Context) -> date:
    """A calendar day, ISO 8601; a time after it is cut off."""
    value = text(raw, context)
    try:
        parsed = date.fromisoformat(value) if _DAY.match(value) else datetime.fromisoformat(value).date()
    except ValueError:
        raise BadCell("is not a date", "Write it as 2026-01-31.") from None
    return _of_our_time(parsed)


def instant(raw: Any, context: Context) -> datetime:
    """A moment, ISO 8601. Without an offset it is local time of the utility; a day alone is its first moment."""
    value = text(raw, context)
    try:
        if _DAY.match(value):
            parsed = datetime.combine(date.fromisoformat(value), time(), tzinfo=context.zone)
        else:
            parsed = datetime.fromisoformat(value)
            parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=context.zone)
        parsed = parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadCell("is not a date and time", "Write it as 2026-01-31T08:15:00+02:00.") from None
    return _of_our_time(parsed)


def _of_our_time(value: _Day) -> _Day:
    if value.year not in YEARS:
        raise BadCell("is not of our time", f"Years run from {YEARS[0]} to {YEARS[-1]}.")
    return value


def words(raw: Any, context: Context) -> list[str]:
    """Several words in one cell, parted by comma, semicolon, bar or blank."""
    parts = raw if isinstance(raw, list) else re.split(r"[,;|\s]+", text(raw, context))
    return list(dict.fromkeys(key(part, context).lower() for part in parts if str(part).strip()))
