"""Bare work orders as rows, for tests of what is owed about them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import clock
from hub.db import new_id
from hub.models import Account, BillingSource, ServicePoint, WorkOrder
from tests import factories


def order(
    session: Session, *, source: BillingSource | None = None, reference: str | None = None, **more: object
) -> WorkOrder:
    """An order at SP1 for account A1, which are made when missing."""
    if session.scalar(select(ServicePoint.id).where(ServicePoint.id == "SP1")) is None:
        factories.service_point(session)
    if session.scalar(select(Account.number).where(Account.number == "A1")) is None:
        factories.account(session, source_id=source.id if source else None)
    id_ = new_id()
    values = {"type": "shutoff", "purpose": f"shutoff {id_}", "status": "completed", "service_point": "SP1"} | more
    made = WorkOrder(
        id=id_,
        number=f"WO-{id_}",
        type_snapshot={},
        account="A1",
        source_id=source.id if source else None,
        reference=reference,
        opened_at=clock.now(session),
        opened_by="test",
        **values,
    )
    session.add(made)
    session.flush()
    return made
