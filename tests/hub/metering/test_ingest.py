"""From a real broker to a real database: nothing lost, nothing doubled, however often ingest is killed."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from hub.db import Database
from hub.errors import ConfigurationError
from hub.ingest import subscriptions
from hub.metering import devices
from hub.private.broker import PrivateBroker
from tests.forks import end
from tests.hub.metering.processes import (
    await_subscription,
    count,
    hour,
    message,
    publish_all,
    publisher,
    reading,
    settled,
    start_ingest,
    until,
)


@pytest.fixture
def names() -> tuple[str, str]:
    """A client id and a topic of the test's own: the broker is shared."""
    mark = uuid4().hex[:10]
    return f"ingest-{mark}", f"curbstop/v1/{mark}/readings"


@pytest.fixture
def metered(database: Database) -> Database:
    """A database with devices d0 … d9, each reporting a meter of its own."""
    with database.transaction() as session:
        for number in range(10):
            devices.register(session, device=f"d{number}", meter=f"M{number}", unit="m3", by="test")
    return database


@pytest.fixture
def running(metered: Database, broker: PrivateBroker, names: tuple[str, str]) -> Iterator[Any]:
    """An ingest that has subscribed."""
    process = start_ingest(metered.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    await_subscription(broker.url, names[1], metered)
    yield process
    end(process)


def test_readings_are_committed_once_and_poison_does_not_stall(
    running: Any, metered: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    client = publisher(broker.url)
    good = [message(reading(f"d{n % 10}", n, hour(n))) for n in range(100)]
    bad = [b"poison", b"\xff", b'{"readings":1}', b"[" * 400]
    publish_all(client, names[1], [*good[:50], *bad, *good[50:], good[0]])
    until(lambda: count(metered, "reading") == 100 and count(metered, "raw_message") == 105)
    assert count(metered, "quarantine") == 4
    with metered.transaction() as session:
        assert session.execute(text("SELECT sum(repeats) FROM reading")).scalar_one() == 1
    client.disconnect()
    client.loop_stop()


def test_publishers_at_qos_0_do_not_disturb_the_connection(
    running: Any, metered: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    client = publisher(broker.url)
    for number in range(20):
        client.publish(names[1], message(reading("d1", number, hour(number))), qos=0)
    until(lambda: count(metered, "reading") == 20)
    publish_all(client, names[1], [message(reading("d2", n, hour(n))) for n in range(20)])
    until(lambda: count(metered, "reading") == 40)
    # a broken connection would have brought something twice
    assert count(metered, "raw_message") == 40
    client.disconnect()
    client.loop_stop()


def test_twenty_kills_lose_and_double_nothing(metered: Database, broker: PrivateBroker, names: tuple[str, str]) -> None:
    number = int(os.environ.get("KILL_READINGS", "4000"))
    chance = random.Random(20)
    process = start_ingest(metered.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    await_subscription(broker.url, names[1], metered)
    client = publisher(broker.url)
    began = hour(0)
    payloads = [message(reading(f"d{n % 10}", n, began - timedelta(minutes=n // 10))) for n in range(number)]
    twice = chance.sample(payloads, number // 10)
    payloads += twice
    # disorder, but within what a publisher's queue mixes up
    payloads = [payload for _, payload in sorted((n + chance.uniform(0, 500), p) for n, p in enumerate(payloads))]
    for position in range(40):
        payloads.insert(position * (number // 41), f"poison {position}".encode())
    pause = 0.001 if number <= 4000 else 0.0
    sender = threading.Thread(target=publish_all, args=(client, names[1], payloads), kwargs={"pause": pause})
    sender.start()
    for _ in range(20):
        time.sleep(chance.uniform(0.02, max(0.5, number / 50_000)))
        end(process, signal.SIGKILL)
        process = start_ingest(metered.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    sender.join(600)
    patience = max(90.0, number / 500)
    until(lambda: count(metered, "reading") == number and count(metered, "quarantine") == 40, patience)
    until(lambda: settled(metered))
    # the broker's own repeats are recognised; a message that was sent twice may be taken for one when a kill fell on it
    assert number + 40 <= count(metered, "raw_message") <= len(payloads)
    assert count(metered, "reading") == number
    with metered.transaction() as session:
        assert session.execute(text("SELECT sum(repeats) FROM reading")).scalar_one() <= len(twice)
        assert session.execute(text("SELECT count(DISTINCT value) FROM reading")).scalar_one() == number
    assert end(process) == 0
    client.disconnect()
    client.loop_stop()


def test_a_second_ingest_of_the_name_stands_by_and_takes_over(
    running: Any, metered: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    second = start_ingest(metered.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    client = publisher(broker.url)
    publish_all(client, names[1], [message(reading("d1", n, hour(n))) for n in range(20)])
    until(lambda: count(metered, "reading") == 20)
    with metered.transaction() as session:
        query = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert session.execute(text(query)).scalar_one() == 1
    end(running, signal.SIGKILL)
    publish_all(client, names[1], [message(reading("d2", n, hour(n))) for n in range(20)])
    until(lambda: count(metered, "reading") == 40)
    assert end(second) == 0
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(
    "entries",
    [
        ["a/+=nothing"],
        ["a/#/b=plain"],
        ["a+=plain"],
        ["a/+=plain", "a/b=plain"],
        ["#", "curbstop/v1/+/readings=plain"],
        ["=plain"],
    ],
)
def test_topics_that_cannot_work_are_refused(entries: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        subscriptions(entries)


def test_topics_that_do_not_meet_are_taken() -> None:
    found = subscriptions(["curbstop/v1/+/readings=plain", "application/+/device/+/event/+=chirpstack-v4", "site/#"])
    assert [one.adapter for one in found] == ["plain", "chirpstack_v4", None]
