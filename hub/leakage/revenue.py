"""Water that was delivered and earned nothing, meter by meter; and billing codes that name the wrong zone.

Reads only. Set-based: one statement per list.
"""

from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from gis.losses import Period
from gis.zone_loss import Assumptions
from hub.leakage import balances
from hub.metering import units

KINDS = {
    "use_while_closed": "uses water though the valve is closed",
    "zero_bill": "was billed nothing while the register moved",
    "running_unbilled": "runs without a bill, or without an account",
    "stopped_meter": "stands still though somebody lives there",
}
# Less than this in the period is no loss worth a visit: a litre dripping through a closed valve, a test.
LEAST_M3 = 1.0


def gap(
    session: Session,
    begins: date,
    ends: date,
    *,
    zone: ZoneInfo,
    price_m3: Decimal | None,
    currency: str,
) -> dict[str, Any]:
    """The revenue gap over local days [begins, ends): `items` by volume, largest first, and `totals` by kind.

    `m3` is measured; where `estimated`, it is what a stopped register would have counted at its former pace. `money`
    is at the retail price, null without one. Raises BadInput for a period that is none.
    """
    balances.check_period(begins, ends)
    start, end = balances.window(begins, ends, zone)
    period = Period(session, start, end, zone, units.FACTORS_M3, Assumptions())
    rows = period.rows(
        ("revenue_spans.sql", "register_volumes.sql", "revenue_gap.sql"),
        {"lower": start, "upper": end, "least_m3": LEAST_M3},
    )
    items = [{**row, "m3": round(row["m3"], 3), "money": _money(row["m3"], price_m3)} for row in rows]
    count = Counter(item["kind"] for item in items)
    totals = [
        {
            "kind": kind,
            "meaning": meaning,
            "meters": count[kind],
            "m3": round(m3 := sum(item["m3"] for item in items if item["kind"] == kind), 3),
            "money": _money(m3, price_m3),
        }
        for kind, meaning in KINDS.items()
    ]
    return {
        "from": begins.isoformat(),
        "to": ends.isoformat(),
        "price_m3": None if price_m3 is None else str(price_m3),
        "currency": currency,
        "totals": totals,
        "items": items,
        "next_cursor": None,
    }


def _money(m3: float, price: Decimal | None) -> str | None:
    return None if price is None else str((Decimal(str(m3)) * price).quantize(Decimal("0.01")))


def wrong_codes(session: Session, on: date) -> list[dict[str, Any]]:
    """Accounts on a local day whose billing code names another zone than the one their place lies in."""
    rows = session.execute(
        text(
            "SELECT o.account, o.service_point, p.address, o.billing_zone, k.zone, z.name AS zone_name FROM occupancy o"
            " JOIN service_point p ON p.id = o.service_point"
            " CROSS JOIN LATERAL (SELECT coalesce((SELECT m.zone FROM zone_membership m WHERE m.service_point = p.id"
            " AND m.valid_from <= CAST(:day AS date) AND m.valid_to > CAST(:day AS date)), CASE WHEN NOT EXISTS"
            " (SELECT FROM zone_membership m WHERE m.service_point = p.id) THEN p.zone END) AS zone) k"
            " LEFT JOIN zone z ON z.code = k.zone"
            " WHERE o.billing_zone IS NOT NULL AND o.since <= CAST(:day AS date)"
            " AND coalesce(o.until, 'infinity') > CAST(:day AS date)"
            " AND coalesce(lower(o.billing_zone) NOT IN (lower(k.zone), lower(z.name)), true) ORDER BY o.account"
        ),
        {"day": on},
    )
    return [dict(row) for row in rows.mappings()]
