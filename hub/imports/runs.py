"""Imports as people watch them: a row that says how far one is and what became of it, whoever asks and whenever.

Writes `import_run` and `import_fault` in transactions of its own, so that others see how far an import is; its success
in the import's own transaction, so that the rows and the word of them exist together or not at all. A process that is
killed leaves a row whose heartbeat has stopped: it counts as interrupted, and nothing of its file is stored.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import structlog
from sqlalchemy import case, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from hub import clock, imports
from hub.db import Database, new_id, raw_of
from hub.errors import BadInput, Conflict, CurbstopError, NotFound, TooManyRequests, Unavailable, storable_text
from hub.imports import IMPORTERS, Fault, ImportRefused, Outcome
from hub.models import ImportFault, ImportRun

log = structlog.get_logger()
BEAT_SECONDS = 1.0
# A running import says so every second; silent for so long, its process is gone.
SILENT_SECONDS = 30
# How many imports of one process may wait for their turn, each with its file on the disk.
MOST_WAITING = 10
NOT_STORED = "Nothing of the file was stored."

_turn = threading.Lock()
_places = threading.BoundedSemaphore(MOST_WAITING)


def begin(database: Database, kind: str, *, file: str, size: int, by: str, state: str = "running") -> UUID:
    """Write the row of an import that is about to run. Raises NotFound for a kind there is none of."""
    if kind not in IMPORTERS:
        raise NotFound(f"There is no import {kind!r}.", field="kind", remedy=f"Use {', '.join(IMPORTERS)}.")
    run_id = new_id()
    with database.transaction() as session:
        session.add(
            ImportRun(
                id=run_id,
                kind=kind,
                file=storable_text(file)[:200],
                bytes=size,
                by=by,
                state=state,
                started_at=clock.now(session),
            )
        )
    return run_id


def carry_out(
    database: Database,
    run_id: UUID,
    path: Path,
    *,
    zone: ZoneInfo,
    progress: imports.Progress | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Import the file at `path` for the row that `begin` wrote; its progress and its ending stand there.

    `stopping` is asked between rows: true ends the import with nothing stored. Raises what `imports.run` does,
    Unavailable where it was stopped, BadInput and Conflict for what the database does not take.
    """
    with database.transaction() as session:
        run = session.get_one(ImportRun, run_id)
        run.state = "running"
    with _Reporter(database, run_id, progress, stopping) as reporter:
        try:
            with database.transaction() as session:
                outcome = imports.run(
                    session, run.kind, path, actor=run.by, zone=zone, progress=reporter.note, file=run.file
                )
                reporter.check()
                _end(session, run_id, "done", outcome=outcome.document(), total=outcome.rows)
        except ImportRefused as refused:
            with database.transaction() as session:
                _end(session, run_id, "refused", detail=refused.detail, faults=refused.faults)
            raise
        except BaseException as error:
            refusal = _explained(error)
            with contextlib.suppress(SQLAlchemyError), database.transaction() as session:
                _end(session, run_id, "failed", detail=_sentence(refusal))
            if isinstance(refusal, CurbstopError):
                raise refusal from error
            raise
    return outcome


def start(
    database: Database, run_id: UUID, path: Path, *, zone: ZoneInfo, stopping: Callable[[], bool]
) -> threading.Thread:
    """Carry the import out in a thread of its own, one at a time in this process; the file is removed in the end.

    Raises TooManyRequests when too many wait already.
    """
    if not _places.acquire(blocking=False):
        with database.transaction() as session:
            _end(session, run_id, "failed", detail=f"Too many imports were waiting. {NOT_STORED}")
        raise TooManyRequests(
            f"{MOST_WAITING} imports are waiting already.", remedy="Wait until one has ended.", retry_after=30
        )

    def work() -> None:
        try:
            with _Reporter(database, run_id, None, stopping):
                while not _turn.acquire(timeout=BEAT_SECONDS):
                    if stopping():
                        return
            try:
                # what went wrong stands in the row
                with contextlib.suppress(CurbstopError):
                    carry_out(database, run_id, path, zone=zone, stopping=stopping)
            except Exception:
                log.exception("import failed", run=str(run_id))
            finally:
                _turn.release()
        finally:
            _places.release()
            path.unlink(missing_ok=True)

    thread = threading.Thread(target=work, name=f"import-{run_id}", daemon=True)
    thread.start()
    return thread


class _Reporter:
    """Writes how far an import is about once a second, from a thread of its own: a long statement reports nothing."""

    def __init__(
        self, database: Database, run_id: UUID, told: imports.Progress | None, stopping: Callable[[], bool]
    ) -> None:
        self._database, self._run_id, self._told, self._stopping = database, run_id, told, stopping
        self._now: dict[str, Any] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="import-progress", daemon=True)

    def __enter__(self) -> "_Reporter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def note(self, what: str, done: int, total: int) -> None:
        """How far it is, as importers say it. Raises Unavailable when the hub is being stopped."""
        self._now = {"phase": what, "done": done, "total": total}
        if self._told is not None:
            self._told(what, done, total)
        self.check()

    def check(self) -> None:
        """Raises Unavailable when the hub is being stopped."""
        if self._stopping():
            raise Unavailable(f"The hub is being stopped. {NOT_STORED}", remedy="Import the file again.")

    def _report(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            # a database that is away for a moment costs no import; a longer silence shows as such
            with contextlib.suppress(SQLAlchemyError), self._database.transaction() as session:
                session.execute(
                    update(ImportRun)
                    .where(ImportRun.id == self._run_id, ImportRun.state.in_(("waiting", "running")))
                    .values(**self._now, beat_at=func.clock_timestamp())
                )


def _end(session: Session, run_id: UUID, state: str, *, faults: Sequence[Fault] = (), **more: Any) -> None:
    values = {"state": state, "finished_at": clock.now(session), "faults": len(faults), **more}
    if state == "done":
        values |= {"phase": "written", "done": more["total"]}
    session.execute(update(ImportRun).where(ImportRun.id == run_id).values(**values))
    if faults:
        raw = raw_of(session)
        with (
            raw.cursor() as cursor,
            cursor.copy(
                'COPY import_fault (import_id, position, "row", "column", value, problem, remedy) FROM STDIN'
            ) as copy,
        ):
            for position, fault in enumerate(faults):
                cells = (fault.column, fault.value, fault.problem, fault.remedy)
                copy.write_row((run_id, position, fault.row, *(c and storable_text(c) for c in cells)))


def _explained(error: BaseException) -> BaseException:
    """What the database says of a value or a rival, in words of ours; anything else as it is."""
    if isinstance(error, IntegrityError | psycopg.IntegrityError):
        return Conflict("Somebody changed the same thing at the same moment.", remedy="Import the file again.")
    if isinstance(error, OperationalError | psycopg.OperationalError):
        return Unavailable(f"The database did not answer. {NOT_STORED}", remedy="Import the file again.")
    if isinstance(error, DBAPIError | psycopg.Error):
        return BadInput("A value in the file cannot be stored.", remedy="Look for numbers out of all proportion.")
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, CurbstopError):
        return " ".join(part for part in (error.detail, error.extra.get("remedy")) if part)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return f"The import was stopped. {NOT_STORED}"
    return f"Something went wrong inside the hub. {NOT_STORED}"


# --------------------------------------------------------------------------------------------------------- to look at

# What a row says of itself; a process that stopped saying so is gone.
_SHOWN_STATE = case(
    (
        ImportRun.state.in_(("waiting", "running"))
        & (ImportRun.beat_at < func.clock_timestamp() - text(f"interval '{SILENT_SECONDS} s'")),
        "interrupted",
    ),
    else_=ImportRun.state,
).label("shown")


def document(run: ImportRun, state: str) -> dict[str, Any]:
    """An import as a JSON object; `state` may be `interrupted` besides those of the row."""
    detail = run.detail
    if state == "interrupted":
        detail = f"The process that imported it was killed or cut off. {NOT_STORED} Import the file again."
    return {
        "id": str(run.id),
        "kind": run.kind,
        "file": run.file,
        "bytes": run.bytes,
        "by": run.by,
        "state": state,
        "phase": run.phase,
        "done": run.done,
        "total": run.total,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "outcome": run.outcome,
        "faults": run.faults,
        "detail": detail,
    }


def listed(session: Session, *, after: UUID | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """Imports, newest first."""
    query = select(ImportRun, _SHOWN_STATE)
    if after is not None:
        query = query.where(ImportRun.id < after)
    return [document(run, state) for run, state in session.execute(query.order_by(ImportRun.id.desc()).limit(limit))]


def one(session: Session, run_id: UUID) -> dict[str, Any]:
    """One import. Raises NotFound."""
    found = session.execute(select(ImportRun, _SHOWN_STATE).where(ImportRun.id == run_id)).first()
    if found is None:
        raise NotFound("There is no such import.", field="id", value=str(run_id))
    return document(found[0], found[1])


def faults(session: Session, run_id: UUID, *, after: int = -1, limit: int | None = None) -> list[dict[str, Any]]:
    """The bad rows of an import, in order, those behind position `after`: `{row, column, value, problem, remedy}`."""
    query = (
        select(ImportFault)
        .where(ImportFault.import_id == run_id, ImportFault.position > after)
        .order_by(ImportFault.position)
    )
    return [
        Fault(bad.row, bad.column, bad.value, bad.problem, bad.remedy).document()
        for bad in session.scalars(query if limit is None else query.limit(limit))
    ]
