"""When water turned off for nonpayment comes back: a reconnect is opened, held, released, or a person is asked.

Writes orders, exceptions and reversing charges in the caller's transaction, which holds the account's lock. Like
shutoffs, it looks at the facts as they stand, so the order of messages makes no difference.
"""

from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from hub import accounts, clock
from hub.accounts import AccountFacts
from hub.db import new_id
from hub.models import Occupancy, OrderException, PlaceFact, WorkOrder
from hub.work import dispatching, invoicing, opening, places, steering, steps, withdrawal

REVERSED = {
    "code": "payment_reversed",
    "text": "The payment that earned the reconnect was taken back.",
    "citation": None,
}


def offer(session: Session, number: str, *, by: str, event_id: UUID | None = None) -> list[steering.Touch]:
    """Open a reconnect where the account's nonpayment is the only reason why its water is off.

    For after a payment, an arrangement or a hold. Where something else stands against it (the account has left,
    somebody else lives there, another reason, the meter is gone), a person decides: an exception is opened once.
    """
    known = accounts.facts(session, number)
    if known is None or not _entitled(session, known):
        return []
    touched: list[steering.Touch] = []
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
        touched.append(steering.touch(opened.order, opened.how))
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
    wish = known.word(accounts.DELINQUENCY)
    words = [word for fact in (accounts.RESTORED, accounts.SETTLED) if (word := known.word(fact))]
    stops = [word.stamp.at for word in words if wish is None or word.stamp.newer_than(wish.stamp)]
    in_force = [hold for hold in known.holds if hold.until is None or hold.until > valve.since]
    stops += [known.words[accounts.HOLD + hold.kind].stamp.at for hold in in_force]
    if not any(at <= valve.since for at in stops):
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
    today = steering.today(session)
    if not accounts.lives_at(session, known.number, point, today):
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


def review(session: Session, known: AccountFacts, *, by: str, event_id: UUID | None) -> list[steering.Touch]:
    """Hold a reconnect whose payment was taken back, while nobody drives there; release it when it is paid again.

    One that undoes a cut of ours is never held: that water should not be off, whoever paid what.
    """
    touched: list[steering.Touch] = []
    for order in steering.open_orders(session, known.number, "reconnect"):
        if order.details.get("free"):
            continue
        held_for_it = [r["code"] for r in order.reasons] == [REVERSED["code"]]
        if _taken_back(known) and order.status in ("ready", "assigned"):
            withdrawal.hold(session, order.id, by=by, reasons=[REVERSED], event_id=event_id)
            steering.remember(session, order, event_id, "held")
            touched.append(steering.touch(order, "held"))
        elif not _taken_back(known) and order.status == "held" and held_for_it:
            dispatching.release(session, order.id, by=by)
            steering.remember(session, order, event_id, "released")
            touched.append(steering.touch(order, "released"))
    return touched
