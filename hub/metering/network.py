"""Devices and gateways as they show themselves: states, missing numbers, alarms, completeness. Lists for faces.

Reads, but for `clear_alarm` and `ask_again`, which write `alarm`, `sequence_gap` and the change log in the caller's
transaction.
"""

from collections.abc import Sequence
from datetime import date, datetime
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.errors import BadInput, Conflict, NotFound, storable_text
from hub.metering import devices, sequences
from hub.models import Alarm, DeviceState, Meter, SequenceGap

MOST_DAYS = 400


def state_of(session: Session, device: str) -> dict[str, Any] | None:
    """What a device has shown of itself, with its typical clock offset in seconds; None when it never spoke."""
    found = session.get(DeviceState, devices.key(device))
    if found is None:
        return None
    return {
        "heard_at": found.heard_at,
        "gateway": found.publisher,
        "read_at": found.read_at,
        "seq": found.seq,
        "time_source": found.time_source,
        "clock_offset_s": round(median(found.offsets_s), 3) if found.offsets_s else None,
        "clock_offsets_seen": len(found.offsets_s),
    }


def gaps(
    session: Session,
    *,
    kind: str | None = None,
    subject: str | None = None,
    open_only: bool = True,
    after: UUID | None = None,
    limit: int = 100,
) -> list[SequenceGap]:
    """Missing sequence numbers, newest first; those that were closed only on request."""
    query = select(SequenceGap).order_by(SequenceGap.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(SequenceGap.kind == kind)
    if subject is not None:
        query = query.where(SequenceGap.subject == (devices.key(subject) if kind == "device" else subject))
    if open_only:
        query = query.where(SequenceGap.closed_at.is_(None))
    if after is not None:
        query = query.where(SequenceGap.id < after)
    return list(session.scalars(query))


def gap_json(gap: SequenceGap) -> dict[str, Any]:
    """A gap as programs see it; `after` and `before` are the numbers that did arrive."""
    return {
        "id": str(gap.id),
        "kind": gap.kind,
        gap.kind: gap.subject,
        "gateway": gap.subject if gap.kind == "gateway" else gap.gateway,
        "after": gap.first_missing - 1,
        "before": gap.last_missing + 1,
        "missing": gap.last_missing - gap.first_missing + 1,
        "after_at": gap.after_at,
        "before_at": gap.before_at,
        "found_at": gap.found_at,
        "asked_at": gap.asked_at,
        "asks": gap.asks,
        "closed_at": gap.closed_at,
    }


def to_ask(session: Session, *, limit: int = 500) -> list[SequenceGap]:
    """Open gaps whose gateways are to be asked for them now, locked, and marked as asked."""
    now = clock.now(session)
    found = session.scalars(
        select(SequenceGap)
        .where(SequenceGap.closed_at.is_(None), SequenceGap.ask_at <= now)
        .order_by(SequenceGap.ask_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for gap in found:
        gap.asked_at, gap.asks = now, gap.asks + 1
        # each time twice as patient as the time before
        gap.ask_at = now + sequences.GRACE * 2**gap.asks if gap.asks < sequences.MOST_ASKS else None
    session.flush()
    return list(found)


def ask_again(session: Session, gap_id: UUID, *, by: str) -> SequenceGap:
    """Have a gap asked for at the next round, however often that was done. Raises NotFound, Conflict."""
    gap = session.get(SequenceGap, gap_id, with_for_update=True)
    if gap is None:
        raise NotFound("There is no such gap.", field="id", value=str(gap_id))
    if gap.closed_at is not None:
        raise Conflict("The gap is closed: what was missing has arrived.", field="id", value=str(gap_id))
    if not sequences.can_ask(gap.gateway or gap.subject):
        raise Conflict(
            "Only gateways that speak the hub's own JSON can be asked to send again.",
            field="id",
            remedy="Fetch the messages from the network server's storage and send them to POST /api/v1/readings.",
        )
    gap.asks, gap.ask_at = 0, clock.now(session)
    session.flush()
    changes.record(session, actor=by, subject_type=gap.kind, subject_id=gap.subject, verb="resend_asked")
    return gap


def alarms(
    session: Session,
    *,
    state: str | None = None,
    type: str | None = None,
    device: str | None = None,
    meter: str | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> Sequence[Alarm]:
    """Alarm episodes, newest first."""
    query = select(Alarm).order_by(Alarm.id.desc()).limit(limit)
    for column, value in ((Alarm.state, state), (Alarm.type, type), (Alarm.meter, meter)):
        if value is not None:
            query = query.where(column == value)
    if device is not None:
        query = query.where(Alarm.device == devices.key(device))
    if after is not None:
        query = query.where(Alarm.id < after)
    return session.scalars(query).all()


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """An alarm episode as programs see it."""
    return {
        "id": str(alarm.id),
        "device": alarm.device,
        "meter": alarm.meter,
        "type": alarm.type,
        "state": alarm.state,
        "source": "readings" if alarm.form == "derived" else "device",
        "since": alarm.since,
        "last_seen": alarm.last_seen,
        "ended_at": alarm.ended_at,
        "text": alarm.text,
        "raw_message": alarm.raw_id,
        "detail": alarm.detail,
    }


def clear_alarm(session: Session, alarm_id: UUID, *, by: str, reason: str) -> Alarm:
    """A person ends an alarm that its device will not end. Raises NotFound, BadInput, Conflict."""
    reason = storable_text(reason).strip()[:1000]
    if not reason:
        raise BadInput("It is not said why.", field="reason", remedy="Say what was found.")
    alarm = session.get(Alarm, alarm_id, with_for_update=True)
    if alarm is None:
        raise NotFound("There is no such alarm.", field="id", value=str(alarm_id))
    if alarm.ended_at is not None:
        raise Conflict("The alarm has ended already.", field="id", value=str(alarm_id))
    alarm.ended_at = max(clock.now(session), alarm.last_seen)
    alarm.state = "historic" if alarm.state == "historic" else "cleared"
    alarm.detail = {**alarm.detail, "cleared_by": by, "reason": reason}
    session.flush()
    subject = ("device", alarm.device) if alarm.device else ("meter", alarm.meter or "")
    changes.record(
        session,
        actor=by,
        subject_type=subject[0],
        subject_id=subject[1] or "",
        verb="alarm_cleared",
        detail={"type": alarm.type, "reason": reason},
    )
    return alarm


def gateways(session: Session, *, silent_hours: int = 24) -> list[dict[str, Any]]:
    """Publishers with how many devices speak through each, and how many of those were silent for `silent_hours`."""
    rows = session.execute(
        text(
            "SELECT g.gateway, g.heard_at, g.seq, count(d.device), count(d.device) FILTER (WHERE d.heard_at <"
            " business_now() - make_interval(hours => :hours)) FROM gateway_state g"
            " LEFT JOIN device_state d ON d.publisher = g.gateway GROUP BY g.gateway ORDER BY g.gateway"
        ),
        {"hours": silent_hours},
    )
    names = ("gateway", "heard_at", "seq", "devices", "silent")
    return [dict(zip(names, row, strict=True)) for row in rows]


def completeness(session: Session, serial: str, begins: datetime, ends: datetime, zone: str) -> list[dict[str, Any]]:
    """Per local day and register: readings there are, and the share of what a usual day of the last 30 brought.

    A usual day is the median of the days that have any reading; `completeness` is null where there is none to compare
    with. Raises NotFound, BadInput.
    """
    if (ends - begins).days > MOST_DAYS:
        raise BadInput(f"More than {MOST_DAYS} days.", field="to", remedy="Ask for a shorter time.")
    if session.scalar(select(Meter.id).where(Meter.serial == serial).limit(1)) is None:
        raise NotFound(f"There is no meter {serial[:80]!r}.", field="serial", remedy="Import it.")
    rows = session.execute(
        text(
            "WITH meters AS (SELECT id, register FROM meter WHERE serial = :serial),"
            " counted AS (SELECT m.register, (r.measured_at AT TIME ZONE :zone)::date AS day, count(*) AS n"
            "   FROM meters m JOIN reading r ON r.meter_id = m.id"
            "   AND r.measured_at >= least(:begins, :ends - interval '30 days') AND r.measured_at < :ends"
            "   AND r.quality <> 'invalid' GROUP BY 1, 2),"
            " usual AS (SELECT register, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS n FROM counted GROUP BY 1),"
            " days AS (SELECT generate_series((:begins AT TIME ZONE :zone)::date,"
            "   ((:ends - interval '1 microsecond') AT TIME ZONE :zone)::date, interval '1 day')::date AS day)"
            " SELECT d.day, u.register, coalesce(c.n, 0), u.n FROM days d CROSS JOIN usual u"
            " LEFT JOIN counted c ON c.day = d.day AND c.register = u.register ORDER BY 1, 2"
        ),
        {"serial": serial, "zone": zone, "begins": begins, "ends": ends},
    )
    return [_day(*row) for row in rows]


def _day(day: date, register: str, count: int, usual: int) -> dict[str, Any]:
    return {
        "day": day.isoformat(),
        "register": register,
        "readings": count,
        "usual": usual,
        "completeness": round(min(1.0, count / usual), 4),
    }
