"""What steering shutoffs and reconnects from billing's facts has in common: today, open orders of an account, touches.

Writes triggers of orders in the caller's transaction.
"""

from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import clock
from hub.models import WorkOrder
from hub.work import lifecycle, opening, policy, steps

Touch = dict[str, Any]


def touch(order: WorkOrder, how: str) -> Touch:
    """What happened to an order, as an event's outcome lists it."""
    return {"id": str(order.id), "number": order.number, "type": order.type, "how": how}


def remember(session: Session, order: WorkOrder, event_id: UUID | None, how: str) -> None:
    """Keep on the order that this event did it."""
    opening.trigger(session, order, event_id, how)


def today(session: Session) -> date:
    """The local day, by business time."""
    return clock.now(session).astimezone(policy.zone()).date()


def any_open(session: Session, number: str, purposes: Collection[str]) -> bool:
    """Whether an order of the account and one of these purposes is open."""
    mine = select(WorkOrder.id).where(
        WorkOrder.account == number,
        WorkOrder.purpose.in_(purposes),
        WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
    )
    return session.scalar(mine.limit(1)) is not None


def open_orders(session: Session, number: str, purpose: str) -> list[WorkOrder]:
    """The open orders of an account and purpose, locked."""
    ids = session.scalars(
        select(WorkOrder.id).where(
            WorkOrder.account == number,
            WorkOrder.purpose == purpose,
            WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
        )
    ).all()
    return list(steps.lock_many(session, ids).values()) if ids else []
