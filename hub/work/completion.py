"""The end of field work: completed, unable, a claim at the door, or a report that came too late.

Writes the order, place facts, the reading, charges, exceptions, follow-up orders, change log and outbound messages in
the caller's transaction: together or not at all.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from hub import clock
from hub.errors import BadInput, storable, storable_text
from hub.models import WorkOrder
from hub.work import (
    dispatching,
    effects,
    forms,
    invoicing,
    joint_visits,
    lifecycle,
    meter_exchanges,
    opening,
    places,
    steps,
    withdrawal,
)
from hub.work.catalogue import UNABLE_CODES, Completion, WorkType
from hub.work.effects import Report
from hub.work.lifecycle import Event, State

# A device that says that the work was done so long before it was asked for has lost its clock.
BELIEVABLE = timedelta(days=31)


def complete(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    answers: Mapping[str, Any],
    at: datetime | None = None,
    via: str = "device",
    position: dict[str, Any] | None = None,
    offline: bool = False,
    crew_id: UUID | None = None,
    rev: int | None = None,
) -> WorkOrder:
    """The work is done as `answers` say, at `at` (default now), told through `via` (device, radio, paper).

    The order is `completed` afterwards, or `held` (cancelled, if it was to be) after a claim at the door. A report by
    a crew that no longer has the order changes neither its state nor its crew: it is kept with both sides as an
    exception. `crew_id` names the crew that reports for itself. Raises BadInput for answers that do not fit the form of
    the type, NotFound for another crew's order, IllegalTransition.
    """
    order = steps.lock(session, order_id, rev=rev)
    work_type = steps.work_type_of(order)
    kept = forms.check_answers(work_type, answers)
    completion = work_type.completion_of(kept["code"])
    assert completion is not None
    _refuse_contradiction(completion, kept)
    report = _report(session, order, by, kept["code"], kept, at, via, position, offline, crew_id)
    if _is_late(session, order, crew_id, via):
        _late(session, order, work_type, completion, report)
        return order
    steps.check_mine(order, crew_id)
    if completion.claim:
        _claim(session, order, completion, report)
    else:
        _complete(session, order, work_type, completion, report)
    return order


def unable(
    session: Session,
    order_id: UUID,
    *,
    by: str,
    code: str,
    at: datetime | None = None,
    via: str = "device",
    remark: str | None = None,
    position: dict[str, Any] | None = None,
    offline: bool = False,
    crew_id: UUID | None = None,
    rev: int | None = None,
    answers: Mapping[str, Any] | None = None,
) -> WorkOrder:
    """The work could not be done for the reason `code`; the type says what follows.

    `retry` opens a linked follow-up order for later, until the type's number of attempts is reached; `escalate` puts it
    before a dispatcher; `return_to_billing` leaves it to billing. With the flag up the order ends where the flag says.
    Raises BadInput for a code the type does not list, NotFound for another crew's order, IllegalTransition.
    """
    order = steps.lock(session, order_id, rev=rev)
    work_type = steps.work_type_of(order)
    declared = work_type.unable_of(code)
    if declared is None:
        raise BadInput(
            f"{storable_text(code)[:80]!r} is no reason why a {work_type.type} could not be done.",
            field="code",
            remedy=f"Use one of {', '.join(u.code for u in work_type.unable)}.",
        )
    told = storable({**(answers or {}), **({"remark": remark} if remark else {})})
    report = _report(session, order, by, code, told, at, via, position, offline, crew_id)
    if _is_late(session, order, crew_id, via):
        steps.log(session, order, by=by, verb="late_report", detail=report.record(unable=True), crew_id=crew_id)
        return order
    steps.check_mine(order, crew_id)
    step = steps.step_of(order, Event.UNABLE)
    skipped = lifecycle.skipped(State(order.status), Event.UNABLE)
    if order.cancel_requested is not None:
        steps.log(session, order, by=by, verb="unable_reported", detail=report.record(skipped=skipped))
        withdrawal.answer_flag(session, order, by=by, at=report.now, told=via)
        return order
    attempt = int(order.details.get("attempt", 1))
    then = "escalate" if declared.then == "retry" and attempt >= work_type.max_attempts else declared.then
    record = report.record(unable=True, then=then, skipped=skipped, attempt=attempt)
    steps.change(session, order, status=str(step.to), completion=record, ended_at=report.at)
    steps.log(session, order, by=by, verb="unable", detail=record)
    steps.owe(session, order, "work_order.unable", code=code, then=then, remark=told.get("remark"))
    joint_visits.unable(session, order, code=code, then=then)
    effects.charge(session, order, work_type, report)
    if then == "retry":
        assert declared.retry_after_hours is not None
        later = report.now + timedelta(hours=declared.retry_after_hours)
        again = opening.follow_up(session, order, by="hub", not_before=later, details={"attempt": attempt + 1})
        steps.log(session, order, by="hub", verb="followed_up", detail={"follow_up": again.number, "not_before": later})
    elif then == "escalate":
        text = f"{order.number} could not be done: {UNABLE_CODES[code].lower()}."
        effects.put_before_dispatcher(session, order, "escalated", text, report)
    return order


def _report(
    session: Session,
    order: WorkOrder,
    by: str,
    code: str,
    answers: dict[str, Any],
    at: datetime | None,
    via: str,
    position: dict[str, Any] | None,
    offline: bool,
    crew_id: UUID | None,
) -> Report:
    if via not in ("device", "radio", "paper"):
        raise BadInput(
            "It is not said how the report came.",
            field="via",
            value=storable_text(via)[:40],
            remedy="Use radio or paper.",
        )
    now = clock.now(session)
    lost_by = order.details.get("withdrawal", {}).get("crew_id")
    crew = crew_id or order.crew_id or (UUID(lost_by) if lost_by else None)
    happened = min(at or now, now)
    if happened < order.opened_at - BELIEVABLE:
        happened = now
    return Report(by, code, answers, happened, now, at, via, crew, storable(position), offline, order.rev)


def _is_late(session: Session, order: WorkOrder, crew_id: UUID | None, via: str) -> bool:
    """Whether this is a report on an order that its crew no longer has.

    A crew may report what it once had, whatever became of it. A dispatcher may enter a late report only for an order
    that was taken from a crew.
    """
    if crew_id is not None:
        in_hand = order.status in lifecycle.IN_HAND and order.crew_id == crew_id
        return not in_hand and dispatching.had_by(session, order, crew_id)
    return _stopped(order) and "withdrawal" in order.details


def _stopped(order: WorkOrder) -> bool:
    """Whether the order was taken back and nobody has done it since."""
    ended = order.status == State.CLOSED and order.completion is None
    return ended or order.status in (State.CANCELLED, State.HELD)


def _refuse_contradiction(completion: Completion, answers: Mapping[str, Any]) -> None:
    """Refuse a code and a valve that contradict each other: only the reporter knows which is right."""
    left = answers.get("valve_after")
    wrong = {"off": ("open", "restricted"), "restricted": ("open", "closed"), "on": ("closed",)}
    if completion.service and left in wrong[completion.service]:
        raise BadInput(
            f"{completion.title}, but the valve was left {left}.",
            field="answers.valve_after",
            value=left,
            remedy="Correct the code or the valve.",
        )


def _complete(session: Session, order: WorkOrder, work_type: WorkType, completion: Completion, report: Report) -> None:
    step = steps.step_of(order, Event.COMPLETE)
    stopped = order.cancel_requested if _cuts(work_type, completion) else None
    judgement = _judgement(session, order, completion, report)
    record = report.record(
        skipped=lifecycle.skipped(State(order.status), Event.COMPLETE),
        judgement=judgement,
        cancel_requested=order.cancel_requested,
        place_before=_place_before(session, order),
    )
    values: dict[str, Any] = {
        "status": str(step.to),
        "completion": record,
        "cancel_requested": None,
        "ended_at": report.at,
    }
    steps.change(session, order, **values)
    steps.log(session, order, by=report.by, verb="completed", detail=_shown(record))
    reads = effects.book_reads(session, order, completion, report)
    steps.owe(session, order, "work_order.completed", code=report.code, reads=reads, at=report.at, via=report.via)
    effects.tell_reads(session, order, reads)
    effects.change_place(session, order, completion, report)
    if completion.exchange:
        meter_exchanges.of_report(session, order, report)
    effects.charge(session, order, work_type, report)
    if completion.exception:
        effects.put_before_dispatcher(session, order, report.code, completion.exception, report)
    if completion.next:
        _open_next(session, order, completion.next, report)
    if _cuts(work_type, completion):
        if stopped is not None:
            _undo_cut(session, order, report, because=stopped["reason"])
        elif judgement is not None and not judgement["allowed"]:
            effects.put_before_dispatcher(
                session,
                order,
                "cut_against_policy",
                f"{order.number} was cut although the policy did not allow it.",
                report,
            )
    joint_visits.complete(session, order, completion, report, reads)


def _open_next(session: Session, order: WorkOrder, type: str, report: Report) -> None:
    """The work that remains, where this work was done, or where the crew stood if that was a whole zone."""
    stood = report.position or {}
    at = (stood["lon"], stood["lat"]) if {"lon", "lat"} <= stood.keys() else None
    place: dict[str, Any] = {"service_point": order.service_point}
    if order.service_point is None:
        place = {"position": at} if at is not None else opening.place_of(session, order)
    again = opening.open_order(
        session,
        type=type,
        by="hub",
        **place,
        account=order.account,
        meter=order.meter,
        source_id=order.source_id,
        note=report.answers.get("remark"),
        details={**opening.handed_on(order), "found_by": order.number, "found_at": report.at.isoformat()},
        priority=order.priority,
        follow_up_of=order.id,
    )
    steps.log(session, order, by="hub", verb="followed_up", detail={"follow_up": again.order.number, "how": again.how})


def _cuts(work_type: WorkType, completion: Completion) -> bool:
    return work_type.gate == "cut" and completion.service in ("off", "restricted")


def _judgement(session: Session, order: WorkOrder, completion: Completion, report: Report) -> dict[str, Any] | None:
    """What the policy says of a cut that has happened: recorded, never a reason to refuse the fact."""
    if completion.service not in ("off", "restricted"):
        return None
    decision = steps.judge(session, order, "completion", at=report.at)
    if decision is None:
        return None
    return {"allowed": decision.allowed, "reasons": steps.reasons_of(decision)}


def _place_before(session: Session, order: WorkOrder) -> dict[str, Any]:
    if order.service_point is None:
        return {}
    return {fact: known.as_json() for fact, known in places.facts(session, order.service_point).items()}


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a report that belongs on the timeline."""
    return {
        key: value
        for key, value in record.items()
        if key not in ("place_before", "rev_seen") and value not in (None, [], {})
    }


def _claim(session: Session, order: WorkOrder, completion: Completion, report: Report) -> None:
    """Nothing was turned off. The order waits for proof, and billing hears what the customer said."""
    step = steps.step_of(order, Event.CLAIM)
    assert completion.claim is not None and completion.proof_hours is not None
    until = report.now + timedelta(hours=completion.proof_hours)
    skipped = lifecycle.skipped(State(order.status), Event.CLAIM)
    steps.log(
        session,
        order,
        by=report.by,
        verb="claimed",
        detail=_shown(report.record(claim=completion.claim, skipped=skipped)),
    )
    reads = effects.book_reads(session, order, completion, report)
    evidence = {"code": report.code, "remark": report.answers.get("remark"), "proof_until": until}
    steps.owe(session, order, "customer.claimed", claim=completion.claim, evidence=evidence, at=report.at)
    effects.tell_reads(session, order, reads)
    effects.change_place(session, order, completion, report)
    if step.to is State.CANCELLED:
        withdrawal.answer_flag(session, order, by=report.by, at=report.now, told=report.via)
        return
    reason = {
        "code": f"claim_{completion.claim}",
        "text": completion.title,
        "citation": None,
        "until": until.isoformat(),
    }
    raised = order.cancel_requested or {}
    earliest = [until, *([datetime.fromisoformat(raised["earliest_at"])] if raised.get("earliest_at") else [])]
    withdrawal.end_held(
        session,
        order,
        by=report.by,
        at=report.now,
        reasons=[*raised.get("reasons", []), reason],
        earliest_at=max(earliest),
        told=report.via,
    )


def _late(session: Session, order: WorkOrder, work_type: WorkType, completion: Completion, report: Report) -> None:
    """Work on an order that its crew no longer has: facts are facts, the order stays as it is, a person decides."""
    steps.step_of(order, Event.LATE_REPORT)
    ours = {
        "status": order.status,
        "rev": order.rev,
        "crew": str(order.crew_id) if order.crew_id else None,
        "withdrawal": order.details.get("withdrawal"),
        "completion": _shown(order.completion or {}),
    }
    judgement = _judgement(session, order, completion, report)
    theirs = report.record(judgement=judgement)
    text = f"{order.number} is {order.status}, and a crew reports: {completion.title.lower()}."
    steps.except_for_dispatcher(session, order, kind="late_report", text=text, ours=ours, theirs=theirs, at=report.now)
    steps.log(session, order, by=report.by, verb="late_report", detail=_shown(theirs), crew_id=report.crew_id)
    if completion.claim:
        evidence = {"code": report.code, "remark": report.answers.get("remark"), "proof_until": None}
        steps.owe(session, order, "customer.claimed", claim=completion.claim, evidence=evidence, at=report.at)
    effects.tell_reads(session, order, effects.book_reads(session, order, completion, report))
    effects.change_place(session, order, completion, report)
    forbidden = judgement is not None and not judgement["allowed"] and order.completion is None
    if _cuts(work_type, completion) and (_stopped(order) or forbidden):
        effects.charge(session, order, work_type, report)
        _undo_cut(session, order, report, because="the order had been taken back")


def _undo_cut(session: Session, order: WorkOrder, report: Report, *, because: str) -> None:
    """The water of somebody who should have kept it is off: on again at once, at nobody's cost but ours."""
    invoicing.reverse_all(session, order, at=report.now)
    text = f"{order.number} was cut after it had been stopped ({because})."
    effects.put_before_dispatcher(session, order, "cut_after_stop", text, report)
    again = opening.open_order(
        session,
        type="reconnect",
        by="hub",
        account=order.account,
        service_point=order.service_point,
        meter=order.meter,
        source_id=order.source_id,
        reference=None,
        note=text,
        details={"free": True, "undoes": str(order.id)},
        priority=1,
    )
    detail = {"order": again.order.number, "how": again.how, "because": because}
    steps.log(session, order, by="hub", verb="reconnect_opened", detail=detail, crew_id=report.crew_id)
