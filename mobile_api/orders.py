"""A work order as a crew may see it, and whether it may see it at all. Reads only.

A crew sees its own orders from the moment they are assigned until 48 hours after they ended; of the customer no more
than the last four characters of the account number, and name and phone only where the type of work needs them and only
until the work is done. Values of earlier readings are never shown.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from hub import clock
from hub.models import Account, MeterInstallation, ServicePoint, WorkOrder
from hub.work import forms
from hub.work.catalogue import of_snapshot

IN_HAND = ("assigned", "en_route", "on_site", "paused")
ENDED = ("completed", "unable", "closed")
KEPT = timedelta(hours=48)

_installed = aliased(MeterInstallation)
_COLUMNS = (
    WorkOrder.id,
    WorkOrder.number,
    WorkOrder.type,
    WorkOrder.type_snapshot,
    WorkOrder.status,
    WorkOrder.rev,
    WorkOrder.priority,
    WorkOrder.crew_id,
    WorkOrder.account,
    WorkOrder.service_point,
    WorkOrder.zone,
    WorkOrder.note,
    WorkOrder.cancel_requested,
    WorkOrder.not_before,
    WorkOrder.due_by,
    WorkOrder.appointment_from,
    WorkOrder.appointment_to,
    WorkOrder.assigned_at,
    WorkOrder.acknowledged_at,
    WorkOrder.ended_at,
    WorkOrder.completion,
    func.coalesce(
        WorkOrder.meter,
        select(_installed.serial)
        .where(_installed.service_point == WorkOrder.service_point, _installed.removed_at.is_(None))
        .order_by(_installed.installed_at.desc(), _installed.serial)
        .limit(1)
        .correlate(WorkOrder)
        .scalar_subquery(),
    ).label("meter"),
    func.ST_X(WorkOrder.position).label("lon"),
    func.ST_Y(WorkOrder.position).label("lat"),
    ServicePoint.address,
    ServicePoint.premise_class,
    ServicePoint.access,
    ServicePoint.hazard,
    ServicePoint.meter_place,
    ServicePoint.valve_place,
    Account.name.label("contact_name"),
    Account.phone.label("contact_phone"),
    Account.language.label("contact_language"),
)


def visible(session: Session, crew_id: UUID, order_ids: Collection[UUID]) -> dict[UUID, dict[str, Any] | None]:
    """Those of the orders that exist, as the crew sees them; None for one that it may not see (any more)."""
    if not order_ids:
        return {}
    now = clock.now(session)
    rows = session.execute(_query().where(WorkOrder.id.in_(order_ids)))
    return {row.id: _shown(row) if _may_see(row, crew_id, now) else None for row in rows}


def page_of_crew(session: Session, crew_id: UUID, after: UUID | None, limit: int) -> list[dict[str, Any]]:
    """The orders a crew sees now, by id, beginning after `after`."""
    now = clock.now(session)
    mine = WorkOrder.crew_id == crew_id
    in_hand = WorkOrder.status.in_(IN_HAND)
    lately = WorkOrder.status.in_(ENDED) & (WorkOrder.ended_at > now - KEPT)
    query = _query().where(mine, in_hand | lately).order_by(WorkOrder.id).limit(limit)
    if after is not None:
        query = query.where(WorkOrder.id > after)
    return [_shown(row) for row in session.execute(query)]


def reason_gone(session: Session, crew_id: UUID, order_ids: Collection[UUID]) -> dict[UUID, tuple[str, int | None]]:
    """Why each of the orders left a crew's view (`unassigned`, `out_of_scope`, `deleted`), and its revision.

    Withdrawn, held and long finished orders are out of scope.
    """
    if not order_ids:
        return {}
    columns = (WorkOrder.id, WorkOrder.crew_id, WorkOrder.status, WorkOrder.rev)
    found = {row.id: row for row in session.execute(select(*columns).where(WorkOrder.id.in_(order_ids)))}
    reasons: dict[UUID, tuple[str, int | None]] = {}
    for id_ in order_ids:
        row = found.get(id_)
        if row is None:
            reasons[id_] = ("deleted", None)
        elif row.crew_id != crew_id and row.status not in ("cancelled", "held"):
            reasons[id_] = ("unassigned", row.rev)
        else:
            reasons[id_] = ("out_of_scope", row.rev)
    return reasons


def _query() -> Any:
    return (
        select(*_COLUMNS)
        .outerjoin(ServicePoint, ServicePoint.id == WorkOrder.service_point)
        .outerjoin(Account, Account.number == WorkOrder.account)
    )


def _may_see(row: Any, crew_id: UUID, now: datetime) -> bool:
    if row.crew_id != crew_id:
        return False
    return row.status in IN_HAND or (row.status in ENDED and row.ended_at is not None and row.ended_at > now - KEPT)


def _shown(row: Any) -> dict[str, Any]:
    order = {
        "id": row.id,
        "number": row.number,
        "type": row.type,
        "status": row.status,
        "rev": row.rev,
        "priority": row.priority,
        "account_ends_with": row.account[-4:] if row.account else None,
        "service_point": row.service_point,
        "address": row.address,
        "premise_class": row.premise_class,
        "access": row.access,
        "hazard": row.hazard,
        "meter": row.meter,
        "meter_place": row.meter_place,
        "valve_place": row.valve_place,
        "zone": row.zone,
        "position": None if row.lon is None else {"lon": row.lon, "lat": row.lat},
        "note": row.note,
        "cancel_requested": row.cancel_requested,
        "not_before": row.not_before,
        "due_by": row.due_by,
        "appointment": None
        if row.appointment_from is None
        else {"from": row.appointment_from, "to": row.appointment_to},
        "assigned_at": row.assigned_at,
        "acknowledged_at": row.acknowledged_at,
        "ended_at": row.ended_at,
        "completion_code": (row.completion or {}).get("code"),
        "work_type": _form(orjson.dumps(row.type_snapshot, option=orjson.OPT_SORT_KEYS)),
    }
    needed = row.type_snapshot.get("needs_contact") or row.appointment_from is not None
    if needed and row.status in IN_HAND:
        order["contact"] = {
            "name": row.contact_name,
            "phone": row.contact_phone,
            "language": row.contact_language,
        }
    return order


@lru_cache(maxsize=256)
def _form(snapshot: bytes) -> dict[str, Any]:
    """The form and codes under which an order was opened; money is none of a crew's business."""
    described = forms.described(of_snapshot(orjson.loads(snapshot)))
    kept = ("type", "title", "duration_minutes", "skills", "gate", "form", "completion_codes", "unable_codes")
    return {name: described[name] for name in kept}
