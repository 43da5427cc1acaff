"""A month of hourly consumption: rolled up, and beside it the plain SQL that takes differences of raw rows.

Makes a month of hourly readings (730 per meter) in a private database, then times: the plain SQL (hourly differences
by a window function into a table), rolling the same readings up (hours, days, falls judged, gaps and estimates
marked), and reading the month's hourly figures of all meters from the roll-ups. Memory is the most that the server
process had.

    python -m benchmarks.consumption                       # 2,000 meters, 1.5 million readings
    BENCH_METERS=100000 python -m benchmarks.consumption   # 73 million readings: about 25 GB of disk, an hour
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from hub import migrations
from hub.db import Database, raw_of
from hub.metering import partitions, rollups
from hub.private.cluster import PrivateCluster
from tests.private_servers import TestCluster, scratch

HOURS = 730
SLICE = 1_000
# More readings than these do not fit into memory with their roll-ups, copies and sorts beside the server.
MOST_IN_MEMORY = 10_000_000
START = datetime(2026, 4, 1, 0, 7, tzinfo=UTC)

_READINGS = """
INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)
SELECT m.id, %(start)s::timestamptz + h * interval '1 hour', v.m3, 'm3', v.m3, 'bench'
FROM generate_series(%(first)s::int, %(last)s::int) m(id), generate_series(0, %(hours)s - 1) h,
     LATERAL (SELECT round((m.id %% 900 + h * 0.012 + (h * 7919 + m.id) %% 13 * 0.001)::numeric, 3) AS m3) v
"""
_PLAIN = """
CREATE TABLE plain AS
SELECT meter_id, date_trunc('hour', measured_at) AS hour,
       value_m3 - lag(value_m3) OVER (PARTITION BY meter_id ORDER BY measured_at) AS m3
FROM reading WHERE quality IN ('good', 'estimated')
"""
_READ = """
SELECT count(*), sum(v) FROM consumption_hours, unnest(volumes_m3) v WHERE day >= '2026-04-01' AND day < '2026-05-01'
"""


def _fill(database: Database, meters: int) -> None:
    """Make meters and their readings, a thousand meters at a time; what is due is noted by the triggers as ever."""
    with database.raw() as connection:
        connection.execute(
            "INSERT INTO meter (serial, unit) SELECT 'M' || n, 'm3' FROM generate_series(1, %s) n", [meters]
        )
        end = START + timedelta(hours=HOURS)
        partitions.ensure(connection, "reading", {partitions.month_of(START), partitions.month_of(end)})
    for first in range(1, meters + 1, SLICE):
        with database.raw() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            last = min(first + SLICE - 1, meters)
            connection.execute(_READINGS, {"start": START, "first": first, "last": last, "hours": HOURS})
        if first // SLICE % 5 == 4:
            print(f"  {first + SLICE - 1:,} of {meters:,} meters have readings", file=sys.stderr, flush=True)
    with database.raw() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("ANALYZE reading")


def _peak_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def _timed(cluster: PrivateCluster, work: Callable[["psycopg.Connection[Any]"], object]) -> tuple[float, float]:
    """Seconds, and the most memory of the server process in MB, of `work` on a fresh connection."""
    database = Database(cluster.url, pool_size=1)
    begun = time.perf_counter()
    with database.raw() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        pid = connection.info.backend_pid
        work(connection)
        connection.commit()
        took, memory = time.perf_counter() - begun, _peak_mb(pid)
    database.dispose()
    return took, memory


def _roll_up(cluster: PrivateCluster) -> tuple[float, float]:
    """All that is due, in the worker's slices, each a transaction."""
    database = Database(cluster.url, pool_size=1)
    begun, memory, done = time.perf_counter(), 0.0, 0
    while True:
        with database.transaction() as session:
            pid = raw_of(session).info.backend_pid
            found = rollups.roll_up(session, ZoneInfo("America/Chicago"))
            memory = max(memory, _peak_mb(pid))
        if not found:
            break
        done += 1
        print(f"  slice {done}, {time.perf_counter() - begun:,.0f} s", file=sys.stderr, flush=True)
    took = time.perf_counter() - begun
    database.dispose()
    return took, memory


def main() -> None:
    """Fill, time, print."""
    meters = int(os.environ.get("BENCH_METERS", "2000"))
    with TestCluster(scratch(in_memory=meters * HOURS <= MOST_IN_MEMORY), sync=False) as cluster:
        migrations.upgrade(cluster.url)
        database = Database(cluster.url, pool_size=1)
        _fill(database, meters)
        rows = {
            "plain SQL over raw rows: differences only, nothing judged or marked": _timed(
                cluster, lambda connection: connection.execute(_PLAIN)
            ),
            "rolled up: hours and days, falls judged, gaps and estimates marked": _roll_up(cluster),
            "the month's hours of all meters read from the roll-ups": _timed(
                cluster, lambda connection: connection.execute(_READ).fetchone()
            ),
        }
        with database.raw() as connection:
            sizes = connection.execute(
                "SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
                " WHERE inhparent = 'reading'::regclass), pg_total_relation_size('consumption_hours'),"
                " pg_total_relation_size('consumption_day')"
            ).fetchone()
        database.dispose()
    assert sizes is not None
    plain = next(iter(rows.values()))[0]
    print(f"{meters:,} meters × {HOURS} hours, {meters * HOURS:,} readings, {os.cpu_count()} cores:\n")
    print("| what | seconds | readings/s | time ÷ plain SQL | most memory |\n|---|---:|---:|---:|---:|")
    for what, (took, memory) in rows.items():
        print(f"| {what} | {took:,.1f} | {meters * HOURS / took:,.0f} | {took / plain:.2f} | {memory:,.0f} MB |")
    names = ("readings", "hours", "days")
    shown = ", ".join(f"{name} {size / 2**20:,.0f} MB" for name, size in zip(names, sizes, strict=True))
    print(f"\nOn disk: {shown}.")


if __name__ == "__main__":
    main()
