"""Billing systems as administrators see them. Secrets are never shown."""

from fastapi import APIRouter
from sqlalchemy import func, select

from hub.auth import Principal
from hub.models import BillingEvent, BillingSource, OutboundMessage
from hub.web import Json, Tx, allow

router = APIRouter(prefix="/api/v1/sources", tags=["billing"])


@router.get("", name="list_sources")
def list_sources(session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher")) -> Json:
    """Every billing system: its addresses, when it was last heard, and what is parked either way."""
    parked_in = (
        select(func.count())
        .where(BillingEvent.source_id == BillingSource.id, BillingEvent.status == "parked")
        .scalar_subquery()
    )
    owed = (
        select(func.count())
        .where(OutboundMessage.source_id == BillingSource.id, OutboundMessage.status != "delivered")
        .scalar_subquery()
    )
    rows = session.execute(select(BillingSource, parked_in, owed).order_by(BillingSource.name))
    return Json(
        {
            "items": [
                {
                    "name": source.name,
                    "adapter": source.adapter,
                    "endpoint": source.endpoint,
                    "balance_url": source.balance_url,
                    "secrets": len(source.secrets),
                    "heard_at": source.heard_at,
                    "as_of": source.as_of,
                    "parked_at": source.parked_at,
                    "parked_events": parked,
                    "owed_messages": messages,
                    "created_at": source.created_at,
                }
                for source, parked, messages in rows
            ],
            "next_cursor": None,
        }
    )
