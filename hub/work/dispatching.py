"""What dispatchers and crews do with an order before it ends: give it out, take it back, drive, arrive, reopen, note.

Writes orders, change log and outbound messages in the caller's transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from hub import clock
from hub.errors import BadInput, Conflict, CurbstopError, NotFound, storable_text
from hub.models import Change, Crew, OutboundMessage, WorkOrder
from hub.work import invoicing, lifecycle, opening, places, steps, withdrawal
from hub.work.lifecycle import Event, State


@dataclass(frozen=True)
class ItemResult:
    """What became of one order of a bulk command: its new revision, or the refusal."""

    order_id: UUID
    order: WorkOrder | None
    error: CurbstopError | None


def assign(
    session: Session, order_id: UUID, *, crew_id: UUID, by: str, rev: int | None = None, at: datetime | None = None
) -> WorkOrder:
    """Give a ready order to a crew. Raises IllegalTransition, NotFound for the crew, CutRefused."""
    order = steps.lock(session, order_id, rev=rev)
    _assign(session, order, _crew(session, crew_id), by)
    return order


def bulk_assign(
    session: Session, items: Sequence[tuple[UUID, int | None]], *, crew_id: UUID, by: str
) -> list[ItemResult]:
    """Give many orders, each with the revision that was seen, to one crew; one refusal leaves the others alone."""
    crew = _crew(session, crew_id)
    orders = steps.lock_many(session, [order_id for order_id, _ in items])
    results = []
    for order_id, rev in items:
        order = orders.get(order_id)
        try:
            if order is None:
                raise NotFound("There is no such work order.", field="id", value=str(order_id))
            steps.check_rev(order, rev)
            with session.begin_nested():
                _assign(session, order, crew, by)
            results.append(ItemResult(order_id, order, None))
        except CurbstopError as error:
            results.append(ItemResult(order_id, order, error))
    return results


def _crew(session: Session, crew_id: UUID) -> Crew:
    crew = session.scalars(select(Crew).where(Crew.id == crew_id)).one_or_none()
    if crew is None:
        raise NotFound(
            "There is no such crew.", field="crew", value=str(crew_id), remedy="GET /api/v1/crews lists them."
        )
    if not crew.active:
        raise Conflict(f"Crew {crew.name} is not active.", field="crew", value=crew.name)
    return crew


def _assign(session: Session, order: WorkOrder, crew: Crew, by: str) -> None:
    step = steps.step_of(order, Event.ASSIGN)
    steps.refuse_unless_allowed(session, order, "assignment")
    details = {key: value for key, value in order.details.items() if key != "withdrawal"}
    now = clock.now(session)
    steps.change(
        session, order, status=str(step.to), crew_id=crew.id, assigned_at=now, acknowledged_at=None, details=details
    )
    steps.log(session, order, by=by, verb="assigned", detail={"crew": crew.name})
    steps.owe(session, order, "work_order.assigned")


def unassign(session: Session, order_id: UUID, *, by: str, rev: int | None = None) -> WorkOrder:
    """Take the order from a crew that has not left. Raises IllegalTransition."""
    order = steps.lock(session, order_id, rev=rev)
    step, crew_id = steps.step_of(order, Event.UNASSIGN), order.crew_id
    steps.change(session, order, status=str(step.to), crew_id=None, assigned_at=None, acknowledged_at=None)
    steps.log(session, order, by=by, verb="unassigned", crew_id=crew_id)
    return order


def release(session: Session, order_id: UUID, *, by: str, rev: int | None = None, note: str | None = None) -> WorkOrder:
    """A held order may be given out again. Raises IllegalTransition, CutRefused when the policy still says no."""
    order = steps.lock(session, order_id, rev=rev)
    steps.step_of(order, Event.RELEASE)
    steps.refuse_unless_allowed(session, order, "creation")
    release_locked(session, order, by=by, note=note)
    return order


def release_locked(session: Session, order: WorkOrder, *, by: str, note: str | None = None) -> None:
    """Release an order that the caller has locked and judged."""
    step, released = steps.step_of(order, Event.RELEASE), order.reasons
    steps.change(session, order, status=str(step.to), reasons=[], earliest_at=None)
    steps.log(session, order, by=by, verb="released", detail={"reasons": released, "note": note})


def release_lapsed(session: Session, *, limit: int = 100) -> int:
    """Release orders whose every reason to wait had an end and has reached it; how many there were.

    Not shutoffs: those are judged by the policy. Orders that somebody works on are left for the next time.
    """
    now = clock.now(session)
    held = session.scalars(
        select(WorkOrder)
        .where(
            WorkOrder.status == State.HELD,
            WorkOrder.earliest_at <= now,
            WorkOrder.type_snapshot["gate"].astext.is_(None),
        )
        .order_by(WorkOrder.earliest_at)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True),
        execution_options={"populate_existing": True},
    ).all()
    over = [
        order
        for order in held
        if all(r.get("until") and datetime.fromisoformat(r["until"]) <= now for r in order.reasons)
    ]
    for order in over:
        release_locked(session, order, by="hub")
    return len(over)


def note(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    text: str,
    at: datetime | None = None,
    crew_id: UUID | None = None,
    position: dict[str, Any] | None = None,
) -> WorkOrder:
    """Add a remark to the timeline; possible in every state, and the order keeps its revision. Raises BadInput."""
    text = storable_text(text).strip()
    if not text:
        raise BadInput("The note is empty.", field="text", remedy="Write something.")
    order = steps.lock(session, order_id)
    if crew_id is not None and not had_by(session, order, crew_id):
        raise NotFound("There is no such work order.", field="id", value=str(order_id))
    steps.log(session, order, by=by, verb="noted", detail={"text": text[:4000], **_seen(at, position)})
    return order


def acknowledge(session: Session, order_id: UUID, *, by: str, **seen: Any) -> WorkOrder:
    """The crew has seen the order. `seen`: at, crew_id, rev, position, as for `start_travel`."""
    return _drive(session, order_id, Event.ACKNOWLEDGE, by=by, **seen)


def start_travel(session: Session, order_id: UUID, *, by: str, **seen: Any) -> WorkOrder:
    """The crew leaves for the place.

    `seen`: `at` (when it happened, default now), `crew_id` (whose order it must be), `rev`, `position`. Raises
    NotFound for another crew's order, IllegalTransition, CutRefused for a shutoff that is not allowed now.
    """
    return _drive(session, order_id, Event.START_TRAVEL, by=by, stage="start", **seen)


def arrive(session: Session, order_id: UUID, *, by: str, **seen: Any) -> WorkOrder:
    """The crew is at the place; a travel that nobody reported is recorded as skipped. As `start_travel`."""
    return _drive(session, order_id, Event.ARRIVE, by=by, stage="start", **seen)


def pause(session: Session, order_id: UUID, *, by: str, **seen: Any) -> WorkOrder:
    """The crew interrupts its work. As `start_travel`, without the policy."""
    return _drive(session, order_id, Event.PAUSE, by=by, **seen)


def resume(session: Session, order_id: UUID, *, by: str, **seen: Any) -> WorkOrder:
    """The crew goes on with its work. As `start_travel`, without the policy."""
    return _drive(session, order_id, Event.RESUME, by=by, **seen)


_PAST = {
    Event.ACKNOWLEDGE: "acknowledged",
    Event.START_TRAVEL: "started_travel",
    Event.ARRIVE: "arrived",
    Event.PAUSE: "paused",
    Event.RESUME: "resumed",
}


def _drive(
    session: Session,
    order_id: UUID,
    event: Event,
    *,
    by: str,
    at: datetime | None = None,
    crew_id: UUID | None = None,
    rev: int | None = None,
    position: dict[str, Any] | None = None,
    stage: str | None = None,
) -> WorkOrder:
    order = steps.lock(session, order_id, rev=rev)
    steps.check_mine(order, crew_id)
    step = steps.step_of(order, event)
    if stage is not None:
        steps.refuse_unless_allowed(session, order, stage)
    now = clock.now(session)
    happened = min(at or now, now)
    values: dict[str, Any] = {"status": str(step.to)}
    if order.acknowledged_at is None:
        values["acknowledged_at"] = happened
    detail = {**_seen(at, position), **({"skipped": s} if (s := lifecycle.skipped(State(order.status), event)) else {})}
    steps.change(session, order, **values)
    steps.log(session, order, by=by, verb=_PAST[event], detail=detail)
    return order


def _seen(at: datetime | None, position: dict[str, Any] | None) -> dict[str, Any]:
    return {**({"observed_at": at} if at else {}), **({"position": position} if position else {})}


def had_by(session: Session, order: WorkOrder, crew_id: UUID) -> bool:
    """Whether the crew has the order or had it before."""
    if order.crew_id == crew_id:
        return True
    had = exists().where(Change.order_id == order.id, Change.crew_id == crew_id, Change.verb == "assigned")
    return bool(session.scalar(select(had)))


def reopen(session: Session, order_id: UUID, *, by: str, reason: str, rev: int | None = None) -> WorkOrder:
    """Take a finished order back, or open a follow-up when billing has been told already; the order that is open now.

    Its charges are reversed and what it changed at the place is put back. Raises IllegalTransition for an order that
    did not end in completed or unable, Conflict when another order of this purpose is open at the place.
    """
    order = steps.lock(session, order_id, rev=rev)
    reason = storable_text(reason)
    if order.status == State.CLOSED or (order.status in (State.COMPLETED, State.UNABLE) and _told(session, order)):
        if order.status == State.CLOSED and order.completion is None:
            steps.step_of(order, Event.REOPEN)
        follow_up = opening.follow_up(session, order, by=by, note=reason)
        steps.log(session, order, by=by, verb="followed_up", detail={"reason": reason, "follow_up": follow_up.number})
        return follow_up
    step = steps.step_of(order, Event.REOPEN)
    _make_room(session, order, by)
    before = order.completion or {}
    invoicing.reverse_all(session, order, at=clock.now(session))
    if order.service_point and before.get("place_before"):
        places.take_back(session, order.service_point, order.id, before["place_before"])
    steps.change(
        session,
        order,
        status=str(step.to),
        crew_id=None,
        completion=None,
        ended_at=None,
        assigned_at=None,
        acknowledged_at=None,
        cancel_requested=None,
    )
    steps.log(
        session,
        order,
        by=by,
        verb="reopened",
        detail={"reason": reason, "before": before},
        crew_id=_id(before.get("crew")),
    )
    steps.owe(session, order, "work_order.opened", reopened=True)
    opening.hold_if_needed(session, order, by=by, stage="creation")
    return order


def _id(value: str | None) -> UUID | None:
    return UUID(value) if value else None


def _told(session: Session, order: WorkOrder) -> bool:
    """Whether billing was told how the order ended, or is being told at this moment."""
    ended = OutboundMessage.type.in_(("work_order.completed", "work_order.unable"))
    out = (OutboundMessage.status == "delivered") | (OutboundMessage.leased_until > func.clock_timestamp())
    return bool(session.scalar(select(exists().where(OutboundMessage.order_id == order.id, ended, out))))


def _make_room(session: Session, order: WorkOrder, by: str) -> None:
    """At most one order of a purpose is open at a place: a follow-up of this one that nobody drives yet gives way."""
    other = session.execute(
        select(WorkOrder.id, WorkOrder.number, WorkOrder.follow_up_of, WorkOrder.status).where(
            WorkOrder.service_point == order.service_point,
            WorkOrder.purpose == order.purpose,
            WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
        )
    ).one_or_none()
    if other is None:
        return
    if other.follow_up_of == order.id and other.status not in lifecycle.ON_THE_ROAD:
        withdrawal.cancel(session, other.id, by=by, reason=f"{order.number} was reopened")
        return
    raise Conflict(
        f"{other.number} is open for the same work at this place.", remedy="Go on with it, or cancel it first."
    )
