"""The inbox as people see it: what billing sent, what became of it, and taking up what is parked."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from hub.auth import Principal
from hub.billing import inbox
from hub.errors import BadInput, Malformed, NotFound, storable_text
from hub.models import BillingEvent, BillingSource
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1/billing-events", tags=["billing"])
STATUSES = ("pending", "applied", "superseded", "joined", "parked")
READERS = ("admin", "supervisor", "dispatcher", "billing")
WRITERS = ("admin", "supervisor", "billing")
_COLUMNS = (
    BillingEvent.id,
    BillingEvent.received_seq,
    BillingEvent.webhook_id,
    BillingEvent.type,
    BillingEvent.account,
    BillingEvent.seq,
    BillingEvent.at,
    BillingEvent.received_at,
    BillingEvent.processed_at,
    BillingEvent.status,
    BillingEvent.reason,
    BillingEvent.outcome,
    BillingEvent.attempts,
    BillingSource.name.label("source"),
)


class Dismissal(BaseModel):
    """Why a parked event shall have no effect."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)]


@router.get("", name="list_billing_events")
def list_billing_events(
    session: Tx,
    who: Principal = allow(*READERS),
    status: str | None = None,
    account: str | None = None,
    source: str | None = None,
    type: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Billing events, the newest first."""
    statement = _visible(who)
    if status is not None:
        if status not in STATUSES:
            raise BadInput(
                "There is no such status.",
                field="status",
                value=status[:40],
                remedy=f"Use one of {', '.join(STATUSES)}.",
            )
        statement = statement.where(BillingEvent.status == status)
    for column, value in ((BillingEvent.account, account), (BillingSource.name, source), (BillingEvent.type, type)):
        if value is not None:
            statement = statement.where(column == storable_text(value))
    if cursor is not None:
        before = decode_cursor(cursor, 1)[0]
        if not isinstance(before, int) or not 0 <= before < 2**63:
            raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")
        statement = statement.where(BillingEvent.received_seq < before)
    rows = session.execute(statement.order_by(BillingEvent.received_seq.desc()).limit(limit + 1)).all()
    following = encode_cursor(rows[limit - 1].received_seq) if len(rows) > limit else None
    return Json({"items": [_shown(row) for row in rows[:limit]], "next_cursor": following})


@router.get("/{id}", name="get_billing_event")
def get_billing_event(session: Tx, id: UUID, who: Principal = allow(*READERS)) -> Json:
    """One event, with the body as it was sent (not for dispatchers: it may hold amounts)."""
    return Json(_one(session, id, who))


@router.post("/{id}/retry", name="retry_billing_event")
def retry_billing_event(session: Tx, id: UUID, who: Principal = allow(*WRITERS)) -> Json:
    """Put a parked event back into the queue."""
    _one(session, id, who)
    inbox.retry(session, id, by=who.actor)
    return Json(_one(session, id, who))


@router.post("/{id}/dismiss", name="dismiss_billing_event")
def dismiss_billing_event(
    session: Tx, id: UUID, body: Dismissal, who: Principal = allow("admin", "supervisor")
) -> Json:
    """Decide that a parked event shall have no effect; then it no longer stands in the way of its account's orders."""
    inbox.dismiss(session, id, by=who.actor, reason=body.reason)
    return Json(_one(session, id, who))


def _visible(who: Principal, *more: Any) -> Any:
    """The events this caller may know of: a billing token bound to a source sees its own."""
    statement = select(*_COLUMNS, *more).join(BillingSource, BillingSource.id == BillingEvent.source_id)
    return statement if who.source_id is None else statement.where(BillingEvent.source_id == who.source_id)


def _one(session: Tx, id: UUID, who: Principal) -> dict[str, Any]:
    row = session.execute(_visible(who, BillingEvent.body).where(BillingEvent.id == id)).one_or_none()
    if row is None:
        raise NotFound("There is no such billing event.", field="id", value=str(id))
    shown = _shown(row)
    if who.role != "dispatcher":
        shown["body"] = bytes(row.body[:100_000]).decode("utf-8", "replace")
    return shown


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "event_id": str(row.id),
        "source": row.source,
        "webhook_id": row.webhook_id,
        "type": row.type,
        "account": row.account,
        "seq": row.seq,
        "timestamp": row.at,
        "received_at": row.received_at,
        "processed_at": row.processed_at,
        "status": row.status,
        "reason": row.reason,
        "outcome": row.outcome,
        "attempts": row.attempts,
    }
