"""The one change log. An order's timeline, the audit trail, the crews' feed and the console's event stream read it.

`record` writes in the caller's transaction, so a change and its trace exist together or not at all.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from hub.db import wake
from hub.errors import storable
from hub.models import Change

CHANNEL = "curbstop_change"


def record(
    session: Session,
    *,
    actor: str,
    subject_type: str,
    subject_id: str,
    verb: str,
    detail: dict[str, Any] | None = None,
    order_id: UUID | None = None,
    crew_id: UUID | None = None,
    rev: int | None = None,
) -> None:
    """One line: `actor` did `verb` to a subject (`work_order`, `account`, `service_point`, …) at business time.

    `order_id` puts the line on that order's timeline; `crew_id` into that crew's feed, so a change that takes an order
    from one crew to another is two lines. Listeners are woken when the transaction commits.
    """
    session.execute(
        insert(Change).values(
            at=func.business_now(),
            actor=actor,
            subject_type=subject_type,
            subject_id=subject_id,
            verb=verb,
            detail=storable(detail or {}),
            order_id=order_id,
            crew_id=crew_id,
            rev=rev,
        )
    )
    wake(session, CHANNEL)


def timeline(session: Session, order_id: UUID) -> list[dict[str, Any]]:
    """What happened to an order, oldest first: `{at, actor, verb, detail}`."""
    rows = session.execute(
        select(Change.at, Change.actor, Change.verb, Change.detail)
        .where(Change.order_id == order_id)
        .order_by(Change.cursor)
    )
    return [{"at": at, "actor": actor, "verb": verb, "detail": detail} for at, actor, verb, detail in rows]
