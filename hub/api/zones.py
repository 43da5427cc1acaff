"""Zones and the water lost in them."""

import re
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import text

from gis import audit
from hub import clock
from hub.auth import Principal
from hub.errors import BadInput
from hub.leakage import balances, exports, night_flows, revenue
from hub.web import Config, Json, Tx, allow

router = APIRouter(prefix="/api/v1", tags=["water loss"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
FromDay = Annotated[str, Query(alias="from", description="first local day, e.g. 2026-01-01")]
ToDay = Annotated[str, Query(description="the local day after the last one")]
DefaultsOf = Annotated[
    str | None,
    Query(
        alias="defaults",
        description="shares for what nobody measured: none, fwas_v5 or fwas_v6; default: the setting",
        max_length=40,
    ),
]


def local_day(value: str, field: str) -> date:
    """A day of a query. Raises BadInput."""
    try:
        if _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise BadInput(f"`{field}` is not a day.", field=field, value=value[:40], remedy="Write it as 2026-01-31.")


class Audit(BaseModel):
    """Plain inputs of an annual audit, by the names of its method."""

    model_config = ConfigDict(extra="forbid")
    method: str
    inputs: dict[str, Any]


@router.get("/zones")
def list_zones(session: Tx, who: Principal = allow(*READERS, "crew")) -> Json:
    """All zones with their place in the tree, their extent in degrees and how many places they hold."""
    rows = session.execute(
        text(
            "SELECT z.code, z.name, z.parent, z.pressure_m::float8, z.changed_at, count(p.id) AS service_points,"
            " ARRAY[ST_XMin(z.geometry), ST_YMin(z.geometry), ST_XMax(z.geometry), ST_YMax(z.geometry)] AS bbox"
            " FROM zone z LEFT JOIN service_point p ON p.zone = z.code GROUP BY z.code ORDER BY z.code"
        )
    )
    return Json({"items": [dict(row) for row in rows.mappings()], "next_cursor": None})


@router.get("/zones/{code}/balance")
def get_zone_balance(
    code: str,
    session: Tx,
    config: Config,
    begins: FromDay,
    to: ToDay,
    defaults: DefaultsOf = None,
    who: Principal = allow(*READERS),
) -> Json:
    """The water balance of a zone over local days [from, to); `system` stands for the whole system."""
    first, last = local_day(begins, "from"), local_day(to, "to")
    found = balances.report(
        session,
        first,
        last,
        zone=config.zone,
        actor=who.actor,
        codes=None if code == "system" else [code],
        assumptions=balances.assumed(config, defaults),
    )
    return Json(found[-1])


@router.get("/zones/{code}/night-flow")
def get_zone_night_flow(
    code: str,
    session: Tx,
    config: Config,
    begins: FromDay,
    to: ToDay,
    method: Annotated[str, Query(description="mean_02_04 or lowest_hour", max_length=40)] = "mean_02_04",
    n1: Annotated[float | None, Query(description="exponent of leakage against pressure", allow_inf_nan=False)] = None,
    who: Principal = allow(*READERS),
) -> Json:
    """Minimum night flow of a zone, legitimate use, background and excess leakage, and bursts; `system` for all."""
    first, last = local_day(begins, "from"), local_day(to, "to")
    found = night_flows.report(
        session,
        None if code == "system" else code,
        first,
        last,
        zone=config.zone,
        assumptions=balances.assumed(config),
        method=method,
        n1=n1,
    )
    return Json(found)


@router.get("/zones/{code}/balance/revisions")
def list_zone_balance_revisions(
    code: str, session: Tx, begins: FromDay, to: ToDay, who: Principal = allow(*READERS)
) -> Json:
    """Every balance ever computed for a zone and period, newest first, with all inputs."""
    first, last = local_day(begins, "from"), local_day(to, "to")
    items = balances.revisions(session, None if code == "system" else code, first, last)
    return Json({"items": items, "next_cursor": None})


@router.get("/water-balance")
def get_water_balance(
    session: Tx,
    config: Config,
    begins: FromDay,
    to: ToDay,
    defaults: DefaultsOf = None,
    format: Annotated[str, Query(description="json, csv, xlsx, html, pdf or geojson")] = "json",
    who: Principal = allow(*READERS),
) -> Response:
    """The balances of all zones and of the whole system over local days [from, to), as JSON or as a file."""
    first, last = local_day(begins, "from"), local_day(to, "to")
    assumptions = balances.assumed(config, defaults)
    found = balances.report(session, first, last, zone=config.zone, actor=who.actor, assumptions=assumptions)
    if format == "json":
        return Json(balances.table(found, first, last))
    body = exports.written(session, found, first, last, format=format, utility=config.utility_name)
    name = f"water-balance-{first}-{last}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} if format != "html" else {}
    return Response(body, media_type=exports.MEDIA_TYPES[format], headers=headers)


@router.get("/revenue-gap")
def get_revenue_gap(session: Tx, config: Config, begins: FromDay, to: ToDay, who: Principal = allow(*READERS)) -> Json:
    """Meters whose water earned nothing over local days [from, to), in m³ and money, largest first."""
    first, last = local_day(begins, "from"), local_day(to, "to")
    found = revenue.gap(
        session, first, last, zone=config.zone, price_m3=config.retail_price_m3, currency=config.currency
    )
    return Json(found)


@router.get("/billing-zone-mismatches")
def list_billing_zone_mismatches(
    session: Tx,
    config: Config,
    on: Annotated[str | None, Query(description="local day; default: today")] = None,
    who: Principal = allow(*READERS),
) -> Json:
    """Accounts whose billing code names another zone than the one their place lies in by its position."""
    day = clock.now(session).astimezone(config.zone).date() if on is None else local_day(on, "on")
    return Json({"items": revenue.wrong_codes(session, day), "next_cursor": None})


@router.post("/water-balance/audit")
def audit_water_balance(body: Audit, who: Principal = allow(*READERS)) -> Json:
    """M36 balance, indicators and costs of plain inputs by method easycalc, fwas_v5 or fwas_v6; nothing is kept."""
    return Json(audit.audit(body.method, body.inputs))
