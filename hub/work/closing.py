"""Closing what is finished: an order is closed when everything it owed to billing is delivered.

Writes orders, change log and outbound messages in the caller's transaction; run often by the worker.
"""

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from hub.models import WorkOrder
from hub.outbox import messages
from hub.work import steps
from hub.work.lifecycle import Event, State


def close_settled(session: Session, *, limit: int = 200) -> int:
    """Close up to `limit` finished orders that owe billing nothing more; how many there were.

    Orders that somebody works on at this moment are passed over until the next time.
    """
    owing = exists().where(messages.undelivered(order_id=WorkOrder.id)).correlate(WorkOrder)
    settled = session.scalars(
        select(WorkOrder)
        .where(WorkOrder.status.in_([State.COMPLETED, State.UNABLE, State.CANCELLED]), ~owing)
        .order_by(WorkOrder.ended_at)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True, of=WorkOrder),
        execution_options={"populate_existing": True},
    ).all()
    for order in settled:
        ended = order.status
        steps.change(session, order, status=str(steps.step_of(order, Event.CLOSE).to))
        steps.log(session, order, by="hub", verb="closed", detail={"after": ended})
        steps.owe(session, order, "work_order.closed", after=ended)
    return len(settled)
