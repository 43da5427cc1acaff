"""What the hub owes billing, as a list, as a catch-up feed, and the replay of one message."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Select, Text, cast, func, select, tuple_
from sqlalchemy.orm import Session

from hub import outbox
from hub.auth import Principal
from hub.errors import BadInput, NotFound
from hub.models import BillingSource, DeliveryAttempt, OutboundMessage
from hub.web import Tx, allow, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1/outbound-messages", tags=["outbound messages"])
STATUSES = ("pending", "delivered", "parked")
READERS = ("admin", "supervisor", "dispatcher", "billing")
_XID = cast(cast(OutboundMessage.xid, Text), OutboundMessage.seq.type)
_COLUMNS = (
    OutboundMessage.id,
    OutboundMessage.seq,
    _XID.label("xid"),
    OutboundMessage.type,
    OutboundMessage.body,
    OutboundMessage.order_id,
    OutboundMessage.status,
    OutboundMessage.tries,
    OutboundMessage.next_attempt_at,
    OutboundMessage.created_at,
    OutboundMessage.delivered_at,
    OutboundMessage.reason,
    BillingSource.name.label("source"),
)


class Replay(BaseModel):
    """Why a message is sent once more; goes into the audit trail."""

    reason: str = Field("", max_length=2000)


@router.get("")
def list_outbound_messages(
    session: Tx,
    who: Principal = allow(*READERS),
    status: str | None = None,
    after: Annotated[
        str | None, Query(description="catch-up: cursor or id of the last message seen; empty: all")
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Newest first; with `after`, the catch-up feed instead: oldest first, and no late commit is ever skipped.

    A billing token of one source sees that source's messages. In the feed every item carries its own `cursor` to go
    on from later; `next_cursor` is null when nothing more is there at present.
    """
    if status is not None and status not in STATUSES:
        raise BadInput(
            f"There is no status {status!r}.", field="status", value=status, remedy=f"Use one of {', '.join(STATUSES)}."
        )
    query = select(*_COLUMNS).join(BillingSource, BillingSource.id == OutboundMessage.source_id)
    if who.source_id is not None:
        query = query.where(OutboundMessage.source_id == who.source_id)
    if status is not None:
        query = query.where(OutboundMessage.status == status)
    query = _feed(session, query, after) if after is not None else _newest_first(query, cursor)
    rows = session.execute(query.limit(limit + 1)).all()
    more = len(rows) > limit
    items = [_shown(row) for row in rows[:limit]]
    if not more:
        return {"items": items, "next_cursor": None}
    last = rows[limit - 1]
    return {
        "items": items,
        "next_cursor": items[-1]["cursor"] if after is not None else encode_cursor(last.seq),
    }


@router.get("/{message_id}")
def get_outbound_message(message_id: UUID, session: Tx, who: Principal = allow(*READERS)) -> dict[str, Any]:
    """One message, and every try to deliver it."""
    query = select(*_COLUMNS).join(BillingSource, BillingSource.id == OutboundMessage.source_id)
    if who.source_id is not None:
        query = query.where(OutboundMessage.source_id == who.source_id)
    row = session.execute(query.where(OutboundMessage.id == message_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such outbound message.", field="id", value=str(message_id))
    tried = session.scalars(
        select(DeliveryAttempt).where(DeliveryAttempt.message_id == message_id).order_by(DeliveryAttempt.attempt)
    )
    attempts = [
        {"at": one.at, "status_code": one.status_code, "error": one.error, "took_ms": one.took_ms} for one in tried
    ]
    return {**_shown(row), "attempts": attempts}


@router.post("/{message_id}/replay", status_code=202)
def replay_outbound_message(
    message_id: UUID,
    session: Tx,
    body: Replay | None = None,
    who: Principal = allow("admin", "supervisor", "billing"),
) -> dict[str, Any]:
    """Send a message again under its old id, at once, with the whole schedule of tries before it."""
    outbox.replay(session, message_id, by=who.actor, reason=body.reason if body else "", source_id=who.source_id)
    query = select(*_COLUMNS).join(BillingSource, BillingSource.id == OutboundMessage.source_id)
    return _shown(session.execute(query.where(OutboundMessage.id == message_id)).one())


def _newest_first(query: Select[Any], cursor: str | None) -> Select[Any]:
    if cursor is not None:
        query = query.where(OutboundMessage.seq < _integer(decode_cursor(cursor, 1)[0]))
    return query.order_by(OutboundMessage.seq.desc())


def _feed(session: Session, query: Select[Any], after: str) -> Select[Any]:
    """Rows whose transaction is older than every running one, in (transaction, sequence) order."""
    settled = func.pg_snapshot_xmin(func.pg_current_snapshot())
    query = query.where(OutboundMessage.xid < settled)
    if after not in ("", "0"):
        xid, seq = _position(session, after)
        query = query.where(tuple_(_XID, OutboundMessage.seq) > tuple_(xid, seq))
    return query.order_by(OutboundMessage.xid, OutboundMessage.seq)


def _position(session: Session, after: str) -> tuple[int, int]:
    try:
        message_id = UUID(after)
    except ValueError:
        xid, seq = decode_cursor(after, 2)
        return _integer(xid), _integer(seq)
    row = session.execute(select(_XID, OutboundMessage.seq).where(OutboundMessage.id == message_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such outbound message.", field="after", value=after)
    return row[0], row[1]


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    raise BadInput("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": row.type,
        "timestamp": row.body["timestamp"],
        "data": row.body["data"],
        "source": row.source,
        "work_order": row.order_id,
        "status": row.status,
        "tries": row.tries,
        "next_attempt_at": row.next_attempt_at if row.status == "pending" else None,
        "created_at": row.created_at,
        "delivered_at": row.delivered_at,
        "reason": row.reason,
        "cursor": encode_cursor(row.xid, row.seq),
    }
