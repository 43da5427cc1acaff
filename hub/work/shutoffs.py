"""When a shutoff is opened, lowered, held, judged again and withdrawn, and when water comes back.

Writes orders, exceptions and facts in the caller's transaction, which holds the account's lock. Everything here looks
at the facts as they stand, never at the message that brought them, so the order of messages makes no difference: what
was missed is made up for by the next look.
"""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from hub import accounts, clock
from hub.accounts import AccountFacts, Stamp
from hub.db import new_id
from hub.errors import CurbstopError
from hub.models import Account, Occupancy, OrderException, PlaceFact, WorkOrder
from hub.work import cut_lists, dispatching, invoicing, lifecycle, opening, places, policy, steps, withdrawal
from hub.work.policy import Decision

log = structlog.get_logger()
# Reasons that concern the hour only: a crew that has the order may keep it, and cannot start.
PASSING = frozenset({"outside_hours", "holiday"})
REVERSED = {
    "code": "payment_reversed",
    "text": "The payment that earned the reconnect was taken back.",
    "citation": None,
}

Touch = dict[str, Any]


def touch(order: WorkOrder, how: str) -> Touch:
    """What happened to an order, as an event's outcome lists it."""
    return {"id": str(order.id), "number": order.number, "type": order.type, "how": how}


def remember(session: Session, order: WorkOrder, event_id: UUID | None, how: str) -> None:
    """Keep on the order that this event did it."""
    opening.trigger(session, order, event_id, how)


def request(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[Touch]:
    """Open the shutoff that billing asks for, or join the newer wish to the open one. Nothing where none is due.

    One wish opens one order: after a crew or a dispatcher has ended it, only a newer wish of billing opens another.
    """
    known = accounts.facts(session, number)
    if known is None or not policy.wants_cut(known) or known.status != "active":
        return []
    wish = known.words[accounts.DELINQUENCY]
    point = wish.value["service_point"]
    today = _today(session)
    if not accounts.lives_at(session, number, point, today) or accounts.successor_at(session, number, point, today):
        return []
    token = _token(wish.stamp)
    if _had_order(session, number, token) or places.facts(session, point)["valve"].state in ("closed", "restricted"):
        return []
    opened = opening.open_order(
        session,
        type="shutoff",
        by=by,
        account=number,
        service_point=point,
        source_id=known.source_id,
        event_id=event_id,
        reference=wish.value.get("reference"),
        amount_due=known.past_due,
        currency=known.currency,
        details={"request": token, "cut_list": wish.value.get("cut_list")},
    )
    order = opened.order
    if order.details.get("request") != token:
        details = {**order.details, "request": token, "cut_list": wish.value.get("cut_list")}
        steps.change(session, order, details=details)
    return [touch(order, opened.how)]


def _token(stamp: Stamp) -> str:
    return str(stamp.event_id) if stamp.event_id else stamp.at.astimezone(UTC).isoformat()


def _had_order(session: Session, number: str, token: str) -> bool:
    mine = select(WorkOrder.id).where(WorkOrder.account == number, WorkOrder.details["request"].astext == token)
    return session.scalar(mine.limit(1)) is not None


def _today(session: Session) -> date:
    return clock.now(session).astimezone(policy.zone()).date()


def review(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[Touch]:
    """Bring every open shutoff and reconnect of the account in line with what is known of it now.

    What is settled or no longer the account's is withdrawn; amounts follow the debt; what the policy forbids is held,
    what it allows again is released; a shutoff that billing wants and nobody opened yet is opened.
    """
    known = accounts.facts(session, number)
    if known is None:
        return []
    touched: list[Touch] = []
    for order in _open_orders(session, number, "shutoff"):
        touched += _review_one(session, order, known, by=by, event_id=event_id)
    touched += request(session, number, by=by, event_id=event_id)
    touched += _review_reconnects(session, known, by=by, event_id=event_id)
    return touched


def _open_orders(session: Session, number: str, purpose: str) -> list[WorkOrder]:
    ids = session.scalars(
        select(WorkOrder.id).where(
            WorkOrder.account == number,
            WorkOrder.purpose == purpose,
            WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
        )
    ).all()
    return list(steps.lock_many(session, ids).values()) if ids else []


def _review_one(
    session: Session, order: WorkOrder, known: AccountFacts, *, by: str, event_id: UUID | None
) -> list[Touch]:
    over = _why_over(session, order, known)
    if over is not None:
        return _withdraw(session, order, over, by=by, event_id=event_id)
    touched: list[Touch] = []
    if known.past_due is not None and known.past_due > 0 and known.past_due != order.amount_due:
        before = order.amount_due
        steps.change(session, order, amount_due=known.past_due, currency=known.currency or order.currency)
        detail = {"before": before, "amount_due": known.past_due}
        steps.log(session, order, by=by, verb="amount_changed", detail=detail)
        remember(session, order, event_id, "amount_changed")
        touched.append(touch(order, "amount_changed"))
    return touched + _judge(session, order, by=by, event_id=event_id)


def _why_over(session: Session, order: WorkOrder, known: AccountFacts) -> str | None:
    """Why a shutoff is not wanted any more, in words for the crew; None while it is, or while that is not known."""
    assert order.service_point is not None
    today = _today(session)
    if known.status != "active":
        return f"Account {known.number} is closed."
    if not accounts.lives_at(session, known.number, order.service_point, today):
        return f"Account {known.number} does not live here any more."
    successor = accounts.successor_at(session, known.number, order.service_point, today)
    if successor is not None:
        return f"Account {successor} has taken the place."
    if known.past_due is not None and known.past_due <= 0:
        return "Nothing is past due any more."
    if accounts.DELINQUENCY in known.words and not known.live:
        why = known.words[accounts.SETTLED].value.get("why", "settled")
        return f"Billing no longer asks for it ({why})."
    if known.live and known.stage == "notice":
        return "Billing only asks for a notice."
    meter = places.meter_at(session, order.service_point)
    if order.meter is not None and meter is not None and meter != order.meter:
        return f"The meter was exchanged: {meter} is in place of {order.meter}."
    return None


def _withdraw(session: Session, order: WorkOrder, why: str, *, by: str, event_id: UUID | None) -> list[Touch]:
    flag = order.cancel_requested
    if flag is not None and flag["ends"] == "cancelled":
        return []
    withdrawal.withdraw(session, order.id, by=by, reason=why, event_id=event_id)
    remember(session, order, event_id, "withdrew")
    if "request" in order.details and why.startswith("The meter"):
        # The same wish may open an order for the new meter, which is judged from the beginning.
        steps.change(session, order, details={k: v for k, v in order.details.items() if k != "request"})
    return [touch(order, "withdrew")]


# ------------------------------------------------------------------------------------------------------------- policy


def _judge(session: Session, order: WorkOrder, *, by: str, event_id: UUID | None = None) -> list[Touch]:
    decision = steps.judge(session, order, "creation")
    if decision is None:
        return []
    if order.status == "held":
        return _judge_held(session, order, decision, by=by)
    if decision.allowed:
        return []
    lasting = [r for r in decision.reasons if r.code not in PASSING]
    if order.status != "ready" and not lasting:
        return []
    reasons = steps.reasons_of(decision)
    if order.status in lifecycle.ON_THE_ROAD and order.cancel_requested is not None:
        told = [r["code"] for r in order.cancel_requested.get("reasons", [])]
        if all(r["code"] in told for r in reasons):
            return []
    why = "; ".join(r.text for r in (lasting or decision.reasons))
    withdrawal.withdraw(
        session,
        order.id,
        by=by,
        reason=why,
        ends="held",
        reasons=reasons,
        earliest_at=decision.earliest_at,
        event_id=event_id,
    )
    remember(session, order, event_id, "held")
    return [touch(order, "held")]


def _judge_held(session: Session, order: WorkOrder, decision: Decision, *, by: str) -> list[Touch]:
    """Refresh the policy's reasons of a held order; release it when nothing else holds it either."""
    now = clock.now(session)
    others = [r for r in order.reasons if not policy.is_own_reason(r["code"]) and not _lapsed(r, now)]
    if decision.allowed and not others:
        dispatching.release(session, order.id, by=by)
        return [touch(order, "released")]
    earliest = _earliest(order, others, decision, now)
    reasons = [*others, *steps.reasons_of(decision)]
    if [r["code"] for r in reasons] != [r["code"] for r in order.reasons] or earliest != order.earliest_at:
        steps.change(session, order, reasons=reasons, earliest_at=earliest)
        steps.log(session, order, by=by, verb="judged", detail={"reasons": reasons, "earliest_at": earliest})
    return []


def _earliest(order: WorkOrder, others: list[dict[str, Any]], decision: Decision, now: datetime) -> datetime | None:
    """When every reason to hold will have gone by itself; None when one never does."""
    if any(not r.get("until") for r in others):
        return order.earliest_at if order.earliest_at is not None and order.earliest_at > now else None
    dates = [datetime.fromisoformat(r["until"]) for r in others]
    if not decision.allowed:
        if decision.earliest_at is None:
            return None
        dates.append(decision.earliest_at)
    return max(dates)


def _lapsed(reason: dict[str, Any], now: datetime) -> bool:
    """A claim at the door holds the order until its deadline for proof; after that billing's word counts alone."""
    until = reason.get("until")
    return until is not None and datetime.fromisoformat(until) <= now


# What may have changed without a message: the hour, the age of a balance, a neighbour's account, a parked message.
_CANDIDATES = text(
    """
    SELECT DISTINCT o.account FROM work_order o
    WHERE o.purpose = 'shutoff' AND o.account IS NOT NULL AND (
        (o.status = 'held' AND o.earliest_at <= business_now())
        OR (o.status = 'held' AND o.earliest_at IS NULL AND EXISTS (
            SELECT FROM account a JOIN billing_source s ON s.id = a.source_id
            WHERE a.number = o.account AND greatest(s.heard_at, s.as_of) > business_now() - make_interval(hours => 1)
              AND o.reasons @? '$[*] ? (@.code == "balance_stale" || @.code == "source_silent")'))
        OR (o.status IN ('ready', 'assigned', 'en_route', 'on_site', 'paused') AND o.cancel_requested IS NULL AND (
            EXISTS (SELECT FROM billing_event e WHERE e.account = o.account AND e.status = 'parked'
                AND e.processed_at > business_now() - make_interval(hours => 1)
                AND e.outcome ->> 'code' IS DISTINCT FROM 'work_type_missing')
            OR EXISTS (SELECT FROM occupancy p WHERE p.account = o.account AND p.service_point = o.service_point
                AND p.until <= :today)
            OR EXISTS (SELECT FROM occupancy p WHERE p.account <> o.account AND p.service_point = o.service_point
                AND p.since > o.opened_at::date AND p.since <= :today))))
    ORDER BY o.account
    LIMIT :most
    """
)


def judge_due(session: Session, *, most: int = 50) -> int:
    """Look again at shutoffs whose time has come or whose facts may have changed without a message; how many accounts.

    For the worker, every few seconds. Accounts that somebody else holds are left for the next time.
    """
    today = _today(session)
    numbers = list(session.scalars(_CANDIDATES, {"today": today, "most": most}))
    if not numbers:
        return 0
    free = session.scalars(
        select(Account.number)
        .where(Account.number.in_(numbers))
        .order_by(Account.number)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for number in free:
        try:
            with session.begin_nested():
                review(session, number, by="hub")
        except CurbstopError as error:
            log.warning("shutoff not judged", account=number, reason=error.detail)
    return len(free)


# ---------------------------------------------------------------------------------------------------------- reconnect


def restore(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[Touch]:
    """Open a reconnect where the account's nonpayment is the only reason why its water is off.

    Called after a payment, an arrangement or a hold. Where something else stands against it (the account has left,
    somebody else lives there, another reason, the meter is gone), a person decides: an exception is opened once.
    """
    known = accounts.facts(session, number)
    if known is None or not _entitled(session, known):
        return []
    touched: list[Touch] = []
    for point in _off_for(session, number):
        steps.lock_places(session, [number], [point])
        against = _against_reconnect(session, known, point)
        if against is not None:
            _ask_a_person(session, known, point, against)
            continue
        undone = _undo_late_cut(session, known, point)
        opened = opening.open_order(
            session,
            type="reconnect",
            by=by,
            account=number,
            service_point=point,
            source_id=known.source_id,
            event_id=event_id,
            held_because=[REVERSED] if _taken_back(known) and undone is None else None,
            details={"free": True, "undoes": str(undone)} if undone else None,
            priority=1 if undone else None,
        )
        touched.append(touch(opened.order, opened.how))
    return touched


def _entitled(session: Session, known: AccountFacts) -> bool:
    """Whether what was cut for has been settled since billing asked for the cut, or a hold protects the account."""
    restored, wish = known.word(accounts.RESTORED), known.word(accounts.DELINQUENCY)
    now = clock.now(session)
    if any(hold.until is None or hold.until > now for hold in known.holds):
        return True
    return restored is not None and (wish is None or not wish.stamp.newer_than(restored.stamp))


def _taken_back(known: AccountFacts) -> bool:
    reversal, restored = known.word(accounts.REVERSAL), known.word(accounts.RESTORED)
    return reversal is not None and reversal.stamp.newer_than(restored.stamp if restored else None)


def _undo_late_cut(session: Session, known: AccountFacts, point: str) -> UUID | None:
    """The order of a cut that was done after what should have stopped it, its fees taken back; else None.

    This is how a message counts that was on its way while the crew turned the water off.
    """
    valve = places.facts(session, point)["valve"]
    order = session.get(WorkOrder, valve.order_id) if valve.order_id else None
    if order is None or valve.since is None:
        return None
    stops = [word.stamp.at for fact in (accounts.RESTORED, accounts.SETTLED) if (word := known.word(fact))]
    stops += [known.words[accounts.HOLD + hold.kind].stamp.at for hold in known.holds]
    if not any(order.opened_at <= at <= valve.since for at in stops):
        return None
    invoicing.reverse_all(session, order, at=clock.now(session))
    return order.id


def _off_for(session: Session, number: str) -> list[str]:
    return list(
        session.scalars(
            select(PlaceFact.service_point)
            .where(
                PlaceFact.fact == "valve",
                PlaceFact.state.in_(("closed", "restricted")),
                PlaceFact.reason == "nonpayment",
                PlaceFact.account == number,
                # an index on the account's own places finds the row; a place it never lived at is not its concern
                PlaceFact.service_point.in_(select(Occupancy.service_point).where(Occupancy.account == number)),
            )
            .order_by(PlaceFact.service_point)
        )
    )


def _against_reconnect(session: Session, known: AccountFacts, point: str) -> str | None:
    today = _today(session)
    if known.status != "active" or not accounts.lives_at(session, known.number, point, today):
        return f"Account {known.number} has left this place; the water stays off."
    successor = accounts.successor_at(session, known.number, point, today)
    if successor is not None:
        return f"Account {successor} lives here now."
    place = places.facts(session, point)
    if place["meter"].state in ("removed", "none"):
        return "There is no meter in place."
    lock = place["lock"]
    if lock.state == "on" and lock.reason not in (None, "nonpayment", "unknown"):
        return f"The lock is on for another reason ({lock.reason})."
    return None


def _ask_a_person(session: Session, known: AccountFacts, point: str, against: str) -> None:
    waiting = select(OrderException.id).where(
        OrderException.kind == "reconnect_in_doubt",
        OrderException.account == known.number,
        OrderException.service_point == point,
        OrderException.resolved_at.is_(None),
    )
    if session.scalar(waiting.limit(1)) is not None:
        return
    session.execute(
        insert(OrderException).values(
            id=new_id(),
            account=known.number,
            service_point=point,
            kind="reconnect_in_doubt",
            text=f"Account {known.number} has settled what its water was turned off for. {against}",
            ours={"place": {fact: state.as_json() for fact, state in places.facts(session, point).items()}},
            theirs={"past_due": str(known.past_due)},
            opened_at=clock.now(session),
        )
    )


def _review_reconnects(session: Session, known: AccountFacts, *, by: str, event_id: UUID | None) -> list[Touch]:
    """Hold a reconnect whose payment was taken back, while nobody drives there; release it when it is paid again.

    One that undoes a cut of ours is never held: that water should not be off, whoever paid what.
    """
    touched: list[Touch] = []
    for order in _open_orders(session, known.number, "reconnect"):
        if order.details.get("free"):
            continue
        held_for_it = [r["code"] for r in order.reasons] == [REVERSED["code"]]
        if _taken_back(known) and order.status in ("ready", "assigned"):
            withdrawal.hold(session, order.id, by=by, reasons=[REVERSED], event_id=event_id)
            remember(session, order, event_id, "held")
            touched.append(touch(order, "held"))
        elif not _taken_back(known) and order.status == "held" and held_for_it:
            dispatching.release(session, order.id, by=by)
            remember(session, order, event_id, "released")
            touched.append(touch(order, "released"))
    return touched


def drop_unlisted(session: Session) -> int:
    """Withdraw one account that is missing from a cut list which was sent again; how many (0 or 1). For the worker."""
    dropped = cut_lists.next_missing(session)
    if dropped is None:
        return 0
    number, name, since = dropped
    accounts.lock(session, number)
    value = {"why": f"no longer on cut list {name}"}
    accounts.record_fact(session, number, accounts.SETTLED, value, Stamp(since))
    review(session, number, by="hub")
    return 1
