"""Seconds for a month's balance of all zones, beside a plain SQL over the raw readings, and how both grow.

Meters report a counter every `hours` hours for 33 days around the month, half of them on the hour, the others at a
minute of their own, five in a hundred of them with an hour missing now and then; each zone has one inlet. The plain SQL
takes the rise of each register within the month with lag(), and sums it by zone: no reads before and after the month,
no rollover, exchange, estimate or gap. Both run in turns on one PostGIS, after a warming round of the plain SQL; the
hub's first balance after the fill stands by itself. `rolled up` is what the worker spends on all these readings
besides, once, as they come. `late` has one register in a hundred with a new reading that is not rolled up yet; `two
weeks` is the balance of 10 to 24 January.

    python -m benchmarks.balance [meters] [zones] [hours] [rounds]

Without meters, 10,000 and 100,000 read hourly, and up to 1,000,000 read daily; BENCH_SIZES=10000:1,100000:24 measures
10,000 read every hour and 100,000 read every 24. 100,000 read hourly take 25 GB of disk and half an hour.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import text

from benchmarks._report import table
from gis.losses import zone_losses
from hub import migrations
from hub.db import Database
from hub.leakage import balances
from hub.metering import partitions, rollups, units
from tests.conftest import database_url
from tests.private_servers import TestCluster, scratch

ZONE = ZoneInfo("UTC")
MONTH = (date(2026, 1, 1), date(2026, 2, 1))
PART = (date(2026, 1, 10), date(2026, 1, 24))
FIRST, LAST = datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)
REGISTRY = (
    "INSERT INTO zone (code, name, geometry) SELECT 'Z' || n, 'Zone ' || n,"
    " ST_Multi(ST_MakeEnvelope(n * 0.01, 0, (n + 1) * 0.01, 0.01, 4326)) FROM generate_series(0, %(zones)s - 1) n",
    "INSERT INTO service_point (id, address, premise_class, zone, geometry) SELECT 'P' || n, 'Street ' || n,"
    " 'residential', 'Z' || n %% %(zones)s,"
    " ST_SetSRID(ST_MakePoint((n %% %(zones)s) * 0.01 + 0.005, 0.005), 4326) FROM generate_series(1, %(meters)s) n",
    "INSERT INTO meter (serial, unit, dials) SELECT 'M' || n, 'm3', 5 FROM generate_series(1, %(meters)s) n",
    "INSERT INTO meter (serial, unit, dials) SELECT 'IN' || n, 'm3', 9 FROM generate_series(0, %(zones)s - 1) n",
    "INSERT INTO meter_installation (id, serial, service_point, installed_at)"
    " SELECT gen_random_uuid(), 'M' || n, 'P' || n, '2020-01-01' FROM generate_series(1, %(meters)s) n",
    "INSERT INTO meter_installation (id, serial, zone, direction, installed_at)"
    " SELECT gen_random_uuid(), 'IN' || n, 'Z' || n, 'in', '2020-01-01' FROM generate_series(0, %(zones)s - 1) n",
    # an index made at the end is made in a fraction of the time
    "ALTER TABLE reading DROP CONSTRAINT pk_reading",
)
# One reading of all meters: on the hour, as a fixed network brings them, or at a minute of their own.
READ = """
    INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)
    SELECT m.id, %(at)s + m.id %% 2 * m.id %% 50 * interval '1 minute', v.m3, 'm3', v.m3, 'bench' FROM meter m
    CROSS JOIN LATERAL (SELECT round((m.id %% 5000 + %(n)s * %(hours)s * (0.01 + m.id %% 7 * 0.002)
        * CASE WHEN m.serial LIKE 'IN%%' THEN %(meters)s / %(zones)s ELSE 1 END)::numeric, 3) AS m3) v
    WHERE m.id %% 20 > 0 OR %(n)s %% 97 > 0 ORDER BY m.id
"""
FINISH = (
    "SET maintenance_work_mem = '1GB'",
    "ALTER TABLE reading ADD CONSTRAINT pk_reading PRIMARY KEY (meter_id, measured_at)",
    "VACUUM ANALYZE",
    # what the triggers would have noted reading by reading, as much at once as the worker takes
    "INSERT INTO consumption_due (meter_ids, lowers, uppers) SELECT array_agg(id),"
    " array_agg('-infinity'::timestamptz), array_agg('infinity'::timestamptz) FROM meter GROUP BY id / 15",
)
PLAIN = text("""
    SELECT p.zone, sum(r.rise) AS m3
    FROM (
        SELECT meter_id, value_m3 - lag(value_m3) OVER (PARTITION BY meter_id ORDER BY measured_at) AS rise
        FROM reading WHERE measured_at >= '2026-01-01' AND measured_at <= '2026-02-01'
    ) r
    JOIN meter m ON m.id = r.meter_id
    JOIN meter_installation i ON i.serial = m.serial
    JOIN service_point p ON p.id = i.service_point
    WHERE r.rise >= 0
    GROUP BY p.zone
""")
LATE = text(
    "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)"
    " SELECT r.meter_id, r.measured_at + interval '1 minute', r.value, r.unit, r.value_m3, 'late' FROM meter m"
    " JOIN reading r ON r.meter_id = m.id"
    " AND r.measured_at = timestamptz '2026-01-20 00:00Z' + make_interval(days => :day)"
    " WHERE m.id % 100 = 50 ON CONFLICT DO NOTHING"
)


def say(line: str) -> None:
    """Progress."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


@contextmanager
def autocommit(database: Database) -> Iterator[Callable[[str], object]]:
    """What runs a statement outside of any transaction."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        yield lambda statement: connection.execute(text(statement))


def fill(database: Database, meters: int, zones: int, hours: int) -> int:
    """The town's tables, readings in order of time as they would have come; the number of readings."""
    sizes = {"meters": meters, "zones": zones, "hours": hours}
    with database.raw() as connection:
        partitions.ensure(connection, "reading", [date(2025, 12, 1), *MONTH])
        for statement in REGISTRY:
            connection.execute(statement.encode(), sizes)
    readings, at, n, told = 0, FIRST, 0, 0
    while at <= LAST:
        with database.raw() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SET LOCAL session_replication_role = replica")
            readings += connection.execute(READ.encode(), {**sizes, "at": at, "n": n}).rowcount
        at, n = at + timedelta(hours=hours), n + 1
        if readings - told > 2_000_000:
            told = readings
            say(f"  {readings:,} readings, until {at:%d %B}")
    with autocommit(database) as run:
        for statement in FINISH:
            say(f"  {statement[:70]}")
            run(statement)
    return readings


def roll_up(database: Database) -> float:
    """Seconds until nothing is due any more."""
    begun, done, told = time.perf_counter(), 0, 0
    while True:
        with database.transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))
            found = rollups.roll_up(session, ZONE)
        if not found:
            return time.perf_counter() - begun
        done += found
        if done - told > 5000:
            told = done
            say(f"  about {done:,} registers rolled up, {time.perf_counter() - begun:,.0f} s")


def plain(database: Database) -> float:
    """The plain SQL; the water of all zones."""
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(text("SET LOCAL work_mem = '64MB'"))
        return float(sum(row.m3 for row in session.execute(PLAIN)))


def hub(database: Database, period: tuple[date, date] = MONTH) -> float:
    """The hub's balance of every zone and the system; the water of all zones."""
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        start, end = balances.window(*period, ZONE)
        found = zone_losses(session, start, end, time_zone=ZONE, units=units.FACTORS_M3)
    return sum(loss.consumption.billed_m3 for loss in found if loss.zone is not None)


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """(seconds, water)."""
    begun = time.perf_counter()
    water = run()
    return time.perf_counter() - begun, water


def measure(database: Database, meters: int, zones: int, hours: int, rounds: int) -> list[str]:
    """One line of the table."""
    say(f"{meters:,} meters, a reading every {hours} h")
    readings = fill(database, meters, zones, hours)
    rolled_up = roll_up(database)
    took: dict[str, list[float]] = {"plain": [], "hub": [], "late": [], "part": []}
    timed(lambda: plain(database))
    first, ours = timed(lambda: hub(database))
    for round_ in range(rounds):
        say(f"  round {round_ + 1}; the first balance took {first:.2f} s")
        seconds, theirs = timed(lambda: plain(database))
        took["plain"].append(seconds)
        took["hub"].append(timed(lambda: hub(database))[0])
        took["part"].append(timed(lambda: hub(database, PART))[0])
        with database.transaction() as session:
            session.execute(LATE, {"day": round_})
        took["late"].append(timed(lambda: hub(database))[0])
        roll_up(database)
    # the same water, but for what plain SQL cannot see
    assert abs(ours - theirs) < 0.03 * ours, (ours, theirs)
    median = {name: statistics.median(values) for name, values in took.items()}
    return [
        f"{meters:,}",
        f"{readings:,}",
        f"{rolled_up:,.0f}",
        f"{median['plain']:.2f}",
        f"{first:.2f}",
        f"{median['hub']:.2f}",
        f"{median['late']:.2f}",
        f"{median['part']:.2f}",
        f"1/{median['plain'] / first:.1f}",
        f"1/{median['plain'] / median['hub']:.1f}",
        f"{median['hub'] / meters * 1e6:.0f}",
    ]


def main() -> None:
    """Run the sizes and print the table."""
    asked = [int(word) for word in sys.argv[1:]]
    zones, hours = (asked[1:3] + [50, 1][len(asked[1:3]) :])[:2]
    rounds = asked[3] if len(asked) > 3 else 3
    chosen = os.environ.get("BENCH_SIZES", "10000:1,100000:1,10000:24,100000:24,1000000:24")
    pairs = [tuple(map(int, size.split(":"))) for size in chosen.split(",")]
    sizes = [(asked[0], hours)] if asked else [(meters, every) for meters, every in pairs]
    lines = []
    with TestCluster(scratch(in_memory=False), sync=False) as cluster:
        admin = Database(cluster.url)
        for number, (meters, every) in enumerate(sizes):
            name = f"balance_{number}"
            with autocommit(admin) as run:
                run(f"CREATE DATABASE {name}")
            migrations.upgrade(database_url(cluster, name))
            database = Database(database_url(cluster, name))
            lines.append(measure(database, meters, zones, every, rounds))
            database.dispose()
            with autocommit(admin) as run:
                run(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()
    print(f"A month's balance of {zones} zones, seconds, median of {rounds} rounds:\n")
    head = ["meters", "readings", "rolled up", "plain SQL", "hub, first", "hub", "hub, 1 % read late", "hub, two weeks",
            "first ÷ plain", "hub ÷ plain", "hub, µs a meter"]  # fmt: skip
    print(table(head, lines))


if __name__ == "__main__":
    main()
