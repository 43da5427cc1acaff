"""Volumes of registers that are kept from one balance to the next. Writes `kept_volume`, in the caller's transaction.

A balance of a whole month keeps what it worked out of every register. It is used again only while no reading it rests
on has changed: triggers note every change of readings, and a kept volume remembers the snapshot it was seen in, so that
a change committed in between is never missed. `absorb` forgets what has changed and takes the notes away.
"""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

# Whoever keeps volumes holds this lock shared, whoever takes notes away alone: no volume seen before a note was
# written can be kept after the note is gone.
_LOCK = 0x6B657074


def keeps(lower: datetime, upper: datetime, now: datetime, zone: ZoneInfo) -> bool:
    """Whether volumes of a window are worth keeping: it is one whole local month, and over."""
    first, last = lower.astimezone(zone), upper.astimezone(zone)
    midnight = all((at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0) for at in (first, last))
    following = (first.date().replace(day=1) + timedelta(days=32)).replace(day=1)
    return midnight and first.day == 1 and last.date() == following and upper <= now


def begin_keeping(connection: "psycopg.Connection[Any]") -> None:
    """Before the statement that keeps volumes, in its transaction."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_LOCK])


def absorb(connection: "psycopg.Connection[Any]") -> int:
    """Forget volumes whose readings have changed; how many. Does nothing while somebody keeps volumes."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]).fetchone()
    if row is None or not row[0]:
        return 0
    # an index of the changes by meter, and one statement, one snapshot
    return connection.execute(
        "WITH gone AS (DELETE FROM reading_change RETURNING xid, meters, first_at, last_at),"
        " touched AS (SELECT unnest(meters) AS meter_id, xid, first_at, last_at FROM gone)"
        " DELETE FROM kept_volume k USING touched t WHERE t.meter_id = k.meter_id"
        " AND t.last_at >= k.used_from AND t.first_at <= k.used_to"
        " AND (t.xid = k.kept_by OR NOT pg_visible_in_snapshot(t.xid::xid8, k.snapshot::pg_snapshot))"
    ).rowcount
