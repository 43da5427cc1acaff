"""A report of balances in the form somebody asked for: one place for the command and the web."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import orjson
from sqlalchemy.orm import Session

from hub.errors import BadInput
from hub.leakage import balances, tables

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "geojson": "application/geo+json",
}


def written(
    session: Session, found: Sequence[dict[str, Any]], first: date, last: date, *, format: str, utility: str
) -> bytes:
    """The report `found` over [first, last) as the bytes of a file of `format`. Raises BadInput for an unknown one."""
    if format == "json":
        document = balances.table(list(found), first, last)
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n"
    if format == "csv":
        return tables.as_csv(found).encode()
    if format == "html":
        return tables.as_html(found, first, last, utility=utility).encode()
    if format == "geojson":
        return tables.as_geojson(session, found) + b"\n"
    # the libraries of these two take a while to load, and few processes ever need them
    if format == "xlsx":
        from hub.leakage import workbook

        return workbook.as_xlsx(found, first, last, utility=utility)
    if format == "pdf":
        from hub.leakage import printed

        return printed.balances(found, first, last, utility=utility)
    raise BadInput(
        "There is no such format.", field="format", value=format[:20], remedy=f"Use {', '.join(MEDIA_TYPES)}."
    )
