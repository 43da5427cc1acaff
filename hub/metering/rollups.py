"""Consumption kept ready by UTC hour and local day: recomputed where readings have changed, read instead of readings.

Triggers on `reading` (and on what says where a register starts again) leave in `consumption_due` which registers
changed between which instants; whoever writes readings need not think of it. `roll_up` takes a slice of that list,
computes all of it in one statement and writes `consumption_day`, `consumption_hours` and `register_fall` in the
caller's transaction. The rules are those of `hub.metering.consumption`; months are sums of days. A figure is read from
here only where nothing about its register is due.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.metering import consumption
from hub.metering.booking import SIDE_REGISTERS

# How many notes and days of registers one transaction takes, how many registers one statement and over how much time.
NOTES = 64
# While readings keep coming a roll-up waits for them, looking this often, up to that long: a day costs the same
# whether one of its readings is new or all of them.
LOOK_S = 0.5
PATIENCE_S = 5.0
REGISTER_DAYS = 40_000
REGISTERS = 100
STRETCH = timedelta(days=92)
_LOCK = 0x63757263
_BELIEVED = "value_m3 IS NOT NULL AND quality IN ('good', 'estimated')"
_DAY = timedelta(days=1)
# What was made of readings that were archived since stands; the second day after them is the first to be made anew.
_HORIZON = (
    "SELECT coalesce((max(month) + interval '1 month 1 day') AT TIME ZONE 'UTC', '0001-01-02') AS horizon"
    " FROM archived_month WHERE table_name = 'reading'"
)
_TAKE = f"""
WITH taken AS (
    DELETE FROM consumption_due WHERE id IN (SELECT id FROM consumption_due ORDER BY id LIMIT %s)
    RETURNING meter_ids, lowers, uppers
), kept AS ({_HORIZON})
SELECT u.m, greatest(min(u.lo), (SELECT horizon FROM kept)), least(max(u.hi), '9999-12-30')
FROM taken, unnest(meter_ids, lowers, uppers) u(m, lo, hi) JOIN meter ON meter.id = u.m AND register <> ALL(%s)
GROUP BY u.m HAVING max(u.hi) >= (SELECT horizon FROM kept) ORDER BY u.m
"""  # noqa: S608
_WAITING = "SELECT count(*), max(id) FROM (SELECT id FROM consumption_due ORDER BY id DESC LIMIT %s) x"
Connection = psycopg.Connection[tuple[Any, ...]]


class Due(NamedTuple):
    """A register (meter_id) and the time in which its movements may have changed, both ends included."""

    meter_id: int
    lower: datetime
    upper: datetime


class Pace:
    """Rolls up when readings have paused, when very many wait, or when they have waited long enough."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._newest: int | None = None
        self._since: float | None = None

    def round(self, session: Session) -> int:
        """`roll_up` if it is time; 0 when nothing is due or more is to be waited for: look again after `LOOK_S`."""
        waiting, newest = raw_of(session).execute(_WAITING, [NOTES]).fetchone() or (0, None)
        lull, self._newest = newest == self._newest, newest
        if not waiting:
            self._since = None
            return 0
        self._since = self._since or time.monotonic()
        if waiting < NOTES and not lull and time.monotonic() - self._since < PATIENCE_S:
            return 0
        self._since = None
        done = roll_up(session, self._zone)
        # what it put back is no news
        self._newest = (raw_of(session).execute(_WAITING, [1]).fetchone() or (0, None))[1]
        return done


def roll_up(session: Session, zone: ZoneInfo) -> int:
    """Bring a slice of what is due up to date; the number of registers in it. 0: nothing is due, or another does it.

    `zone` is the utility's; its days begin at local midnight.
    """
    connection = raw_of(session)
    # two at once could each miss the other's readings and write the older figure last
    held = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]).fetchone()
    if held is None or not held[0]:
        return 0
    connection.execute("SET LOCAL work_mem = '64MB'")
    connection.execute("SET LOCAL jit = off")
    changed = _claim(connection)
    most = REGISTER_DAYS // 2  # each reaches over two days at least
    _put_back(connection, changed[most:])
    reached = _reach(connection, changed[:most])
    reached, left = _slice(reached)
    _put_back(connection, left)
    for begins, ends in _stretches(reached):
        within = [
            Due(one.meter_id, max(one.lower, begins), min(one.upper, ends))
            for one in reached
            if one.lower <= ends and one.upper >= begins
        ]
        for start in range(0, len(within), REGISTERS):
            _compute(connection, within[start : start + REGISTERS], zone)
    return len(changed)


def _claim(connection: Connection) -> list[Due]:
    """Take notes off the list; one entry per register that counts water."""
    found = connection.execute(_TAKE, [NOTES, list(SIDE_REGISTERS)])
    return [Due(*row) for row in found]


def _reach(connection: Connection, changed: Sequence[Due]) -> list[Due]:
    """As far as a change is felt: two believed readings to each side, within the readings and figures there are.

    A reading decides over its neighbours (a fall that recovers is a misread), and they over the movements beside them.
    """
    found = connection.execute(
        f"""
        SELECT u.m, greatest(coalesce((SELECT min(t) FROM (SELECT measured_at AS t FROM reading WHERE meter_id = u.m
                    AND measured_at < u.lo AND {_BELIEVED} ORDER BY measured_at DESC LIMIT 2) x), u.lo),
                        s.first, h.horizon),
               least(coalesce((SELECT max(t) FROM (SELECT measured_at AS t FROM reading WHERE meter_id = u.m
                    AND measured_at > u.hi AND {_BELIEVED} ORDER BY measured_at LIMIT 2) x), u.hi), s.last)
        FROM unnest(%b::int4[], %b::timestamptz[], %b::timestamptz[]) u(m, lo, hi)
        CROSS JOIN LATERAL (
            SELECT least((SELECT measured_at FROM reading WHERE meter_id = u.m ORDER BY measured_at LIMIT 1),
                         (SELECT begins FROM consumption_day WHERE meter_id = u.m ORDER BY day LIMIT 1),
                         (SELECT day::timestamp AT TIME ZONE 'UTC' FROM consumption_hours WHERE meter_id = u.m
                          ORDER BY day LIMIT 1),
                         (SELECT at FROM register_fall WHERE meter_id = u.m ORDER BY at LIMIT 1)) AS first,
                   greatest((SELECT measured_at FROM reading WHERE meter_id = u.m ORDER BY measured_at DESC LIMIT 1),
                            (SELECT ends FROM consumption_day WHERE meter_id = u.m ORDER BY day DESC LIMIT 1),
                            (SELECT day::timestamp AT TIME ZONE 'UTC' + interval '1 day' FROM consumption_hours
                             WHERE meter_id = u.m ORDER BY day DESC LIMIT 1)) AS last
        ) s CROSS JOIN ({_HORIZON}) h
        WHERE s.first IS NOT NULL
        """,  # noqa: S608
        [[one.meter_id for one in changed], [one.lower for one in changed], [one.upper for one in changed]],
    )
    return [Due(*row) for row in found]


def _slice(reached: list[Due]) -> tuple[list[Due], list[Due]]:
    """As many registers as one transaction should take on, and the others."""
    days = 0
    for taken, one in enumerate(reached):
        days += (one.upper - one.lower).days + 2
        if days > REGISTER_DAYS and taken:
            return reached[:taken], reached[taken:]
    return reached, []


def _put_back(connection: Connection, left: Sequence[Due]) -> None:
    if left:
        connection.execute(
            "INSERT INTO consumption_due (meter_ids, lowers, uppers) VALUES (%b, %b, %b)",
            [list(column) for column in zip(*left, strict=True)],
        )


def _stretches(reached: Sequence[Due]) -> Iterator[tuple[datetime, datetime]]:
    """The whole time in pieces that one statement can take on."""
    if reached:
        at, last = min(one.lower for one in reached), max(one.upper for one in reached)
        while at + STRETCH < last:
            yield at, at + STRETCH
            at += STRETCH
        yield at, last


def _compute(connection: Connection, within: Sequence[Due], zone: ZoneInfo) -> None:
    moduli = consumption.moduli(connection, [one.meter_id for one in within])
    days = _days(min(one.lower for one in within), max(one.upper for one in within), zone)
    connection.execute(
        _COMPUTE,
        {
            "meters": [one.meter_id for one in within],
            "lowers": [one.lower for one in within],
            "uppers": [one.upper for one in within],
            "moduli": [moduli[one.meter_id] for one in within],
            "zone": zone.key,
            "days": [day for day, _ in days[:-1]],
            "begins": [begins for _, begins in days[:-1]],
            "ends": [begins for _, begins in days[1:]],
        },
    )


def _days(lower: datetime, upper: datetime, zone: ZoneInfo) -> list[tuple[date, datetime]]:
    """Every local day of the time and a day more on each side, with the instant it begins."""
    first, last = (lower - _DAY).astimezone(zone).date(), (upper + 2 * _DAY).astimezone(zone).date()
    found = []
    while first <= last:
        found.append((first, datetime(first.year, first.month, first.day, tzinfo=zone).astimezone(UTC)))
        first += _DAY
    return found


def _slots(term: str) -> str:
    """An array with one aggregate per hour of the day."""
    return "ARRAY[" + ", ".join(term.format(hour=hour) for hour in range(24)) + "]"


# `around` are the believed readings of each register from two before its time to two after it; `moved` what ran through
# between those that count. A fall is judged as in `consumption.rises`: all it takes are the readings beside it.
_COMPUTE = f"""
WITH asked AS (
    SELECT u.m, u.modulus, least(h.lo, d.begins) AS points_from, greatest(h.hi, e.ends) AS points_to,
           h.lo AS hours_from, h.hi AS hours_to, d.begins AS days_from, e.ends AS days_to
    FROM unnest(%(meters)b::int4[], %(lowers)b::timestamptz[], %(uppers)b::timestamptz[],
                %(moduli)b::numeric[]) u(m, lo, hi, modulus)
    CROSS JOIN LATERAL (SELECT date_trunc('day', u.lo, 'UTC') AS lo,
                               date_trunc('day', u.hi, 'UTC') + interval '24 hours' AS hi) h
    CROSS JOIN LATERAL (SELECT begins FROM unnest(%(begins)b::timestamptz[]) x(begins) WHERE begins <= u.lo
                        ORDER BY begins DESC LIMIT 1) d
    CROSS JOIN LATERAL (SELECT ends FROM unnest(%(ends)b::timestamptz[]) x(ends) WHERE ends > u.hi
                        ORDER BY ends LIMIT 1) e
), calendar AS (
    SELECT * FROM unnest(%(days)b::date[], %(begins)b::timestamptz[], %(ends)b::timestamptz[]) c(day, begins, ends)
), around AS (
    SELECT a.m, r.at, r.v, r.estimated, a.modulus FROM asked a
    CROSS JOIN LATERAL (
        (SELECT measured_at AS at, value_m3 AS v, quality = 'estimated' AS estimated FROM reading
         WHERE meter_id = a.m AND measured_at < a.points_from AND {_BELIEVED} ORDER BY measured_at DESC LIMIT 2)
        UNION ALL
        SELECT measured_at, value_m3, quality = 'estimated' FROM reading
        WHERE meter_id = a.m AND measured_at >= a.points_from AND measured_at < a.points_to AND {_BELIEVED}
        UNION ALL
        (SELECT measured_at, value_m3, quality = 'estimated' FROM reading
         WHERE meter_id = a.m AND measured_at >= a.points_to AND {_BELIEVED} ORDER BY measured_at LIMIT 2)
    ) r
), beside AS (
    SELECT *, lag(v) OVER w AS before, lead(v) OVER w AS after FROM around WINDOW w AS (PARTITION BY m ORDER BY at)
), told AS (
    SELECT *, coalesce(v < before AND after >= before
                       AND NOT coalesce(before >= modulus * 0.9 AND v <= modulus * 0.1, false), false) AS misread
    FROM beside
), linked AS (
    SELECT m, at, v, modulus, lag(at) OVER w AS since, lag(v) OVER w AS before,
           estimated OR lag(estimated) OVER w AS estimated
    FROM told WHERE NOT misread WINDOW w AS (PARTITION BY m ORDER BY at)
), judged AS (
    SELECT m, since, at, before, v, estimated, modulus, CASE
        WHEN v >= before THEN CASE
            WHEN modulus IS NOT NULL AND v - before > modulus / 2
                 AND modulus - (v - before) <= greatest(0.5, abs(before) / 1000) THEN 'backflow' END
        WHEN modulus IS NOT NULL AND before >= modulus * 0.9 AND v <= modulus * 0.1 THEN 'rollover'
        WHEN before - v <= greatest(0.5, abs(before) / 1000) THEN 'backflow'
        ELSE 'reset' END AS kind
    FROM linked WHERE since IS NOT NULL
), moved AS MATERIALIZED (
    SELECT m, since, at, estimated, kind, before, v, extract(epoch FROM at - since)::float8 AS length_s,
           (CASE WHEN kind IS NULL THEN v - before
                 WHEN kind = 'rollover' THEN v - before + j.modulus
                 WHEN kind = 'backflow' AND v >= before THEN v - before - j.modulus
                 WHEN kind = 'backflow' THEN v - before END)::float8 AS m3,
           hours_from, hours_to, days_from, days_to
    FROM judged j JOIN asked USING (m)
), in_hours AS MATERIALIZED (  -- or every one of the 48 sums below would work its slot out anew
    SELECT m, (h.begins AT TIME ZONE 'UTC')::date AS day, extract(hour FROM h.begins AT TIME ZONE 'UTC')::int AS slot,
           m3 * s.inside_s / length_s AS m3, s.inside_s,
           estimated OR (since + interval '3 minutes' < h.begins AND h.begins < at - interval '3 minutes')
           OR (since + interval '3 minutes' < h.begins + interval '1 hour'
               AND h.begins + interval '1 hour' < at - interval '3 minutes') AS estimated
    FROM moved
    CROSS JOIN LATERAL generate_series(date_trunc('hour', greatest(since, hours_from), 'UTC'),
                                       least(at, hours_to) - interval '1 microsecond', interval '1 hour') h(begins)
    CROSS JOIN LATERAL (SELECT extract(epoch FROM least(at, h.begins + interval '1 hour')
                                                  - greatest(since, h.begins))::float8 AS inside_s) s
    WHERE m3 IS NOT NULL AND since < hours_to AND at > hours_from
), hours AS (
    SELECT m, day,
           {_slots("sum(m3) FILTER (WHERE slot = {hour})")} AS volumes,
           {_slots("sum(inside_s) FILTER (WHERE slot = {hour})")} AS covered,
           coalesce(bit_or(1 << slot) FILTER (WHERE estimated), 0) AS estimated,
           sum(inside_s) AS whole
    FROM in_hours GROUP BY 1, 2
), in_days AS MATERIALIZED (
    SELECT m, c.day, c.begins, c.ends, m3 * s.inside_s / length_s AS m3, s.inside_s, estimated,
           CASE WHEN since < c.begins AND at > c.begins
                THEN extract(epoch FROM least(c.begins - since, at - c.begins))::float8 ELSE 0 END AS begins_apart_s,
           CASE WHEN since < c.ends AND at > c.ends
                THEN extract(epoch FROM least(c.ends - since, at - c.ends))::float8 ELSE 0 END AS ends_apart_s
    FROM moved
    CROSS JOIN LATERAL generate_series((greatest(since, days_from) AT TIME ZONE %(zone)s)::date,
                                       ((least(at, days_to) - interval '1 microsecond') AT TIME ZONE %(zone)s)::date,
                                       interval '1 day') g(day)
    JOIN calendar c ON c.day = g.day::date
    CROSS JOIN LATERAL (SELECT extract(epoch FROM least(at, c.ends) - greatest(since, c.begins))::float8 AS inside_s) s
    WHERE m3 IS NOT NULL AND since < days_to AND at > days_from AND s.inside_s > 0
), days AS (
    SELECT m, day, begins, ends, sum(m3) AS m3, sum(inside_s) AS covered_s, bool_or(estimated) AS estimated,
           max(begins_apart_s) AS begins_apart_s, max(ends_apart_s) AS ends_apart_s
    FROM in_days GROUP BY 1, 2, 3, 4
), falls AS (
    SELECT m, at, 'misread' AS kind, before, v FROM told WHERE misread
    UNION ALL SELECT m, at, kind, before, v FROM judged WHERE kind IS NOT NULL
), hours_kept AS (
    INSERT INTO consumption_hours AS k (meter_id, day, volumes_m3, covered_s, estimated)
    SELECT m, day, volumes, CASE WHEN whole < 86399.9999995 THEN covered END, estimated FROM hours
    ON CONFLICT (meter_id, day) DO UPDATE SET volumes_m3 = excluded.volumes_m3, covered_s = excluded.covered_s,
        estimated = excluded.estimated
), hours_gone AS (
    DELETE FROM consumption_hours k USING asked a WHERE k.meter_id = a.m
    AND k.day >= (hours_from AT TIME ZONE 'UTC')::date AND k.day < (hours_to AT TIME ZONE 'UTC')::date
    AND NOT EXISTS (SELECT FROM hours h WHERE h.m = k.meter_id AND h.day = k.day)
), days_kept AS (
    INSERT INTO consumption_day AS k (meter_id, day, begins, ends, volume_m3, covered_s, estimated, begins_apart_s,
        ends_apart_s)
    SELECT m, day, begins, ends, m3, covered_s, estimated, begins_apart_s, ends_apart_s FROM days
    ON CONFLICT (meter_id, day) DO UPDATE SET begins = excluded.begins, ends = excluded.ends,
        volume_m3 = excluded.volume_m3, covered_s = excluded.covered_s, estimated = excluded.estimated,
        begins_apart_s = excluded.begins_apart_s, ends_apart_s = excluded.ends_apart_s
), days_gone AS (
    DELETE FROM consumption_day k USING asked a WHERE k.meter_id = a.m
    AND k.begins >= days_from AND k.begins < days_to
    AND NOT EXISTS (SELECT FROM days d WHERE d.m = k.meter_id AND d.day = k.day)
), falls_kept AS (
    INSERT INTO register_fall AS k (meter_id, at, kind, before_m3, after_m3)
    SELECT m, at, kind, before, v FROM falls f JOIN asked a USING (m)
    WHERE at >= points_from AND at < points_to
    ON CONFLICT (meter_id, at) DO UPDATE SET kind = excluded.kind, before_m3 = excluded.before_m3,
        after_m3 = excluded.after_m3
)
DELETE FROM register_fall k USING asked a WHERE k.meter_id = a.m AND k.at >= points_from AND k.at < points_to
AND NOT EXISTS (SELECT FROM falls f WHERE f.m = k.meter_id AND f.at = k.at)
"""  # noqa: S608
