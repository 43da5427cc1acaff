"""Opening work orders: one per place and purpose; what comes again joins it or moves its date.

Writes orders, triggers, change log and outbound messages in the caller's transaction.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from hub import clock
from hub.db import new_id
from hub.errors import BadInput, Conflict, NotFound, storable, storable_text
from hub.models import Account, OrderTrigger, ServicePoint, WorkOrder, Zone
from hub.work import catalogue, lifecycle, places, steps, withdrawal
from hub.work.catalogue import WorkType
from hub.work.lifecycle import State

# Two requests of this purpose for different accounts at one place are one visit with one read: the old customer's last
# and the new one's first. Everything else belongs to one account.
BACK_TO_BACK = "occupancy"
# Steered by the account's facts (`hub.work.shutoffs`): a request alone sends no crew on to cut.
BY_FACTS = "shutoff"


@dataclass(frozen=True)
class Opened:
    """The order that a request led to, and how: `opened`, `joined` to one that was open, or `rescheduled`."""

    order: WorkOrder
    how: str


@dataclass(frozen=True)
class _Request:
    """A request for work after its place, account and type were looked up."""

    kind: WorkType
    by: str
    account: str | None
    service_point: str | None
    meter: str | None
    position: tuple[float, float] | None
    zone: str | None
    source_id: UUID | None
    event_id: UUID | None
    reference: str | None
    not_before: datetime | None
    due_by: datetime | None
    appointment: tuple[datetime, datetime] | None
    amount_due: Decimal | None
    currency: str | None
    note: str | None
    details: dict[str, Any]
    priority: int
    held_because: list[dict[str, Any]]
    follow_up_of: UUID | None


def open_order(
    session: Session,
    *,
    type: str,
    by: str,
    account: str | None = None,
    service_point: str | None = None,
    meter: str | None = None,
    position: tuple[float, float] | None = None,
    zone: str | None = None,
    source_id: UUID | None = None,
    event_id: UUID | None = None,
    reference: str | None = None,
    not_before: datetime | None = None,
    due_by: datetime | None = None,
    appointment: tuple[datetime, datetime] | None = None,
    amount_due: Decimal | None = None,
    currency: str | None = None,
    note: str | None = None,
    details: dict[str, Any] | None = None,
    priority: int | None = None,
    held_because: list[dict[str, Any]] | None = None,
    follow_up_of: UUID | None = None,
) -> Opened:
    """Open work of `type`, or join it to the order that is open for the same place and purpose.

    The target is a service point, an account (then: where it lives), a meter (then: where it is), a position
    (longitude, latitude in degrees), or a whole zone. A `reference` that an open order of this source bears moves that
    order's dates. A shutoff that the policy does not allow now is opened `held`; `held_because` holds other work.
    Raises NotFound for an unknown type, place or account, BadInput for no place at all, and Conflict when another
    account's order of this purpose is still on the road.
    """
    kind = catalogue.work_type(type)
    _check_times({"not_before": not_before, "due_by": due_by}, appointment)
    account, service_point = _target(session, account, service_point, meter, position, zone)
    steps.lock_places(session, [account], [service_point])
    _check_target(session, account, service_point, position, zone)
    asked = _Request(
        kind=kind,
        by=by,
        account=account,
        service_point=service_point,
        meter=meter or (places.meter_at(session, service_point) if service_point else None),
        position=position,
        zone=zone if service_point is None and position is None else None,
        source_id=source_id,
        event_id=event_id,
        reference=reference,
        not_before=not_before,
        due_by=due_by,
        appointment=appointment,
        amount_due=amount_due,
        currency=currency,
        note=None if note is None else storable_text(note),
        details=storable(details or {}),
        priority=priority or kind.priority,
        held_because=held_because or [],
        follow_up_of=follow_up_of,
    )
    return _reschedule(session, asked) or _join(session, asked) or _open(session, asked)


def follow_up(
    session: Session,
    order: WorkOrder,
    *,
    by: str,
    note: str | None = None,
    not_before: datetime | None = None,
    details: dict[str, Any] | None = None,
) -> WorkOrder:
    """Open the same work again, linked to `order`; joins what is open for it already."""
    place = {} if order.service_point is not None else place_of(session, order)
    return open_order(
        session,
        type=order.type,
        by=by,
        account=order.account,
        service_point=order.service_point,
        meter=order.meter,
        **place,
        source_id=order.source_id,
        reference=order.reference,
        not_before=not_before,
        amount_due=order.amount_due,
        currency=order.currency,
        note=note or order.note,
        details={**{k: v for k, v in order.details.items() if k != "withdrawal"}, **(details or {})},
        priority=order.priority,
        follow_up_of=order.id,
    ).order


def place_of(session: Session, order: WorkOrder) -> dict[str, Any]:
    """Where work without a service point is, as `open_order` takes it: a whole zone, or a position."""
    if order.details.get("target") == "zone":
        return {"zone": order.zone}
    where = select(func.ST_X(WorkOrder.position), func.ST_Y(WorkOrder.position)).where(WorkOrder.id == order.id)
    lon, lat = session.execute(where).one()
    return {"position": (lon, lat)}


def handed_on(order: WorkOrder) -> dict[str, Any]:
    """What other work that follows from `order` should know of why it was opened."""
    return {name: order.details[name] for name in ("evidence", "leak_event") if name in order.details}


def trigger(session: Session, order: WorkOrder, event_id: UUID | None, how: str) -> None:
    """Remember that a billing event `opened`, `joined`, `rescheduled` or `withdrew` the order."""
    if event_id is not None:
        session.execute(
            upsert(OrderTrigger).values(order_id=order.id, event_id=event_id, how=how).on_conflict_do_nothing()
        )


def _target(
    session: Session,
    account: str | None,
    service_point: str | None,
    meter: str | None,
    position: tuple[float, float] | None,
    zone: str | None,
) -> tuple[str | None, str | None]:
    """(account, service point) of the work, each found from what else is known of it. Raises BadInput for no place."""
    if service_point is None and meter is not None:
        service_point = places.point_of_meter(session, meter)
    if service_point is None and account is not None and position is None:
        service_point = places.point_of_account(session, account)
    if service_point is None and position is None and zone is None:
        raise BadInput(
            "It is not known where this work is.",
            field="service_point",
            remedy="Name a service point, a meter in place, an account that lives somewhere, a position, or a zone.",
        )
    if account is None and service_point is not None:
        account = places.account_at(session, service_point)
    return account, service_point


def _check_times(times: dict[str, datetime | None], appointment: tuple[datetime, datetime] | None) -> None:
    if appointment is not None:
        times = {**times, "appointment.from": appointment[0], "appointment.to": appointment[1]}
        if appointment[1] <= appointment[0]:
            raise BadInput("The appointment ends before it begins.", field="appointment.to", value=appointment[1])
    for field, at in times.items():
        if at is not None and not 2000 <= at.year < 2200:
            raise BadInput(
                f"{field} is not a time for work.", field=field, value=at, remedy="Use a year of this century."
            )


def _check_target(
    session: Session,
    account: str | None,
    service_point: str | None,
    position: tuple[float, float] | None,
    zone: str | None,
) -> None:
    if account is not None and session.scalar(select(Account.number).where(Account.number == account)) is None:
        raise NotFound("There is no such account.", field="account", value=account)
    if service_point is not None:
        if session.scalar(select(ServicePoint.id).where(ServicePoint.id == service_point)) is None:
            raise NotFound(
                "There is no such service point.", field="service_point", value=service_point, remedy="Import it first."
            )
    elif position is not None and not (-180 <= position[0] <= 180 and -90 <= position[1] <= 90):
        raise BadInput(
            "The position is not on Earth.", field="position", value=position, remedy="Send [lon, lat] in degrees."
        )
    elif position is None and zone is not None:
        # locked, so that two who want the same zone surveyed find each other
        found = session.scalar(select(Zone.code).where(Zone.code == zone).with_for_update(key_share=True))
        if found is None:
            raise NotFound("There is no such zone.", field="zone", value=zone, remedy="GET /api/v1/zones lists them.")


def _open_order(session: Session, *conditions: Any) -> WorkOrder | None:
    return session.scalars(
        select(WorkOrder)
        .where(WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]), *conditions)
        .order_by(WorkOrder.id)
        .limit(1)
        .with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one_or_none()


def _reschedule(session: Session, asked: _Request) -> Opened | None:
    """A reference that is open already moves its order: the dates are billing's newest word."""
    if asked.reference is None:
        return None
    known = _open_order(
        session,
        WorkOrder.reference == asked.reference,
        WorkOrder.source_id.is_not_distinct_from(asked.source_id),
        WorkOrder.type == asked.kind.type,
        WorkOrder.service_point.is_not_distinct_from(asked.service_point),
    )
    if known is None:
        return None
    since = clock.now(session)
    values = {
        "not_before": asked.not_before or known.not_before,
        "due_by": asked.due_by or (_due(asked, since) if asked.not_before or asked.appointment else known.due_by),
        "appointment_from": asked.appointment[0] if asked.appointment else known.appointment_from,
        "appointment_to": asked.appointment[1] if asked.appointment else known.appointment_to,
        "amount_due": known.amount_due if asked.amount_due is None else asked.amount_due,
        "note": asked.note or known.note,
    }
    if any(getattr(known, name) != value for name, value in values.items()):
        steps.change(session, known, **values)
    if _being_taken_back(known, asked):
        withdrawal.wanted_again(session, known, by=asked.by, reference=asked.reference, source_id=asked.source_id)
    trigger(session, known, asked.event_id, "rescheduled")
    steps.log(
        session,
        known,
        by=asked.by,
        verb="rescheduled",
        detail={"event": asked.event_id, "not_before": asked.not_before},
    )
    return Opened(known, "rescheduled")


def _join(session: Session, asked: _Request) -> Opened | None:
    """A second trigger for the same place and purpose joins the order that is open."""
    if asked.service_point is not None:
        here = WorkOrder.service_point == asked.service_point
    elif asked.zone is not None:
        here = (WorkOrder.zone == asked.zone) & WorkOrder.service_point.is_(None)
    else:
        return None
    known = _open_order(session, here, WorkOrder.purpose == asked.kind.purpose)
    if known is None:
        return None
    other = known.account != asked.account or known.type != asked.kind.type
    if other and asked.kind.purpose != BACK_TO_BACK:
        return _take_over(session, asked, known)
    earlier_due = [d for d in (known.due_by, asked.due_by) if d is not None]
    values: dict[str, Any] = {
        "amount_due": known.amount_due if asked.amount_due is None or other else asked.amount_due,
        "due_by": min(earlier_due, default=None),
        "priority": min(known.priority, asked.priority),
        "details": {**known.details, **({} if other else asked.details)},
    }
    if other:
        joined = {
            "type": asked.kind.type,
            "account": asked.account,
            "reference": asked.reference,
            "source_id": str(asked.source_id) if asked.source_id else None,
            "type_snapshot": asked.kind.snapshot(),
        }
        rest = [
            j
            for j in known.details.get("joined", [])
            if (j["type"], j["account"]) != (joined["type"], joined["account"])
        ]
        values["details"] = {**known.details, "joined": [*rest, joined]}
    elif _being_taken_back(known, asked):
        withdrawal.wanted_again(session, known, by=asked.by, reference=asked.reference, source_id=asked.source_id)
    elif asked.reference is not None and (asked.reference, asked.source_id) != (known.reference, known.source_id):
        values["details"]["also_asked"] = _also_asked(known, asked)
    if any(getattr(known, name) != value for name, value in values.items()):
        steps.change(session, known, **values)
    trigger(session, known, asked.event_id, "joined")
    steps.log(
        session,
        known,
        by=asked.by,
        verb="joined",
        detail={
            "event": asked.event_id,
            "type": asked.kind.type,
            "account": asked.account,
            "reference": asked.reference,
        },
    )
    return Opened(known, "joined")


def _being_taken_back(known: WorkOrder, asked: _Request) -> bool:
    """Whether the crew of the order is being asked back, so that what is asked for now would end with it."""
    flag = known.cancel_requested
    return flag is not None and flag["ends"] == "cancelled" and asked.kind.purpose != BY_FACTS


def _also_asked(known: WorkOrder, asked: _Request) -> list[dict[str, Any]]:
    """The further references under which the same work was asked for: a cancellation of one leaves it to the others."""
    source = str(asked.source_id) if asked.source_id else None
    request = {"reference": asked.reference, "source_id": source}
    kept: list[dict[str, Any]] = known.details.get("also_asked", [])
    return kept if request in kept else [*kept, request]


def _take_over(session: Session, asked: _Request, known: WorkOrder) -> Opened | None:
    """Another account's order gives way, if its crew has not left; then the new one can be opened."""
    if known.status in lifecycle.ON_THE_ROAD:
        raise Conflict(
            f"{known.number} is on the road for another account at this place.",
            field="service_point",
            value=asked.service_point,
            remedy="Try again when its crew is back.",
        )
    withdrawal.cancel_locked(session, known, by=asked.by, reason="another account's order takes its place")
    return None


def _open(session: Session, asked: _Request) -> Opened:
    now = clock.now(session)
    serial: int = session.execute(text("SELECT nextval('work_order_number')")).scalar_one()
    order_id = new_id()
    session.execute(
        insert(WorkOrder).values(
            id=order_id,
            number=f"WO-{now.year}-{serial:06d}",
            type=asked.kind.type,
            purpose=asked.kind.purpose,
            type_snapshot=asked.kind.snapshot(),
            status=str(State.READY),
            priority=asked.priority,
            account=asked.account,
            service_point=asked.service_point,
            meter=asked.meter,
            source_id=asked.source_id,
            reference=asked.reference,
            note=asked.note,
            details={**asked.details, **({"target": "zone"} if asked.zone is not None else {})},
            not_before=asked.not_before,
            due_by=asked.due_by or _due(asked, now),
            appointment_from=asked.appointment[0] if asked.appointment else None,
            appointment_to=asked.appointment[1] if asked.appointment else None,
            amount_due=asked.amount_due,
            currency=asked.currency,
            opened_at=now,
            opened_by=asked.by,
            follow_up_of=asked.follow_up_of,
            **_where(asked),
        )
    )
    order = session.scalars(select(WorkOrder).where(WorkOrder.id == order_id)).one()
    trigger(session, order, asked.event_id, "opened")
    steps.log(
        session,
        order,
        by=asked.by,
        verb="opened",
        detail={
            "event": asked.event_id,
            "type": order.type,
            "reference": order.reference,
            "follow_up_of": asked.follow_up_of,
        },
    )
    steps.owe(session, order, "work_order.opened", due_by=order.due_by, not_before=order.not_before)
    hold_if_needed(session, order, by=asked.by, stage="creation", because=asked.held_because)
    return Opened(order, "opened")


def hold_if_needed(
    session: Session, order: WorkOrder, *, by: str, stage: str, because: list[dict[str, Any]] | None = None
) -> None:
    """Hold a fresh or reopened order that the policy does not allow now, or that `because` gives reasons to hold."""
    reasons, earliest_at = list(because or []), None
    decision = steps.judge(session, order, stage)
    if decision is not None and not decision.allowed:
        reasons += steps.reasons_of(decision)
        earliest_at = decision.earliest_at
    if not reasons:
        return
    steps.change(session, order, status=str(State.HELD), reasons=reasons, earliest_at=earliest_at)
    steps.log(session, order, by=by, verb="held", detail={"reasons": reasons, "earliest_at": earliest_at})
    steps.owe(session, order, "work_order.held", reasons=reasons, earliest_at=earliest_at)


def _due(asked: _Request, now: datetime) -> datetime:
    begins = max([now, *([asked.not_before] if asked.not_before else [])])
    if asked.appointment:
        return max(asked.appointment[1], begins)
    return begins + timedelta(hours=asked.kind.service_level_hours)


def _where(asked: _Request) -> dict[str, Any]:
    """Position and zone: those of the service point, else of the position itself (the innermost zone around it)."""
    if asked.service_point is not None:
        mine = ServicePoint.id == asked.service_point
        return {
            "position": select(ServicePoint.geometry).where(mine).scalar_subquery(),
            "zone": select(ServicePoint.zone).where(mine).scalar_subquery(),
        }
    if asked.zone is not None:
        middle = select(func.ST_PointOnSurface(Zone.geometry)).where(Zone.code == asked.zone).scalar_subquery()
        return {"position": middle, "zone": asked.zone}
    assert asked.position is not None
    point = func.ST_SetSRID(func.ST_MakePoint(*asked.position), 4326)
    inner = (
        select(Zone.code)
        .where(func.ST_Covers(Zone.geometry, point))
        .order_by(func.ST_Area(Zone.geometry), Zone.code)
        .limit(1)
    )
    return {"position": point, "zone": inner.scalar_subquery()}
