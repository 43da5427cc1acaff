"""Watches the inflow of every zone for new leaks, keeps what it saw as events, and has the ground searched for them.

Writes `leak_watch`, `leak_event`, work orders and the change log in the caller's transaction. Each look goes over the
last months from their beginning, so that late and corrected readings count; what was seen before is recognised by its
onset, and keeps its id and its work. Zones are looked at together: what most of them show at once is no leak in one.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import holidays as calendars
import numpy as np
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gis.bursts import Detector, Event, feed_together, local_hours
from gis.losses import Period
from gis.zone_hours import zone_hours
from gis.zone_loss import Assumptions
from hub import changes, clock
from hub.errors import BadInput, ConfigurationError, Conflict, NotFound, storable_text
from hub.leakage import balances
from hub.metering import units
from hub.models import LeakEvent, LeakWatch, WorkOrder, Zone
from hub.settings import Settings
from hub.work import orders
from hub.work.lifecycle import OPEN

# How far back a look goes: a year of habits, and what the detector needs to warm up.
LOOK_BACK = timedelta(days=430)
# What began earlier in a look than this after its beginning cannot be told from habit.
WARMED_UP = timedelta(days=60)
# Meters are given so long to be heard before an hour counts as unknown.
PATIENCE = timedelta(hours=2)
# Less than this, and nothing can be said of a zone's habits.
LEAST_DAYS = 42
LEAST_SPAN = timedelta(days=LEAST_DAYS)
# The same leak seen again may seem to have begun a little earlier or later.
SAME_ONSET = timedelta(days=4)
# A search that found nothing, or a repair that did not end it, is repeated after so long while the water still runs …
AGAIN = timedelta(days=30)
# … or at once when it runs so many times as fast.
GROWN = Decimal("1.5")
# A balance speaks for a zone when so much of it was measured.
LEAST_COVERAGE = 0.8
HUB = "hub"


def holidays_of(settings: Settings, years: range) -> Container[date]:
    """Public holidays of the setting CURBSTOP_HOLIDAYS, empty without one. Raises ConfigurationError."""
    if settings.holidays is None:
        return ()
    country, _, part = settings.holidays.partition("-")
    try:
        return frozenset(calendars.country_holidays(country, subdiv=part or None, years=years))
    except NotImplementedError as error:
        raise ConfigurationError(
            f"CURBSTOP_HOLIDAYS: no calendar for {settings.holidays!r}; write e.g. US or US-TX."
        ) from error


def zones_due(session: Session) -> list[str]:
    """Zones in force with meters at their edge; empty unless the readings of one are newer than the last look."""
    rows = session.execute(
        text(
            """
            WITH meter_at AS (
                SELECT i.zone, i.to_zone, (
                    SELECT max(measured_at) FROM reading WHERE meter_id = m.id
                        AND measured_at > business_now() - interval '3 days'
                ) AS heard_at
                FROM meter_installation i JOIN meter m ON m.serial = i.serial WHERE i.zone IS NOT NULL
            )
            SELECT z.code, bool_or(w.zone IS NULL OR
                least(h.heard_at, business_now() - :patience) >= w.seen_until + interval '1 hour') AS due
            FROM zone z JOIN meter_at h ON z.code IN (h.zone, h.to_zone)
            LEFT JOIN leak_watch w ON w.zone = z.code
            WHERE z.valid_to IS NULL AND h.heard_at IS NOT NULL
            GROUP BY z.code ORDER BY z.code
            """
        ),
        {"patience": PATIENCE},
    ).all()
    return [row.code for row in rows] if any(row.due for row in rows) else []


Inflow = tuple[date, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(slots=True, frozen=True)
class Sight:
    """What a look saw of one zone: events since `since`, and the share of its hours that are known."""

    code: str
    events: list[Event]
    since: date | None
    known: float


def look_over(flows: Mapping[str, Inflow | None], now: datetime, settings: Settings) -> list[Sight]:
    """What the inflows of neighbouring zones up to `now` show, seen together: pure, and takes a while.

    What most zones do at once is no leak in one of them.
    """
    known = {code: found for code, found in flows.items() if found is not None}
    nothing = [Sight(code, [], None, 0.0) for code in flows if code not in known]
    if not known:
        return nothing
    earliest = min(first for first, _ in known.values())
    begins = [(first - earliest).days * 24 for first, _ in known.values()]
    last = max(begin + len(flow) for begin, (_, flow) in zip(begins, known.values(), strict=True))
    hours = np.full((len(known), last), np.nan)
    for row, begin, (_, flow) in zip(hours, begins, known.values(), strict=True):
        row[begin : begin + len(flow)] = flow
    holidays = holidays_of(settings, range(earliest.year, now.year + 1))
    detectors = [Detector(first, holidays) for first, _ in known.values()]
    feed_together(detectors, hours, begins)
    return nothing + [
        Sight(code, detector.events, first + WARMED_UP, float(np.isfinite(flow).mean()))
        for (code, (first, flow)), detector in zip(known.items(), detectors, strict=True)
    ]


def take_note(session: Session, sight: Sight, settings: Settings) -> list[LeakEvent]:
    """Write what a look saw of a zone; the events that are new.

    An open event has the zone surveyed, once; what the flow alone cannot settle is left to a person.
    """
    now = clock.now(session)
    session.execute(select(Zone.code).where(Zone.code == sight.code).with_for_update(key_share=True))
    _note(session, sight.code, now - PATIENCE, sight.known)
    if sight.since is None:
        return []
    new = _keep(session, sight.code, sight.events, sight.since, settings.zone)
    for event in _open_events(session, sight.code):
        _search(session, event, settings, now)
    return new


def inflows(session: Session, codes: Sequence[str], settings: Settings) -> dict[str, Inflow | None]:
    """The inflow of each zone as far back as a look goes."""
    now = clock.now(session)
    return {code: inflow(session, code, now - LOOK_BACK, now - PATIENCE, settings) for code in codes}


def inflow(session: Session, code: str | None, begins: datetime, ends: datetime, settings: Settings) -> Inflow | None:
    """(first local day, m³/h of each local hour) of a zone from its first known day on; None where little is known."""
    zone = settings.zone
    start = datetime.combine(begins.astimezone(zone).date(), datetime.min.time(), tzinfo=zone)
    end = ends.replace(minute=0, second=0, microsecond=0)
    period = Period(session, start, end, zone, units.FACTORS_M3, Assumptions())
    hours = zone_hours(period, code, clean=True)
    known = np.flatnonzero(np.isfinite(hours.net))
    if not len(known):
        return None
    moments = [datetime.fromtimestamp(at, zone) for at in hours.edges[:-1]]
    day = moments[known[0]].date()
    at = next(place for place, moment in enumerate(moments) if moment.date() >= day)
    first, flows = local_hours(moments[at:], list(hours.net[at:]), zone)
    return (first, flows) if len(flows) >= LEAST_DAYS * 24 else None


def _note(session: Session, code: str, until: datetime, known: float) -> None:
    statement = insert(LeakWatch).values(zone=code, seen_until=until, known_share=known)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["zone"], set_={"seen_until": until, "known_share": known, "written_at": text("now()")}
        )
    )


def _keep(session: Session, code: str, seen: list[Event], since: date, zone: ZoneInfo) -> list[LeakEvent]:
    """Write what was seen over what was seen before; the events that are new. A dismissed one stays dismissed.

    What began before `since` is out of this look's sight and left as it is.
    """
    stored = list(
        session.scalars(
            select(LeakEvent).where(LeakEvent.zone == code, LeakEvent.kind != "over_threshold").order_by(LeakEvent.id)
        )
    )
    new: list[LeakEvent] = []
    for event in seen:
        onset = event.onset_at.replace(tzinfo=zone)
        same = min(
            (one for one in stored if abs(one.onset_at - onset) <= SAME_ONSET),
            key=lambda one: abs(one.onset_at - onset),
            default=None,
        )
        if same is None:
            same = LeakEvent(
                zone=code, kind=event.kind, onset_at=onset, detected_at=event.detected_at.replace(tzinfo=zone)
            )
            session.add(same)
            new.append(same)
        else:
            stored.remove(same)
        same.grown_at = event.grown_at.replace(tzinfo=zone)
        same.closed_at = event.closed_at.replace(tzinfo=zone) if event.closed_at else None
        same.status = "dismissed" if same.dismissed else event.status
        # for days after a repair, until it is certain, the flow of an open event may be below what it was before
        same.size_m3h, same.low_m3h, same.high_m3h = (
            as_kept(max(0.0, value)) for value in (event.size_m3h, event.low_m3h, event.high_m3h)
        )
        same.baseline_m3h = as_kept(event.baseline_m3h)
        same.facts = event.facts
    for gone in stored:
        # later readings took the ground from under it
        if gone.status == "open" and gone.onset_at.astimezone(zone).date() > since:
            gone.status, gone.closed_at = "closed", clock.now(session)
            gone.facts = {**gone.facts, "withdrawn": "not seen any more in corrected readings"}
    session.flush()
    for event_row in new:
        detail = {"kind": event_row.kind, "size_m3h": float(event_row.size_m3h), "zone": code}
        changes.record(
            session, actor=HUB, subject_type="leak_event", subject_id=str(event_row.id), verb="detected", detail=detail
        )
    return new


def as_kept(value: float) -> Decimal:
    """A flow or volume as it is kept: four decimals."""
    return Decimal(str(round(value, 4)))


def _open_events(session: Session, code: str) -> list[LeakEvent]:
    statement = select(LeakEvent).where(LeakEvent.zone == code, LeakEvent.status == "open")
    return list(session.scalars(statement.order_by(LeakEvent.size_m3h.desc())))


def _search(session: Session, event: LeakEvent, settings: Settings, now: datetime) -> None:
    """Have the zone surveyed for an open event, unless that is under way or was tried lately."""
    if event.order_id is not None and not _worth_again(session, event, now):
        return
    opened = orders.open_order(
        session,
        type="leak_survey",
        by=HUB,
        zone=event.zone,
        priority=2 if event.kind == "burst" else 3,
        note=sentence(event),
        details={"leak_event": str(event.id), "evidence": evidence(event, settings)},
    )
    event.order_id = opened.order.id
    session.flush()


def _worth_again(session: Session, event: LeakEvent, now: datetime) -> bool:
    """Whether the last work on an event is over and did not end it."""
    last = session.execute(
        text(
            "SELECT o.status, o.ended_at, o.details FROM work_order o"
            " WHERE o.id = :first OR o.details ->> 'leak_event' = :event ORDER BY o.id DESC LIMIT 1"
        ),
        {"first": event.order_id, "event": str(event.id)},
    ).one_or_none()
    if last is None:
        return True
    if last.status in {str(state) for state in OPEN} or last.ended_at is None:
        return False
    before = Decimal(str(last.details.get("evidence", {}).get("size_m3h") or 0))
    return now - last.ended_at >= AGAIN or bool(before and event.size_m3h >= before * GROWN)


def sentence(event: LeakEvent) -> str:
    """What was seen, in a sentence for whoever has the order in hand."""
    size = f"{event.size_m3h:.1f} m³/h ({event.low_m3h:.1f} to {event.high_m3h:.1f})"
    since = f"{event.onset_at:%Y-%m-%d}"
    if event.kind == "over_threshold":
        return f"Zone {event.zone} loses {size} by its balance since {since}."
    how = "at once" if event.kind == "burst" else "growing over days"
    return f"{size} more than usual run into zone {event.zone} since {since}, {how}."


def evidence(event: LeakEvent, settings: Settings) -> dict[str, Any]:
    """What an order keeps of the event that led to it."""
    return {
        "kind": event.kind,
        "size_m3h": float(event.size_m3h),
        "low_m3h": float(event.low_m3h),
        "high_m3h": float(event.high_m3h),
        "onset_at": event.onset_at.isoformat(),
        "value_per_day": value_per_day(event.size_m3h, settings),
        "currency": settings.currency,
    }


def value_per_day(size_m3h: Decimal, settings: Settings) -> float | None:
    """What a leak costs a day at the variable cost of production; None without that price."""
    cost = settings.production_cost_m3
    return None if cost is None else round(float(size_m3h * 24 * cost), 2)


def judge_month(session: Session, settings: Settings) -> list[LeakEvent]:
    """Zones that certainly lost more than the threshold in the last whole month: the events that are new.

    An event lasts until a month is below the threshold again. Certain: the lower 95 % limit of the loss is above it,
    and the figures are measured to four fifths at least.
    """
    now = clock.now(session).astimezone(settings.zone)
    last = date(now.year, now.month, 1)
    first = (last - timedelta(days=1)).replace(day=1)
    new: list[LeakEvent] = []
    found = balances.report(session, first, last, zone=settings.zone, actor=HUB, assumptions=balances.assumed(settings))
    for one in found:
        if one["zone"] is None or not one["system_input"] or one["coverage"]["overall"] < LEAST_COVERAGE:
            continue
        new += _threshold(session, one, first, last, settings)
    return new


def _threshold(session: Session, one: dict[str, Any], first: date, last: date, settings: Settings) -> list[LeakEvent]:
    known = session.scalars(
        select(LeakEvent).where(
            LeakEvent.zone == one["zone"], LeakEvent.kind == "over_threshold", LeakEvent.status != "closed"
        )
    ).one_or_none()
    allowed = one["system_input"] * float(settings.loss_threshold_pct) / 100
    low, high = one["limits_95"]["water_losses"]
    hours = one["days"] * 24
    start, end = (datetime.combine(day, datetime.min.time(), tzinfo=settings.zone) for day in (first, last))
    if low <= allowed:
        if known is not None and one["water_losses"] <= allowed:
            known.status, known.closed_at = "closed", end
        return []
    sizes = tuple(as_kept((volume - allowed) / hours) for volume in (one["water_losses"], low, high))
    facts = {
        "from": first.isoformat(), "to": last.isoformat(), "loss_pct": one["loss_pct"], "revision": one["revision"],
        "threshold_pct": float(settings.loss_threshold_pct), "water_losses_m3": one["water_losses"],
    }  # fmt: skip
    new = known is None
    if known is None:
        known = LeakEvent(zone=one["zone"], kind="over_threshold", onset_at=start, detected_at=clock.now(session))
        session.add(known)
    known.grown_at, known.facts = end, facts
    known.size_m3h, known.low_m3h, known.high_m3h = sizes
    session.flush()
    if known.status == "open":
        _search(session, known, settings, clock.now(session))
    return [known] if new else []


def dismiss(session: Session, event_id: UUID, *, by: str, reason: str) -> LeakEvent:
    """A person knows what it was (a filled pool, a fire): no work comes of it any more.

    Raises NotFound, BadInput without a reason, Conflict when its search is already done or under way on the road.
    """
    event = session.scalars(
        select(LeakEvent).where(LeakEvent.id == event_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if event is None:
        raise NotFound("There is no such leak event.", field="id", value=str(event_id))
    why = storable_text(reason).strip()
    if not why:
        raise BadInput("It is not said why.", field="reason", remedy="Say what the water was used for.")
    if event.status == "dismissed":
        raise Conflict("The event is dismissed already.", field="id")
    event.dismissed = {"by": by, "reason": why[:400], "at": clock.now(session).isoformat()}
    event.status = "dismissed"
    order = None if event.order_id is None else session.get(WorkOrder, event.order_id)
    if order is not None and order.status in {str(state) for state in OPEN}:
        orders.cancel(session, order.id, by=by, reason=f"leak event dismissed: {why[:200]}")
    changes.record(
        session, actor=by, subject_type="leak_event", subject_id=str(event_id), verb="dismissed", detail={"reason": why}
    )
    return event
