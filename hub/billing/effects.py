"""What each billing event changes: one table, used by the inbox and printed into the integrator's guide.

Every effect writes facts, orders and volumes in the caller's transaction, which holds the locks of what the event is
about. `python -m hub.billing.effects docs/integrators.md` prints the table between its two markers.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapters.contracts import (
    AccountClosed,
    AccountOpened,
    ConsumptionBilled,
    DelinquencyCleared,
    Delinquent,
    ExchangeDue,
    Heartbeat,
    HoldLifted,
    HoldPlaced,
    Moment,
    Notice,
    NoticeSent,
    Payment,
    PaymentReversed,
    ReadingDoubted,
    ServiceCancelled,
    ServiceRequested,
)
from hub import accounts
from hub.accounts import Word
from hub.billing import answers, sources
from hub.billing.arrivals import Arrival, Outcome, Park
from hub.errors import NotFound
from hub.models import ServicePoint
from hub.work import catalogue, cut_lists, orders, places, policy, reconnects, shutoffs, steering


@dataclass(frozen=True)
class Effect:
    """One line of the table: the facts it changes, the work it opens or ends, and the code that does it.

    `steers`: what it changes may call for a shutoff or end one, even where none is open.
    """

    facts: str
    work: str
    apply: Callable[[Session, Arrival, Any], Outcome]
    steers: bool = True


def apply(session: Session, arrival: Arrival) -> Outcome:
    """Let the event have its effect. Raises Park, or a refusal of the work it asks for."""
    return EFFECTS[arrival.event.type].apply(session, arrival, arrival.event.data)


# --------------------------------------------------------------------------------------------------------------- time


def instant(moment: Moment, *, end_of_day: bool = False) -> datetime:
    """An instant of a moment that may be a day: where that local day begins, or where it ends."""
    if isinstance(moment, datetime):
        return moment
    day = moment + timedelta(days=1) if end_of_day else moment
    return datetime.combine(day, time.min, tzinfo=policy.zone())


def local_day(moment: Moment) -> date:
    """The local day of a moment."""
    return moment.astimezone(policy.zone()).date() if isinstance(moment, datetime) else moment


# ------------------------------------------------------------------------------------------------------------- places


def _need_point(session: Session, point: str) -> None:
    if session.scalar(select(ServicePoint.id).where(ServicePoint.id == point)) is None:
        raise Park("place_unknown", f"Service point {point} is not known yet.", {"service_point": point})


def _point_of(session: Session, arrival: Arrival, point: str | None, meter: str | None = None) -> str:
    """The place an event is about: named, or where its meter is, or where its account lives or lived last."""
    if point is not None:
        _need_point(session, point)
        return point
    if meter is not None:
        found = places.point_of_meter(session, meter)
        if found is None:
            raise Park("meter_unknown", f"Meter {meter} is not known to be anywhere.", {"meter": meter})
        return found
    lives = accounts.places_of(session, arrival.account, local_day(arrival.now))
    return lives[0] if lives else _last_place(session, arrival)


# ------------------------------------------------------------------------------------------------------------ effects


def _opened(session: Session, arrival: Arrival, data: AccountOpened) -> Outcome:
    _need_point(session, data.service_point)
    accounts.introduce(session, arrival.account, source_id=arrival.source_id)
    number, point = arrival.account, data.service_point
    if not accounts.move_in(session, number, point, data.effective_date, arrival.stamp):
        return Outcome("superseded", "A later word on this move-in is known.")
    accounts.set_contact(session, number, **data.customer._asdict())
    left = accounts.words_of(session, [number])[number].get(accounts.MOVED_OUT + point)
    if left is not None and left.stamp.newer_than(arrival.stamp):
        return Outcome("superseded", "The account has left this place again.")
    if not data.read_required:
        return Outcome("applied", detail={"facts": ["occupancy"]})
    return _visit(session, arrival, "move_in", point, data.effective_date, data.appointment)


def _closed(session: Session, arrival: Arrival, data: AccountClosed) -> Outcome:
    point = data.service_point or _last_place(session, arrival)
    _need_point(session, point)
    if not accounts.move_out(session, arrival.account, point, data.effective_date, arrival.stamp):
        return Outcome("superseded", "A later word on this move-out is known.")
    came = accounts.words_of(session, [arrival.account])[arrival.account].get(accounts.MOVED_IN + point)
    if came is not None and not arrival.stamp.newer_than(came.stamp):
        return Outcome("superseded", "The account has moved in again since.")
    if not data.read_required:
        return Outcome("applied", detail={"facts": ["occupancy"]})
    return _visit(session, arrival, "move_out", point, data.effective_date, data.appointment)


def _last_place(session: Session, arrival: Arrival) -> str:
    found = accounts.last_place(session, arrival.account)
    if found is None:
        reason = f"It is not known where account {arrival.account} lived."
        raise Park("place_unknown", reason, {"resident": arrival.account})
    return found


def _visit(
    session: Session,
    arrival: Arrival,
    work_type: str,
    point: str,
    day: date,
    appointment: tuple[datetime, datetime] | None,
) -> Outcome:
    outcome = _open(
        session, arrival, work_type, account=arrival.account, service_point=point, not_before=instant(day),
        appointment=appointment,
    )  # fmt: skip
    outcome.detail["facts"] = ["occupancy"]
    return outcome


def _delinquent(session: Session, arrival: Arrival, data: Delinquent) -> Outcome:
    number, stamp, reference = arrival.account, arrival.stamp, arrival.event.reference
    point = _point_of(session, arrival, data.service_point)
    accounts.record_debt(session, number, past_due=data.amount_due, currency=data.currency, stamp=stamp)
    if data.due_since is not None:
        accounts.record_fact(session, number, accounts.DUE, {"due_since": data.due_since.isoformat()}, stamp)
    for notice in data.notices:
        _keep_notice(session, arrival, notice)
    listed = data.cut_list.id if data.cut_list else None
    sent_at = data.cut_list.sent_at if data.cut_list else None
    wish = {
        "stage": data.stage,
        "service_point": point,
        "reference": reference,
        "attested_by": data.attested_by,
        "cut_list": cut_lists.place_on_list(session, number, arrival.source_id, listed, sent_at, stamp),
    }
    if not accounts.record_fact(session, number, accounts.DELINQUENCY, wish, stamp):
        return Outcome("superseded", "A later word on this delinquency is known.")
    cancelled = None if reference is None else _cancellation(session, arrival, reference)
    if cancelled is not None:
        accounts.record_fact(session, number, accounts.SETTLED, {"why": "cancelled"}, cancelled.stamp)
        return Outcome("superseded", f"{reference} was cancelled.")
    known = accounts.facts(session, number)
    assert known is not None
    if not known.live or known.past_due is None or known.past_due <= 0:
        return Outcome("superseded", "It was settled since.")
    detail: dict[str, Any] = {"facts": ["debt", "delinquency"], "cut_list": listed}
    if data.stage == "notice":
        return _tag(session, arrival, point, detail)
    touched = shutoffs.request(session, number, by=arrival.by, event_id=arrival.event_id)
    joined = bool(touched) and all(t["how"] in ("joined", "rescheduled") for t in touched)
    return Outcome("joined" if joined else "applied", detail=detail | {"orders": touched})


def _tag(session: Session, arrival: Arrival, point: str, detail: dict[str, Any]) -> Outcome:
    """A door tag, where the utility has that type of work; else the facts alone."""
    if "shutoff_notice" not in catalogue.types():
        return Outcome("applied", detail=detail)
    opened = _open(session, arrival, "shutoff_notice", account=arrival.account, service_point=point)
    return Outcome(opened.status, opened.reason, detail | opened.detail)


def _keep_notice(session: Session, arrival: Arrival, notice: Notice) -> bool:
    sent_at = instant(notice.sent_at)
    value = {"channel": notice.channel, "sent_at": sent_at.isoformat()}
    fact = f"{accounts.NOTICE}{notice.channel}:{value['sent_at']}"
    return accounts.record_fact(session, arrival.account, fact, value, arrival.stamp)


def _notice_sent(session: Session, arrival: Arrival, data: NoticeSent) -> Outcome:
    if not _keep_notice(session, arrival, data.notice):
        return Outcome("superseded", "This notice is known already.")
    return Outcome("applied", detail={"facts": ["notice"]})


def _paid(session: Session, arrival: Arrival, data: Payment) -> Outcome:
    number, stamp = arrival.account, arrival.stamp
    past_due = data.past_due if data.past_due is not None else data.balance
    assert past_due is not None
    to_restore = data.to_restore if data.to_restore is not None else past_due
    more = {"balance": _text(data.balance), "to_restore": str(to_restore), "payment": data.payment}
    kept = [accounts.record_debt(session, number, past_due=past_due, stamp=stamp, **more)]
    if past_due <= 0:
        kept.append(accounts.record_fact(session, number, accounts.SETTLED, {"why": "paid"}, stamp))
    if to_restore <= 0:
        kept.append(accounts.record_fact(session, number, accounts.RESTORED, {"why": "paid"}, stamp))
    return _after_word(session, arrival, any(kept), "debt")


def _reversed(session: Session, arrival: Arrival, data: PaymentReversed) -> Outcome:
    number, stamp = arrival.account, arrival.stamp
    value = {"payment": data.payment, "amount": _text(data.amount), "reason": data.reason}
    kept = accounts.record_fact(session, number, accounts.REVERSAL, value, stamp)
    if data.past_due is not None:
        kept |= accounts.record_debt(session, number, past_due=data.past_due, stamp=stamp, payment=data.payment)
    return _after_word(session, arrival, kept, "debt")


def _cleared(session: Session, arrival: Arrival, data: DelinquencyCleared) -> Outcome:
    value = {"why": data.reason or "cleared"}
    kept = [
        accounts.record_fact(session, arrival.account, fact, value, arrival.stamp)
        for fact in (accounts.SETTLED, accounts.RESTORED)
    ]
    return _after_word(session, arrival, any(kept), "delinquency")


def _hold_placed(session: Session, arrival: Arrival, data: HoldPlaced) -> Outcome:
    until = instant(data.until, end_of_day=True) if data.until is not None else None
    number, stamp = arrival.account, arrival.stamp
    kept = accounts.record_hold(session, number, data.hold, stamp=stamp, placed=True, until=until)
    return _after_word(session, arrival, kept, f"hold {data.hold}")


def _hold_lifted(session: Session, arrival: Arrival, data: HoldLifted) -> Outcome:
    kept = accounts.record_hold(session, arrival.account, data.hold, stamp=arrival.stamp, placed=False)
    if not kept:
        return Outcome("superseded", "A later word on this hold is known.")
    return Outcome("applied", detail={"facts": [f"hold {data.hold}"]})


def _after_word(session: Session, arrival: Arrival, kept: bool, fact: str) -> Outcome:
    """What a payment, arrangement or hold does beyond stopping cuts: it may give the water back."""
    if not kept:
        return Outcome("superseded", "A later word on this is known.")
    touched = reconnects.offer(session, arrival.account, by=arrival.by, event_id=arrival.event_id)
    return Outcome("applied", detail={"facts": [fact], "orders": touched})


def _doubted(session: Session, arrival: Arrival, data: ReadingDoubted) -> Outcome:
    point = _point_of(session, arrival, data.service_point, data.meter)
    doubted = {
        "value": _text(data.value),
        "unit": data.unit,
        "read_at": data.read_at.isoformat() if data.read_at else None,
        "reason": data.reason,
        "disputed": data.disputed,
    }
    return _open(
        session, arrival, "reread", account=arrival.event.account, service_point=point, meter=data.meter,
        note=data.reason, details={"doubted": doubted},
    )  # fmt: skip


def _exchange(session: Session, arrival: Arrival, data: ExchangeDue) -> Outcome:
    point = _point_of(session, arrival, data.service_point, data.meter)
    return _open(
        session, arrival, "meter_exchange", account=arrival.event.account, service_point=point, meter=data.meter,
        note=data.reason,
    )  # fmt: skip


def _requested(session: Session, arrival: Arrival, data: ServiceRequested) -> Outcome:
    reference = arrival.event.reference
    if reference is not None:
        if arrival.event.account is not None:
            fact, value = accounts.REQUEST + reference, {"state": "requested", "work_type": data.work_type}
            if not accounts.record_fact(session, arrival.account, fact, value, arrival.stamp):
                return Outcome("superseded", f"A later word on {reference} is known.")
        elif answers.cancelled_without_account(session, arrival.source_id, reference, arrival.event.at):
            return Outcome("superseded", f"{reference} was cancelled.")
    point = data.service_point
    if point is not None or data.position is None:
        point = _point_of(session, arrival, point)
    begin, end = data.wanted or (None, None)
    return _open(
        session, arrival, data.work_type, account=arrival.event.account, service_point=point,
        position=None if point is not None else data.position, not_before=begin, due_by=end, note=data.note,
    )  # fmt: skip


def _cancelled(session: Session, arrival: Arrival, data: ServiceCancelled) -> Outcome:
    reference, number = arrival.event.reference, arrival.event.account
    assert reference is not None
    detail: dict[str, Any] = {"reference": reference}
    if number is not None:
        value = {"state": "cancelled", "reason": data.reason}
        if not accounts.record_fact(session, number, accounts.REQUEST + reference, value, arrival.stamp):
            return Outcome("superseded", f"A later word on {reference} is known.", detail)
        wish = accounts.words_of(session, [number])[number].get(accounts.DELINQUENCY)
        if wish is not None and wish.value.get("reference") == reference and arrival.stamp.newer_than(wish.stamp):
            accounts.record_fact(session, number, accounts.SETTLED, {"why": "cancelled"}, arrival.stamp)
    ended = orders.withdraw_reference(
        session,
        source_id=arrival.source_id,
        reference=reference,
        by=arrival.by,
        reason=data.reason or "Billing cancelled the request.",
        account=number,
    )
    for order in ended:
        steering.remember(session, order, arrival.event_id, "withdrew")
    return Outcome("applied", detail=detail | {"orders": [steering.touch(order, "withdrew") for order in ended]})


def _cancellation(session: Session, arrival: Arrival, reference: str) -> Word | None:
    """The cancellation of the reference, newer than this event, that came before it."""
    word = accounts.words_of(session, [arrival.account])[arrival.account].get(accounts.REQUEST + reference)
    cancelled = word is not None and word.value["state"] == "cancelled"
    return word if word is not None and cancelled and not arrival.stamp.newer_than(word.stamp) else None


def _heartbeat(session: Session, arrival: Arrival, data: Heartbeat) -> Outcome:
    sources.heard(session, arrival.source, as_of=min(data.as_of, arrival.now))
    return Outcome("applied", detail={"facts": ["source"]})


def _billed(session: Session, arrival: Arrival, data: ConsumptionBilled) -> Outcome:
    _need_point(session, data.service_point)
    first, last = local_day(data.from_day), local_day(data.to_day)
    kept = answers.keep_billed(
        session, data, first, last, source=arrival.source, event_id=arrival.event_id, at=arrival.event.at
    )
    if not kept:
        return Outcome("superseded", "This volume is known already, or a later one of the same bill.")
    return Outcome("applied", detail={"volume": f"{data.volume} {data.unit}", "bill": data.bill})


def _open(
    session: Session,
    arrival: Arrival,
    work_type: str,
    *,
    account: str | None,
    service_point: str | None,
    meter: str | None = None,
    position: tuple[float, float] | None = None,
    not_before: datetime | None = None,
    due_by: datetime | None = None,
    appointment: tuple[datetime, datetime] | None = None,
    note: str | None = None,
    details: dict[str, Any] | None = None,
) -> Outcome:
    """Open work on behalf of the event, and say how that went."""
    if work_type not in catalogue.types():
        raise Park("work_type_missing", f"There is no type of work called {work_type} here.")
    try:
        opened = orders.open_order(
            session,
            type=work_type,
            by=arrival.by,
            account=account,
            service_point=service_point,
            meter=meter,
            position=position,
            source_id=arrival.source_id,
            event_id=arrival.event_id,
            reference=arrival.event.reference,
            not_before=not_before,
            due_by=due_by,
            appointment=appointment,
            note=note,
            details=details,
        )
    except NotFound as error:
        raise Park("not_found", error.detail) from error
    status = "joined" if opened.how == "joined" else "applied"
    return Outcome(status, detail={"orders": [steering.touch(opened.order, opened.how)]})


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


EFFECTS: dict[str, Effect] = {
    "account.opened": Effect(
        "the account, its customer, and that it lives at the service point from the effective date",
        "opens `move_in` (unless `read_required` is false); joins an open `move_out` there: one visit, one read; "
        "withdraws a shutoff of the account that lived there before",
        _opened,
    ),
    "account.closed": Effect(
        "the account lives there until the effective date",
        "opens `move_out` (unless `read_required` is false), or joins as above; withdraws the account's shutoff",
        _closed,
    ),
    "account.delinquent": Effect(
        "debt, due date, notices, and billing's wish (`stage`)",
        "stage `cut`: opens `shutoff`, held while the policy says no, or joins the open one; a list sent again "
        "withdraws accounts missing from it. Stage `notice`: opens `shutoff_notice` where that type is installed",
        _delinquent,
    ),
    "account.payment_received": Effect(
        "debt",
        "nothing past due: withdraws the shutoff, by `cancel_requested` when the crew is on the road; a part payment "
        "lowers its amount. After a cut, nothing left `to_restore`: opens `reconnect`",
        _paid,
    ),
    "account.payment_reversed": Effect(
        "debt", "revives no order; holds a `reconnect` that nobody drives to yet", _reversed
    ),
    "account.delinquency_cleared": Effect(
        "the delinquency is over", "withdraws the shutoff; after a cut opens `reconnect`", _cleared
    ),
    "account.hold_placed": Effect(
        "the hold, up to `until`", "holds the shutoff; after a cut opens `reconnect`", _hold_placed
    ),
    "account.hold_lifted": Effect("the hold is over", "judges a held shutoff anew", _hold_lifted),
    "account.notice_sent": Effect("the notice", "judges a held shutoff anew", _notice_sent),
    "reading.rejected": Effect("–", "opens `reread`, or joins the open one", _doubted, steers=False),
    "reading.disputed": Effect("–", "opens `reread`, or joins the open one", _doubted, steers=False),
    "meter.exchange_due": Effect(
        "–", "opens `meter_exchange` where that type is installed, else parked", _exchange, steers=False
    ),
    "service.requested": Effect(
        "the request", "opens work of `work_type`; a known `reference` reschedules its order", _requested
    ),
    "service.cancelled": Effect(
        "the request is over, even when it arrives later", "withdraws whatever `reference` opened", _cancelled
    ),
    "consumption.billed": Effect(
        "stores the billed volume; `replaces` takes an earlier bill's place", "–", _billed, steers=False
    ),
    "charge.posted": Effect("the charge is on an invoice", "–", answers.charge_answered, steers=False),
    "charge.rejected": Effect(
        "billing refused the charge", "an exception for a dispatcher", answers.charge_answered, steers=False
    ),
    "source.heartbeat": Effect(
        "all up to `as_of` has been told: balances are as fresh as that", "–", _heartbeat, steers=False
    ),
}

BEGIN, END = "<!-- effects: begin -->", "<!-- effects: end -->"


def table() -> str:
    """The table as Markdown, with its markers."""
    lines = ["| event | fact it changes | work it opens or ends |", "|---|---|---|"]
    lines += [f"| `{name}` | {effect.facts} | {effect.work} |" for name, effect in EFFECTS.items()]
    return "\n".join([BEGIN, "", *lines, "", END])


def print_into(document: str) -> str:
    """`document` with the table between its markers brought up to date."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table() + tail


if __name__ == "__main__":
    guide = Path(sys.argv[1])
    guide.write_text(print_into(guide.read_text(encoding="utf-8")), encoding="utf-8")
