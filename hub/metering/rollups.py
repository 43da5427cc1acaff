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
_MICROSECOND = timedelta(microseconds=1)
_YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
_YEAR_1_US = (_YEAR_1 - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
_HOUR = 3_600_000_000
# An hour whose edge lies this far from both readings beside it, in microseconds, was not read but interpolated.
_APART = 180_000_000
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
FROM taken, unnest(meter_ids, lowers, uppers) u(m, lo, hi) JOIN meter ON meter.id = u.m
    AND register <> 'volume_interval'
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
    """Take notes off the list; one entry per register that is a counter, of what flows back too."""
    found = connection.execute(_TAKE, [NOTES])
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
    # in small notes: the next slice must not have to take all of them
    for start in range(0, len(left), REGISTERS):
        connection.execute(
            "INSERT INTO consumption_due (meter_ids, lowers, uppers) VALUES (%b, %b, %b)",
            [list(column) for column in zip(*left[start : start + REGISTERS], strict=True)],
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
            "days": [day for day, _ in days[:-1]],
            "begins": [begins for _, begins in days[:-1]],
            "ends": [begins for _, begins in days[1:]],
            "edges": [(begins - _YEAR_1) // _MICROSECOND for _, begins in days],
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


def _micros(instant: str) -> str:
    """Microseconds since the year 1 as a whole number: exact, and many times as fast to compute with as instants."""
    return f"(round(date_part('epoch', {instant}) * 1e6)::int8 - {_YEAR_1_US})"


def _slots(term: str) -> str:
    """An array with one aggregate per hour of the day."""
    return "ARRAY[" + ", ".join(term.format(hour=hour) for hour in range(24)) + "]"


# `around` are the believed readings of each register from two before its time to two after it; `moved` what ran through
# between those that count. A fall is judged as in `consumption.rises`: all it takes are the readings beside it.
_COMPUTE = f"""
WITH asked AS (
    SELECT u.m, u.modulus, least(h.lo, d.begins) AS points_from, greatest(h.hi, e.ends) AS points_to,
           h.lo AS hours_from, h.hi AS hours_to, d.begins AS days_from, e.ends AS days_to,
           {_micros("h.lo")} AS hours_from_us, {_micros("h.hi")} AS hours_to_us,
           {_micros("d.begins")} AS days_from_us, {_micros("e.ends")} AS days_to_us
    FROM unnest(%(meters)b::int4[], %(lowers)b::timestamptz[], %(uppers)b::timestamptz[],
                %(moduli)b::numeric[]) u(m, lo, hi, modulus)
    CROSS JOIN LATERAL (SELECT date_trunc('day', u.lo, 'UTC') AS lo,
                               date_trunc('day', u.hi, 'UTC') + interval '24 hours' AS hi) h
    CROSS JOIN LATERAL (SELECT begins FROM unnest(%(begins)b::timestamptz[]) x(begins) WHERE begins <= u.lo
                        ORDER BY begins DESC LIMIT 1) d
    CROSS JOIN LATERAL (SELECT ends FROM unnest(%(ends)b::timestamptz[]) x(ends) WHERE ends > u.hi
                        ORDER BY ends LIMIT 1) e
), around AS (
    SELECT a.m, r.at, {_micros("r.at")} AS at_us, r.v, r.estimated, a.modulus FROM asked a
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
    SELECT m, at, at_us, v, modulus, lag(at_us) OVER w AS since_us, lag(v) OVER w AS before,
           estimated OR lag(estimated) OVER w AS estimated
    FROM told WHERE NOT misread WINDOW w AS (PARTITION BY m ORDER BY at)
), judged AS (
    SELECT m, since_us, at, at_us, before, v, estimated, modulus, CASE
        WHEN v >= before THEN CASE
            WHEN modulus IS NOT NULL AND v - before > modulus / 2
                 AND modulus - (v - before) <= greatest(0.5, abs(before) / 1000) THEN 'backflow' END
        WHEN modulus IS NOT NULL AND before >= modulus * 0.9 AND v <= modulus * 0.1 THEN 'rollover'
        WHEN before - v <= greatest(0.5, abs(before) / 1000) THEN 'backflow'
        ELSE 'reset' END AS kind
    FROM linked WHERE since_us IS NOT NULL
), moved AS MATERIALIZED (
    SELECT m, estimated, since_us, at_us,
           (CASE WHEN kind IS NULL THEN v - before
                 WHEN kind = 'rollover' THEN v - before + j.modulus
                 WHEN kind = 'backflow' AND v >= before THEN v - before - j.modulus
                 WHEN kind = 'backflow' THEN v - before END)::float8 AS m3,
           hours_from_us, hours_to_us, days_from_us, days_to_us
    FROM judged j JOIN asked USING (m)
), in_hours AS MATERIALIZED (  -- or every one of the 48 sums below would work its slot out anew
    SELECT m, hour, mod(hour, 24)::int AS slot, m3 * inside_us / (at_us - since_us) AS m3,
           inside_us::float8 AS inside_us,  -- whole numbers still; a sum of bigints would be a slow numeric
           estimated OR (since_us + {_APART} < begins_us AND begins_us < at_us - {_APART})
           OR (since_us + {_APART} < ends_us AND ends_us < at_us - {_APART}) AS estimated
    FROM moved
    CROSS JOIN LATERAL generate_series(greatest(since_us, hours_from_us) / {_HOUR},
                                       (least(at_us, hours_to_us) - 1) / {_HOUR}) h(hour)
    CROSS JOIN LATERAL (SELECT hour * {_HOUR} AS begins_us, (hour + 1) * {_HOUR} AS ends_us) e
    CROSS JOIN LATERAL (SELECT least(at_us, ends_us) - greatest(since_us, begins_us) AS inside_us) s
    WHERE m3 IS NOT NULL AND since_us < hours_to_us AND at_us > hours_from_us
), hours AS (
    SELECT m, date '0001-01-01' + (hour / 24)::int AS day,
           {_slots("sum(m3) FILTER (WHERE slot = {hour})")} AS volumes,
           {_slots("sum(inside_us) FILTER (WHERE slot = {hour}) / 1e6::float8")} AS covered,
           coalesce(bit_or(1 << slot) FILTER (WHERE estimated), 0) AS estimated,
           sum(inside_us) AS whole_us
    FROM in_hours GROUP BY m, hour / 24
), in_days AS MATERIALIZED (
    SELECT m, n, m3 * inside_us / (at_us - since_us) AS m3, inside_us::float8 AS inside_us, estimated,
           CASE WHEN since_us < begins_us AND at_us > begins_us
                THEN least(begins_us - since_us, at_us - begins_us) ELSE 0 END AS begins_apart_us,
           CASE WHEN since_us < ends_us AND at_us > ends_us
                THEN least(ends_us - since_us, at_us - ends_us) ELSE 0 END AS ends_apart_us
    FROM moved
    -- the days it lies in, by binary search among their beginnings
    CROSS JOIN LATERAL generate_series(width_bucket(greatest(since_us, days_from_us), %(edges)b::int8[]),
                                       width_bucket(least(at_us, days_to_us) - 1, %(edges)b::int8[])) d(n)
    CROSS JOIN LATERAL (SELECT (%(edges)b::int8[])[n] AS begins_us, (%(edges)b::int8[])[n + 1] AS ends_us) c
    CROSS JOIN LATERAL (SELECT least(at_us, ends_us) - greatest(since_us, begins_us) AS inside_us) s
    WHERE m3 IS NOT NULL AND since_us < days_to_us AND at_us > days_from_us
), days AS (
    SELECT m, (%(days)b::date[])[n] AS day, (%(begins)b::timestamptz[])[n] AS begins,
           (%(ends)b::timestamptz[])[n] AS ends, sum(m3) AS m3, sum(inside_us) / 1e6::float8 AS covered_s,
           bool_or(estimated) AS estimated, max(begins_apart_us) / 1e6::float8 AS begins_apart_s,
           max(ends_apart_us) / 1e6::float8 AS ends_apart_s
    FROM in_days GROUP BY m, n
), falls AS (
    SELECT m, at, 'misread' AS kind, before, v FROM told WHERE misread
    UNION ALL SELECT m, at, kind, before, v FROM judged WHERE kind IS NOT NULL
), hours_kept AS (
    INSERT INTO consumption_hours AS k (meter_id, day, volumes_m3, covered_s, estimated)
    SELECT m, day, volumes, CASE WHEN whole_us < 24 * {_HOUR} THEN covered END, estimated FROM hours
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
