"""What the truth of readings costs: in the pipeline, and afterwards per reading, beside booking the reading itself.

Batches of 2,000 plain messages of registered devices with a month of hourly history. In turns, batch by batch: the
pipeline as it is, and without leaving word for the alarms, counters and validation that follow. Then what follows: one
fold over all batches, and the review of every register by the shipped rules. All in one process on one database.

    python -m benchmarks.validation [meters] [rounds]
"""

import sys
import time
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import text

from benchmarks._report import spread, table
from hub import clock, migrations
from hub.db import Database, raw_of
from hub.metering import arrivals, partitions, readings, validation, watching
from hub.metering.readings import Message
from hub.private.cluster import PrivateCluster
from tests.private_servers import scratch

BATCH = 2_000
NOW = datetime(2026, 5, 20, 10, 0, tzinfo=UTC)
# Ordinary use of an hour, m³; nothing is flagged.
HOURLY = 0.02
HISTORY_HOURS = 31 * 24


def fill(database: Database, meters: int) -> None:
    """`meters` devices with hourly readings of a month."""
    with database.transaction() as session:
        clock.set_clock(session, business_at=NOW)
        for statement in (
            "INSERT INTO meter (serial, unit, dials) SELECT 'M' || g, 'm3', 6 FROM generate_series(1, :n) g",
            "INSERT INTO device (id, device, meter, valid_from) SELECT gen_random_uuid(), 'd' || g, 'M' || g,"
            " '1900-01-01' FROM generate_series(1, :n) g",
        ):
            session.execute(text(statement), {"n": meters})
        partitions.ensure(raw_of(session), "reading", {date(2026, month, 1) for month in (4, 5)})
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(
            text(
                "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)"
                " SELECT m.id, :now - make_interval(hours => h), 500 - h * :use, 'm3', 500 - h * :use, 'history'"
                " FROM meter m CROSS JOIN generate_series(1, :hours) h"
            ),
            {"now": NOW, "use": HOURLY, "hours": HISTORY_HOURS},
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def batch(first: int, step: int) -> list[Message]:
    """One reading of each of BATCH devices, `step` minutes after the history."""
    at = (NOW + timedelta(minutes=step)).isoformat()
    found = []
    for number in range(first, first + BATCH):
        item = {"device": f"d{number}", "value": 500.0 + step / 1000, "unit": "m3", "measured_at": at, "seq": step}
        topic = f"curbstop/v1/g{number % 50}/readings"
        found.append(Message("mqtt:bench", topic, orjson.dumps({"readings": [item]}), "plain"))
    return found


def seconds(database: Database, messages: list[Message]) -> float:
    """How long the pipeline takes for a batch, commit included."""
    begins = time.perf_counter()
    with database.transaction() as session:
        readings.receive(session, messages)
    return time.perf_counter() - begins


def follow(database: Database) -> tuple[float, float]:
    """Seconds of folding everything that was left behind, and of reviewing every register it names."""
    begins = time.perf_counter()
    with database.transaction() as session:
        while watching.fold(session):
            pass
    folded = time.perf_counter()
    for _ in count():
        with database.transaction() as session:
            if not validation.review(session, ZoneInfo("UTC")):
                break
    return folded - begins, time.perf_counter() - folded


def main() -> None:
    """Print the table."""
    meters = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    note = arrivals.note
    taken: dict[bool, list[float]] = {True: [], False: []}
    with PrivateCluster(scratch(), sync=False) as cluster:
        migrations.upgrade(cluster.url)
        database = Database(cluster.url)
        fill(database, meters)
        for step in range(2 * rounds):
            with_word = step % 2 == 0
            arrivals.note = note if with_word else lambda *_: None
            for first in range(1, meters - BATCH + 2, BATCH):
                taken[with_word].append(seconds(database, batch(first, step + 1)))
        arrivals.note = note
        fold, review = follow(database)
        database.dispose()
    folded = rounds * (meters // BATCH) * BATCH
    rates = {with_word: [BATCH / took for took in times] for with_word, times in taken.items()}
    print(f"{meters:,} meters with a month of hourly readings, batches of {BATCH:,} messages, {rounds} rounds.\n")
    print(
        table(
            ("what", "per second"),
            [
                ("booked by the pipeline", spread(rates[True], ",.0f")),
                ("booked without leaving word", spread(rates[False], ",.0f")),
                ("readings folded into alarms, counters and clocks", f"{folded / fold:,.0f}"),
                ("registers reviewed by the shipped rules", f"{meters / review:,.0f}"),
            ],
        )
    )
    share = sorted(taken[True])[len(taken[True]) // 2] / sorted(taken[False])[len(taken[False]) // 2]
    print(f"\nLeaving word makes a batch take {share:.2f} times as long.")


if __name__ == "__main__":
    main()
