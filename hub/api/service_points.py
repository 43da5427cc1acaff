"""A service point over HTTP: what the place is like, who lives there, its meters, its work, what happened."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.api import place_shapes, reading_shapes
from hub.auth import Principal
from hub.errors import NotFound, storable_text
from hub.metering import usage
from hub.models import Account, Meter, MeterInstallation, Occupancy, ServicePoint
from hub.web import Config, Json, Tx, allow
from hub.work import places

router = APIRouter(prefix="/api/v1/service-points", tags=["customers"])


@router.get("/{id}/consumption")
def get_service_point_consumption(
    id: str,
    session: Tx,
    config: Config,
    from_: Annotated[str, Query(alias="from")],
    to: str,
    who: Principal = allow("admin", "supervisor", "dispatcher", "billing", "analyst"),
    step: str = "day",
) -> Json:
    """What the place used by hour, local day or local month, from meter to meter as they were exchanged."""
    begins, ends = reading_shapes.period(from_, to, config.zone)
    id, named = storable_text(id), reading_shapes.step_named(step)
    used, events, meters = usage.of_service_point(session, id, begins=begins, ends=ends, step=named, zone=config.zone)
    return Json({"service_point": id, "meters": meters} | reading_shapes.consumption(used, events, step, begins, ends))


@router.get("/{id:path}", name="get_service_point")
def get_service_point(
    session: Tx, id: str, who: Principal = allow("admin", "supervisor", "dispatcher", "billing", "analyst")
) -> Json:
    """The place as the caller's role may see it."""
    id = storable_text(id)
    row = session.execute(
        select(
            ServicePoint,
            func.ST_X(ServicePoint.geometry).label("lon"),
            func.ST_Y(ServicePoint.geometry).label("lat"),
        ).where(ServicePoint.id == id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such service point.", field="service_point", value=id[:80])
    point: ServicePoint = row[0]
    facts = places.facts(session, id)
    shown: dict[str, Any] = {
        "service_point": id,
        "id": id,
        "zone": point.zone,
        "premise_class": point.premise_class,
        "units": point.units,
        "critical": point.critical,
        "position": {"lon": row.lon, "lat": row.lat},
        "valve": facts["valve"].as_json(),
        "meter_state": facts["meter"].as_json(),
        "lock": facts["lock"].as_json(),
        "meters": _meters(session, id),
        **place_shapes.orders(session, who, service_point=id),
    }
    if who.role in place_shapes.CONTACT_READERS:
        names = ("address", "occupancy", "access", "hazard", "meter_place", "valve_place")
        shown |= {name: getattr(point, name) for name in names}
        shown["residents"] = _residents(session, id, who)
    if who.role in ("admin", "supervisor", "dispatcher"):
        order_ids = [order["id"] for order in [*shown["open_orders"], *shown["past_orders"]]]
        shown["timeline"] = place_shapes.timeline(session, "service_point", id, order_ids)
        if who.role == "dispatcher":
            shown["timeline"] = [place_shapes.without_money(line) for line in shown["timeline"]]
    return Json(shown)


def _meters(session: Session, point: str) -> list[dict[str, Any]]:
    rows = session.execute(
        select(MeterInstallation.serial, MeterInstallation.installed_at, MeterInstallation.removed_at, Meter)
        .outerjoin(Meter, Meter.serial == MeterInstallation.serial)
        .where(MeterInstallation.service_point == point)
        .order_by(MeterInstallation.installed_at.desc(), MeterInstallation.serial, Meter.register)
    )
    return [
        {
            "serial": serial,
            "installed_at": installed_at,
            "removed_at": removed_at,
            "register": meter.register if meter else None,
            "unit": meter.unit if meter else None,
            "purpose": meter.purpose if meter else None,
        }
        for serial, installed_at, removed_at, meter in rows
    ]


def _residents(session: Session, point: str, who: Principal) -> list[dict[str, Any]]:
    statement = (
        select(Account.number, Account.name, Occupancy.since, Occupancy.until)
        .join(Occupancy, Occupancy.account == Account.number)
        .where(Occupancy.service_point == point)
        .order_by(Occupancy.since.desc(), Account.number)
    )
    if who.source_id is not None:
        statement = statement.where(Account.source_id == who.source_id)
    return [
        {
            "account": number,
            "name": name,
            "since": since.isoformat(),
            "until": until.isoformat() if until else None,
        }
        for number, name, since, until in session.execute(statement)
    ]
