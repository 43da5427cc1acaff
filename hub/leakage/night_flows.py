"""The night-flow analysis of a zone as a document: minimum night flow, night use, leakage, bursts. Writes nothing."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy.orm import Session

from gis import babe, night_flow
from gis.losses import Period
from gis.zone_hours import ZoneHours, local_hour, zone_hours
from gis.zone_loss import Assumptions, Evidence
from hub.errors import BadInput
from hub.leakage import balances
from hub.metering import units

METHODS = ("mean_02_04", "lowest_hour")
# The night's hours for the lowest one.
NIGHT_ENDS = 6
MOST_DAYS = 800


def report(
    session: Session,
    code: str | None,
    begins: date,
    ends: date,
    *,
    zone: ZoneInfo,
    assumptions: Assumptions | None = None,
    method: str = "mean_02_04",
    n1: float | None = None,
) -> dict[str, Any]:
    """The night flow of a zone (None: the whole system) over local days [begins, ends).

    Flows are m³/h. `method` is how a night's flow is taken; `n1` the exponent of leakage against pressure, by default
    from the mains' materials. What cannot be known is null. Raises BadInput, NotFound.
    """
    _check(begins, ends, method, n1)
    if code is not None:
        balances.check_zone(session, code)
    start, end = balances.window(begins, ends, zone)
    assumed = assumptions or Assumptions()
    period = Period(session, start, end, zone, units.FACTORS_M3, assumed)
    hours = zone_hours(period, code)
    nights = _nights(hours, zone)
    seen = period.evidence(code)
    ground = _ground(period, code)
    uses = night_flow.night_use(
        ground["places"], _reporting(period, code), _mean_use(period, code), ground["dwellings"]
    )
    exponent = night_flow.exponent_of_materials(ground["mains"]) if n1 is None else n1
    found = _flows(nights, method, uses, seen, assumed, exponent, _night_day_factor(period, code, zone, exponent))
    return {
        "zone": code,
        "from": begins.isoformat(),
        "to": ends.isoformat(),
        "method": method,
        **found,
        "nights": [
            {"day": one.day, "mean_02_04_m3_h": one.mean_02_04, "lowest_hour_m3_h": one.lowest_hour} for one in nights
        ],
        "night_use": [
            {
                "premise_class": one.premise_class,
                "places": one.places,
                "litres_per_place_h": one.litres_per_place_h,
                "m3_h": one.m3_h,
                "source": one.source,
                "metered_places": one.metered_places,
            }
            for one in uses
        ],
        "babe": _babe(period, code, seen, assumed, exponent),
        "meters": hours.meters,
        "coverage": {
            "nights": sum(getattr(one, method) is not None for one in nights),
            "of_nights": len(nights),
            "hours": float(np.mean(~np.isnan(hours.net))) if len(hours.net) else 0.0,
        },
    }


def _check(begins: date, ends: date, method: str, n1: float | None) -> None:
    """Raises BadInput for a question that has no answer."""
    balances.check_period(begins, ends)
    if (ends - begins).days > MOST_DAYS:
        raise BadInput(
            f"The period is longer than {MOST_DAYS} days.", field="to", value=str(ends), remedy="Ask for two years."
        )
    if method not in METHODS:
        raise BadInput(
            "There is no such method.", field="method", value=method[:40], remedy=f"Use {' or '.join(METHODS)}."
        )
    if n1 is not None and not 0.3 <= n1 <= 2.5:
        raise BadInput(
            "`n1` lies between 0.3 and 2.5.", field="n1", value=n1, remedy="0.5 rigid pipes, 1.5 plastic, 1.0 both."
        )


def _nights(hours: ZoneHours, zone: ZoneInfo) -> list[night_flow.Night]:
    """Each local day's night; a night that lost or doubled an hour with the clock is taken by the hours it has."""
    by_day: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (day, hour), flow in zip(local_hour(hours.edges, zone), hours.net, strict=True):
        if hour < NIGHT_ENDS:
            by_day[day][hour].append(float(flow))

    def known(flows: list[float]) -> bool:
        return bool(flows) and not np.isnan(flows).any()

    found = []
    for day, by_hour in by_day.items():
        window = [flow for hour in (2, 3) for flow in by_hour.get(hour, [])]
        night = [flow for flows in by_hour.values() for flow in flows]
        found.append(
            night_flow.Night(
                day,
                sum(window) / len(window) if known(window) else None,
                min(night) if known(night) else None,
            )
        )
    return found


def _flows(
    nights: list[night_flow.Night],
    method: str,
    uses: list[night_flow.ClassUse],
    seen: Evidence,
    assumed: Assumptions,
    n1: float,
    ndf: float | None,
) -> dict[str, Any]:
    minimum = night_flow.minimum_night_flow(nights, method)
    legitimate = sum(one.m3_h for one in uses)
    net = None if minimum is None else minimum - legitimate
    private_m = assumed.private_pipe_m if seen.private_pipe_m is None else seen.private_pipe_m
    background = excess = bursts = None
    if seen.pressure_m and seen.mains_km > 0:
        background = night_flow.background_m3_h(
            seen.mains_km, seen.connections, seen.connections * private_m / 1000, seen.pressure_m
        )
        if net is not None:
            excess = net - background
            bursts = night_flow.equivalent_bursts(excess, seen.pressure_m)
    return {
        "mnf_m3_h": minimum,
        "night_use_m3_h": legitimate,
        "nnf_m3_h": net,
        "background_m3_h": background,
        "excess_m3_h": excess,
        "equivalent_bursts": bursts,
        "n1": n1,
        "night_day_factor_h": ndf,
        # never a flat 24 hours: without a pressure record the day's leakage is not told
        "leakage_m3_day": None if net is None or ndf is None else net * ndf,
        "pressure_m": seen.pressure_m,
        "mains_km": seen.mains_km,
        "connections": seen.connections,
    }


def _ask(period: Period, code: str | None) -> dict[str, Any]:
    zones = period.leaves(code)
    return {"zones": zones, "lowers": [period.start] * len(zones), "uppers": [period.end] * len(zones)}


def _ground(period: Period, code: str | None) -> dict[str, dict[str, float]]:
    """Of a zone: `places` and `dwellings` by class of premises, `mains` in km by material."""
    found: dict[str, dict[str, float]] = {"places": {}, "dwellings": {}, "mains": {}}
    for row in period.rows(("members.sql", "zone_places.sql"), _ask(period, code)):
        found[row["what"]][row["name"]] = row["amount"]
    return found


def _mean_use(period: Period, code: str | None) -> dict[str, float]:
    """Mean use of a metered place by class, in litres per hour over day and night."""
    (loss,) = period.losses([code])
    hours, use = loss.window_s / 3600, loss.consumption
    if not hours:
        return {}
    return {
        name: 1000 * m3 / hours / use.class_points[name]
        for name, m3 in use.by_class.items()
        if use.class_points.get(name)
    }


def _reporting(period: Period, code: str | None) -> dict[str, night_flow.Reporting]:
    span = period.end - period.start
    days = [(period.start + span * share).astimezone(period.time_zone) for share in (0, 0.5, 0.98)]
    midnights = [datetime(day.year, day.month, day.day, tzinfo=period.time_zone) for day in days]
    rows = period.rows(
        ("members.sql", "night_use.sql"),
        {**_ask(period, code), "nights": midnights, "lower": period.start, "upper": period.end},
    )
    return {
        row["premise_class"]: night_flow.Reporting(row["metered"], row["litres_h"], row["night_share"]) for row in rows
    }


def _night_day_factor(period: Period, code: str | None, zone: ZoneInfo, n1: float) -> float | None:
    """From the pressures that devices of the zone reported, by hour of day; None without a whole day of hours."""
    rows = period.rows(
        ("members.sql", "pressures.sql"), {**_ask(period, code), "lower": period.start, "upper": period.end}
    )
    by_hour = {row["hour"]: row["pressure_m"] for row in rows if row["pressure_m"] and row["pressure_m"] > 0}
    if len(by_hour) < 24:
        return None
    return night_flow.night_day_factor(list(by_hour.values()), (by_hour[2] + by_hour[3]) / 2, n1)


def _babe(period: Period, code: str | None, seen: Evidence, assumed: Assumptions, n1: float) -> dict[str, Any]:
    """Real losses built up from background leakage and the leaks that orders record."""
    rows = period.rows(
        ("leak_repairs.sql",), {"zones": period.leaves(code), "lower": period.start, "upper": period.end}
    )
    bursts = [burst for row in rows if (burst := _burst(row)) is not None]
    volumes = [burst.volume_m3(period.start, period.end, seen.pressure_m, n1) for burst in bursts]
    background = None
    if seen.pressure_m and seen.mains_km > 0:
        private_m = assumed.private_pipe_m if seen.private_pipe_m is None else seen.private_pipe_m
        per_hour = night_flow.background_m3_h(
            seen.mains_km, seen.connections, seen.connections * private_m / 1000, seen.pressure_m
        )
        background = per_hour * (period.end - period.start) / timedelta(hours=1)
    return {
        "background_m3": background,
        "bursts_m3": sum(volumes),
        "real_losses_m3": None if background is None else background + sum(volumes),
        "bursts": [
            {
                "work_order": burst.order,
                "kind": burst.kind,
                "flow_m3_h": burst.flow(seen.pressure_m, n1),
                "flow_measured": burst.flow_m3_h is not None,
                "awareness_h": burst.awareness / timedelta(hours=1),
                "awareness_known": burst.began_at is not None,
                "location_h": burst.location / timedelta(hours=1),
                "repair_h": burst.repair / timedelta(hours=1),
                "volume_m3": volume,
            }
            for burst, volume in zip(bursts, volumes, strict=True)
        ],
    }


def _burst(row: Mapping[str, Any]) -> babe.Burst | None:
    """A leak from what its order says; a time that was not told is the order's own."""
    answers, details = row["answers"] or {}, row["details"] or {}
    stopped = _moment(answers.get("stopped_at")) or row["ended_at"]
    known = _moment(answers.get("known_at")) or row["opened_at"]
    located = _moment(answers.get("located_at")) or min(row["opened_at"], stopped)
    began = _moment(details.get("began_at") or details.get("started_at"))
    service = str(answers.get("pipe") or "").lower().startswith("service")
    kind = "service" if service else "unreported_main" if began or details.get("alarm") else "reported_main"
    flow = _number(answers.get("flow_m3_h") or answers.get("flow"))
    known = min(known, stopped)
    return babe.Burst(row["number"], kind, began, known, max(known, min(located, stopped)), stopped, flow)


def _moment(value: Any) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return parsed if parsed is not None and parsed.tzinfo is not None else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1e5 else None
