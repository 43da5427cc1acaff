"""Crew commands: each one is its own transaction and is done once, however often it is sent.

A receipt is written with the effect; the same command again gets the first answer, another body under the same id is
refused. Facts (complete, unable, note, reading, report, position) are never lost to a revision that moved on; a step of
the life cycle is, when somebody else moved the order in the meantime: then both sides are kept for the dispatcher.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from hub import clock
from hub.auth import Principal
from hub.db import Database
from hub.errors import BadInput, Conflict, CurbstopError, NotFound, Unavailable, storable
from hub.models import Change, MutationReceipt, WorkOrder
from hub.work import field_reports, lifecycle, orders, steps
from mobile_api.schemas import Command

log = structlog.get_logger()
# A command that waited longer than this on the device was given without a connection.
OFFLINE_AFTER = timedelta(minutes=10)
RETRIES = 3
# Somebody holds the order for long: the device has other commands to send, and sends this one again later.
LOCK_TIMEOUT_MS = 4_000
# Serialization failure, deadlock: worth another try at once.
TRANSIENT = {"40001", "40P01"}

STEPS: dict[str, Callable[..., WorkOrder]] = {
    "acknowledge": orders.acknowledge,
    "start_travel": orders.start_travel,
    "arrive": orders.arrive,
    "pause": orders.pause,
    "resume": orders.resume,
}
ENDINGS = ("complete", "unable")
DONE = ("applied", "merged", "duplicate")


class IdReused(BadInput):
    """Another command was sent under this id before."""

    kind, title = "id-reused", "Another command has this id"


class OvertakenByOthers(Conflict):
    """Somebody else moved the order since the device saw it; `current` is where it stands."""

    kind, title = "conflict", "The order was moved in the meantime"


class AcceptedAsException(Conflict):
    """Not a refusal: the report is kept, the order was no longer the crew's, and a dispatcher looks at both sides."""

    kind, title = "accepted-as-exception", "Kept for the dispatcher: the order was no longer yours"


class DependencyFailed(Conflict):
    """The command waits for one that is not there yet or was not accepted."""

    kind, title = "dependency-failed", "A command this one depends on was not accepted"


@dataclass
class Outcome:
    """The answer to one command."""

    status: str
    rev: int | None = None
    problem: dict[str, Any] | None = None
    work_order: UUID | None = None
    first: str | None = None

    def shown(self, id_: Any) -> dict[str, Any]:
        """As the device gets it."""
        shown = {"id": id_, "status": self.status, "rev": self.rev, "problem": self.problem}
        if self.first is not None:
            shown["first"] = self.first
        if self.work_order is not None:
            shown["work_order"] = self.work_order
        return shown


def apply(database: Database, who: Principal, raw: Sequence[Any]) -> list[dict[str, Any]]:
    """Do the commands one after another; one result each, in their order. One failure stops only its dependants."""
    outcomes: dict[UUID, Outcome] = {}
    results = []
    for entry in raw:
        try:
            command = Command.model_validate(entry)
        except (ValidationError, RecursionError) as error:
            problem = _malformed(error)
            results.append(Outcome("rejected", problem=problem).shown(_id_of(entry)))
            continue
        outcome = _apply_one(database, who, command, _digest(entry), outcomes)
        outcomes[command.id] = outcome
        results.append(outcome.shown(command.id))
    return results


def _apply_one(
    database: Database, who: Principal, command: Command, digest: bytes, batch: dict[UUID, Outcome]
) -> Outcome:
    for attempt in range(RETRIES):
        try:
            with database.transaction() as session:
                return _once(session, who, command, digest, batch)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in TRANSIENT or attempt == RETRIES - 1:
                log.warning("crew command deferred", command=str(command.id), error=type(error).__name__)
                break
        except DBAPIError as error:
            log.warning("crew command refused by the database", command=str(command.id), error=type(error).__name__)
            refusal = BadInput("A value in the command cannot be stored.", field="answers")
            return Outcome("rejected", problem=refusal.problem())
        except SQLAlchemyError as error:
            log.warning("crew command deferred", command=str(command.id), error=type(error).__name__)
            break
        except Exception as error:
            log.error("crew command failed", command=str(command.id), type=command.type, exc_info=error)
            break
    trouble = Unavailable("The hub could not do this now; nothing was changed.", remedy="Send it again later.")
    return Outcome("deferred", problem=trouble.problem())


def _once(session: Session, who: Principal, command: Command, digest: bytes, batch: dict[UUID, Outcome]) -> Outcome:
    assert who.crew_id is not None
    session.execute(text(f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT_MS)}"))
    claimed = session.scalar(
        insert(MutationReceipt)
        .values(id=command.id, crew_id=who.crew_id, body_hash=digest, result={})
        .on_conflict_do_nothing()
        .returning(MutationReceipt.id)
    )
    if claimed is None:
        return _again(session, who, command, digest)
    waiting = _waiting(session, command, batch)
    if waiting is not None:
        session.rollback()
        return waiting
    try:
        with session.begin_nested():
            outcome = _do(session, who, command)
    except CurbstopError as error:
        outcome = Outcome("rejected", problem=storable(error.problem()))
    kept = {
        "status": outcome.status,
        "rev": outcome.rev,
        "problem": _plain(outcome.problem),
        "work_order": str(outcome.work_order) if outcome.work_order else None,
    }
    session.execute(update(MutationReceipt).where(MutationReceipt.id == command.id).values(result=kept))
    return outcome


def _again(session: Session, who: Principal, command: Command, digest: bytes) -> Outcome:
    first = session.execute(
        select(MutationReceipt.crew_id, MutationReceipt.body_hash, MutationReceipt.result).where(
            MutationReceipt.id == command.id
        )
    ).one()
    if first.crew_id != who.crew_id or first.body_hash != digest:
        error = IdReused("Another command was sent under this id.", field="id", remedy="Give every command its own id.")
        return Outcome("rejected", problem=error.problem())
    result = first.result
    made = UUID(result["work_order"]) if result["work_order"] else None
    return Outcome("duplicate", result["rev"], result["problem"], made, first=result["status"])


def _waiting(session: Session, command: Command, batch: dict[UUID, Outcome]) -> Outcome | None:
    """The answer to a command whose predecessors are missing or failed, or None when nothing is in its way.

    The report of finished work goes on when its predecessors have an answer, whatever that is: it is a fact.
    """
    if not command.depends_on:
        return None
    rows = session.execute(
        select(MutationReceipt.id, MutationReceipt.result["status"].astext).where(
            MutationReceipt.id.in_(command.depends_on)
        )
    )
    known = {id_: status for id_, status in rows if status}
    for dependency in command.depends_on:
        status = known.get(dependency)
        before = batch.get(dependency)
        if status is None and before is not None and before.status == "rejected":
            status = before.status
        if status is None:
            error = DependencyFailed(f"Command {dependency} has not arrived.", remedy="Send it first, then this again.")
            return Outcome("deferred", problem=error.problem())
        if status not in DONE and command.type not in ENDINGS:
            error = DependencyFailed(
                f"Command {dependency} was {status}.", remedy="Load the order, then decide anew under a new id."
            )
            return Outcome("deferred", problem=error.problem())
    return None


def _do(session: Session, who: Principal, command: Command) -> Outcome:
    if command.type in STEPS:
        return _step(session, who, command)
    if command.type in ENDINGS:
        return _ending(session, who, command)
    return FACTS[command.type](session, who, command)


def _step(session: Session, who: Principal, command: Command) -> Outcome:
    """A step of the life cycle: refused when somebody else moved the order since the device saw it."""
    assert who.crew_id is not None
    order = orders.lock(session, _target(command))
    if order.crew_id != who.crew_id:
        if not orders.had_by(session, order, who.crew_id):
            raise NotFound("There is no such work order.", field="target", value=str(command.target))
        return _overtaken(session, order, command)
    moved = _moved_by_others(session, order, command.base_rev, who.actor)
    if moved == "status":
        return _overtaken(session, order, command)
    try:
        with session.begin_nested():
            order = STEPS[command.type](session, order.id, **_seen(who, command))
    except CurbstopError as error:
        standing = {"current": {"rev": order.rev, "status": order.status}}
        problem = storable({**error.problem(), **standing})
        return Outcome("conflict" if moved else "rejected", order.rev, problem)
    return Outcome("merged" if moved else "applied", order.rev)


def _ending(session: Session, who: Principal, command: Command) -> Outcome:
    """Finished work is taken as it is; if the order is no longer the crew's, as an exception."""
    order = orders.lock(session, _target(command))
    in_hand = order.status in lifecycle.IN_HAND and order.crew_id == who.crew_id
    was = order.status
    moved = _moved_by_others(session, order, command.base_rev, who.actor) if in_hand else None
    offline = _offline(session, command)
    if command.type == "complete":
        order = orders.complete(
            session, order.id, answers=command.given, via="device", offline=offline, **_seen(who, command)
        )
    else:
        answers = dict(command.given)
        code, remark = answers.pop("code", None), answers.pop("remark", None)
        if not isinstance(code, str):
            raise BadInput(
                "The reason is missing.", field="answers.code", remedy="Send one of the type's unable codes."
            )
        remark = remark if isinstance(remark, str) else None
        order = orders.unable(
            session, order.id, code=code, remark=remark, answers=answers, offline=offline, **_seen(who, command)
        )
    if in_hand:
        return Outcome("merged" if moved else "applied", order.rev)
    current = {"rev": order.rev, "status": order.status}
    if was in (lifecycle.State.COMPLETED, lifecycle.State.UNABLE, lifecycle.State.CLOSED):
        twice = OvertakenByOthers(f"{order.number} had ended already; both reports are kept.", current=current)
        return Outcome("conflict", order.rev, twice.problem())
    kept = AcceptedAsException(f"{order.number} was {was}; a dispatcher looks at your report.", current=current)
    return Outcome("applied", order.rev, kept.problem())


def _note(session: Session, who: Principal, command: Command) -> Outcome:
    text = command.given.get("text", command.given.get("note"))
    if not isinstance(text, str):
        raise BadInput("The note has no text.", field="answers.text", remedy='Send {"text": "…"}.')
    return Outcome("applied", orders.note(session, _target(command), text=text, **_seen(who, command)).rev)


def _reading(session: Session, who: Principal, command: Command) -> Outcome:
    assert who.crew_id is not None
    given = command.given
    order = field_reports.reading(
        session,
        command.target,
        by=who.actor,
        crew_id=who.crew_id,
        reading=given.get("reading"),
        meter_serial=_text(given, "meter_serial"),
        at=command.observed_at,
    )
    return Outcome("applied", order.rev if order is not None else None)


def _report(session: Session, who: Principal, command: Command) -> Outcome:
    assert who.crew_id is not None
    given = command.given
    order = field_reports.report(
        session,
        by=who.actor,
        crew_id=who.crew_id,
        text=_text(given, "text") or _text(given, "note") or "",
        work_type=_text(given, "work_type"),
        service_point=_text(given, "service_point"),
        position=command.position.model_dump() if command.position else None,
        at=command.observed_at,
    )
    if order is None:
        return Outcome("applied")
    return Outcome("applied", order.rev, work_order=order.id)


def _position(session: Session, who: Principal, command: Command) -> Outcome:
    assert who.crew_id is not None
    if command.position is None:
        raise BadInput("The position is missing.", field="position", remedy='Send {"lon": …, "lat": …}.')
    field_reports.position(session, crew_id=who.crew_id, position=command.position.model_dump(), at=command.observed_at)
    return Outcome("applied")


def _cancel_acknowledge(session: Session, who: Principal, command: Command) -> Outcome:
    order = orders.cancel_acknowledge(session, _target(command), **_seen(who, command))
    return Outcome("applied", order.rev)


FACTS: dict[str, Callable[[Session, Principal, Command], Outcome]] = {
    "note": _note,
    "reading": _reading,
    "report": _report,
    "position": _position,
    "cancel_acknowledge": _cancel_acknowledge,
}


def _overtaken(session: Session, order: WorkOrder, command: Command) -> Outcome:
    """Keep what the device wanted beside what the order became."""
    current = {"rev": order.rev, "status": order.status, "cancel_requested": order.cancel_requested}
    theirs = {"command": str(command.id), "type": command.type, "base_rev": command.base_rev}
    if command.observed_at is not None:
        theirs["observed_at"] = command.observed_at.isoformat()
    text = f"{order.number} is {order.status}, and its crew reports: {command.type.replace('_', ' ')}."
    steps.except_for_dispatcher(
        session, order, kind="conflict", text=text, ours=current, theirs=theirs, at=clock.now(session)
    )
    error = OvertakenByOthers(
        f"{order.number} was changed since your device saw it.", remedy="Load the order, then decide.", current=current
    )
    return Outcome("conflict", order.rev, storable(error.problem()))


def _moved_by_others(session: Session, order: WorkOrder, base_rev: int | None, mine: str) -> str | None:
    """What somebody else changed after revision `base_rev`: `status` (or whose it is), `other` things, or None."""
    if base_rev is None or base_rev >= order.rev:
        return None
    rows = session.execute(
        select(Change.rev, Change.actor, Change.verb, Change.detail["status"].astext.label("status"))
        .where(Change.order_id == order.id, Change.rev >= base_rev)
        .order_by(Change.cursor)
    )
    status, moved = None, None
    for row in rows:
        if row.rev > base_rev and row.actor != mine:
            if row.status != status or row.verb in ("assigned", "unassigned", "cancel_requested"):
                return "status"
            moved = "other"
        status = row.status
    return moved


def _seen(who: Principal, command: Command) -> dict[str, Any]:
    position = command.position.model_dump() if command.position else None
    return {"by": who.actor, "at": command.observed_at, "crew_id": who.crew_id, "position": position}


def _offline(session: Session, command: Command) -> bool:
    said = command.app.get("offline") if isinstance(command.app, dict) else None
    if isinstance(said, bool):
        return said
    return command.observed_at is not None and clock.now(session) - command.observed_at > OFFLINE_AFTER


def _target(command: Command) -> UUID:
    if command.target is None:
        raise BadInput("The command names no order.", field="target", remedy="Send the id of the work order.")
    return command.target


def _text(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise BadInput(f"{name} is not a text.", field=f"answers.{name}")
    return value


def _malformed(error: ValidationError | RecursionError) -> dict[str, Any]:
    if isinstance(error, RecursionError):
        return BadInput("The command is nested too deeply.").problem()
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "command"
    return storable(BadInput(f"{field}: {first['msg']}", field=field).problem())  # type: ignore[no-any-return]


def _id_of(entry: Any) -> Any:
    given = entry.get("id") if isinstance(entry, dict) else None
    return storable(given[:100]) if isinstance(given, str) else None


def _digest(entry: Any) -> bytes:
    """Of what was sent, whatever the order of its members."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).digest()


def _plain(problem: dict[str, Any] | None) -> Any:
    return None if problem is None else json.loads(json.dumps(problem, default=str))
