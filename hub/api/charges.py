"""Invoice lines over HTTP."""

from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import select

from hub.api.work_shapes import charge_json
from hub.auth import Principal
from hub.errors import BadInput, Malformed, storable_text
from hub.models import Charge, WorkOrder
from hub.web import Config, Json, Tx, allow, decode_cursor, encode_cursor
from hub.work.charges import day_range

router = APIRouter(prefix="/api/v1/charges", tags=["work"])


@router.get("", name="list_charges")
def list_charges(
    session: Tx,
    config: Config,
    who: Principal = allow("admin", "supervisor", "dispatcher", "billing", "analyst"),
    from_: Annotated[date | None, Query(alias="from")] = None,
    to: date | None = None,
    account: str | None = None,
    work_order: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Invoice lines of the local days [from, to), oldest first; a billing system sees those of its own orders."""
    statement = select(Charge).order_by(Charge.id).limit(limit + 1)
    if from_ is not None and to is not None and to <= from_:
        raise BadInput("The period is empty.", field="to", value=str(to), remedy="to is the day after the last one.")
    begins, ends = day_range(from_, to, config.zone)
    if begins is not None:
        statement = statement.where(Charge.at >= begins)
    if ends is not None:
        statement = statement.where(Charge.at < ends)
    if account:
        statement = statement.where(Charge.account == storable_text(account))
    if work_order:
        statement = statement.where(Charge.order_id == _uuid(work_order, "work_order"))
    if who.role == "billing":
        statement = statement.join(WorkOrder, WorkOrder.id == Charge.order_id).where(
            WorkOrder.source_id == who.source_id if who.source_id else WorkOrder.source_id.is_not(None)
        )
    if cursor is not None:
        statement = statement.where(Charge.id > _uuid(decode_cursor(cursor, 1)[0], "cursor"))
    found = list(session.scalars(statement))
    following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"items": [charge_json(charge) for charge in found[:limit]], "next_cursor": following})


def _uuid(value: object, field: str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError as error:
        raise Malformed(f"{field} is not an id.", field=field, value=str(value)[:80]) from error
