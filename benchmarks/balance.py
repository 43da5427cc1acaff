"""Seconds for a month's balance of all zones, beside a plain SQL over the raw readings, and how both grow.

Meters report a counter every `hours` hours for 33 days around the month, five in a hundred of them with an hour
missing now and then; each zone has one inlet. The plain SQL takes the rise of each register within the month with
lag(), and sums it by zone: no reads before and after the month, no rollover, exchange, estimate or gap. Both run in
turns on one PostGIS after a warming round. The hub's first balance of a month computes every register's volume; it is
kept until a reading changes it, and later balances take it from there: `again`, and `again, 1 % read late`.

    python -m benchmarks.balance [meters] [zones] [hours] [rounds]

Without meters, 10,000 and 100,000 read hourly, and up to 1,000,000 read daily; BENCH_SIZES=10000:1,100000:24 measures
10,000 read every hour and 100,000 read every 24.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import text

from benchmarks._report import table
from gis.losses import zone_losses
from hub import migrations
from hub.db import Database
from hub.leakage import balances
from hub.metering import partitions, units
from hub.private.cluster import PrivateCluster
from tests.conftest import database_url
from tests.private_servers import scratch

UTC = ZoneInfo("UTC")
MONTH = (date(2026, 1, 1), date(2026, 2, 1))
FILL = (
    "INSERT INTO zone (code, name, geometry) SELECT 'Z' || n, 'Zone ' || n,"
    " ST_Multi(ST_MakeEnvelope(n * 0.01, 0, (n + 1) * 0.01, 0.01, 4326)) FROM generate_series(0, :zones - 1) n",
    "INSERT INTO service_point (id, address, premise_class, zone, geometry) SELECT 'P' || n, 'Street ' || n,"
    " 'residential', 'Z' || n % :zones,"
    " ST_SetSRID(ST_MakePoint((n % :zones) * 0.01 + 0.005, 0.005), 4326) FROM generate_series(1, :meters) n",
    "INSERT INTO meter (serial, unit, dials) SELECT 'M' || n, 'm3', 5 FROM generate_series(1, :meters) n",
    "INSERT INTO meter (serial, unit, dials) SELECT 'IN' || n, 'm3', 9 FROM generate_series(0, :zones - 1) n",
    "INSERT INTO meter_installation (id, serial, service_point, installed_at)"
    " SELECT gen_random_uuid(), 'M' || n, 'P' || n, '2020-01-01' FROM generate_series(1, :meters) n",
    "INSERT INTO meter_installation (id, serial, zone, direction, installed_at)"
    " SELECT gen_random_uuid(), 'IN' || n, 'Z' || n, 'in', '2020-01-01' FROM generate_series(0, :zones - 1) n",
    "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)"
    " SELECT m.id, h.at, v.m3, 'm3', v.m3, 'bench' FROM meter m"
    " CROSS JOIN LATERAL generate_series(timestamptz '2025-12-31 00:00Z', '2026-02-02 00:00Z',"
    " make_interval(hours => :hours)) WITH ORDINALITY AS h (at, n)"
    " CROSS JOIN LATERAL (SELECT round((m.id % 5000 + h.n * :hours * (0.01 + m.id % 7 * 0.002)"
    " * CASE WHEN m.serial LIKE 'IN%' THEN :meters / :zones ELSE 1 END)::numeric, 3) AS m3) v"
    " WHERE m.id % 20 > 0 OR h.n % 97 > 0",
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


def fill(database: Database, meters: int, zones: int, hours: int) -> int:
    """The town's tables; the number of readings."""
    sizes = {"meters": meters, "zones": zones, "hours": hours}
    with database.raw() as connection:
        partitions.ensure(connection, "reading", [date(2025, 12, 1), MONTH[0], MONTH[1]])
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        # millions of rows in one statement are no change anybody would note
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in FILL:
            session.execute(text(statement), sizes)
        readings: int = session.execute(text("SELECT count(*) FROM reading")).scalar_one()
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return readings


def plain(database: Database) -> float:
    """The plain SQL; the water of all zones."""
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(text("SET LOCAL work_mem = '64MB'"))
        return float(sum(row.m3 for row in session.execute(PLAIN)))


def hub(database: Database) -> float:
    """The hub's balance of every zone and the system; the water of all zones."""
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        start, end = balances.window(*MONTH, UTC)
        found = zone_losses(session, start, end, time_zone=UTC, units=units.FACTORS_M3)
    return sum(loss.consumption.billed_m3 for loss in found if loss.zone is not None)


def timed(run: Callable[[Database], float], database: Database) -> tuple[float, float]:
    """(seconds, water)."""
    begun = time.perf_counter()
    water = run(database)
    return time.perf_counter() - begun, water


def measure(database: Database, meters: int, zones: int, hours: int, rounds: int) -> list[str]:
    """One line of the table."""
    print(f"filling {meters:,} meters, a reading every {hours} h", file=sys.stderr, flush=True)
    readings = fill(database, meters, zones, hours)
    took: dict[str, list[float]] = {"plain": [], "again": [], "late": []}
    timed(plain, database)
    first, ours = timed(hub, database)
    for round_ in range(rounds):
        seconds, theirs = timed(plain, database)
        took["plain"].append(seconds)
        took["again"].append(timed(hub, database)[0])
        with database.transaction() as session:
            session.execute(LATE, {"day": round_})
        took["late"].append(timed(hub, database)[0])
    # the same water, but for what plain SQL cannot see
    assert abs(ours - theirs) < 0.02 * ours, (ours, theirs)
    median = {name: statistics.median(values) for name, values in took.items()}
    return [
        f"{meters:,}",
        f"{readings:,}",
        f"{median['plain']:.2f}",
        f"{first:.2f}",
        f"{median['late']:.2f}",
        f"{median['again']:.2f}",
        f"1/{median['plain'] / median['again']:.1f}",
        f"{median['again'] / meters * 1e6:.1f}",
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
    with PrivateCluster(scratch(), sync=False) as cluster:
        admin = Database(cluster.url)
        for number, (meters, every) in enumerate(sizes):
            name = f"balance_{number}"
            with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            migrations.upgrade(database_url(cluster, name))
            database = Database(database_url(cluster, name))
            lines.append(measure(database, meters, zones, every, rounds))
            database.dispose()
            with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
    print(f"A month's balance of {zones} zones, seconds, median of {rounds} rounds:\n")
    head = ["meters", "readings", "plain SQL", "hub, first", "hub, 1 % read late", "hub, again", "again ÷ plain",
            "again, µs a meter"]  # fmt: skip
    print(table(head, lines))


if __name__ == "__main__":
    main()
