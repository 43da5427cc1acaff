"""Reads for the work page: orders as points, the box of the network, an order on paper. Writes nothing."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.auth import Principal
from hub.errors import storable_text
from hub.models import Account, Crew, PlaceFact, ServicePoint, WorkOrder, Zone
from hub.models.work import OPEN_STATES
from hub.work import forms, search
from hub.work.catalogue import of_snapshot

# More points than this help nobody and would make a page heavy; the map then says that it shows a part.
MOST_POINTS = 100_000


def geojson(session: Session, filters: search.Filters) -> str:
    """Orders under `filters` as a feature collection with short properties: the map clusters them in its worker."""
    features = search.points(session, filters, limit=MOST_POINTS)
    return f'{{"type":"FeatureCollection","features":[{features}]}}'


def filters_of(asked: dict[str, str], who: Principal) -> search.Filters:
    """The filters of the work list as its address has them; no status means open."""
    several = {
        name: tuple(part for part in storable_text(asked.get(name, "")).split(",") if part)
        for name in ("status", "type", "zone")
    }
    return search.Filters(
        status=several["status"] or OPEN_STATES,
        type=several["type"],
        zone=several["zone"],
        crew=storable_text(asked.get("crew", "")) or None,
        account=storable_text(asked.get("account", "")) or None,
        q=storable_text(asked.get("q", "")) or None,
        source_id=who.source_id,
    )


def bounds(session: Session) -> list[float] | None:
    """[west, south, east, north] of zones, or of service points, or None for an empty network."""
    for table in (Zone, ServicePoint):
        box = select(func.ST_Extent(table.geometry).label("box")).subquery().c.box
        row = session.execute(
            select(*(edge(box) for edge in (func.ST_XMin, func.ST_YMin, func.ST_XMax, func.ST_YMax)))
        ).one()
        if row[0] is not None:
            return [float(value) for value in row]
    return None


def zone_names(session: Session) -> dict[str, Any]:
    """One point inside each zone with its name: a label from a tile would stand once in every tile."""
    inside = func.ST_PointOnSurface(Zone.geometry)
    rows = session.execute(select(Zone.code, Zone.name, func.ST_X(inside), func.ST_Y(inside)).order_by(Zone.code))
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [lon, lat]},
                "properties": {"code": code, "name": name},
            }
            for code, name, lon, lat in rows
        ],
    }


def ticket(session: Session, order_id: str) -> dict[str, Any]:
    """What a crew needs on paper: the order, the place, the customer, the form to fill in. Raises NotFound."""
    row = session.execute(
        select(WorkOrder, ServicePoint, Account, Crew)
        .outerjoin(ServicePoint, ServicePoint.id == WorkOrder.service_point)
        .outerjoin(Account, Account.number == WorkOrder.account)
        .outerjoin(Crew, Crew.id == WorkOrder.crew_id)
        .where(WorkOrder.id == search.id_of(session, order_id))
    ).one()
    order, place, account, crew = row
    kind = of_snapshot(order.type_snapshot)
    form = forms.schema(kind)
    states = select(PlaceFact.fact, PlaceFact.state).where(PlaceFact.service_point == order.service_point)
    return {
        "order": order,
        "title": kind.title,
        "place": place,
        "account": account,
        "crew": crew,
        "facts": {row.fact: row.state for row in session.execute(states)},
        "codes": [(code.code, code.title) for code in kind.completion],
        "fields": [
            {
                "title": spec.get("title", name),
                "choices": spec.get("enum", []),
                "unit": spec.get("x-unit"),
                "kind": spec.get("type"),
            }
            for name, spec in form["properties"].items()
            if name not in ("code", "reading", "remark")
        ],
    }


def escaped(text_: str) -> str:
    """`text_` with the wildcards of LIKE taken literally."""
    return text_.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
