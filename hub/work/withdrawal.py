"""Taking work back: hold, cancel, withdraw, and how it becomes certain that the crew knows.

Writes orders, change log and outbound messages in the caller's transaction. A crew that has not left loses the order at
once; one that is on the road is asked for it, and its answer, or a word over the radio, ends the order.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, or_, select, true
from sqlalchemy.orm import Session

from hub import clock
from hub.errors import BadInput, IllegalTransition, NotFound, storable, storable_text
from hub.models import WorkOrder
from hub.work import lifecycle, steps
from hub.work.lifecycle import Event, State

Ends = Literal["cancelled", "held"]


def hold(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    reasons: Sequence[dict[str, Any]],
    earliest_at: datetime | None = None,
    rev: int | None = None,
    event_id: UUID | None = None,
) -> WorkOrder:
    """Stop the order for `reasons` (`{code, text, citation}`), at least until `earliest_at`.

    A crew on the road is asked back first.

    Raises BadInput without a reason, IllegalTransition for a finished order.
    """
    if not reasons:
        raise BadInput("A hold needs a reason.", field="reason", remedy="Say why the order has to wait.")
    return _take_back(session, order_id, Event.HOLD, by, storable(list(reasons)), earliest_at, rev)


def cancel(
    session: Session, order_id: UUID, *, by: str, reason: str, rev: int | None = None, event_id: UUID | None = None
) -> WorkOrder:
    """End the order because it is no longer wanted; a crew on the road is asked back first.

    Raises IllegalTransition for a finished order.
    """
    return _take_back(session, order_id, Event.CANCEL, by, [_reason("withdrawn", reason)], None, rev)


def cancel_locked(session: Session, order: WorkOrder, *, by: str, reason: str) -> None:
    """`cancel` for an order whose place the caller has locked; the account of another is not asked for any more."""
    _take_back_locked(session, order, Event.CANCEL, by, [_reason("withdrawn", reason)], None)


def withdraw(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    reason: str,
    ends: Ends = "cancelled",
    reasons: Sequence[dict[str, Any]] | None = None,
    earliest_at: datetime | None = None,
    rev: int | None = None,
    event_id: UUID | None = None,
) -> WorkOrder:
    """`cancel` or `hold`, as `ends` says, on behalf of billing or the policy.

    `reasons` say more than `reason` does, for an order that ends held. Raises IllegalTransition for a finished order.
    """
    event = Event.CANCEL if ends == "cancelled" else Event.HOLD
    why = storable(list(reasons)) if reasons else [_reason("withdrawn", reason)]
    return _take_back(session, order_id, event, by, why, earliest_at, rev, text=reason)


def withdraw_reference(
    session: Session, *, source_id: UUID | None, reference: str, by: str, reason: str, account: str | None = None
) -> list[WorkOrder]:
    """Withdraw whatever `reference` of a source opened or joined, as far as it is still open; the orders touched.

    A request that had joined another order is taken out of it. An order that others have joined, or asked for as well
    under a reference of their own, goes on for them.
    """
    named: dict[str, Any] = {"reference": reference, **({"account": account} if account else {})}
    also_named = {"reference": reference, "source_id": str(source_id) if source_id else None}
    same_source = WorkOrder.source_id.is_not_distinct_from(source_id)
    same_account = (WorkOrder.account == account) if account else true()
    found = session.scalars(
        select(WorkOrder.id)
        .where(
            WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
            or_(
                same_source & same_account & (WorkOrder.reference == reference),
                same_source & WorkOrder.details["joined"].contains([named]),
                same_account & WorkOrder.details["also_asked"].contains([also_named]),
            ),
        )
        .order_by(WorkOrder.id)
    ).all()
    touched = []
    for order in steps.lock_many(session, found).values():
        if order.status not in lifecycle.OPEN:
            continue
        joined: list[dict[str, Any]] = order.details.get("joined", [])
        rest = [request for request in joined if any(request[name] != value for name, value in named.items())]
        also: list[dict[str, Any]] = order.details.get("also_asked", [])
        if len(rest) < len(joined):
            _leave(session, order, "joined", rest, by=by, reason=reason)
        elif also_named in also:
            _leave(session, order, "also_asked", [r for r in also if r != also_named], by=by, reason=reason)
        elif also:
            _go_on(session, order, by=by, reason=reason)
        elif joined:
            _hand_over(session, order, by=by, reason=reason)
        else:
            withdraw(session, order.id, by=by, reason=reason)
        touched.append(order)
    return touched


def wanted_again(session: Session, order: WorkOrder, *, by: str, reference: str | None, source_id: UUID | None) -> None:
    """The same work is asked for anew while its crew is being asked back: the crew goes on.

    Under another reference the one it was opened under ends here, as it does when the two words come the other way
    round (`_go_on`). The order's flag must be up.
    """
    assert order.cancel_requested is not None
    flag = order.cancel_requested
    renamed = (reference, source_id) != (order.reference, order.source_id)
    if renamed:
        steps.owe(session, order, "work_order.cancelled", reason=flag["reason"])
    steps.change(session, order, cancel_requested=None, reference=reference, source_id=source_id)
    steps.log(session, order, by=by, verb="wanted_again", detail={"reference": reference, "withdrawn": flag["reason"]})
    if renamed:
        steps.owe(session, order, "work_order.opened")


def _leave(
    session: Session, order: WorkOrder, requests: str, rest: list[dict[str, Any]], *, by: str, reason: str
) -> None:
    steps.change(session, order, details={**order.details, requests: rest})
    steps.log(session, order, by=by, verb="request_withdrawn", detail={"reason": reason})


def _go_on(session: Session, order: WorkOrder, *, by: str, reason: str) -> None:
    """The same work under the next reference it was asked for; the one it was opened under is withdrawn."""
    heir, *rest = order.details["also_asked"]
    before = {"reference": order.reference}
    steps.owe(session, order, "work_order.cancelled", reason=reason)
    source = UUID(heir["source_id"]) if heir["source_id"] else None
    details = {**order.details, "also_asked": rest}
    steps.change(session, order, reference=heir["reference"], source_id=source, details=details)
    steps.log(session, order, by=by, verb="handed_over", detail={"reason": reason, "before": before})
    steps.owe(session, order, "work_order.opened")


def _hand_over(session: Session, order: WorkOrder, *, by: str, reason: str) -> None:
    """The first request that joined becomes what the order is for; the one it was opened for is withdrawn."""
    heir, *rest = order.details["joined"]
    before = {"account": order.account, "type": order.type, "reference": order.reference}
    steps.owe(session, order, "work_order.cancelled", reason=reason)
    steps.change(
        session,
        order,
        type=heir["type"],
        type_snapshot=heir["type_snapshot"],
        account=heir["account"],
        reference=heir["reference"],
        source_id=UUID(heir["source_id"]) if heir["source_id"] else None,
        details={**order.details, "joined": rest},
    )
    steps.log(session, order, by=by, verb="handed_over", detail={"reason": reason, "before": before})
    steps.owe(session, order, "work_order.opened")


def _reason(code: str, text: str) -> dict[str, Any]:
    return {"code": code, "text": storable_text(text), "citation": None}


def _take_back(
    session: Session,
    order_id: UUID,
    event: Event,
    by: str,
    reasons: list[dict[str, Any]],
    earliest_at: datetime | None,
    rev: int | None,
    *,
    text: str | None = None,
) -> WorkOrder:
    order = steps.lock(session, order_id, rev=rev)
    _take_back_locked(session, order, event, by, reasons, earliest_at, text=text)
    return order


def _take_back_locked(
    session: Session,
    order: WorkOrder,
    event: Event,
    by: str,
    reasons: list[dict[str, Any]],
    earliest_at: datetime | None,
    *,
    text: str | None = None,
) -> None:
    step = steps.step_of(order, event)
    now = clock.now(session)
    why = storable_text(text) if text else "; ".join(str(r.get("text") or r["code"]) for r in reasons)
    if not step.asks_back:
        _end(session, order, step.to, by=by, at=now, why=why, reasons=reasons, earliest_at=earliest_at)
        return
    raised = order.cancel_requested
    ends = "cancelled" if event is Event.CANCEL else "held"
    flag = {
        "reason": why,
        "since": raised["since"] if raised else now.isoformat(),
        # an order that was to be cancelled is not merely held by a later, weaker wish
        "ends": "cancelled" if raised and raised["ends"] == "cancelled" else ends,
        "reasons": [
            *(raised or {}).get("reasons", []),
            *(r for r in reasons if r not in (raised or {}).get("reasons", [])),
        ],
        "earliest_at": earliest_at.isoformat() if earliest_at else (raised or {}).get("earliest_at"),
    }
    steps.change(session, order, cancel_requested=flag)
    steps.log(
        session, order, by=by, verb="cancel_requested", detail={"reason": why, "ends": flag["ends"], "reasons": reasons}
    )


def _end(
    session: Session,
    order: WorkOrder,
    to: State,
    *,
    by: str,
    at: datetime,
    why: str,
    reasons: list[dict[str, Any]],
    earliest_at: datetime | None,
    told: str | None = None,
) -> None:
    """Make the order held or cancelled and take it from its crew; `told` says how the crew knows, if it does."""
    crew_id = order.crew_id
    details = dict(order.details)
    if crew_id is not None:
        recorded: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        details["withdrawal"] = {
            "crew_id": str(crew_id),
            "reason": why,
            "since": at.isoformat(),
            "recorded_at": recorded.astimezone(UTC).isoformat(),
            "told": told,
            "told_at": at.isoformat() if told else None,
        }
    values: dict[str, Any] = {"status": str(to), "crew_id": None, "cancel_requested": None, "details": details}
    values |= {"assigned_at": None, "acknowledged_at": None}
    if to is State.HELD:
        kept = [r for r in order.reasons if r not in reasons] if order.status == State.HELD else []
        dates = [d for d in (earliest_at, order.earliest_at if kept else None) if d is not None]
        values |= {"reasons": [*kept, *reasons], "earliest_at": max(dates, default=None)}
    else:
        values |= {"reasons": reasons, "earliest_at": None, "ended_at": at}
    steps.change(session, order, **values)
    verb = "held" if to is State.HELD else "cancelled"
    steps.log(
        session, order, by=by, verb=verb, detail={"reason": why, "reasons": reasons, "told": told}, crew_id=crew_id
    )
    steps.owe(session, order, f"work_order.{verb}", reason=why, reasons=order.reasons, earliest_at=order.earliest_at)
    for request in details.get("joined", []) if to is State.CANCELLED else []:
        steps.owe(session, order, "work_order.cancelled", reason=why, **request_data(request))


def request_data(request: dict[str, Any]) -> dict[str, Any]:
    """What a message about a joined request says instead of the order's own."""
    return {"work_type": request["type"], "account": request["account"], "reference": request["reference"]}


def end_held(
    session: Session,
    order: WorkOrder,
    *,
    by: str,
    at: datetime,
    reasons: list[dict[str, Any]],
    earliest_at: datetime | None,
    told: str,
) -> None:
    """Hold an order whose crew itself reports why it has to wait."""
    why = "; ".join(str(r["text"]) for r in reasons)
    _end(session, order, State.HELD, by=by, at=at, why=why, reasons=reasons, earliest_at=earliest_at, told=told)


def answer_flag(session: Session, order: WorkOrder, *, by: str, at: datetime, told: str) -> None:
    """End an order whose flag is up in the state the flag names; `told` is device or radio."""
    flag = order.cancel_requested
    assert flag is not None
    earliest_at = datetime.fromisoformat(flag["earliest_at"]) if flag.get("earliest_at") else None
    reasons = flag.get("reasons") or [_reason("withdrawn", flag["reason"])]
    _end(
        session,
        order,
        State(flag["ends"]),
        by=by,
        at=at,
        why=flag["reason"],
        reasons=reasons,
        earliest_at=earliest_at,
        told=told,
    )


def cancel_acknowledge(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    at: datetime | None = None,
    crew_id: UUID | None = None,
    rev: int | None = None,
    position: dict[str, Any] | None = None,
) -> WorkOrder:
    """The crew has understood that the order was taken back. Raises NotFound for another crew, IllegalTransition."""
    return _told(session, order_id, by=by, crew_id=crew_id, rev=rev, told="device")


def confirm_told_by_radio(session: Session, order_id: UUID, *, by: str, rev: int | None = None) -> WorkOrder:
    """A dispatcher told the crew over the radio that the order was taken back. Raises IllegalTransition."""
    return _told(session, order_id, by=by, crew_id=None, rev=rev, told="radio")


def _told(session: Session, order_id: UUID, *, by: str, crew_id: UUID | None, rev: int | None, told: str) -> WorkOrder:
    order = steps.lock(session, order_id, rev=rev)
    withdrawal = order.details.get("withdrawal")
    lost_by = UUID(withdrawal["crew_id"]) if withdrawal else None
    if crew_id is not None and crew_id not in (order.crew_id, lost_by):
        raise NotFound("There is no such work order.", field="id", value=str(order_id))
    step = steps.step_of(order, Event.CANCEL_ACKNOWLEDGE)
    now = clock.now(session)
    if step.answers_flag:
        answer_flag(session, order, by=by, at=now, told=told)
        return order
    if withdrawal is None:
        raise IllegalTransition(
            f"{order.number} was not taken from a crew.", remedy="There is nothing to confirm.", state=order.status
        )
    if withdrawal["told"] is None:
        confirmed = {**withdrawal, "told": told, "told_at": now.isoformat()}
        steps.change(session, order, details={**order.details, "withdrawal": confirmed})
        steps.log(session, order, by=by, verb="withdrawal_confirmed", detail={"told": told}, crew_id=lost_by)
    return order


def unconfirmed(order: WorkOrder, last_sync_at: datetime | None) -> bool:
    """Whether a crew may still believe that it has the order: nobody told it, and its device has not synced since.

    `last_sync_at` (real time) is that of the crew that had it.
    """
    if order.cancel_requested is not None:
        return True
    withdrawal = order.details.get("withdrawal")
    if withdrawal is None or withdrawal["told"] is not None:
        return False
    return last_sync_at is None or last_sync_at <= datetime.fromisoformat(withdrawal["recorded_at"])
