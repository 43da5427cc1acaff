"""Leaks over HTTP: what the flow into zones shows, where to dig, what repairs saved."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select, text

from hub.auth import Principal
from hub.errors import BadInput, NotFound
from hub.leakage import customers, ledger, planning, tables, watch
from hub.models import LeakEvent
from hub.web import Config, Json, Tx, allow

router = APIRouter(prefix="/api/v1", tags=["water loss"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
STATUSES = ("open", "closed", "dismissed")


Format = Annotated[Literal["json", "csv"], Query(description="json, or csv for a spreadsheet")]


def _listed(items: list[dict[str, Any]], format: str, name: str, **more: Any) -> Response:
    """A list as JSON with what belongs to it, or as a CSV file."""
    if format == "csv":
        headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return Response(tables.list_as_csv(items), media_type="text/csv; charset=utf-8", headers=headers)
    return Json({"items": items, **more, "next_cursor": None})


class Dismissal(BaseModel):
    """Why an event is no leak."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=400)]


@router.get("/leak-events")
def list_leak_events(
    session: Tx,
    config: Config,
    status: Annotated[list[str] | None, Query(description="open, closed, dismissed; default: all")] = None,
    zone: str | None = None,
    format: Format = "json",
    who: Principal = allow(*READERS),
) -> Response:
    """Leaks seen in zones' inflow, the newest first, with how far each zone has been looked at."""
    for one in status or ():
        if one not in STATUSES:
            raise BadInput("There is no such status.", field="status", value=one[:40], remedy=f"Use {STATUSES}.")
    statement = select(LeakEvent).order_by(LeakEvent.onset_at.desc(), LeakEvent.id).limit(1000)
    if status:
        statement = statement.where(LeakEvent.status.in_(status))
    if zone is not None:
        statement = statement.where(LeakEvent.zone == zone.replace("\x00", ""))
    items = [planning.event_document(event, config) for event in session.scalars(statement)]
    watched: list[dict[str, Any]] = [
        dict(row)
        for row in session.execute(
            text("SELECT zone, seen_until, known_share FROM leak_watch ORDER BY zone")
        ).mappings()
    ]
    return _listed(items, format, "leak-events", watched=watched)


@router.get("/leak-events/{event_id}")
def get_leak_event(event_id: UUID, session: Tx, config: Config, who: Principal = allow(*READERS)) -> Json:
    """One event with what was seen, why, what was done and what it saved."""
    event = session.get(LeakEvent, event_id)
    if event is None:
        raise NotFound("There is no such leak event.", field="id", value=str(event_id))
    work = session.execute(
        text(
            "SELECT id::text, number, type, status, opened_at, ended_at, completion ->> 'code' AS code FROM work_order"
            " WHERE id = :first OR details ->> 'leak_event' = :event ORDER BY id"
        ),
        {"first": event.order_id, "event": str(event_id)},
    ).mappings()
    saved = [one for one in ledger.entries(session, event.zone) if one["leak_event"] == str(event_id)]
    return Json({**planning.event_document(event, config), "work": [dict(row) for row in work], "saved": saved})


@router.post("/leak-events/{event_id}/dismiss")
def dismiss_leak_event(
    event_id: UUID,
    body: Dismissal,
    session: Tx,
    config: Config,
    who: Principal = allow("admin", "supervisor", "dispatcher"),
) -> Json:
    """It was no leak, and the reason why: its search is cancelled and none follows."""
    event = watch.dismiss(session, event_id, by=who.actor, reason=body.reason)
    return Json(planning.event_document(event, config))


@router.get("/dig-list")
def get_dig_list(session: Tx, config: Config, format: Format = "json", who: Principal = allow(*READERS)) -> Response:
    """What runs now, most costly first: street, evidence, m³ and money a day."""
    return _listed(planning.dig_list(session, config), format, "dig-list")


@router.get("/loss-ledger")
def get_loss_ledger(
    session: Tx, zone: str | None = None, format: Format = "json", who: Principal = allow(*READERS)
) -> Response:
    """What repairs saved, the newest first, with what was predicted and found, and the sums of the verified ones."""
    found = ledger.entries(session, None if zone is None else zone.replace("\x00", ""))
    return _listed(found, format, "loss-ledger", totals=ledger.totals(found))


@router.get("/customer-leaks")
def list_customer_leaks(
    session: Tx, config: Config, format: Format = "json", who: Principal = allow(*READERS)
) -> Response:
    """Customers whose water never stops, the largest flow first; an analyst sees no addresses and accounts."""
    found = customers.leaks(session, config, addresses=who.role != "analyst")
    return _listed(found, format, "customer-leaks")


@router.get("/survey-plan")
def get_survey_plan(session: Tx, config: Config, format: Format = "json", who: Principal = allow(*READERS)) -> Response:
    """How often each zone is worth a survey, at what budget, and which is due next."""
    plan = planning.survey_plan(session, config)
    return _listed(plan["zones"], format, "survey-plan") if format == "csv" else Json(plan)


@router.get("/mains/ranking")
def get_mains_ranking(session: Tx, format: Format = "json", who: Principal = allow(*READERS)) -> Response:
    """Mains by repeated loss, the worst first: candidates for renewal."""
    return _listed(planning.mains_by_loss(session), format, "mains-by-loss")


@router.get("/leak-report")
def get_leak_report(
    session: Tx,
    config: Config,
    month: Annotated[str, Query(description="e.g. 2026-01", max_length=20)],
    who: Principal = allow(*READERS),
) -> Response:
    """Balances, leaks, repairs, surveys and mains of a month as one PDF."""
    from hub.leakage import monthly  # the printing library takes a while to load

    body = monthly.report(session, month, config, actor=who.actor)
    name = f"leakage-report-{month}.pdf"
    return Response(body, media_type="application/pdf", headers={"Content-Disposition": f'inline; filename="{name}"'})
