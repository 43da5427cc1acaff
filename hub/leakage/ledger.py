"""The loss ledger: what each repair saved, by the fall of the flow into its zone, in m³ and money.

Writes `loss_entry` and the change log in the caller's transaction. An entry is provisional until the flow of a week is
known on both sides of the repair, and is written anew until then.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gis import repairs
from hub import changes, clock
from hub.leakage import watch
from hub.models import LeakEvent, LossEntry
from hub.settings import Settings

# Nights wanted after the stop, and how long readings may take to arrive.
PATIENCE = timedelta(days=repairs.NIGHTS + 2)
# A repair is looked at for so long; with no flow known by then there is no entry.
LOOKS = timedelta(days=60)
BEFORE = timedelta(days=repairs.NIGHTS * 3)
# A repair ends the event whose flow fell within so many days of it, or that still runs.
FITS = timedelta(days=5)


def repairs_due(session: Session) -> list[Row[Any]]:
    """Finished leak repairs of a known zone without a final entry: id, number, zone, stopped_at, details, answers."""
    rows = session.execute(
        text(
            """
            SELECT o.id, o.number, coalesce(o.zone, p.zone) AS zone, o.details, o.completion -> 'answers' AS answers,
                coalesce((o.completion -> 'answers' ->> 'stopped_at')::timestamptz, o.ended_at) AS stopped_at,
                o.opened_at
            FROM work_order o LEFT JOIN service_point p ON p.id = o.service_point
            LEFT JOIN loss_entry l ON l.order_id = o.id
            WHERE o.type = 'leak_repair' AND o.status IN ('completed', 'closed')
              AND o.completion ->> 'code' IN ('repaired', 'temporary') AND o.ended_at > business_now() - :looks
              AND coalesce(o.zone, p.zone) IS NOT NULL AND (l.order_id IS NULL OR l.provisional)
            ORDER BY o.ended_at
            """
        ),
        {"looks": LOOKS},
    )
    return list(rows)


def verify(session: Session, repair: Row[Any], settings: Settings) -> LossEntry | None:
    """Write what the repair saved, as far as the flow of its zone tells by now; None when it tells nothing yet."""
    now = clock.now(session)
    stopped = repair.stopped_at
    ends = min(now - watch.PATIENCE, stopped + PATIENCE)
    # the detector's window serves: it is what makes hours local and meters clean
    seen = watch.inflow(session, repair.zone, stopped - watch.LEAST_SPAN - BEFORE, ends, settings)
    if seen is None:
        return None
    first, flows = seen
    event = _event_of(session, repair)
    onset = _onset(repair, repair.answers or {}, event)
    local = stopped.astimezone(settings.zone).replace(tzinfo=None)
    began = None if onset is None else onset.astimezone(settings.zone).replace(tzinfo=None)
    found = repairs.drop(first, flows, local, began_at=began)
    if found is None:
        return None
    entry = _entry(repair, found, event, settings)
    statement = insert(LossEntry).values(entry)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["order_id"], set_={name: statement.excluded[name] for name in entry if name != "order_id"}
        )
    )
    detail = {
        name: entry[name] for name in ("verdict", "drop_m3h", "low_m3h", "high_m3h", "lost_m3", "saved_m3_per_day")
    }
    changes.record(
        session, actor=watch.HUB, subject_type="work_order", subject_id=repair.number, order_id=repair.id,
        verb="repair_verified", detail={name: _float(value) for name, value in detail.items()},
    )  # fmt: skip
    return session.scalars(
        select(LossEntry).where(LossEntry.order_id == repair.id), execution_options={"populate_existing": True}
    ).one()


def _event_of(session: Session, repair: Row[Any]) -> LeakEvent | None:
    """The event that led to the repair; else the one of its zone that ended with it, or the largest that runs."""
    named = repair.details.get("leak_event")
    if named is not None:
        return session.get(LeakEvent, named)
    found = session.scalars(
        select(LeakEvent)
        .where(
            LeakEvent.zone == repair.zone,
            LeakEvent.kind != "over_threshold",
            LeakEvent.status != "dismissed",
            LeakEvent.onset_at < repair.stopped_at,
            (LeakEvent.closed_at.is_(None))
            | LeakEvent.closed_at.between(repair.stopped_at - FITS, repair.stopped_at + FITS),
        )
        .order_by(LeakEvent.closed_at.is_(None), LeakEvent.size_m3h.desc())
    )
    return found.first()


def _entry(repair: Row[Any], found: repairs.Drop, event: LeakEvent | None, settings: Settings) -> dict[str, Any]:
    answers = repair.answers or {}
    told = Decimal(answers["flow_m3_h"]) if answers.get("flow_m3_h") else None
    predicted = _predicted(repair, event)
    onset = _onset(repair, answers, event)
    saved = max(0.0, found.m3h)
    lost = (
        None if onset is None else watch.as_kept(saved * max(0.0, (repair.stopped_at - onset).total_seconds()) / 3600)
    )
    cost = settings.production_cost_m3
    expected = predicted if predicted is not None else told
    return {
        "order_id": repair.id,
        "event_id": None if event is None else event.id,
        "zone": repair.zone,
        "onset_at": onset,
        "stopped_at": repair.stopped_at,
        "before_m3h": watch.as_kept(found.before_m3h),
        "after_m3h": watch.as_kept(found.after_m3h),
        "drop_m3h": watch.as_kept(found.m3h),
        "low_m3h": watch.as_kept(found.low_m3h),
        "high_m3h": watch.as_kept(found.high_m3h),
        "predicted_m3h": predicted,
        "found_m3h": told,
        "lost_m3": lost,
        "saved_m3_per_day": watch.as_kept(24 * saved),
        "saved_per_day": None if cost is None else round(watch.as_kept(24 * saved) * cost, 2),
        "currency": None if cost is None else settings.currency,
        "verdict": found.verdict(None if expected is None else float(expected)),
        "provisional": found.nights_after < repairs.NIGHTS,
        "nights": {"before": found.nights_before, "after": found.nights_after},
    }


def _predicted(repair: Row[Any], event: LeakEvent | None) -> Decimal | None:
    """The size known when the work was ordered; an event's own size follows the flow, and so falls with the repair."""
    if event is None or event.kind == "over_threshold":
        return None
    told = repair.details.get("evidence", {}).get("size_m3h")
    return event.size_m3h if told is None else watch.as_kept(told)


def _onset(repair: Row[Any], answers: dict[str, Any], event: LeakEvent | None) -> datetime | None:
    """Since when it ran: as the flow told, else as somebody first knew."""
    if event is not None and event.kind != "over_threshold":
        return event.onset_at
    known = answers.get("known_at")
    return datetime.fromisoformat(known) if known else None


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def entries(session: Session, zone: str | None = None, *, limit: int = 500) -> list[dict[str, Any]]:
    """The ledger, newest first: each repair with what was predicted, what was found, and what it saved."""
    rows = session.execute(
        text(
            """
            SELECT l.*, o.number, o.completion -> 'answers' AS answers, p.address
            FROM loss_entry l JOIN work_order o ON o.id = l.order_id
            LEFT JOIN service_point p ON p.id = o.service_point
            WHERE :zone::text IS NULL OR l.zone = :zone ORDER BY l.stopped_at DESC, o.number LIMIT :limit
            """.replace(":zone::text", "CAST(:zone AS text)")
        ),
        {"zone": zone, "limit": limit},
    ).mappings()
    return [_shown(row) for row in rows]


def _shown(row: Any) -> dict[str, Any]:
    answers = row["answers"] or {}
    return {
        "work_order": str(row["order_id"]),
        "number": row["number"],
        "leak_event": str(row["event_id"]) if row["event_id"] else None,
        "zone": row["zone"],
        "address": row["address"],
        "main": answers.get("main"),
        "pipe": answers.get("pipe"),
        "cause": answers.get("cause"),
        "onset_at": row["onset_at"],
        "stopped_at": row["stopped_at"],
        **{name: _float(row[name]) for name in (
            "before_m3h", "after_m3h", "drop_m3h", "predicted_m3h", "found_m3h", "lost_m3", "saved_m3_per_day")},
        "limits_95": [_float(row["low_m3h"]), _float(row["high_m3h"])],
        "saved_per_day": row["saved_per_day"],
        "currency": row["currency"],
        "verdict": row["verdict"],
        "provisional": row["provisional"],
        "nights": row["nights"],
    }  # fmt: skip


def totals(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of verified entries: repairs, m³ that had been lost, m³ and money saved a day."""
    sure = [one for one in found if one["verdict"] == "verified"]
    money = [one["saved_per_day"] for one in sure if one["saved_per_day"] is not None]
    return {
        "repairs": len(found),
        "verified": len(sure),
        "lost_m3": sum(one["lost_m3"] or 0.0 for one in sure),
        "saved_m3_per_day": sum(one["saved_m3_per_day"] for one in sure),
        "saved_per_day": sum(money, Decimal(0)) if money else None,
    }
