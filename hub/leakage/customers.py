"""Leaks behind customers' meters, from their hourly consumption and their devices' own alarms. Reads only.

Every hour of the last weeks is looked at only for meters that some sign points to: an alarm of theirs that goes on, or
a last day without a dry hour. One statement finds them, one brings their hours.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from gis.customer_leaks import find_customer_leaks
from hub import clock
from hub.settings import Settings

LOOK_BACK = timedelta(days=60)
# Water in every hour of a day but so many, which may be missing or dry.
MOST_DRY = 4
LEAST_M3 = 0.0005
MOST = 2000

_CANDIDATES = """
    WITH signs AS (
        SELECT m.id FROM alarm a JOIN meter m ON m.serial = a.meter
        WHERE a.ended_at IS NULL AND a.state = 'active' AND a.type IN ('leak', 'leakage', 'continuous_flow')
        UNION
        SELECT meter_id FROM consumption_hours WHERE day = ANY(:days)
        GROUP BY meter_id HAVING bool_and((
            SELECT count(*) FILTER (WHERE v < :least) FROM unnest(volumes_m3) v) <= :dry)
            AND bool_and((SELECT count(v) FROM unnest(volumes_m3) v) >= 24 - :dry)
    )
    SELECT m.id, m.serial, i.service_point, p.address, p.zone, p.premise_class,
        (SELECT o.account FROM occupancy o WHERE o.service_point = i.service_point AND o.since <= :today
            AND (o.until IS NULL OR o.until > :today) ORDER BY o.since DESC LIMIT 1) AS account,
        (SELECT jsonb_agg(jsonb_build_object('type', a.type, 'since', a.since, 'form', a.form) ORDER BY a.since)
            FROM alarm a WHERE a.meter = m.serial AND a.ended_at IS NULL AND a.state = 'active') AS alarms,
        (SELECT jsonb_build_object('state', f.state, 'work_order', o.number, 'notified_at', f.notified_at)
            FROM finding f LEFT JOIN work_order o ON o.id = f.order_id
            WHERE f.subject = m.serial AND f.state <> 'settled' ORDER BY f.noticed_at DESC LIMIT 1) AS finding
    FROM signs s JOIN meter m ON m.id = s.id
    JOIN meter_installation i ON i.serial = m.serial AND i.service_point IS NOT NULL AND i.removed_at IS NULL
    JOIN service_point p ON p.id = i.service_point
    WHERE m.register NOT IN ('volume_reverse', 'alarm') ORDER BY m.id LIMIT :most
"""
_HOURS = """
    SELECT meter_id, array_agg(day ORDER BY day) AS days, array_agg(volumes_m3 ORDER BY day) AS volumes,
        array_agg(estimated ORDER BY day) AS estimated
    FROM consumption_hours WHERE meter_id = ANY(:ids) AND day >= :since GROUP BY meter_id
"""


def leaks(session: Session, settings: Settings, *, addresses: bool = True) -> list[dict[str, Any]]:
    """Customers whose water never stops, the largest flow first; without `addresses` no place or account is told.

    `certain`: the hours look as only a leak makes them (see gis/customer_leaks.py); otherwise a device or the simple
    rule says so. `litres_per_hour` is null where no hours are known.
    """
    now = clock.now(session)
    today = now.astimezone(settings.zone).date()
    # the last whole UTC day that readings can be complete for
    days = [(now - timedelta(days=1)).date()]
    candidates = session.execute(
        text(_CANDIDATES),
        {"days": days, "least": LEAST_M3, "dry": MOST_DRY, "today": today, "most": MOST},
    ).all()
    since = (now - LOOK_BACK).date()
    hours = {
        row.meter_id: row
        for row in session.execute(text(_HOURS), {"ids": [one.id for one in candidates], "since": since})
    }
    found = []
    for one in candidates:
        leak = None
        if one.id in hours:
            first, litres, estimated = _series(hours[one.id])
            running = [run for run in find_customer_leaks(first, litres, estimated) if run.ended_at is None]
            leak = running[-1] if running else None
        if leak is None and not one.alarms:
            continue
        item: dict[str, Any] = {
            "meter": one.serial,
            "zone": one.zone,
            "premise_class": one.premise_class,
            "certain": leak is not None,
            "litres_per_hour": None if leak is None else leak.litres_per_hour,
            "m3_per_day": None if leak is None else leak.litres_per_hour * 24 / 1000,
            "since": one.alarms[0]["since"] if leak is None else leak.started_at,
            "open_ended": leak is not None and leak.open_ended,
            "alarms": one.alarms or [],
            "finding": one.finding,
        }
        if addresses:
            item |= {"service_point": one.service_point, "address": one.address, "account": one.account}
        found.append(item)
    found.sort(key=lambda item: (-(item["litres_per_hour"] or 0.0), item["meter"]))
    return found


def _series(row: Any) -> tuple[datetime, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(start of the first hour, litres of each hour, whether it was estimated), days without a row as unknown hours."""

    first: date = row.days[0]
    count = (row.days[-1] - first).days + 1
    litres = np.full(count * 24, np.nan)
    estimated = np.zeros(count * 24, dtype=bool)
    for day, volumes, bits in zip(row.days, row.volumes, row.estimated, strict=True):
        at = (day - first).days * 24
        litres[at : at + 24] = [np.nan if volume is None else volume * 1000 for volume in volumes]
        estimated[at : at + 24] = [bool(bits >> hour & 1) for hour in range(24)]
    known = np.flatnonzero(np.isfinite(litres))
    end = known[-1] + 1 if len(known) else 0
    return datetime.combine(first, time(), tzinfo=UTC), litres[:end], estimated[:end]
