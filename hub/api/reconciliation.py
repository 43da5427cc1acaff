"""How many invoice lines a day had and what they come to, signed so that billing can prove it has them all."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from sqlalchemy import Numeric, Row, cast, func, select
from sqlalchemy.orm import Session

from hub import outbox
from hub.auth import Principal
from hub.db import new_id
from hub.errors import BadInput, NotFound
from hub.models import BillingSource, OutboundMessage
from hub.web import Config, Json, Tx, allow

router = APIRouter(prefix="/api/v1/reconciliation", tags=["outbound messages"])
LINES = ("charge.created", "charge.reversed")


@router.get("")
def reconcile_day(
    session: Tx,
    config: Config,
    day: Annotated[date, Query(alias="date", description="a day in the utility's time zone")],
    source: Annotated[str | None, Query(description="the billing system, when there are several")] = None,
    who: Principal = allow("admin", "supervisor", "billing"),
) -> Response:
    """Count and sum of the invoice lines, and count of all messages, that one billing system is owed for a local day.

    Days are counted in business time. The answer is signed like our webhooks: headers `webhook-id`,
    `webhook-timestamp` and `webhook-signature` over the body's bytes, with that system's secret.
    """
    destination = _destination(session, source, who.source_id)
    try:
        start = datetime.combine(day, time(), config.zone).astimezone(UTC)
        end = datetime.combine(day + timedelta(days=1), time(), config.zone).astimezone(UTC)
    except OverflowError as error:
        raise BadInput("That day is outside the calendar.", field="date", value=day.isoformat()) from error
    figures = {"date": day, "time_zone": config.time_zone, "source": destination.name, "from": start, "to": end}
    content = bytes(Json(figures | _figures(session, destination.id, start, end)).body)
    headers = outbox.signed(destination.secrets, str(new_id()), content, datetime.now(UTC))
    return Response(content, media_type="application/json", headers=headers)


def _destination(session: Session, name: str | None, own: UUID | None) -> Row[UUID, str, list[str]]:
    query = select(BillingSource.id, BillingSource.name, BillingSource.secrets).order_by(BillingSource.name)
    if own is not None:
        query = query.where(BillingSource.id == own)
    if name is not None:
        query = query.where(BillingSource.name == name)
    found = session.execute(query.limit(2)).all()
    if not found:
        raise NotFound("There is no such billing system.", field="source", value=name)
    if len(found) > 1:
        raise BadInput("There are several billing systems.", field="source", remedy="Name one with ?source=.")
    return found[0]


def _figures(session: Session, source_id: UUID, start: datetime, end: datetime) -> dict[str, Any]:
    amount = cast(OutboundMessage.body["data"]["amount"].astext, Numeric)
    currency = OutboundMessage.body["data"]["currency"].astext
    of_the_day = (OutboundMessage.source_id == source_id, OutboundMessage.at >= start, OutboundMessage.at < end)
    delivered = func.count().filter(OutboundMessage.status == "delivered")
    lines = session.execute(
        select(currency, func.count(), func.sum(amount), delivered)
        .where(*of_the_day, OutboundMessage.type.in_(LINES))
        .group_by(currency)
        .order_by(currency)
    ).all()
    messages = session.execute(
        select(OutboundMessage.type, func.count(), delivered)
        .where(*of_the_day)
        .group_by(OutboundMessage.type)
        .order_by(OutboundMessage.type)
    ).all()
    return {
        "count": sum(line[1] for line in lines),
        "sum": {line[0]: line[2] for line in lines},
        "delivered": sum(line[3] for line in lines),
        "messages": [{"type": kind, "count": count, "delivered": done} for kind, count, done in messages],
    }
