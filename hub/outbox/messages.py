"""Outbound messages as rows: put, replayed, counted. Everything here writes in the caller's transaction.

A message is one row per destination. It leaves only after the transaction that made it true has committed, keeps its id
through all tries and replays, and is never deleted.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.db import new_id, wake
from hub.errors import NotFound, storable
from hub.models import Account, BillingSource, OutboundMessage, WorkOrder

CHANNEL = "curbstop_outbox"
# The message that tells of the closing cannot itself be a condition of closing.
CLOSED = "work_order.closed"


def put(
    session: Session,
    *,
    type: str,
    data: dict[str, Any],
    order_id: UUID | None = None,
    account: str | None = None,
    source_id: UUID | None = None,
) -> list[UUID]:
    """Owe `{type, timestamp, data}` to its destinations; their message ids.

    The destination is `source_id`, else the source of the order, else that of the account, else every source with an
    endpoint. Fields that all messages carry (`work_order`, `work_type`, `account`, `service_point`, `reference`, `at`)
    are filled in from the order where `data` lacks them. Decimals become decimal strings, instants RFC 3339 UTC.
    """
    now = clock.now(session)
    common, order_source = _common(session, order_id)
    body = {**common, "at": now, **data}
    if account is not None:
        body.setdefault("account", account)
    destinations = _destinations(session, source_id or order_source, body.get("account") or account)
    if not destinations:
        return []
    document = storable(_plain({"type": type, "timestamp": now, "data": body}))
    ids = [new_id() for _ in destinations]
    session.execute(
        insert(OutboundMessage),
        [
            {"id": id_, "source_id": destination, "order_id": order_id, "type": type, "at": now, "body": document}
            for id_, destination in zip(ids, destinations, strict=True)
        ],
    )
    wake(session, CHANNEL)
    return ids


def replay(session: Session, message_id: UUID, *, by: str, reason: str = "", source_id: UUID | None = None) -> None:
    """Send a message once more, at once and under its old id, with a full schedule of tries before it.

    An endpoint that had been parked is tried again with it. Raises NotFound; `source_id` limits who may ask to the
    destination itself.
    """
    mine = OutboundMessage.id == message_id
    row = session.execute(
        update(OutboundMessage)
        .where(mine if source_id is None else mine & (OutboundMessage.source_id == source_id))
        .values(
            status="pending",
            tries=0,
            # a try under way loses its fence, so that its outcome cannot end the new schedule
            attempt=OutboundMessage.attempt + 1,
            next_attempt_at=func.clock_timestamp(),
            leased_until=None,
            reason=None,
        )
        .returning(OutboundMessage.source_id, OutboundMessage.order_id, OutboundMessage.type)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such outbound message.", field="id", value=str(message_id))
    session.execute(update(BillingSource).where(BillingSource.id == row.source_id).values(parked_at=None))
    changes.record(
        session,
        actor=by,
        subject_type="outbound_message",
        subject_id=str(message_id),
        verb="message_replayed",
        detail={"type": row.type, "reason": reason},
        order_id=row.order_id,
    )
    wake(session, CHANNEL)


def owing(session: Session, order_ids: Collection[UUID]) -> set[UUID]:
    """Those of the orders that still owe billing something: a message for a source with an endpoint, not delivered."""
    if not order_ids:
        return set()
    return set(session.scalars(select(OutboundMessage.order_id).where(undelivered(order_ids=order_ids)).distinct()))


def undelivered(*, order_ids: Collection[UUID] | None = None, order_id: Any = None) -> Any:
    """The condition of `owing`, for queries of others: over `order_ids`, or correlated to a column `order_id`."""
    has_endpoint = exists().where(BillingSource.id == OutboundMessage.source_id, BillingSource.endpoint.is_not(None))
    order = OutboundMessage.order_id.in_(order_ids) if order_ids is not None else OutboundMessage.order_id == order_id
    return order & (OutboundMessage.status != "delivered") & (OutboundMessage.type != CLOSED) & has_endpoint


def _common(session: Session, order_id: UUID | None) -> tuple[dict[str, Any], UUID | None]:
    if order_id is None:
        return {}, None
    order = session.execute(
        select(
            WorkOrder.id,
            WorkOrder.type,
            WorkOrder.account,
            WorkOrder.service_point,
            WorkOrder.reference,
            WorkOrder.source_id,
        ).where(WorkOrder.id == order_id)
    ).one()
    common = {
        "work_order": order.id,
        "work_type": order.type,
        "account": order.account,
        "service_point": order.service_point,
        "reference": order.reference,
    }
    return common, order.source_id


def _destinations(session: Session, source_id: UUID | None, account: str | None) -> Sequence[UUID]:
    if source_id is None and account is not None:
        source_id = session.scalar(select(Account.source_id).where(Account.number == account))
    if source_id is not None:
        return [source_id]
    with_endpoint = select(BillingSource.id).where(BillingSource.endpoint.is_not(None)).order_by(BillingSource.name)
    return session.scalars(with_endpoint).all()


def _plain(value: Any) -> Any:
    """JSON values as the contract writes them."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value
