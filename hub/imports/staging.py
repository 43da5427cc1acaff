"""Rows on their way into the tables: a temporary table filled by COPY, then one statement for all rows.

Writes a temporary table in the caller's transaction; it is gone when that ends.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import shapely
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.imports.columns import Column
from hub.imports.rows import PROGRESS_STEP, Fault, Progress, Row, shown


def stage(
    session: Session,
    rows: Sequence[Row],
    parsed: Sequence[Sequence[Any]],
    columns: Sequence[Column],
    *,
    geometry: bool,
    progress: Progress | None = None,
) -> None:
    """Fill `import_stage(row_number, <columns>[, geometry])`. A later import of the same transaction replaces it."""
    connection = raw_of(session)
    # A long file may take longer than a request's statement may.
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute("DROP TABLE IF EXISTS import_stage")
    spec: list[sql.Composable] = [sql.SQL("row_number integer")]
    spec += [sql.SQL("{} " + c.sql_type).format(sql.Identifier(c.name)) for c in columns]
    if geometry:
        spec.append(sql.SQL("geometry geometry(Geometry, 4326)"))
    connection.execute(sql.SQL("CREATE TEMP TABLE import_stage ({}) ON COMMIT DROP").format(sql.SQL(", ").join(spec)))
    with connection.cursor() as cursor, cursor.copy("COPY import_stage FROM STDIN") as copy:
        for index, (row, values) in enumerate(zip(rows, parsed, strict=True)):
            record: tuple[Any, ...] = (row.number, *values)
            copy.write_row((*record, _ewkb(row)) if geometry else record)
            if progress and index % PROGRESS_STEP == 0:
                progress("staged", index, len(rows))
    connection.execute("ANALYZE import_stage")
    if progress:
        progress("staged", len(rows), len(rows))


def _ewkb(row: Row) -> str | None:
    if row.geometry is None:
        return None
    return str(shapely.to_wkb(shapely.set_srid(row.geometry, 4326), hex=True, include_srid=True))


def doubled(rows: Sequence[Row], keys: Iterable[Any], column: str) -> list[Fault]:
    """A fault for each row whose key an earlier row has already used."""
    first: dict[Any, int] = {}
    faults = []
    for row, value in zip(rows, keys, strict=True):
        if value in first:
            spoken = " / ".join(str(part) for part in value) if isinstance(value, tuple) else value
            faults.append(
                Fault(row.number, column, shown(spoken), f"is already in row {first[value]}", "Keep one of the rows.")
            )
        first.setdefault(value, row.number)
    return faults


def unknown(session: Session, column: str, table: str, target: str, remedy: str) -> list[Fault]:
    """A fault for each staged row whose `column` names no row of `table` (compared with its column `target`)."""
    found = session.execute(
        text(
            f"SELECT s.row_number, s.{column} FROM import_stage s WHERE s.{column} IS NOT NULL "  # noqa: S608  (our own names)
            f"AND NOT EXISTS (SELECT FROM {table} t WHERE t.{target} = s.{column}) ORDER BY s.row_number"
        )
    )
    return [Fault(number, column, shown(value), "is not known", remedy) for number, value in found]


def merge(session: Session, statement: str, parameters: dict[str, Any] | None = None) -> tuple[int, int]:
    """Run an upsert that returns `inserted` (boolean) per written row; (inserted, updated)."""
    counts = session.execute(
        text(f"WITH written AS ({statement}) SELECT inserted, count(*) FROM written GROUP BY 1"),  # noqa: S608
        parameters or {},
    )
    by_kind = {bool(inserted): int(count) for inserted, count in counts}
    return by_kind.get(True, 0), by_kind.get(False, 0)
