"""Flagged readings as lists for people, and how a person settles what a rule said.

Writes `reading_exception`, readings with their revisions, and the change log in the caller's transaction.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.db import raw_of
from hub.errors import BadInput, Conflict, NotFound, storable_text
from hub.metering import revisions
from hub.models import Meter, ReadingException

Verdict = Literal["accept", "reject"]


def listed(
    session: Session,
    *,
    serial: str | None = None,
    rule: str | None = None,
    open_only: bool = True,
    begins: datetime | None = None,
    ends: datetime | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[tuple[ReadingException, str, str]]:
    """(exception, serial, register), newest first; of flagged readings in [begins, ends). Raises NotFound."""
    query = select(ReadingException, Meter.serial, Meter.register).join(Meter, Meter.id == ReadingException.meter_id)
    if serial is not None:
        if session.scalar(select(Meter.id).where(Meter.serial == serial).limit(1)) is None:
            raise NotFound(f"There is no meter {serial[:80]!r}.", field="serial", remedy="Import it.")
        query = query.where(Meter.serial == serial)
    if rule is not None:
        query = query.where(ReadingException.rule == rule)
    if open_only:
        query = query.where(ReadingException.resolved_at.is_(None))
    if begins is not None:
        query = query.where(ReadingException.last_at >= begins)
    if ends is not None:
        query = query.where(ReadingException.measured_at < ends)
    if after is not None:
        query = query.where(ReadingException.id < after)
    rows = session.execute(query.order_by(ReadingException.id.desc()).limit(limit))
    return [(exception, name, register) for exception, name, register in rows]


def counts(session: Session) -> dict[str, int]:
    """How many open exceptions each rule has."""
    rows = session.execute(
        text("SELECT rule, count(*) FROM reading_exception WHERE resolved_at IS NULL GROUP BY rule ORDER BY rule")
    )
    return dict(rows.all())


def shown(exception: ReadingException, serial: str, register: str) -> dict[str, Any]:
    """An exception as programs see it."""
    return {
        "id": str(exception.id),
        "meter": serial,
        "register": register,
        "rule": exception.rule,
        "kind": exception.kind,
        "measured_at": exception.measured_at,
        "last_at": exception.last_at,
        "detail": exception.detail,
        "found_at": exception.found_at,
        "status": "open" if exception.resolved_at is None else "resolved",
        "resolved_at": exception.resolved_at,
        "resolution": exception.resolution,
    }


def named(session: Session, exception: ReadingException) -> tuple[str, str]:
    """(serial, register) that an exception is about."""
    row = session.execute(select(Meter.serial, Meter.register).where(Meter.id == exception.meter_id)).one()
    return row.serial, row.register


def settle(session: Session, exception_id: UUID, *, verdict: Verdict, by: str, reason: str) -> ReadingException:
    """A person decides about everything that one exception flagged.

    `accept`: the readings are right and count. `reject`: they count for nothing. Where the rule flags a condition
    rather than single readings (zero, stuck, …) the matter is noted as settled. Raises NotFound, BadInput, Conflict.
    """
    reason = storable_text(reason).strip()[:1000]
    if not reason:
        raise BadInput("It is not said why.", field="reason", remedy="Say what was found.")
    found = session.get(ReadingException, exception_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFound("There is no such exception.", field="id", value=str(exception_id))
    if found.resolved_at is not None:
        raise Conflict("This was settled already.", field="id", resolution=found.resolution)
    keys = _flagged(session, found)
    revisions.keep(session, keys, by=by, reason=reason)
    raw_of(session).execute(
        "UPDATE reading r SET quality = %s, flags = ARRAY(SELECT f FROM unnest(r.flags) f WHERE f NOT LIKE 'vee:%%'"
        " AND f <> 'edited') || ARRAY['edited'] FROM unnest(%b::int4[], %b::timestamptz[]) u(m, at)"
        " WHERE r.meter_id = u.m AND r.measured_at = u.at",
        ["good" if verdict == "accept" else "invalid", [key[0] for key in keys], [key[1] for key in keys]],
    )
    revisions.review(session, keys)
    found.resolved_at = clock.now(session)
    found.resolution = {"by": by, "action": verdict, "reason": reason, "readings": len(keys)}
    session.flush()
    changes.record(
        session,
        actor=by,
        subject_type="meter",
        subject_id=named(session, found)[0],
        verb="exception_settled",
        detail={"rule": found.rule, "verdict": verdict, "reason": reason, "readings": len(keys)},
    )
    return found


def _flagged(session: Session, found: ReadingException) -> list[tuple[int, datetime]]:
    """The readings that the exception keeps out of consumption."""
    rows = raw_of(session).execute(
        "SELECT meter_id, measured_at FROM reading WHERE meter_id = %s AND measured_at BETWEEN %s AND %s"
        " AND flags @> ARRAY[%s] AND (quality = 'suspect' OR measured_at = %s)",
        [found.meter_id, found.measured_at, found.last_at, f"vee:{found.rule}", found.measured_at],
    )
    return [(meter_id, at) for meter_id, at in rows]
