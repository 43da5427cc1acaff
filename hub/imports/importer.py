"""One import from file to tables: read, check every row, stage, check against what is stored, write.

Writes through the importer of the kind, in the caller's transaction, and one line in the change log. Nothing at all is
written when a single row is at fault.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from hub import changes
from hub.imports import staging
from hub.imports.columns import Column, parse_rows
from hub.imports.files import read_table
from hub.imports.rows import Fault, ImportRefused, Progress, Row, Table


@dataclass(slots=True)
class Load:
    """What an importer is given to store: the staged rows' columns and who brings them.

    `present` are the columns the file has; a column it does not have leaves what is stored as it is.
    """

    actor: str
    zone: ZoneInfo
    present: frozenset[str]
    rows: Sequence[Row]
    parsed: Sequence[Sequence[Any]]
    progress: Progress | None = None


@dataclass(slots=True)
class Stored:
    """How many rows were new or changed something already stored; the rest were as stored already."""

    inserted: int = 0
    updated: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Importer:
    """One kind of file. `check` looks at the rows alone, `check_stored` at the stage beside the tables."""

    kind: str
    columns: tuple[Column, ...]
    check: Callable[[Sequence[Row], Sequence[Sequence[Any]]], list[Fault]]
    check_stored: Callable[[Session], list[Fault]]
    store: Callable[[Session, Load], Stored]
    geometry: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    def at(self, name: str) -> int:
        """Where column `name` stands in a parsed row."""
        return self.names.index(name)


@dataclass(slots=True)
class Outcome:
    """What an import did."""

    kind: str
    rows: int
    inserted: int
    updated: int
    notes: list[str]

    @property
    def unchanged(self) -> int:
        """Rows that were stored already just so."""
        return max(0, self.rows - self.inserted - self.updated)

    def document(self) -> dict[str, Any]:
        """The outcome as a JSON object."""
        return {
            "kind": self.kind,
            "rows": self.rows,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "notes": self.notes,
        }


def run(
    session: Session,
    importer: Importer,
    path: Path,
    *,
    actor: str,
    zone: ZoneInfo,
    progress: Progress | None = None,
    file: str | None = None,
) -> Outcome:
    """Import the file at `path`, known to people as `file`. Raises ImportRefused, with nothing written."""
    table = read_table(importer.kind, path, names=importer.names, has_geometry=importer.geometry)
    count = len(table.rows)
    if progress:
        progress("read", count, count)
    parsed = _checked(session, importer, table, zone, progress)
    present = frozenset(table.columns) & frozenset(importer.names)
    if progress:
        progress("written", 0, count)
    stored = importer.store(session, Load(actor, zone, present, table.rows, parsed, progress))
    ignored = sorted(set(table.columns) - set(importer.names) - {"wkt", "lon", "lat", ""})
    notes = table.notes + stored.notes + ([f"columns not used: {', '.join(ignored)}"] if ignored else [])
    outcome = Outcome(importer.kind, count, stored.inserted, stored.updated, notes)
    changes.record(
        session,
        actor=actor,
        subject_type="import",
        subject_id=importer.kind,
        verb="imported",
        detail={**outcome.document(), "file": file or path.name},
    )
    if progress:
        progress("written", count, count)
    return outcome


def _checked(
    session: Session, importer: Importer, table: Table, zone: ZoneInfo, progress: Progress | None
) -> list[list[Any]]:
    """The values of every row, staged. Raises ImportRefused with the faults of all rows at once.

    A row that cannot be read is staged too, with its bad cells blank: a row that refers to it is not at fault.
    """
    parsed, faults = parse_rows(table, importer.columns, zone, progress)
    faults += table.faults
    if not table.rows and not faults:
        faults = [Fault(None, None, None, "has a header and no rows", "Export it again.")]
    bad = {fault.row for fault in faults}
    if None in bad:
        raise ImportRefused(importer.kind, faults)
    good = [(row, values) for row, values in zip(table.rows, parsed, strict=True) if row.number not in bad]
    faults += importer.check([row for row, _ in good], [values for _, values in good])
    shapes = importer.geometry and not faults
    staging.stage(session, table.rows, parsed, importer.columns, geometry=shapes, progress=progress)
    faults += importer.check_stored(session)
    if faults:
        raise ImportRefused(importer.kind, faults)
    return parsed


def upsert(session: Session, table: str, key: str, load: Load, importer: Importer, geometry: str | None) -> Stored:
    """Write the stage into `table` by `key`; `geometry` is the SQL that fits the staged shape to the column.

    Columns the file does not have keep what is stored.
    """
    names = [name for name in importer.names if name in load.present]
    targets = [*names, "geometry"] if geometry else names
    values = [f"s.{name}" for name in names] + ([geometry] if geometry else [])
    changeable = [name for name in targets if name != key]
    statement = f"""
        INSERT INTO {table} AS t ({", ".join(targets)})
        SELECT {", ".join(values)} FROM import_stage s ORDER BY s.{key}
        ON CONFLICT ({key}) DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in changeable)}, changed_at = clock_timestamp()
        WHERE ({", ".join(f"t.{name}" for name in changeable)})
            IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in changeable)})
        RETURNING (t.xmax = 0) AS inserted
    """  # noqa: S608  (column names are the importers' own)
    inserted, updated = staging.merge(session, statement)
    return Stored(inserted, updated)
