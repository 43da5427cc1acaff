"""What an account and a place share over HTTP: their orders, history, and what a role may see. Writes nothing."""

from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hub.api.work_shapes import Json, order_json
from hub.auth import Principal
from hub.models import BillingEvent, BillingSource, Change
from hub.models.work import OPEN_STATES
from hub.work import search

MOST_ORDERS = 100
MOST_HISTORY = 200
# Who sees a name, a telephone number and the full address.
CONTACT_READERS = ("admin", "supervisor", "dispatcher", "billing")
MONEY_WORDS = frozenset({"amount", "amount_due", "before", "past_due", "balance", "to_restore", "paid"})
EXACT_MONEY = ("admin", "supervisor", "billing")


def orders(session: Session, who: Principal, *, account: str | None = None, service_point: str | None = None) -> Json:
    """`open_orders` and `past_orders` of an account or a place, the newest first, each as the role may see it."""
    found = search.find(session, search.Filters(account=account, service_point=service_point), limit=MOST_ORDERS)
    mine = [f for f in found if who.source_id is None or f.order.source_id == who.source_id]
    shown = [(f.order.status in OPEN_STATES, order_json(f, who)) for f in mine]
    return {
        "open_orders": [order for is_open, order in shown if is_open],
        "past_orders": [order for is_open, order in shown if not is_open],
    }


def events(session: Session, number: str, source_id: UUID | None) -> list[Json]:
    """The billing events of an account, the newest first."""
    statement = (
        select(
            BillingEvent.id,
            BillingEvent.type,
            BillingEvent.at,
            BillingEvent.status,
            BillingEvent.reason,
            BillingSource.name,
        )
        .join(BillingSource, BillingSource.id == BillingEvent.source_id)
        .where(BillingEvent.account == number)
        .order_by(BillingEvent.received_seq.desc())
        .limit(MOST_HISTORY)
    )
    if source_id is not None:
        statement = statement.where(BillingEvent.source_id == source_id)
    return [
        {"id": str(id), "type": type, "timestamp": at, "status": status, "reason": reason, "source": source}
        for id, type, at, status, reason, source in session.execute(statement)
    ]


def timeline(session: Session, subject_type: str, subject_id: str, order_ids: list[str]) -> list[Json]:
    """What happened to a place or an account and to its orders, the newest first."""
    about = (Change.subject_type == subject_type) & (Change.subject_id == subject_id)
    of_orders = Change.order_id.in_([UUID(id) for id in order_ids])
    rows = session.execute(
        select(Change.at, Change.actor, Change.verb, Change.subject_type, Change.subject_id, Change.detail)
        .where(or_(about, of_orders))
        .order_by(Change.cursor.desc())
        .limit(MOST_HISTORY)
    )
    return [_line(row) for row in rows]


def without_money(value: Any) -> Any:
    """`value` without any amount in it, at any depth."""
    if isinstance(value, dict):
        return {name: without_money(inner) for name, inner in value.items() if name not in MONEY_WORDS}
    if isinstance(value, list):
        return [without_money(inner) for inner in value]
    return value


def _line(row: Any) -> Json:
    return {
        "at": row.at,
        "actor": row.actor,
        "verb": row.verb,
        "subject": {"type": row.subject_type, "id": row.subject_id},
        "detail": row.detail,
    }
