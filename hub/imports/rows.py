"""What every import file becomes: rows of named values, each with the number a person finds it by, and its faults.

Pure; writes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shapely.geometry.base import BaseGeometry

from hub.errors import BadInput

# Told what was done to rows (`read`, `checked`, `staged`, `written`), to how many of them, and how many there are.
Progress = Callable[[str, int, int], None]
PROGRESS_STEP = 5_000


@dataclass(slots=True)
class Row:
    """One record of a file. `number` is the line of a CSV file (its header is line 1) or the feature counted from 1."""

    number: int
    values: dict[str, Any]
    geometry: BaseGeometry | None = None


@dataclass(slots=True, frozen=True)
class Fault:
    """Why a row cannot be taken, and what to do about it. `row` is None when the file as a whole is at fault."""

    row: int | None
    column: str | None
    value: str | None
    problem: str
    remedy: str

    def sentence(self) -> str:
        """The fault on one line."""
        where = "file" if self.row is None else f"row {self.row}"
        column = f", {self.column}" if self.column else ""
        value = f" {self.value!r}" if self.value is not None else ""
        return f"{where}{column}{value}: {self.problem}. {self.remedy}"

    def document(self) -> dict[str, Any]:
        """The fault as a JSON object."""
        return {
            "row": self.row,
            "column": self.column,
            "value": self.value,
            "problem": self.problem,
            "remedy": self.remedy,
        }


class ImportRefused(BadInput):
    """A file of which nothing was stored; `faults` names every bad row."""

    kind, title = "import-refused", "Nothing of this file was stored"

    def __init__(self, kind: str, faults: list[Fault]) -> None:
        ordered = sorted(faults, key=lambda fault: (fault.row or 0, fault.column or ""))
        rows = len({fault.row for fault in ordered if fault.row is not None})
        what = f"{rows} bad row{'s' if rows != 1 else ''}" if rows else "the file cannot be read"
        super().__init__(
            f"Nothing was imported: {what}. First: {ordered[0].sentence()}",
            remedy="Correct the named rows and import the whole file again; rows already right do no harm.",
            errors=[fault.document() for fault in ordered],
        )
        self.import_kind = kind
        self.faults = ordered


@dataclass(slots=True)
class Table:
    """A file that could be read: its rows, the columns it brought, what was assumed, and rows that are no rows."""

    rows: list[Row]
    columns: list[str]
    has_geometry: bool
    decimal_comma: bool = False
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def shown(value: Any, limit: int = 80) -> str:
    """`value` short enough for an error list, without characters that a terminal or JSON would choke on."""
    text = str(value)
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"
