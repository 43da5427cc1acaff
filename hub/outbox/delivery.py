"""Delivery: claim a message, send it with no transaction open, write down what came of it.

Two short transactions of its own around each try. A claim is a lease of 30 s — longer than a try can take — and a
number, the fence: whoever finds another number at the end has been overtaken, and its outcome does not count. A
message leaves only when every earlier one of the same destination and order has been delivered.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from adapters.billing.signatures import SIGNATURE, BadSecret, sign, signed_headers
from hub import changes
from hub.db import Database
from hub.errors import CurbstopError
from hub.guarded import Answer, Guard
from hub.models import DeliveryAttempt
from hub.outbox.schedule import next_delay, retry_after_s

log = structlog.get_logger()
ACTOR = "hub:outbox"
LEASE_SECONDS = 30

_CLAIM = text(
    """
    WITH due AS (
        SELECT m.id FROM outbound_message m JOIN billing_source s ON s.id = m.source_id
        WHERE m.status = 'pending' AND m.next_attempt_at <= clock_timestamp()
          AND (m.leased_until IS NULL OR m.leased_until <= clock_timestamp())
          AND s.endpoint IS NOT NULL AND s.parked_at IS NULL AND NOT (m.source_id = ANY(:busy))
          AND NOT EXISTS (
              SELECT 1 FROM outbound_message earlier
              WHERE earlier.source_id = m.source_id AND earlier.order_id = m.order_id
                AND earlier.status <> 'delivered' AND earlier.seq < m.seq)
        ORDER BY m.next_attempt_at, m.seq
        LIMIT :most
        FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE outbound_message m
    SET attempt = m.attempt + 1, tries = m.tries + 1,
        leased_until = clock_timestamp() + make_interval(secs => :lease)
    FROM due, billing_source s
    WHERE m.id = due.id AND s.id = m.source_id
    RETURNING m.id, m.attempt, m.tries, m.order_id, m.type, m.body, s.id AS source_id, s.name AS source,
              s.endpoint, s.secrets, clock_timestamp() AS claimed_at
    """
)
_FINISH = text(
    """
    UPDATE outbound_message
    SET status = :status, leased_until = NULL, reason = :reason,
        delivered_at = CASE WHEN :status = 'delivered' THEN clock_timestamp() ELSE delivered_at END,
        next_attempt_at = CASE WHEN :delay::float8 IS NULL THEN next_attempt_at
                               ELSE clock_timestamp() + make_interval(secs => :delay) END
    WHERE id = :id AND attempt = :attempt AND status = 'pending'
    RETURNING id
    """.replace(":delay::float8", "CAST(:delay AS float8)")
)


@dataclass(frozen=True)
class Claim:
    """One message that is ours to send until the lease ends, as try number `attempt`."""

    id: UUID
    attempt: int
    tries: int
    order_id: UUID | None
    type: str
    body: dict[str, Any]
    source_id: UUID
    source: str
    endpoint: str
    secrets: Sequence[str]
    claimed_at: datetime


@dataclass(frozen=True)
class Outcome:
    """What came of a try: a status code, or an error when there was none."""

    status_code: int | None
    error: str | None
    retry_after: float | None
    took_ms: int

    @property
    def delivered(self) -> bool:
        """A 2xx status line came back; everything else, redirects included, is a failure."""
        return self.status_code is not None and 200 <= self.status_code < 300


def claim(session: Session, *, most: int, busy: Sequence[UUID] = (), lease_s: float = LEASE_SECONDS) -> list[Claim]:
    """Up to `most` messages that are due, none of them for a destination in `busy`, leased to the caller.

    Only counts once the caller has committed.
    """
    rows = session.execute(_CLAIM, {"most": most, "busy": list(busy), "lease": lease_s})
    return [Claim(**row) for row in rows.mappings()]


def send(guard: Guard, message: Claim) -> Outcome:
    """One try: the body under its stable id, signed for the moment of the claim. No transaction may be open.

    Never raises.
    """
    started = time.monotonic()
    answer: Answer | None = None
    error: str | None = None
    try:
        content = orjson.dumps({key: message.body[key] for key in ("type", "timestamp", "data")})
        headers = signed(message.secrets, str(message.id), content, message.claimed_at)
        answer = guard.post(message.endpoint, content=content, headers={"content-type": "application/json", **headers})
    except (CurbstopError, BadSecret) as refusal:
        error = refusal.detail if isinstance(refusal, CurbstopError) else str(refusal)
    except Exception as unexpected:
        # one message that cannot be sent must neither stop the others nor lose its place in the schedule
        log.error("delivery failed unexpectedly", message=str(message.id), exc_info=unexpected)
        error = f"It could not be sent ({type(unexpected).__name__})."
    took_ms = round((time.monotonic() - started) * 1000)
    if answer is None:
        return Outcome(None, error, None, took_ms)
    return Outcome(answer.status, None, retry_after_s(answer.headers.get("retry-after"), message.claimed_at), took_ms)


def signed(secrets: Sequence[str], webhook_id: str, content: bytes, now: datetime) -> dict[str, str]:
    """The Standard Webhooks headers of `content`, one signature per secret in force."""
    if not secrets:
        raise BadSecret("No webhook secret is configured.")
    headers = signed_headers(secrets[0], webhook_id, now, content)
    headers[SIGNATURE] = " ".join(sign(secret, webhook_id, now, content) for secret in secrets)
    return headers


def finish(session: Session, message: Claim, outcome: Outcome) -> bool:
    """Write down a try; whether it was still ours to write. Failures are planned again, parked after the last try.

    A 410 parks the message and the endpoint behind it; both stay, and everything owed there accumulates.
    """
    gone = outcome.status_code == 410
    delay = None if gone else next_delay(message.tries, retry_after=outcome.retry_after, chance=random.random())  # noqa: S311
    status = "delivered" if outcome.delivered else "pending" if delay is not None else "parked"
    reason = None if outcome.delivered else outcome.error or f"The endpoint answered {outcome.status_code}."
    session.execute(
        insert(DeliveryAttempt).values(
            message_id=message.id,
            attempt=message.attempt,
            status_code=outcome.status_code,
            error=outcome.error,
            took_ms=outcome.took_ms,
        )
    )
    values = {"id": message.id, "attempt": message.attempt, "status": status, "reason": reason}
    values["delay"] = None if status != "pending" else delay
    if session.execute(_FINISH, values).first() is None:
        return False
    if status == "parked":
        _park(session, message, reason or "", endpoint=gone)
    return True


def _park(session: Session, message: Claim, reason: str, *, endpoint: bool) -> None:
    log.warning("message parked", message=str(message.id), source=message.source, type=message.type, reason=reason)
    changes.record(
        session,
        actor=ACTOR,
        subject_type="outbound_message",
        subject_id=str(message.id),
        verb="message_parked",
        detail={"type": message.type, "source": message.source, "reason": reason},
        order_id=message.order_id,
    )
    if endpoint:
        park_endpoint(session, message.source_id, message.source, "The endpoint answered 410 (gone).")


def park_endpoint(session: Session, source_id: UUID, name: str, reason: str) -> None:
    """Send nothing more to a source until a replay tries it again; what it is owed accumulates."""
    log.warning("endpoint parked", source=name, reason=reason)
    session.execute(
        text("UPDATE billing_source SET parked_at = clock_timestamp() WHERE id = :id AND parked_at IS NULL"),
        {"id": source_id},
    )
    changes.record(
        session,
        actor=ACTOR,
        subject_type="billing_source",
        subject_id=name,
        verb="endpoint_parked",
        detail={"reason": reason},
    )


def deliver(database: Database, guard: Guard, message: Claim) -> bool:
    """Send a claimed message and write down the outcome; whether it counted."""
    outcome = send(guard, message)
    with database.transaction() as session:
        return finish(session, message, outcome)


def deliver_due(database: Database, guard: Guard) -> int:
    """Deliver what is due now, one after another; how many tries that took."""
    tries = 0
    while True:
        with database.transaction() as session:
            claimed = claim(session, most=1)
        if not claimed:
            return tries
        deliver(database, guard, claimed[0])
        tries += 1


def park_silent_endpoints(session: Session) -> None:
    """Park every endpoint that has taken nothing for 120 hours although something has been owed to it all that time."""
    silent = session.execute(
        text(
            """
            SELECT s.id, s.name FROM billing_source s
            WHERE s.endpoint IS NOT NULL AND s.parked_at IS NULL
              AND EXISTS (SELECT 1 FROM outbound_message m WHERE m.source_id = s.id AND m.status <> 'delivered'
                          AND m.tries > 0 AND m.created_at < clock_timestamp() - interval '120 hours')
              AND NOT EXISTS (SELECT 1 FROM outbound_message m WHERE m.source_id = s.id
                              AND m.delivered_at > clock_timestamp() - interval '120 hours')
            """
        )
    ).all()
    for source_id, name in silent:
        park_endpoint(session, source_id, name, "Nothing was delivered for 120 hours.")
