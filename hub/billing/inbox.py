"""The inbox: every message of a billing system is kept verbatim for ever and reaches exactly one outcome.

`receive` is the hot path of the webhook door: one INSERT in the caller's transaction, nothing else. `process_one` opens
its own transaction per message: it takes the locks of what the message is about, applies it, and writes the outcome in
the same transaction. Messages of one account are processed in the order of arrival, but no rule depends on that order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from psycopg.types.json import Jsonb
from sqlalchemy import Row, func, select, text, update
from sqlalchemy.orm import Session

from adapters.billing.signatures import BadSignature, verify
from adapters.contracts import BillingEvent as Event
from adapters.contracts import Heading, MalformedEvent
from hub import accounts, changes, clock
from hub.billing import effects, sources
from hub.billing.arrivals import Arrival, Outcome, Park
from hub.billing.understanding import ADAPTERS
from hub.db import Database, new_id, raw_of, wake
from hub.errors import BadInput, Conflict, CurbstopError, NotAuthenticated, NotFound, storable, storable_text
from hub.models import Account, BillingEvent, WorkOrder
from hub.work import lifecycle, shutoffs, steps

log = structlog.get_logger()
CHANNEL = "curbstop_inbox"
MOST_ATTEMPTS = 10
# Refused bodies are kept too; these reasons are answered with 422.
NOT_JSON = ("not_json", "bad_envelope")
# An event that claims to come from later than this is a wrong clock; it would supersede everything until then.
FUTURE = timedelta(days=1)


@dataclass(frozen=True)
class Received:
    """What became of a message at the door: its id with us, and whether it is new, a repetition, or a contradiction."""

    event_id: UUID
    new: bool
    same_body: bool
    problem: MalformedEvent | None


@dataclass(frozen=True)
class Sender:
    """A source as the door needs it, and the database's clock, by which signatures are judged."""

    id: UUID
    name: str
    adapter: str
    secrets: list[str]
    now: datetime


def sender_called(session: Session, name: str) -> Sender | None:
    """The billing system called `name`, if there is one."""
    row = (
        raw_of(session)
        .execute(
            "SELECT id, name, adapter, secrets, clock_timestamp() FROM billing_source WHERE name = %s",
            (storable_text(name),),
        )
        .fetchone()
    )
    return None if row is None else Sender(*row)


def verified_id(sender: Sender, headers: Mapping[str, str], body: bytes) -> str:
    """The id of a message that `sender` signed (Standard Webhooks 1.0.0). Raises NotAuthenticated."""
    try:
        return verify(sender.secrets, headers, body, sender.now.astimezone(UTC))
    except BadSignature as error:
        raise NotAuthenticated(str(error), remedy="Sign the raw body with the secret of this source.") from None


def receive(session: Session, *, sender: Sender, webhook_id: str, body: bytes) -> Received:
    """Keep a verified message. One that cannot be understood is parked with its reason at once."""
    connection = raw_of(session)
    digest = hashlib.sha256(body).digest()
    heading, problem = Heading(), None
    try:
        heading = ADAPTERS[sender.adapter](body).heading
    except MalformedEvent as error:
        heading, problem = error.heading, error
    event_id = new_id()
    row = connection.execute(
        "INSERT INTO billing_event (id, source_id, webhook_id, body, body_hash, type, account, seq, at,"
        " status, reason, outcome, processed_at)"
        " VALUES (%s, %s, %s, %b, %b, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN business_now() END)"
        " ON CONFLICT (source_id, webhook_id) DO NOTHING RETURNING id",
        (
            event_id,
            sender.id,
            webhook_id,
            body,
            digest,
            *heading,
            "parked" if problem else "pending",
            str(problem) if problem else None,
            Jsonb({"code": problem.reason}) if problem else None,
            problem is not None,
        ),
    ).fetchone()
    if row is not None:
        wake(session, CHANNEL)
        if problem is not None:
            _record(session, event_id, sender.name, heading, Outcome("parked", str(problem), {"code": problem.reason}))
        return Received(event_id, True, True, problem)
    kept = connection.execute(
        "SELECT id, body_hash FROM billing_event WHERE source_id = %s AND webhook_id = %s", (sender.id, webhook_id)
    ).fetchone()
    assert kept is not None
    return Received(kept[0], False, bytes(kept[1]) == digest, problem)


# The oldest message that is due and has no older one of its account before it. A message that failed does not hold up
# the later ones of its account: their effects do not depend on the order.
_CLAIM = text(
    """
    SELECT e.id, e.source_id, e.body, e.attempts, e.received_seq, s.name AS source, s.adapter
    FROM billing_event e JOIN billing_source s ON s.id = e.source_id
    WHERE e.status = 'pending' AND e.next_attempt_at <= clock_timestamp()
      AND NOT EXISTS (
        SELECT FROM billing_event p
        WHERE p.account = e.account AND p.source_id = e.source_id AND p.status = 'pending'
          AND p.attempts = 0 AND p.received_seq < e.received_seq)
    ORDER BY e.next_attempt_at, e.received_seq
    LIMIT 1
    FOR NO KEY UPDATE OF e SKIP LOCKED
    """
)


def process_one(database: Database) -> bool:
    """Process the oldest message that is due, in a transaction of its own; False when there is none.

    A message whose processing fails is tried again later, with growing pauses, and parked after ten tries.
    """
    claimed: list[UUID] = []
    try:
        with database.transaction() as session:
            return process_next(session, claimed)
    except Exception as error:
        if not claimed:
            raise
        # A conflict is expected (a crew is on the road for somebody else); anything else is worth a look.
        log.warning(
            "billing event not applied", id=str(claimed[0]), error=type(error).__name__, reason=str(error)[:500]
        )
        with database.transaction() as session:
            _postpone(session, claimed[0], error)
    return True


def process_next(session: Session, claimed: list[UUID] | None = None) -> bool:
    """Claim the oldest message that is due and process it in the caller's transaction; False when there is none.

    Its id is added to `claimed` first, so that a caller whose transaction fails knows which message it was.
    """
    row = session.execute(_CLAIM).one_or_none()
    if row is None:
        return False
    if claimed is not None:
        claimed.append(row.id)
    _process(session, row)
    return True


def process_pending(database: Database, *, most: int = 1000) -> int:
    """Process up to `most` due messages, one transaction each; how many there were."""
    done = 0
    while done < most and process_one(database):
        done += 1
    return done


def _process(session: Session, row: Row[Any]) -> None:
    try:
        event = ADAPTERS[row.adapter](bytes(row.body))
    except MalformedEvent as error:
        _finish(session, row, None, Outcome("parked", str(error), {"code": error.reason}))
        return
    now = clock.now(session)
    if event.at > now + FUTURE:
        detail = f"Its timestamp {event.at.isoformat()} lies in the future."
        _finish(session, row, event, Outcome("parked", detail, {"code": "time_ahead"}))
        return
    sources.heard(session, row.source)
    stamp = accounts.Stamp(event.at, event.seq, row.id)
    arrival = Arrival(event, row.id, row.source_id, row.source, stamp, now)
    try:
        with session.begin_nested():
            _lock_subjects(session, arrival)
            _check_owner(session, arrival)
            outcome = effects.apply(session, arrival)
    except Park as parked:
        outcome = Outcome("parked", parked.reason, {"code": parked.code, "waiting_for": parked.waiting_for})
    except (NotFound, BadInput) as error:
        # trying again would not help; a person may, after mending what the reason names
        code = "not_found" if isinstance(error, NotFound) else "bad_value"
        outcome = Outcome("parked", error.detail, {"code": code})
    number = event.account
    mine = number is not None and accounts.lock(session, number) and _is_mine(session, number, row.source_id)
    if number is not None and mine and event.seq is not None:
        accounts.note_seq(session, number, event.seq)
    # The outcome is written first, because a parked message of the account is itself a reason not to cut.
    _write_outcome(session, row, event, outcome)
    touched = []
    if number is not None and mine and (effects.EFFECTS[event.type].steers or shutoffs.any_open(session, number)):
        touched += shutoffs.review(session, number, by=arrival.by, event_id=row.id)
    for neighbour in arrival.neighbours:
        touched += shutoffs.review(session, neighbour, by=arrival.by, event_id=row.id)
    outcome.detail.setdefault("orders", []).extend(t for t in touched if t not in outcome.detail["orders"])
    _finish(session, row, event, outcome)


def _lock_subjects(session: Session, arrival: Arrival) -> None:
    """Lock all accounts the message may touch, then the place, before anything else: nobody waits in a circle."""
    event = arrival.event
    point = getattr(event.data, "service_point", None)
    if point is not None:
        others = select(WorkOrder.account).where(
            WorkOrder.service_point == point,
            WorkOrder.status.in_([str(s) for s in lifecycle.OPEN]),
            WorkOrder.account.is_distinct_from(event.account),
        )
        arrival.neighbours.extend(sorted({n for n in session.scalars(others) if n is not None}))
    steps.lock_places(session, [event.account, *arrival.neighbours], [point])


def _is_mine(session: Session, number: str, source_id: UUID) -> bool:
    owner = session.scalar(select(Account.source_id).where(Account.number == number))
    return owner is None or owner == source_id


def _check_owner(session: Session, arrival: Arrival) -> None:
    number = arrival.event.account
    if number is None:
        return
    if not accounts.known(session, number):
        if arrival.event.type == "account.opened":
            return
        raise Park("account_unknown", f"Account {number} is not known yet.", {"account": number})
    if not _is_mine(session, number, arrival.source_id):
        raise Park("account_of_another", f"Account {number} belongs to another billing system.")
    session.execute(
        update(Account).where(Account.number == number, Account.source_id.is_(None)).values(source_id=arrival.source_id)
    )


def _finish(session: Session, row: Row[Any], event: Event | None, outcome: Outcome) -> None:
    """Write the outcome and its line in the change log."""
    _write_outcome(session, row, event, outcome)
    _record(session, row.id, row.source, event.heading if event else Heading(), outcome)


def _record(session: Session, event_id: UUID, source: str, heading: Heading, outcome: Outcome) -> None:
    changes.record(
        session,
        actor=f"billing:{source}",
        subject_type="billing_event",
        subject_id=str(event_id),
        verb=outcome.status,
        detail={"type": heading.type, "account": heading.account, "reason": outcome.reason, **outcome.detail},
    )


def _write_outcome(session: Session, row: Row[Any], event: Event | None, outcome: Outcome) -> None:
    values: dict[str, Any] = {
        "status": outcome.status,
        "reason": outcome.reason,
        "outcome": storable(outcome.detail),
        "attempts": row.attempts + 1,
        "processed_at": func.business_now(),
    }
    if event is not None:
        values |= {"type": event.type, "account": event.account, "seq": event.seq, "at": event.at}
    session.execute(update(BillingEvent).where(BillingEvent.id == row.id).values(values))


def _postpone(session: Session, event_id: UUID, error: Exception) -> None:
    """Count a failed try; the pause doubles from two seconds, and the tenth failure parks the message."""
    attempts: int | None = session.scalar(
        update(BillingEvent)
        .where(BillingEvent.id == event_id, BillingEvent.status == "pending")
        .values(attempts=BillingEvent.attempts + 1)
        .returning(BillingEvent.attempts)
    )
    if attempts is None:
        return
    reason = error.detail if isinstance(error, CurbstopError) else f"Processing failed ({type(error).__name__})."
    values: dict[str, Any] = {"reason": reason}
    if attempts >= MOST_ATTEMPTS:
        code = "conflict" if isinstance(error, Conflict) else "poison"
        values |= {"status": "parked", "outcome": {"code": code}, "processed_at": func.business_now()}
        detail = {"reason": reason, "code": code, "attempts": attempts}
        changes.record(
            session, actor="hub", subject_type="billing_event", subject_id=str(event_id), verb="parked", detail=detail
        )
    else:
        values["next_attempt_at"] = func.clock_timestamp() + timedelta(seconds=2**attempts)
    session.execute(update(BillingEvent).where(BillingEvent.id == event_id).values(values))


def retry(session: Session, event_id: UUID, *, by: str) -> BillingEvent:
    """Put a parked message back into the queue. Raises NotFound, Conflict when it is not parked."""
    event = _parked(session, event_id)
    _pend(session, [event.id], afresh=True)
    changes.record(session, actor=by, subject_type="billing_event", subject_id=str(event.id), verb="retried")
    session.refresh(event)
    return event


def dismiss(session: Session, event_id: UUID, *, by: str, reason: str) -> BillingEvent:
    """A person decides that a parked message has no effect any more, so it blocks no cut of its account.

    Raises NotFound, Conflict when it is not parked.
    """
    event = _parked(session, event_id)
    said = storable(reason.strip()[:500]) or "no reason given"
    session.execute(
        update(BillingEvent)
        .where(BillingEvent.id == event.id)
        .values(status="superseded", reason=f"Dismissed by {by}: {said}", processed_at=func.business_now())
    )
    detail = {"reason": said, "was": event.reason}
    changes.record(
        session, actor=by, subject_type="billing_event", subject_id=str(event.id), verb="dismissed", detail=detail
    )
    if event.account is not None and accounts.lock(session, event.account):
        shutoffs.review(session, event.account, by=by)
    session.refresh(event)
    return event


def _parked(session: Session, event_id: UUID) -> BillingEvent:
    event = session.get(BillingEvent, event_id, with_for_update={"key_share": True})
    if event is None:
        raise NotFound("There is no such billing event.", field="id", value=str(event_id))
    if event.status != "parked":
        raise Conflict(
            f"The event is {event.status}.",
            field="status",
            value=event.status,
            remedy="Only a parked event can be taken up.",
        )
    return event


def _pend(session: Session, event_ids: Sequence[UUID], *, afresh: bool = False) -> None:
    """Queue messages again; `afresh` forgets the tries they have had."""
    values: dict[str, Any] = {"status": "pending", "next_attempt_at": func.clock_timestamp()}
    values |= {"reason": None, "outcome": None} | ({"attempts": 0} if afresh else {})
    session.execute(update(BillingEvent).where(BillingEvent.id.in_(event_ids)).values(values))
    session.execute(select(func.pg_notify(CHANNEL, "")))


# Parked messages whose account, place, meter or charge has become known since, by an event or an import. One that is
# parked again and again for the same want is left to a person after ten times.
_KNOWN_NOW = text(
    """
    SELECT e.id FROM billing_event e, LATERAL (SELECT e.outcome -> 'waiting_for' AS w) AS _
    WHERE e.status = 'parked' AND e.attempts < :most_attempts AND e.outcome ? 'waiting_for' AND (
        EXISTS (SELECT FROM account a WHERE a.number = w ->> 'account')
        OR EXISTS (SELECT FROM service_point p WHERE p.id = w ->> 'service_point')
        OR EXISTS (SELECT FROM meter_installation i WHERE i.serial = w ->> 'meter' AND i.service_point IS NOT NULL)
        OR EXISTS (SELECT FROM charge c WHERE c.id::text = w ->> 'charge')
        OR EXISTS (SELECT FROM occupancy o WHERE o.account = w ->> 'resident'))
    ORDER BY e.received_seq
    LIMIT 1000
    FOR NO KEY UPDATE OF e SKIP LOCKED
    """
)


def revive_known(session: Session) -> int:
    """Put parked messages back whose subject has become known since; how many. For the worker, every few seconds."""
    found = list(session.scalars(_KNOWN_NOW, {"most_attempts": MOST_ATTEMPTS}))
    if found:
        _pend(session, found)
    return len(found)
