"""Reads for the meter page: what the meter is, where it was, its neighbours in time. Writes nothing."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.console import places
from hub.errors import NotFound, storable_text
from hub.metering import lookups
from hub.models.work import OPEN_STATES

SHOWN_INSTALLATIONS = 20


def meter(session: Session, serial: str) -> dict[str, Any] | None:
    """Everything the meter page shows at once, or None when there is no such meter."""
    serial = storable_text(serial)
    try:
        found = lookups.meter(session, serial)
    except NotFound:
        return None
    where = _installations(session, serial)
    here = where[0] if where else None
    place = here["service_point"] if here else None
    orders = places.orders_at(session, place) if place else []
    return {
        "serial": serial,
        "registers": found["registers"],
        "first": found["registers"][0],
        "devices": found["devices"],
        "newest": found["newest"],
        "installations": where,
        "here": here,
        "in_place": here is not None and here["removed_at"] is None,
        "people": places.people_at(session, place) if place else [],
        "open": [order for order in orders if order["status"] in OPEN_STATES],
        "past": [order for order in orders if order["status"] not in OPEN_STATES],
    }


def _installations(session: Session, serial: str) -> list[dict[str, Any]]:
    """Where the meter was, newest first, with the meters before and after it at the same place."""
    rows = session.execute(
        text(
            "SELECT i.service_point, i.zone, i.direction, i.to_zone, i.installed_at, i.removed_at, sp.address,"
            " ST_X(sp.geometry) AS lon, ST_Y(sp.geometry) AS lat, coalesce(sp.zone, i.zone) AS in_zone,"
            " (SELECT b.serial FROM meter_installation b WHERE b.service_point = i.service_point"
            "   AND b.serial <> i.serial AND b.removed_at <= i.installed_at ORDER BY b.removed_at DESC LIMIT 1)"
            "   AS before,"
            " (SELECT a.serial FROM meter_installation a WHERE a.service_point = i.service_point"
            "   AND a.serial <> i.serial AND a.installed_at >= i.removed_at ORDER BY a.installed_at LIMIT 1) AS after"
            " FROM meter_installation i LEFT JOIN service_point sp ON sp.id = i.service_point"
            " WHERE i.serial = :serial ORDER BY i.removed_at IS NULL DESC, i.installed_at DESC LIMIT :limit"
        ),
        {"serial": serial, "limit": SHOWN_INSTALLATIONS},
    )
    return [dict(row._mapping) for row in rows]
