"""The search field: a few letters or digits to accounts, places, meters and orders. Writes nothing."""

import re
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from hub import clock
from hub.console.work import escaped
from hub.errors import storable_text
from hub.models import Account, Meter, MeterInstallation, Occupancy, ServicePoint, WorkOrder
from hub.paths import segment

PER_KIND = 6
LAST_CHARACTER = "\U0010ffff"
_ORDER_NUMBER = re.compile(r"^(?:wo-?)?(?:(\d{4})-)?(\d{1,9})$", re.IGNORECASE)


def find(session: Session, asked: str, *, names: bool) -> list[dict[str, Any]]:
    """What `asked` may mean, best first: `{kind, label, more, href}`. Without `names` neither names nor orders."""
    q = storable_text(asked).strip()
    if len(q) < 2:
        return []
    found = [*_meters(session, q), *_places(session, q)]
    if names:
        found = [*_orders(session, q), *_accounts(session, q), *found]
    return found


def _orders(session: Session, q: str) -> list[dict[str, Any]]:
    match = _ORDER_NUMBER.match(q)
    if not match:
        return []
    this_year = clock.now(session).year
    years = [match[1]] if match[1] else [str(year) for year in range(this_year, this_year - 5, -1)]
    numbers = [f"WO-{year}-{match[2].zfill(6)}" for year in years]
    rows = session.execute(
        select(WorkOrder.id, WorkOrder.number, WorkOrder.type, WorkOrder.status, ServicePoint.address)
        .outerjoin(ServicePoint, ServicePoint.id == WorkOrder.service_point)
        .where(WorkOrder.number.in_(numbers))
        .order_by(WorkOrder.number.desc())
        .limit(PER_KIND)
    )
    return [
        {
            "kind": "order",
            "label": row.number,
            "more": f"{row.type.replace('_', ' ')}, {row.status.replace('_', ' ')} · {row.address or 'no address'}",
            "href": f"/?order={row.id}",
        }
        for row in rows
    ]


def _accounts(session: Session, q: str) -> list[dict[str, Any]]:
    by_number = Account.number.between(q, q + LAST_CHARACTER)
    by_name = Account.name.ilike(f"%{escaped(q)}%") if len(q) > 2 else Account.name == q
    rows = session.execute(
        select(Account.number, Account.name, func.min(ServicePoint.address).label("address"))
        .outerjoin(Occupancy, (Occupancy.account == Account.number) & Occupancy.until.is_(None))
        .outerjoin(ServicePoint, ServicePoint.id == Occupancy.service_point)
        .where(or_(by_number, by_name))
        .group_by(Account.number, Account.name)
        .order_by((Account.number == q).desc(), Account.name, Account.number)
        .limit(PER_KIND)
    )
    return [
        {
            "kind": "account",
            "label": row.name or row.number,
            "more": " · ".join(part for part in (row.number if row.name else None, row.address) if part),
            "href": f"/accounts/{segment(row.number)}",
        }
        for row in rows
    ]


def _places(session: Session, q: str) -> list[dict[str, Any]]:
    by_id = ServicePoint.id.between(q, q + LAST_CHARACTER)
    by_address = ServicePoint.address.ilike(f"%{escaped(q)}%") if len(q) > 2 else ServicePoint.address == q
    rows = session.execute(
        select(ServicePoint.id, ServicePoint.address, ServicePoint.zone)
        .where(or_(by_id, by_address))
        .order_by((ServicePoint.id == q).desc(), ServicePoint.address, ServicePoint.id)
        .limit(PER_KIND)
    )
    return [
        {
            "kind": "place",
            "label": row.address,
            "more": " · ".join(part for part in (row.id, f"zone {row.zone}" if row.zone else None) if part),
            "href": f"/places/{segment(row.id)}",
        }
        for row in rows
    ]


def _meters(session: Session, q: str) -> list[dict[str, Any]]:
    # a meter that was taken out is found as well: its readings are asked for long after
    here = (MeterInstallation.serial == Meter.serial) & MeterInstallation.removed_at.is_(None)
    rows = session.execute(
        select(Meter.serial, func.min(func.coalesce(ServicePoint.address, MeterInstallation.zone)).label("where"))
        .outerjoin(MeterInstallation, here)
        .outerjoin(ServicePoint, ServicePoint.id == MeterInstallation.service_point)
        .where(Meter.serial.between(q, q + LAST_CHARACTER))
        .group_by(Meter.serial)
        .order_by((Meter.serial == q).desc(), Meter.serial)
        .limit(PER_KIND)
    )
    return [
        {
            "kind": "meter",
            "label": f"Meter {row.serial}",
            "more": row.where or "not in place",
            "href": f"/meters/{segment(row.serial)}",
        }
        for row in rows
    ]
