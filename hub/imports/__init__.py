"""Files in: every import the hub knows, by the word of the command line.

Everything below writes in the caller's transaction; a file is stored as a whole or not at all.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from hub.errors import NotFound
from hub.imports.customers import ACCOUNTS, BALANCES
from hub.imports.importer import Importer, Outcome
from hub.imports.importer import run as _run
from hub.imports.losses import METER_TESTS, USE
from hub.imports.meters import METERS
from hub.imports.network import MAINS, SERVICE_POINTS, ZONES
from hub.imports.readings import READINGS
from hub.imports.rows import Fault, ImportRefused, Progress
from hub.imports.volumes import CONSUMPTION, TANK_LEVELS

IMPORTERS: dict[str, Importer] = {
    importer.kind: importer
    for importer in (
        ZONES,
        MAINS,
        SERVICE_POINTS,
        METERS,
        ACCOUNTS,
        BALANCES,
        CONSUMPTION,
        TANK_LEVELS,
        READINGS,
        METER_TESTS,
        USE,
    )
}

__all__ = ["IMPORTERS", "Fault", "ImportRefused", "Outcome", "Progress", "run"]


def run(
    session: Session,
    kind: str,
    path: Path,
    *,
    actor: str,
    zone: ZoneInfo,
    progress: Progress | None = None,
    file: str | None = None,
) -> Outcome:
    """Import the file at `path` as `kind`; `zone` is the utility's time zone, `file` the name people know it by.

    Raises NotFound for a kind there is none of, ImportRefused (with `faults`) for a file with a bad row.
    """
    if kind not in IMPORTERS:
        raise NotFound(f"There is no import {kind!r}.", field="kind", remedy=f"Use {', '.join(IMPORTERS)}.")
    return _run(session, IMPORTERS[kind], path, actor=actor, zone=zone, progress=progress, file=file)
