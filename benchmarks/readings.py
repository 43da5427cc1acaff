"""Readings per second from the broker to committed, beside the same loop without the hub and beside a bare COPY.

One run on one machine: every round preloads the same messages into three broker sessions, then drains them one after
the other, in changing order. Prints Markdown rows for docs/benchmarks.md; compare ratios, not machines.

    python -m benchmarks.readings [messages] [rounds]
"""

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hub import migrations
from hub.db import Database
from hub.ingest import BATCH, RECEIVE_MAXIMUM, Inbox, Ingest, Subscription
from hub.metering.ledger import Message
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from tests.private_servers import scratch

TOPIC = "curbstop/v1/bench/readings"
METERS = 1_000
Contender = Callable[[str, Database, int], float]


def payloads(number: int, round_: int) -> list[bytes]:
    """Plain messages of one reading each: `METERS` devices, hourly, never the same instant twice."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1 + number // METERS)
    found = []
    for n in range(number):
        at = (start + timedelta(hours=n // METERS, seconds=round_)).strftime("%Y-%m-%dT%H:%M:%SZ")
        item = f'{{"device":"d{n % METERS}","value":{n}.125,"unit":"m3","measured_at":"{at}"}}'
        found.append(f'{{"readings":[{item}]}}'.encode())
    return found


def client(name: str, *, manual: bool = True) -> mqtt.Client:
    """An MQTT 5 client as the hub makes them."""
    return mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, manual_ack=manual)


def connect(made: mqtt.Client, url: str) -> None:
    """Connect with a session that outlives the connection."""
    host, _, port = url.removeprefix("mqtt://").partition(":")
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    made.connect(host, int(port), clean_start=False, properties=properties)


def subscribe(url: str, name: str) -> None:
    """Leave a subscribed session behind."""
    done = threading.Event()
    made = client(name)
    made.on_subscribe = lambda *_: done.set()
    connect(made, url)
    made.loop_start()
    made.subscribe(TOPIC, qos=1)
    done.wait(10)
    made.disconnect()
    made.loop_stop()


def preload(url: str, messages: list[bytes]) -> None:
    """Publish at QoS 1 until the broker has everything."""
    made = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    made.max_inflight_messages_set(2000)
    made.max_queued_messages_set(0)
    connect(made, url)
    made.loop_start()
    infos = [made.publish(TOPIC, payload, qos=1) for payload in messages]
    for info in infos:
        info.wait_for_publish(120)
    made.disconnect()
    made.loop_stop()


def hub(url: str, database: Database, number: int) -> float:
    """The hub's own ingest, raw message kept, until everything is committed."""
    before = _count(database)
    ingest = Ingest(database, url, "hub", [Subscription(TOPIC, "plain")])
    thread = threading.Thread(target=ingest.run)
    begun = time.perf_counter()
    thread.start()
    while _count(database) < before + number:
        time.sleep(0.05)
    took = time.perf_counter() - begun
    ingest.stopping.set()
    thread.join()
    return took


def _count(database: Database) -> int:
    with database.raw() as connection:
        # counting rows would cost more than the run: the sequence says how many were begun, the count settles the end
        row = connection.execute("SELECT last_value, is_called FROM raw_message_id_seq").fetchone()
        assert row is not None
        begun = int(row[0]) if row[1] else 0
        row = connection.execute("SELECT max(id) FROM raw_message").fetchone()
        return min(begun, int(row[0] or 0)) if row else 0


def bare(url: str, database: Database, number: int) -> float:
    """The same loop and acknowledgement, orjson, and COPY into a table without index."""

    def store(messages: list[Message], connection: "psycopg.Connection[Any]") -> None:
        with connection.cursor() as cursor, cursor.copy("COPY bare (device, at, value) FROM STDIN") as copy:
            for message in messages:
                for item in orjson.loads(message.payload)["readings"]:
                    copy.write_row((item["device"], item["measured_at"], item["value"]))
        connection.commit()

    return _drain(url, database, number, "bare", store)


def receive_only(url: str, database: Database, number: int) -> float:
    """The same loop and acknowledgement, storing nothing."""
    return _drain(url, database, number, "receive", lambda messages, connection: None)


def _drain(url: str, database: Database, number: int, name: str, store: Callable[[list[Message], Any], None]) -> float:
    inbox, made = Inbox(), client(name)

    def arrived(_: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        inbox.put(message.mid, Message("", message.topic, bytes(message.payload), "plain", time.monotonic()))

    made.on_message = arrived
    with psycopg.connect(_plain(database)) as connection:
        begun = time.perf_counter()
        connect(made, url)
        made.loop_start()
        left = number
        while left:
            deliveries = inbox.take(BATCH, 1)
            store([one.message for one in deliveries], connection)
            inbox.acknowledge(made, deliveries)
            left -= len(deliveries)
        took = time.perf_counter() - begun
    made.disconnect()
    made.loop_stop()
    return took


def copy_only(database: Database, messages: list[bytes]) -> float:
    """Bare COPY of the same readings, no MQTT, in the hub's batches."""
    rows = [orjson.loads(payload)["readings"][0] for payload in messages]
    with psycopg.connect(_plain(database)) as connection:
        begun = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            with connection.cursor() as cursor, cursor.copy("COPY bare (device, at, value) FROM STDIN") as copy:
                for item in rows[start : start + BATCH]:
                    copy.write_row((item["device"], item["measured_at"], item["value"]))
            connection.commit()
        return time.perf_counter() - begun


def _plain(database: Database) -> str:
    return database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def main() -> None:
    """Run the rounds and print the table."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    contenders: dict[str, Contender] = {"hub": hub, "bare": bare, "receive": receive_only}
    times: dict[str, list[float]] = {name: [] for name in [*contenders, "copy"]}
    with PrivateCluster(scratch()) as cluster, PrivateBroker(scratch(), sync=False) as broker:
        migrations.upgrade(cluster.url)
        database = Database(cluster.url)
        with database.raw() as connection:
            connection.execute("CREATE TABLE bare (device text, at timestamptz, value numeric)")
            connection.execute(
                "INSERT INTO meter (serial, unit) SELECT 'M' || n, 'm3' FROM generate_series(0, %s) n", [METERS]
            )
            connection.execute(
                "INSERT INTO device (id, device, meter, valid_from)"
                " SELECT gen_random_uuid(), 'd' || n, 'M' || n, '1900-01-01' FROM generate_series(0, %s) n",
                [METERS],
            )
        for name in contenders:
            subscribe(broker.url, name)
        for round_ in range(rounds):
            messages = payloads(number, round_)
            preload(broker.url, messages)
            order = list(contenders)[round_ % 3 :] + list(contenders)[: round_ % 3]
            for name in order:
                times[name].append(contenders[name](broker.url, database, number))
            times["copy"].append(copy_only(database, messages))
        with database.raw() as connection:
            row = connection.execute("SELECT count(*) FROM reading").fetchone()
            assert row is not None and row[0] == number * rounds, f"{row} readings instead of {number * rounds}"
        database.dispose()
    report(times, number, rounds)


def report(times: dict[str, list[float]], number: int, rounds: int) -> None:
    """Medians as Markdown."""
    rate = {name: number / statistics.median(took) for name, took in times.items()}
    print(f"Readings from MQTT to committed, {number:,} messages × {rounds} rounds, median, {os.cpu_count()} cores:\n")
    print("| what | readings/s | hub ÷ it |\n|---|---:|---:|")
    for name, what in (
        ("hub", "hub: QoS 1, raw message kept, keyed, judged, committed, then acknowledged"),
        ("bare", "bare: same loop and acknowledgement, orjson, COPY into a table without index"),
        ("receive", "bare subscriber: same loop and acknowledgement, nothing stored"),
        ("copy", "bare COPY of the same rows, no MQTT"),
    ):
        print(f"| {what} | {rate[name]:,.0f} | {rate['hub'] / rate[name]:.2f} |")


if __name__ == "__main__":
    main()
