"""Reading a device's kept messages again, because its registry entry was corrected or it now reports another meter.

Writes `reading`, `reading_revision`, `quarantine` and `rebooking` in the caller's transaction. A value that changes and
a reading that goes to another meter leave their former state as a revision; what a person edited stays.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.metering import devices, readings, revisions
from hub.metering.booking import Row
from hub.models import Device, Rebooking

# How many messages one transaction reads again.
SLICE = 1000


def run(session: Session, *, device: str | None = None, limit: int = SLICE) -> int | None:
    """Do a slice of the oldest rebooking (of `device`); the number of messages read again, None when none waits."""
    query = select(Rebooking).order_by(Rebooking.queued_at, Rebooking.id).limit(1)
    if device is not None:
        query = query.where(Rebooking.device == devices.key(device))
    waiting = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
    if waiting is None:
        return None
    ids = _messages(session, waiting, limit)
    if ids:
        _rebook(session, waiting, ids)
        waiting.after_id = ids[-1]
    if len(ids) < limit:
        session.delete(waiting)
    session.flush()
    return len(ids)


def _messages(session: Session, waiting: Rebooking, limit: int) -> list[int]:
    """Ids of the next messages about the device, and of those its meters' readings of that time came with."""
    found = raw_of(session).execute(
        "SELECT id FROM (SELECT id FROM raw_message WHERE device = %(device)s AND received_at >= %(begins)s"
        " AND id > %(after)s"
        " UNION SELECT r.raw_id FROM device d JOIN meter m ON m.serial = d.meter JOIN reading r ON r.meter_id = m.id"
        " WHERE d.device = %(device)s AND r.raw_id > %(after)s AND r.measured_at >= %(begins)s"
        " AND r.measured_at < coalesce(%(ends)s::timestamptz, 'infinity')) x ORDER BY id LIMIT %(limit)s",
        {
            "device": waiting.device,
            "begins": waiting.begins,
            "ends": waiting.ends,
            "after": waiting.after_id,
            "limit": limit,
        },
    )
    return [row[0] for row in found]


def _rebook(session: Session, waiting: Rebooking, ids: Sequence[int]) -> None:
    judged = readings.judged_again(session, ids)
    rows = [
        row
        for row in judged
        if row.device is not None
        and devices.key(row.device) == waiting.device
        and row.measured_at >= waiting.begins
        and (waiting.ends is None or row.measured_at < waiting.ends)
    ]
    # a meter's reads by hand and other devices' readings stay where they are
    revise(session, rows, _standing(session, waiting, ids), judged=judged, by=waiting.by, reason=waiting.reason)
    # books what is new for its meter, and settles what was put aside
    readings.replay(session, ids)


def _standing(session: Session, waiting: Rebooking, ids: Sequence[int]) -> dict[tuple[int, datetime], tuple[Any, ...]]:
    """Readings of the device's meters that came with these messages and that nobody edited, by key."""
    serials = select(Device.meter).where(Device.device == waiting.device)
    names = list(session.scalars(serials.distinct()))
    found = raw_of(session).execute(
        "SELECT r.meter_id, r.measured_at, r.value, r.unit, r.value_m3 FROM meter m JOIN reading r ON r.meter_id = m.id"
        " WHERE m.serial = ANY(%s) AND r.raw_id = ANY(%s) AND r.measured_at >= %s"
        " AND r.measured_at < coalesce(%s::timestamptz, 'infinity') AND NOT r.flags @> ARRAY['edited']",
        [names, list(ids), waiting.begins, waiting.ends],
    )
    return {(meter_id, at): tuple(rest) for meter_id, at, *rest in found}


def revise(
    session: Session,
    rows: Sequence[Row],
    standing: dict[revisions.Key, tuple[Any, ...]],
    *,
    judged: Sequence[Row],
    by: str,
    reason: str,
) -> tuple[list[Row], list[revisions.Key]]:
    """Bring standing readings in line with what their messages say today: `rows`, out of everything `judged`.

    `standing` are readings that came with those messages, by key, as (value, unit, value_m3). One that no row speaks of
    any more is taken out of the record; one that means something else is revised. Returns the latter as they now are,
    and the keys of the former.
    """
    now_at = {(row.meter_id, row.measured_at) for row in judged}
    removed = [key for key in standing if key not in now_at]
    revisions.remove(session, removed, by=by, reason=reason)
    changed = {
        (row.meter_id, row.measured_at): row
        for row in rows
        if (row.meter_id, row.measured_at) in standing
        and standing[row.meter_id, row.measured_at] != (row.value, row.unit, row.value_m3)
    }
    if changed:
        revisions.keep(session, changed, by=by, reason=reason)
        values = [
            (*key, row.value, row.unit, row.value_m3, row.quality, row.flags) for key, row in sorted(changed.items())
        ]
        raw_of(session).execute(
            "UPDATE reading r SET value = u.v, unit = u.un, value_m3 = u.v3, quality = u.q,"
            " flags = string_to_array(u.f, E'\\x1f') FROM unnest(%b::int4[], %b::timestamptz[], %b::numeric[],"
            " %b::text[], %b::numeric[], %b::text[], %b::text[]) u(m, at, v, un, v3, q, f)"
            " WHERE r.meter_id = u.m AND r.measured_at = u.at",
            [list(column) for column in zip(*values, strict=True)],
        )
        revisions.review(session, changed)
    return [changed[key] for key in sorted(changed)], removed
