"""What every verb on a work order is made of: lock, check the revision, take a step, log it, owe messages.

Writes orders, change log and outbound messages in the caller's transaction. Rows are always locked in the order
account, service point, orders by id, with FOR NO KEY UPDATE, so that no two verbs can wait for each other.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from hub import accounts, changes, outbox
from hub.db import new_id
from hub.errors import Conflict, NotFound, StaleRevision
from hub.models import OrderException, ServicePoint, WorkOrder
from hub.work import lifecycle
from hub.work.catalogue import WorkType, of_snapshot
from hub.work.lifecycle import Event, Step
from hub.work.policy import Decision, may_cut


class CutRefused(Conflict):
    """The shutoff policy says not now; `reasons` and `earliest_at` are in the problem."""

    kind, title = "cut-refused", "The shutoff policy does not allow this now"


def lock(session: Session, order_id: UUID, *, rev: int | None = None) -> WorkOrder:
    """The order, locked with its account and its place. Raises NotFound, or StaleRevision when `rev` is another one."""
    place = session.execute(
        select(WorkOrder.account, WorkOrder.service_point).where(WorkOrder.id == order_id)
    ).one_or_none()
    if place is None:
        raise NotFound("There is no such work order.", field="id", value=str(order_id))
    lock_places(session, [place.account], [place.service_point])
    order = _locked(session, [order_id])[0]
    check_rev(order, rev)
    return order


def check_rev(order: WorkOrder, rev: int | None) -> None:
    """Raises StaleRevision when `rev` is given and not the order's."""
    if rev is not None and order.rev != rev:
        raise StaleRevision(
            f"{order.number} is at revision {order.rev} by now, {order.status}.",
            field="rev",
            value=rev,
            remedy="Load the order again, then decide.",
            current={"rev": order.rev, "status": order.status},
        )


def check_mine(order: WorkOrder, crew_id: UUID | None) -> None:
    """Raises NotFound when a crew is named and the order is not in its hands: it must not learn that it exists."""
    if crew_id is not None and order.crew_id != crew_id:
        raise NotFound("There is no such work order.", field="id", value=str(order.id))


def lock_many(session: Session, order_ids: Collection[UUID]) -> dict[UUID, WorkOrder]:
    """All of the orders that exist, locked with their accounts and places in the one order that cannot deadlock."""
    rows = session.execute(select(WorkOrder.account, WorkOrder.service_point).where(WorkOrder.id.in_(order_ids))).all()
    lock_places(session, [r.account for r in rows], [r.service_point for r in rows])
    return {order.id: order for order in _locked(session, order_ids)}


def lock_places(session: Session, numbers: Collection[str | None], points: Collection[str | None]) -> None:
    """Lock accounts, then service points, each in the order of their keys; those that do not exist are passed over."""
    for number in sorted({n for n in numbers if n is not None}):
        accounts.lock(session, number)
    wanted = sorted({p for p in points if p is not None})
    if wanted:
        session.execute(
            select(ServicePoint.id)
            .where(ServicePoint.id.in_(wanted))
            .order_by(ServicePoint.id)
            .with_for_update(key_share=True)
        ).all()


def _locked(session: Session, order_ids: Collection[UUID]) -> list[WorkOrder]:
    statement = select(WorkOrder).where(WorkOrder.id.in_(order_ids)).order_by(WorkOrder.id)
    return list(
        session.scalars(statement.with_for_update(key_share=True), execution_options={"populate_existing": True})
    )


def step_of(order: WorkOrder, event: Event) -> Step:
    """The step `event` makes for `order` as it stands. Raises IllegalTransition."""
    flag = order.cancel_requested
    return lifecycle.step(order.status, event, flag_ends=flag["ends"] if flag else None)


def change(session: Session, order: WorkOrder, **values: Any) -> None:
    """Write `values` to the order, one revision further; `order` shows them."""
    values["rev"] = order.rev + 1
    session.execute(
        update(WorkOrder).where(WorkOrder.id == order.id).values(values).execution_options(synchronize_session=False)
    )
    for name, value in values.items():
        set_committed_value(order, name, value)


def log(
    session: Session,
    order: WorkOrder,
    *,
    by: str,
    verb: str,
    detail: dict[str, Any] | None = None,
    crew_id: UUID | None = None,
) -> None:
    """One line on the order's timeline, also in the feed of `crew_id` (default: the crew that has the order)."""
    changes.record(
        session,
        actor=by,
        subject_type="work_order",
        subject_id=str(order.id),
        verb=verb,
        detail={"status": order.status, **(detail or {})},
        order_id=order.id,
        crew_id=crew_id or order.crew_id,
        rev=order.rev,
    )


def owe(session: Session, order: WorkOrder, type: str, **data: Any) -> None:
    """Owe billing one message about the order; `data` beside what every message carries."""
    outbox.put(
        session,
        type=type,
        data={"number": order.number, **data},
        order_id=order.id,
        account=data.get("account", order.account),
        source_id=order.source_id,
    )


def work_type_of(order: WorkOrder) -> WorkType:
    """The work type as it was when the order was opened."""
    return of_snapshot(order.type_snapshot)


def judge(session: Session, order: WorkOrder, stage: str, at: datetime | None = None) -> Decision | None:
    """What the shutoff policy says of the order at `stage`; None for work that it does not concern."""
    if work_type_of(order).gate != "cut":
        return None
    return may_cut(session, account=order.account, service_point=order.service_point, at=at, stage=stage)


def refuse_unless_allowed(session: Session, order: WorkOrder, stage: str) -> None:
    """Raises CutRefused when `stage` of a shutoff may not happen now."""
    decision = judge(session, order, stage)
    if decision is not None and not decision.allowed:
        reasons = reasons_of(decision)
        raise CutRefused(
            f"{order.number} may not be cut now: {'; '.join(r['text'] for r in reasons) or 'the policy says no'}.",
            remedy="Hold or cancel the order, or wait for the earliest lawful time.",
            reasons=reasons,
            earliest_at=decision.earliest_at,
        )


def reasons_of(decision: Decision) -> list[dict[str, Any]]:
    """The reasons of a decision as an order keeps them."""
    return [{"code": r.code, "text": r.text, "citation": r.citation} for r in decision.reasons]


def except_for_dispatcher(
    session: Session,
    order: WorkOrder,
    *,
    kind: str,
    text: str,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    at: datetime,
) -> UUID:
    """Put something before the dispatcher that no rule can settle; both sides are kept. Its id."""
    made = new_id()
    session.execute(
        insert(OrderException).values(
            id=made,
            order_id=order.id,
            account=order.account,
            service_point=order.service_point,
            kind=kind,
            text=text,
            ours=ours,
            theirs=theirs,
            opened_at=at,
        )
    )
    return made
