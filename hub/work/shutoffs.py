"""When a shutoff is opened, lowered, held, judged again and withdrawn, and when water comes back.

Writes orders, exceptions and facts in the caller's transaction, which holds the account's lock. Everything here looks
at the facts as they stand, never at the message that brought them, so the order of messages makes no difference: what
was missed is made up for by the next look.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import accounts, clock
from hub.accounts import AccountFacts, Stamp
from hub.errors import CurbstopError
from hub.models import Account, WorkOrder
from hub.work import cut_lists, dispatching, lifecycle, opening, places, policy, reconnects, steering, steps, withdrawal
from hub.work.policy import Decision

log = structlog.get_logger()
# Reasons that concern the hour only: a crew that has the order may keep it, and cannot start.
PASSING = frozenset({"outside_hours", "holiday"})
# A detail of an order that is being taken back: the newer wish that opens another one when it has ended.
WAITING_WISH = "waiting_wish"


def request(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[steering.Touch]:
    """Open the shutoff that billing asks for, or join the newer wish to the open one. Nothing where none is due.

    One wish opens one order: after a crew or a dispatcher has ended it, only a newer wish of billing opens another.
    """
    known = accounts.facts(session, number)
    return [] if known is None else _request(session, known, by=by, event_id=event_id)


def _request(session: Session, known: AccountFacts, *, by: str, event_id: UUID | None) -> list[steering.Touch]:
    if not policy.wants_cut(known):
        return []
    number = known.number
    wish = known.words[accounts.DELINQUENCY]
    today = steering.today(session)
    point = wish.value.get("service_point") or next(iter(accounts.places_of(session, number, today)), None)
    if (
        point is None
        or not accounts.lives_at(session, number, point, today)
        or accounts.successor_at(session, number, point, today)
    ):
        return []
    token = _token(wish.stamp)
    if _had_order(session, number, token) or places.facts(session, point)["valve"].state in ("closed", "restricted"):
        return []
    for order in steering.open_orders(session, number, "shutoff"):
        if _ends_cancelled(order):
            # the crew is being asked back: what billing wishes anew opens once it has answered (see `_CANDIDATES`)
            if order.details.get(WAITING_WISH) != token:
                steps.change(session, order, details={**order.details, WAITING_WISH: token})
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
    return [steering.touch(order, opened.how)]


def _ends_cancelled(order: WorkOrder) -> bool:
    return order.cancel_requested is not None and order.cancel_requested["ends"] == "cancelled"


def _token(stamp: Stamp) -> str:
    return str(stamp.event_id) if stamp.event_id else stamp.at.astimezone(UTC).isoformat()


def _had_order(session: Session, number: str, token: str) -> bool:
    mine = select(WorkOrder.id).where(WorkOrder.account == number, WorkOrder.details["request"].astext == token)
    return session.scalar(mine.limit(1)) is not None


def any_open(session: Session, number: str) -> bool:
    """Whether the account has a shutoff or a reconnect that a word about it could change."""
    return steering.any_open(session, number, ("shutoff", "reconnect"))


def review(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[steering.Touch]:
    """Bring every open shutoff and reconnect of the account in line with what is known of it now.

    What is settled or no longer the account's is withdrawn; amounts follow the debt; what the policy forbids is held,
    what it allows again is released; a shutoff that billing wants and nobody opened yet is opened.
    """
    known = accounts.facts(session, number)
    if known is None:
        return []
    touched: list[steering.Touch] = []
    for order in steering.open_orders(session, number, "shutoff"):
        touched += _review_one(session, order, known, by=by, event_id=event_id)
    touched += _request(session, known, by=by, event_id=event_id)
    touched += reconnects.review(session, known, by=by, event_id=event_id)
    return touched


def _review_one(
    session: Session, order: WorkOrder, known: AccountFacts, *, by: str, event_id: UUID | None
) -> list[steering.Touch]:
    over = _why_over(session, order, known)
    if over is not None:
        return _withdraw(session, order, over, by=by, event_id=event_id)
    touched: list[steering.Touch] = []
    if known.past_due is not None and known.past_due > 0 and known.past_due != order.amount_due:
        before = order.amount_due
        steps.change(session, order, amount_due=known.past_due, currency=known.currency or order.currency)
        detail = {"before": before, "amount_due": known.past_due}
        steps.log(session, order, by=by, verb="amount_changed", detail=detail)
        steering.remember(session, order, event_id, "amount_changed")
        touched.append(steering.touch(order, "amount_changed"))
    return touched + _judge(session, order, by=by, event_id=event_id)


def _why_over(session: Session, order: WorkOrder, known: AccountFacts) -> str | None:
    """Why a shutoff is not wanted any more, in words for the crew; None while it is, or while that is not known."""
    assert order.service_point is not None
    today = steering.today(session)
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


def _withdraw(session: Session, order: WorkOrder, why: str, *, by: str, event_id: UUID | None) -> list[steering.Touch]:
    if _ends_cancelled(order):
        return []
    withdrawal.withdraw(session, order.id, by=by, reason=why, event_id=event_id)
    steering.remember(session, order, event_id, "withdrew")
    if "request" in order.details and why.startswith("The meter"):
        # The same wish may open an order for the new meter, which is judged from the beginning.
        steps.change(session, order, details={k: v for k, v in order.details.items() if k != "request"})
    return [steering.touch(order, "withdrew")]


# ------------------------------------------------------------------------------------------------------------- policy


def _judge(session: Session, order: WorkOrder, *, by: str, event_id: UUID | None = None) -> list[steering.Touch]:
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
    steering.remember(session, order, event_id, "held")
    return [steering.touch(order, "held")]


def _judge_held(session: Session, order: WorkOrder, decision: Decision, *, by: str) -> list[steering.Touch]:
    """Refresh the policy's reasons of a held order; release it when nothing else holds it either."""
    now = clock.now(session)
    others = [r for r in order.reasons if not policy.is_own_reason(r["code"]) and not _lapsed(r, now)]
    if decision.allowed and not others:
        dispatching.release(session, order.id, by=by)
        return [steering.touch(order, "released")]
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


# What may have changed without a message: the hour, the age of a balance, a neighbour's account, a parked message, a
# file of balances or accounts, a cut list that was sent again, a payment that a file told.
_CANDIDATES = text(
    """
    SELECT o.account FROM work_order o
    WHERE o.purpose = 'shutoff' AND o.account IS NOT NULL
      AND o.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
      AND coalesce(o.cancel_requested ->> 'ends', '') <> 'cancelled' AND (
        (o.status = 'held' AND o.earliest_at <= business_now())
        OR (o.status = 'held' AND o.earliest_at IS NULL
            AND o.reasons @? '$[*] ? (@.code == "balance_stale" || @.code == "source_silent")'
            AND EXISTS (SELECT FROM account a JOIN billing_source s ON s.id = a.source_id
                LEFT JOIN account_fact d ON d.account = a.number AND d.fact = 'debt'
                WHERE a.number = o.account AND greatest(s.as_of, d.at) > business_now() - make_interval(hours => 1)))
        OR EXISTS (SELECT FROM account_fact d WHERE d.account = o.account AND d.fact = 'debt'
            AND (d.value ->> 'past_due')::numeric <= 0)
        OR EXISTS (SELECT FROM occupancy p WHERE p.account = o.account AND p.service_point = o.service_point
            AND p.until <= :today)
        OR EXISTS (SELECT FROM occupancy p WHERE p.account <> o.account AND p.service_point = o.service_point
            AND p.since > o.opened_at::date AND p.since <= :today)
        OR (o.status <> 'held' AND o.cancel_requested IS NULL AND (
            EXISTS (SELECT FROM account_fact h WHERE h.account = o.account AND starts_with(h.fact, 'hold:')
                AND (h.value ->> 'placed')::boolean
                AND coalesce((h.value ->> 'until')::timestamptz, 'infinity') > business_now())
            OR EXISTS (SELECT FROM billing_event e WHERE e.account = o.account AND e.status = 'parked'
                AND e.outcome ->> 'code' IS DISTINCT FROM 'work_type_missing'))))
    UNION
    SELECT o.account FROM work_order o WHERE o.details ->> 'waiting_wish' IS NOT NULL
      AND o.status IN ('cancelled', 'closed') AND o.ended_at > business_now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM work_order r WHERE r.account = o.account
          AND r.details ->> 'request' = o.details ->> 'waiting_wish')
    UNION
    SELECT f.account FROM account_fact f JOIN place_fact v ON v.account = f.account
    WHERE f.fact = 'restored' AND f.event_id IS NULL
      AND v.fact = 'valve' AND v.state IN ('closed', 'restricted') AND v.reason = 'nonpayment' AND f.at > v.since
      AND NOT EXISTS (SELECT FROM work_order r WHERE r.account = f.account AND r.purpose = 'reconnect'
          AND r.created_at > f.recorded_at)
      AND NOT EXISTS (SELECT FROM order_exception x WHERE x.account = f.account AND x.kind = 'reconnect_in_doubt')
    ORDER BY 1
    LIMIT :most
    """
)


def judge_due(session: Session, *, most: int = 50) -> int:
    """Look again at shutoffs whose time has come or whose facts may have changed without a message; how many accounts.

    For the worker, every few seconds. Accounts that somebody else holds are left for the next time.
    """
    today = steering.today(session)
    missing = {number: (name, since) for number, name, since in cut_lists.missing(session, most=most)}
    numbers = {*session.scalars(_CANDIDATES, {"today": today, "most": most}), *missing}
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
                if number in missing:
                    name, since = missing[number]
                    value = {"why": f"no longer on cut list {name}"}
                    accounts.record_fact(session, number, accounts.SETTLED, value, Stamp(since))
                review(session, number, by="hub")
                reconnects.offer(session, number, by="hub")
        except CurbstopError as error:
            log.warning("shutoff not judged", account=number, reason=error.detail)
    return len(free)
