"""Balances as an Excel workbook: one sheet of terms, one of the meters behind them. Writes nothing but its answer."""

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import xlsxwriter

from hub.leakage.tables import COLUMNS, LIMITED

_NUMBER = "#,##0.0"
_FLOWS = (
    "meter",
    "direction",
    "kind",
    "other_zone",
    "registered_m3",
    "filled_m3",
    "error_pct",
    "corrected_m3",
    "coverage",
)


def as_xlsx(found: Sequence[dict[str, Any]], first: date, last: date, *, utility: str) -> bytes:
    """The balances of a report (see `documents.document`) as the bytes of an .xlsx file."""
    out = io.BytesIO()
    # a name that begins with = or @ stays a name
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "nan_inf_to_errors": True}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_properties({"title": f"Water balance {first} to {last}", "author": utility})
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        number = book.add_format({"num_format": _NUMBER})
        _sheet(book, "Balance", _balance_rows(found), head, number)
        _sheet(book, "Components", _component_rows(found), head, number)
        _sheet(book, "Meters", _meter_rows(found), head, number)
    return out.getvalue()


def _sheet(book: Any, name: str, rows: list[list[Any]], head: Any, number: Any) -> None:
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 2)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    for line, row in enumerate(rows):
        for column, value in enumerate(row):
            if value is None:
                continue
            if line == 0:
                sheet.write_string(line, column, str(value), head)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                sheet.write_number(line, column, value, number)
            else:
                sheet.write_string(line, column, str(value))
    if rows:
        sheet.autofit()
        sheet.autofilter(0, 0, max(1, len(rows) - 1), len(rows[0]) - 1)


def _balance_rows(found: Sequence[dict[str, Any]]) -> list[list[Any]]:
    head = [*COLUMNS, *(f"{term} {end} 95 %" for term in LIMITED for end in ("from", "to"))]
    rows: list[list[Any]] = [[*head, "coverage", "notes"]]
    for one in found:
        limits = [bound for term in LIMITED for bound in one["limits_95"].get(term, (None, None))]
        rows.append([*(one[name] for name in COLUMNS), *limits, one["coverage"]["overall"], "; ".join(one["notes"])])
    return rows


def _component_rows(found: Sequence[dict[str, Any]]) -> list[list[Any]]:
    names = list(dict.fromkeys(name for one in found for name in one["components"]))
    rows: list[list[Any]] = [["zone", "name", *names]]
    rows += [[one["zone"], one["name"], *(one["components"].get(name) for name in names)] for one in found]
    return rows


def _meter_rows(found: Sequence[dict[str, Any]]) -> list[list[Any]]:
    rows: list[list[Any]] = [["zone", "name", *_FLOWS]]
    rows += [[one["zone"], one["name"], *(flow.get(name) for name in _FLOWS)] for one in found for flow in one["flows"]]
    return rows
