"""A night of readings at once: concentrators that send 200 KB a message, and a full queue of small ones.

What the ingest holds of them is bounded, so its memory is: `BURST_LARGE` and `BURST_SMALL` say how many messages wait
at the broker when it starts (`make faults`: many), and the peak of its resident memory is held against one bound.
"""

import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from uuid import uuid4

from hub.db import Database
from hub.ingest import BATCH_BYTES, Inbox
from hub.metering import devices
from hub.metering.ledger import Message
from hub.private.broker import PrivateBroker
from tests.forks import end
from tests.hub.metering.processes import (
    await_subscription,
    count,
    hour,
    publish_all,
    publisher,
    reading,
    start_ingest,
    until,
)

LARGE, SMALL = (int(os.environ.get(name, usual)) for name, usual in (("BURST_LARGE", "24"), ("BURST_SMALL", "2000")))
# One message of a concentrator: so many readings make 200 KB.
READINGS = 1_800
METERS = 200
BOUND_MB = 512


def large(number: int) -> Iterator[bytes]:
    """Messages of 200 KB, no two readings of one meter at the same time."""
    for message in range(number):
        items = [
            reading(f"d{n % METERS}", n, hour(1) - timedelta(seconds=(message * READINGS + n) // METERS), seq=message)
            for n in range(READINGS)
        ]
        yield json.dumps({"readings": items}).encode()


def small(number: int) -> Iterator[bytes]:
    """One reading a message, older than those of the large ones."""
    for n in range(number):
        item = reading(f"d{n % METERS}", n, hour(24 * 30) - timedelta(seconds=n // METERS))
        yield json.dumps({"readings": [item]}).encode()


def peak_mb(process: ForkServerProcess) -> int:
    """The most resident memory the process had so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


def test_a_batch_is_bounded_in_bytes_but_never_empty() -> None:
    inbox = Inbox()
    heavy = [(mid, Message("mqtt:x", "t", bytes(BATCH_BYTES // 3), "plain")) for mid in range(1, 8)]
    inbox.put(heavy)
    assert [one.mid for one in inbox.take(2000, 1)] == [1, 2]
    inbox.put([(8, Message("mqtt:x", "t", bytes(BATCH_BYTES * 2), "plain"))])
    taken = [[one.mid for one in inbox.take(2000, 1)] for _ in range(4)]
    assert taken == [[3, 4], [5, 6], [7], [8]]
    assert inbox.take(2000, 0.01) == []


def test_a_night_at_once_leaves_the_process_small(database: Database, broker: PrivateBroker) -> None:
    mark = uuid4().hex[:10]
    name, topic = f"burst-{mark}", f"curbstop/v1/{mark}/readings"
    with database.transaction() as session:
        for number in range(METERS):
            devices.register(session, device=f"d{number}", meter=f"M{number}", unit="m3", by="test")
    first = start_ingest(database.url, broker.url, name=name, topics=[f"{topic}=plain"])
    await_subscription(broker.url, topic, database)
    usual = peak_mb(first)
    assert end(first) == 0
    client = publisher(broker.url)
    publish_all(client, topic, large(LARGE))
    publish_all(client, topic, small(SMALL))
    client.disconnect()
    client.loop_stop()
    process, began = start_ingest(database.url, broker.url, name=name, topics=[f"{topic}=plain"]), time.monotonic()
    wanted = LARGE * READINGS + SMALL
    until(lambda: count(database, "reading") == wanted, 120 + wanted / 1000)
    peak, seconds = peak_mb(process), time.monotonic() - began
    print(f"{LARGE} messages of 200 KB and {SMALL} small ones, {wanted:,} readings in {seconds:.0f} s:")
    print(f"resident memory of the ingest at most {peak} MB, {usual} MB before")
    assert end(process) == 0
    assert count(database, "quarantine") == 0
    assert peak < BOUND_MB
