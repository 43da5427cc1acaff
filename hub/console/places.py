"""Reads for the account page and the place page: what is known, what happened, what happens when. Writes nothing."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select, text
from sqlalchemy.orm import Session

from hub import accounts
from hub.accounts import AccountFacts
from hub.console.pages import money
from hub.errors import storable_text
from hub.models import (
    Account,
    BillingEvent,
    BillingSource,
    Change,
    Charge,
    Crew,
    Meter,
    MeterInstallation,
    Occupancy,
    PlaceFact,
    ServicePoint,
    WorkOrder,
)
from hub.models.work import OPEN_STATES
from hub.work import search

SHOWN_ORDERS = 40
SHOWN_HISTORY = 60
SHOWN_CHARGES = 30
# A click this far (degrees, about 200 m at the equator) from any service point means none of them.
NEAR_DEGREES = 0.002


def account(session: Session, number: str) -> dict[str, Any] | None:
    """Everything the account page shows, or None when there is no such account."""
    number = storable_text(number)
    row = session.execute(
        select(Account, BillingSource.name)
        .outerjoin(BillingSource, BillingSource.id == Account.source_id)
        .where(Account.number == number)
    ).one_or_none()
    if row is None:
        return None
    orders = _orders(session, WorkOrder.account == number)
    return {
        "account": row[0],
        "source": row[1],
        "places": _homes(session, number),
        "facts": accounts.facts(session, number),
        "open": [order for order in orders if order["status"] in OPEN_STATES],
        "past": [order for order in orders if order["status"] not in OPEN_STATES],
        "history": _history(session, account=number),
        "charges": _charges(session, Charge.account == number),
    }


def debt_shown(facts: AccountFacts, currency: str, *, exact: bool) -> str:
    """What is past due: the figure, or for those who only have to talk to the customer the range it lies in."""
    if facts.past_due is None:
        return "Not told"
    if facts.past_due <= 0:
        return "Nothing"
    unit = facts.currency or currency
    return money(facts.past_due, unit) if exact else f"{search.band(facts.past_due)} {unit}"


def place(session: Session, place_id: str) -> dict[str, Any] | None:
    """Everything the place page shows, or None when there is no such service point."""
    place_id = storable_text(place_id)
    found = session.get(ServicePoint, place_id)
    if found is None:
        return None
    lon, lat = session.execute(
        select(func.ST_X(ServicePoint.geometry), func.ST_Y(ServicePoint.geometry)).where(ServicePoint.id == place_id)
    ).one()
    orders = orders_at(session, place_id)
    return {
        "place": found,
        "lon": lon,
        "lat": lat,
        "states": _states(session, place_id),
        "people": people_at(session, place_id),
        "meters": _meters(session, place_id),
        "open": [order for order in orders if order["status"] in OPEN_STATES],
        "past": [order for order in orders if order["status"] not in OPEN_STATES],
        "history": _history(session, service_point=place_id),
    }


def nearest(session: Session, lon: float, lat: float) -> dict[str, Any] | None:
    """The service point nearest to a click, with its present account and zone; None when the click hit nothing."""
    row = session.execute(
        text(
            "SELECT sp.id, sp.address, sp.zone, (SELECT o.account FROM occupancy o WHERE o.service_point = sp.id AND"
            " o.until IS NULL ORDER BY o.since DESC LIMIT 1) AS account FROM service_point sp"
            " WHERE ST_DWithin(sp.geometry, ST_SetSRID(ST_MakePoint(:lon, :lat), 4326), :near)"
            " ORDER BY sp.geometry <-> ST_SetSRID(ST_MakePoint(:lon, :lat), 4326) LIMIT 1"
        ),
        {"lon": lon, "lat": lat, "near": NEAR_DEGREES},
    ).one_or_none()
    return None if row is None else dict(row._mapping)


def orders_at(session: Session, place_id: str) -> list[dict[str, Any]]:
    """The newest work orders of a service point, open ones and ended ones."""
    return _orders(session, WorkOrder.service_point == place_id)


def _orders(session: Session, which: Any) -> list[dict[str, Any]]:
    statement = (
        select(WorkOrder, Crew.name, ServicePoint.address)
        .outerjoin(Crew, Crew.id == WorkOrder.crew_id)
        .outerjoin(ServicePoint, ServicePoint.id == WorkOrder.service_point)
        .where(which)
        .order_by(WorkOrder.opened_at.desc())
        .limit(SHOWN_ORDERS)
    )
    return [
        {
            "id": order.id,
            "number": order.number,
            "type": order.type,
            "title": order.type_snapshot.get("title", order.type),
            "status": order.status,
            "crew": crew,
            "address": address,
            "reasons": order.reasons,
            "earliest_at": order.earliest_at,
            "not_before": order.not_before,
            "due_by": order.due_by,
            "appointment_from": order.appointment_from,
            "appointment_to": order.appointment_to,
            "opened_at": order.opened_at,
            "ended_at": order.ended_at,
            "cancel_requested": order.cancel_requested,
            "code": (order.completion or {}).get("code"),
        }
        for order, crew, address in session.execute(statement)
    ]


def _homes(session: Session, number: str) -> list[Row[Any]]:
    return list(
        session.execute(
            select(ServicePoint.id, ServicePoint.address, ServicePoint.zone, Occupancy.since, Occupancy.until)
            .join(Occupancy, Occupancy.service_point == ServicePoint.id)
            .where(Occupancy.account == number)
            .order_by(Occupancy.until.is_(None).desc(), Occupancy.since.desc())
            .limit(20)
        )
    )


def people_at(session: Session, place_id: str) -> list[Row[Any]]:
    """Accounts of a service point, the present one first."""
    return list(
        session.execute(
            select(Account.number, Account.name, Account.phone, Account.status, Occupancy.since, Occupancy.until)
            .join(Occupancy, Occupancy.account == Account.number)
            .where(Occupancy.service_point == place_id)
            .order_by(Occupancy.until.is_(None).desc(), Occupancy.since.desc())
            .limit(20)
        )
    )


def _states(session: Session, place_id: str) -> list[Row[Any]]:
    return list(
        session.execute(
            select(
                PlaceFact.fact,
                PlaceFact.state,
                PlaceFact.since,
                PlaceFact.reason,
                PlaceFact.account,
                WorkOrder.number,
                PlaceFact.order_id,
            )
            .outerjoin(WorkOrder, WorkOrder.id == PlaceFact.order_id)
            .where(PlaceFact.service_point == place_id)
            .order_by(text("array_position(ARRAY['valve', 'meter', 'lock'], fact)"))
        )
    )


def _meters(session: Session, place_id: str) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Meter, MeterInstallation.installed_at, MeterInstallation.removed_at)
        .join(MeterInstallation, MeterInstallation.serial == Meter.serial)
        .where(MeterInstallation.service_point == place_id)
        .order_by(MeterInstallation.removed_at.is_(None).desc(), MeterInstallation.installed_at.desc(), Meter.register)
        .limit(12)
    ).all()
    newest: dict[int, Row[Any]] = {}
    if rows:
        # one index probe for each meter, in one statement
        found = session.execute(
            text(
                "SELECT m.id, r.measured_at, r.value, r.unit, r.quality FROM unnest(CAST(:ids AS int[])) AS m(id),"
                " LATERAL (SELECT measured_at, value, unit, quality FROM reading WHERE meter_id = m.id"
                " AND quality <> 'invalid' ORDER BY measured_at DESC LIMIT 1) r"
            ),
            {"ids": [meter.id for meter, _, _ in rows]},
        )
        newest = {row.id: row for row in found}
    return [
        {"meter": meter, "installed_at": installed, "removed_at": removed, "reading": newest.get(meter.id)}
        for meter, installed, removed in rows
    ]


def _charges(session: Session, which: Any) -> list[Row[Any]]:
    return list(
        session.execute(
            select(
                Charge.code,
                Charge.quantity,
                Charge.amount,
                Charge.currency,
                Charge.at,
                Charge.reverses,
                Charge.posting,
                WorkOrder.number,
                WorkOrder.id,
            )
            .join(WorkOrder, WorkOrder.id == Charge.order_id)
            .where(which)
            .order_by(Charge.at.desc())
            .limit(SHOWN_CHARGES)
        )
    )


def _history(session: Session, *, account: str | None = None, service_point: str | None = None) -> list[dict[str, Any]]:
    """What happened, newest first: lines of the change log about it and its orders, and billing's messages."""
    subject, key = ("account", account) if account else ("service_point", service_point)
    mine = WorkOrder.account == account if account else WorkOrder.service_point == service_point
    orders: dict[UUID, tuple[str, str]] = {
        row.id: (row.number, row.title)
        for row in session.execute(
            select(WorkOrder.id, WorkOrder.number, WorkOrder.type_snapshot["title"].astext.label("title"))
            .where(mine)
            .order_by(WorkOrder.opened_at.desc())
            .limit(SHOWN_ORDERS)
        )
    }
    lines = session.execute(
        select(Change.at, Change.actor, Change.verb, Change.detail, Change.order_id)
        .where(
            or_(
                (Change.subject_type == subject) & (Change.subject_id == key),
                Change.order_id.in_(orders),
            )
        )
        .order_by(Change.cursor.desc())
        .limit(SHOWN_HISTORY)
    )
    history = [
        {
            "at": line.at,
            "actor": line.actor,
            "verb": line.verb,
            "detail": line.detail,
            "order_id": line.order_id,
            "order": orders.get(line.order_id) if line.order_id else None,
        }
        for line in lines
    ]
    if account:
        history += _told(session, account)
    return sorted(history, key=lambda line: line["at"], reverse=True)[:SHOWN_HISTORY]


def _told(session: Session, account: str) -> list[dict[str, Any]]:
    """What billing told of an account, as lines of its history."""
    events = session.execute(
        select(
            BillingEvent.at,
            BillingEvent.received_at,
            BillingEvent.type,
            BillingEvent.status,
            BillingEvent.reason,
            BillingSource.name.label("source"),
        )
        .join(BillingSource, BillingSource.id == BillingEvent.source_id)
        .where(BillingEvent.account == account)
        .order_by(BillingEvent.received_seq.desc())
        .limit(SHOWN_HISTORY)
    )
    return [
        {
            "at": event.at or event.received_at,
            "actor": f"source:{event.source}",
            "verb": event.type or "unreadable message",
            "detail": {"status": event.status, **({"reason": event.reason} if event.reason else {})},
            "order_id": None,
            "order": None,
        }
        for event in events
    ]
