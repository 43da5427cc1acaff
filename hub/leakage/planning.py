"""Where to dig and what to renew: Monday's list, the survey plan, mains by what they keep losing. Reads only."""

from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from gis import survey_economics
from hub import clock
from hub.leakage import watch
from hub.models import LeakEvent
from hub.settings import Settings

YEAR = timedelta(days=365)
# What runs now, with the last work on it, and where it may be: the address nearest to where a crew pinpointed it, or
# else to the last repair on the main of its zone that broke most often.
_RUNNING = """
    SELECT e.id, e.zone, z.name, e.kind, e.onset_at, e.detected_at, e.size_m3h, e.low_m3h, e.high_m3h, e.facts,
        w.id AS order_id, w.number, w.type, w.status, w.lon, w.lat, near.address AS pinpointed,
        likely.address AS likely
    FROM leak_event e JOIN zone z ON z.code = e.zone
    LEFT JOIN LATERAL (
        SELECT o.id, o.number, o.type, o.status, o.position, o.service_point,
            ST_X(o.position) AS lon, ST_Y(o.position) AS lat,
            coalesce(o.details ->> 'target', '') = 'zone' AS whole
        FROM work_order o WHERE o.id = e.order_id OR o.details ->> 'leak_event' = e.id::text
        ORDER BY o.id DESC LIMIT 1
    ) w ON true
    LEFT JOIN LATERAL (
        SELECT p.address FROM service_point p WHERE NOT w.whole ORDER BY p.geometry <-> w.position LIMIT 1
    ) near ON w.id IS NOT NULL AND NOT w.whole
    LEFT JOIN LATERAL (
        SELECT beside.address FROM (
            SELECT r.position, count(r.completion -> 'answers' ->> 'main')
                OVER (PARTITION BY r.completion -> 'answers' ->> 'main') AS repairs
            FROM work_order r WHERE r.type = 'leak_repair' AND r.zone = e.zone AND r.position IS NOT NULL
                AND r.status IN ('completed', 'closed')
            ORDER BY repairs DESC, r.id DESC LIMIT 1
        ) often CROSS JOIN LATERAL (
            SELECT p.address FROM service_point p ORDER BY p.geometry <-> often.position LIMIT 1
        ) beside
    ) likely ON near.address IS NULL
    WHERE e.status = 'open' ORDER BY e.size_m3h DESC, e.onset_at
"""


def dig_list(session: Session, settings: Settings) -> list[dict[str, Any]]:
    """What runs now, most costly first: place, evidence, work under way, m³ and money a day that stopping it saves.

    The place is the address nearest to where a crew pinpointed it; before that, the zone with the street that broke
    most often there.
    """
    rows = session.execute(text(_RUNNING)).mappings()
    found = []
    for place, row in enumerate(rows, 1):
        found.append(
            {
                "rank": place,
                "leak_event": str(row["id"]),
                "zone": row["zone"],
                "zone_name": row["name"],
                "street": row["pinpointed"] or row["likely"],
                "pinpointed": row["pinpointed"] is not None,
                "kind": row["kind"],
                "onset_at": row["onset_at"],
                "detected_at": row["detected_at"],
                "size_m3h": float(row["size_m3h"]),
                "limits_95": [float(row["low_m3h"]), float(row["high_m3h"])],
                "m3_per_day": round(float(row["size_m3h"]) * 24, 1),
                "value_per_day": watch.value_per_day(row["size_m3h"], settings),
                "currency": settings.currency,
                "evidence": row["facts"],
                "work_order": row["number"],
                "work_type": row["type"],
                "work_status": row["status"],
                "position": None if row["lon"] is None else [row["lon"], row["lat"]],
            }
        )
    return found


def survey_plan(session: Session, settings: Settings) -> dict[str, Any]:
    """How often each zone is worth a survey, what that costs a year, and which one is due next.

    The rise of unreported leakage is what grew unseen in the zone within a year (events found by flow, per km and
    day); where no event was seen it is not known, and neither is the plan. Needs CURBSTOP_SURVEY_COST_KM and
    CURBSTOP_PRODUCTION_COST_M3.
    """
    now = clock.now(session)
    rows = session.execute(
        text(
            """
            SELECT z.code, z.name,
                coalesce((SELECT sum(ST_Length(ST_Intersection(m.geometry, z.geometry)::geography)) / 1000
                    FROM main m WHERE m.geometry && z.geometry AND ST_Intersects(m.geometry, z.geometry)), 0) AS km,
                (SELECT sum(e.size_m3h) * 24 FROM leak_event e WHERE e.zone = z.code AND e.kind <> 'over_threshold'
                    AND e.status <> 'dismissed' AND e.onset_at > :since) AS rise,
                (SELECT max(o.ended_at) FROM work_order o WHERE o.zone = z.code AND o.type = 'leak_survey'
                    AND o.status IN ('completed', 'closed')) AS surveyed_at,
                (SELECT w.seen_until - least(:since, w.seen_until) FROM leak_watch w WHERE w.zone = z.code) AS watched
            FROM zone z WHERE z.valid_to IS NULL ORDER BY z.code
            """
        ),
        {"since": now - YEAR},
    ).mappings()
    cost_km, cost_m3 = settings.survey_cost_km, settings.production_cost_m3
    zones = []
    for row in rows:
        km, rise = float(row["km"]), float(row["rise"] or 0)
        made = None
        if cost_km is not None and cost_m3 is not None and km > 0:
            made = survey_economics.plan(
                mains_km=km, cost_per_km=float(cost_km), cost_per_m3=float(cost_m3), rise_m3_km_day_year=rise / km
            )
        due = None
        if made is not None:
            due = (row["surveyed_at"] or now - YEAR) + timedelta(days=365 / 12 * made.months)
        zones.append(
            {
                "zone": row["code"],
                "name": row["name"],
                "mains_km": km,
                "rise_m3_km_day_year": rise / km if km else None,
                "surveyed_at": row["surveyed_at"],
                "months_between_surveys": None if made is None else made.months,
                "share_per_year": None if made is None else made.share_per_year,
                "km_per_year": None if made is None else made.km_per_year,
                "budget_per_year": None if made is None else made.budget_per_year,
                "economic_unreported_m3_per_year": None if made is None else made.unreported_m3_per_year,
                "due_at": due,
            }
        )
    zones.sort(key=lambda one: (one["due_at"] is None, one["due_at"] or now))
    missing = [
        name
        for name, value in (("CURBSTOP_SURVEY_COST_KM", cost_km), ("CURBSTOP_PRODUCTION_COST_M3", cost_m3))
        if value is None
    ]
    budget = sum(one["budget_per_year"] or 0.0 for one in zones)
    return {"currency": settings.currency, "budget_per_year": budget, "settings_missing": missing, "zones": zones}


def mains_by_loss(session: Session, *, limit: int = 100) -> list[dict[str, Any]]:
    """Mains by what they lost in repairs of the last ten years: breaks, m³, breaks per km and year. The worst first.

    A repair counts for the main its crew named, else for the nearest one within 20 m.
    """
    rows = session.execute(
        text(
            """
            WITH repaired AS (
                SELECT o.id, o.ended_at, l.lost_m3, coalesce(named.id, near.id) AS main
                FROM work_order o LEFT JOIN loss_entry l ON l.order_id = o.id AND l.verdict = 'verified'
                LEFT JOIN main named ON named.id = o.completion -> 'answers' ->> 'main'
                LEFT JOIN LATERAL (
                    SELECT m.id FROM main m
                    WHERE o.details ->> 'target' IS DISTINCT FROM 'zone' AND m.geometry && ST_Expand(o.position, 0.0006)
                        AND ST_DWithin(m.geometry::geography, o.position::geography, 20)
                    ORDER BY m.geometry <-> o.position LIMIT 1
                ) near ON named.id IS NULL
                WHERE o.type = 'leak_repair' AND o.status IN ('completed', 'closed')
                    AND o.completion ->> 'code' IN ('repaired', 'temporary')
                    AND o.ended_at > business_now() - interval '10 years'
            )
            SELECT m.id, m.material, m.diameter_mm::float8, m.installed_on,
                ST_Length(m.geometry::geography) / 1000 AS km, count(*) AS breaks,
                coalesce(sum(r.lost_m3), 0)::float8 AS lost_m3, max(r.ended_at) AS last_at,
                extract(epoch FROM business_now() - min(r.ended_at)) / 31557600 AS years
            FROM repaired r JOIN main m ON m.id = r.main GROUP BY m.id
            ORDER BY sum(r.lost_m3) DESC NULLS LAST, count(*) DESC, m.id LIMIT :limit
            """
        ),
        {"limit": limit},
    ).mappings()
    return [
        {
            "main": row["id"],
            "material": row["material"],
            "diameter_mm": row["diameter_mm"],
            "installed_on": row["installed_on"],
            "km": row["km"],
            "breaks": row["breaks"],
            "lost_m3": row["lost_m3"],
            "last_at": row["last_at"],
            "breaks_per_km_year": row["breaks"] / (row["km"] * max(1.0, float(row["years"]))) if row["km"] else None,
        }
        for row in rows
    ]


def event_document(event: LeakEvent, settings: Settings) -> dict[str, Any]:
    """A leak event as JSON, with what a person needs to check it."""
    return {
        "id": str(event.id),
        "zone": event.zone,
        "kind": event.kind,
        "status": event.status,
        "onset_at": event.onset_at,
        "detected_at": event.detected_at,
        "grown_at": event.grown_at,
        "closed_at": event.closed_at,
        "size_m3h": float(event.size_m3h),
        "limits_95": [float(event.low_m3h), float(event.high_m3h)],
        "baseline_m3h": None if event.baseline_m3h is None else float(event.baseline_m3h),
        "value_per_day": watch.value_per_day(event.size_m3h, settings),
        "currency": settings.currency,
        "work_order": str(event.order_id) if event.order_id else None,
        "dismissed": event.dismissed,
        "text": watch.sentence(event),
        "facts": event.facts,
    }
