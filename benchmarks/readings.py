"""Readings per second from the broker to committed and rolled up, beside a bare loop and beside Node-RED.

One run on one machine: every round preloads the same messages into one broker session per contender, then each drains
its own, in changing order. Two mixes: our plain JSON, and ChirpStack v4 uplinks of two kilobytes. The hub keeps every
raw message, judges, keys and commits, then acknowledges; its time ends when all is committed and nothing is left to
roll up (a worker does that meanwhile). Prints Markdown for docs/benchmarks.md; compare ratios, not machines.

    python -m benchmarks.readings            # 200,000 messages, five rounds
    BENCH_MESSAGES=20000 BENCH_ROUNDS=1 [BENCH_ONLY=hub,two,bare] python -m benchmarks.readings
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import paho.mqtt.client as mqtt
import psycopg
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks import _node_red
from hub import migrations
from hub.db import Database, psycopg_url
from hub.ingest import BATCH, RECEIVE_MAXIMUM, Inbox
from hub.metering import rollups
from hub.metering.ledger import Message
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from hub.subscriber import Arrived, Subscriber, Taker
from tests.forks import end, event, fork
from tests.hub.metering.processes import start_ingest
from tests.private_servers import scratch

METERS = 1_000
PARTS = 4
PATIENCE_S = 900
# Node-RED row by row gets one part of the messages only, or it would take most of the time of the run.
ROWS_PART = 0


@dataclass(frozen=True)
class Mix:
    """One kind of message: the topics of its parts, the filter over all of them, how to make one, what bare reads."""

    name: str
    title: str
    adapter: str
    topic: Callable[[int, str], str]
    filter: str
    payload: Callable[[int, str, str], bytes]
    bare: Callable[[Any], tuple[Any, Any, Any]]


def _plain(number: int, device: str, at: str) -> bytes:
    return f'{{"readings":[{{"device":"{device}","value":{number}.125,"measured_at":"{at}"}}]}}'.encode()


def _chirpstack(number: int, device: str, at: str) -> bytes:
    """As ChirpStack v4 publishes it, heard by five gateways."""
    heard = [
        {
            "gatewayId": f"00800000a00{gateway:05x}", "uplinkId": 1_000_000 + number * 5 + gateway, "nsTime": at,
            "rssi": -57 - gateway, "snr": 9.5, "channel": gateway, "rfChain": 1, "context": "EFwMtA==",
            "location": {"latitude": 52.5200066, "longitude": 13.404954, "altitude": 34.0},
            "metadata": {"region_name": "eu868", "region_common_name": "EU868"}, "crcStatus": "CRC_OK",
        }
        for gateway in range(4)
    ]  # fmt: skip
    return orjson.dumps({
        "deduplicationId": f"3ac7e3c4-4401-4b8d-9386-{number:012x}", "time": at,
        "deviceInfo": {
            "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242", "tenantName": "Waterworks",
            "applicationId": "17c82e96-be03-4f38-aef3-f83d48582d97", "applicationName": "Water meters",
            "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad", "deviceProfileName": "Ultrasonic meter",
            "deviceName": f"meter {device}", "devEui": device, "tags": {"district": "north"},
        },
        "devAddr": "00189440", "adr": True, "dr": 1, "fCnt": number // METERS, "fPort": 100, "confirmed": False,
        "data": "DgAFZ8kAUwwCAAAA", "object": {"volume_m3": number + 0.125, "leak": False, "temperature": 12.5},
        "rxInfo": heard,
        "txInfo": {"frequency": 868100000, "modulation": {"lora": {
            "bandwidth": 125000, "spreadingFactor": 11, "codeRate": "CR_4_5"}}},
    })  # fmt: skip


MIXES = (
    Mix(
        "plain",
        "our plain JSON",
        "plain",
        lambda part, device: f"curbstop/v1/gw{part}/readings",
        "curbstop/v1/{part}/readings",
        _plain,
        lambda said: (said["readings"][0]["device"], said["readings"][0]["measured_at"], said["readings"][0]["value"]),
    ),
    Mix(
        "chirpstack",
        "ChirpStack v4 uplinks",
        "chirpstack_v4",
        lambda part, device: f"application/gw{part}/device/{device}/event/up",
        "application/{part}/device/+/event/+",
        _chirpstack,
        lambda said: (said["deviceInfo"]["devEui"], said["time"], said["object"]["volume_m3"]),
    ),
)


def messages(mix: Mix, number: int, round_: int) -> list[tuple[str, bytes]]:
    """(topic, payload): hourly readings of `METERS` devices, never the same instant twice."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1 + number // METERS)
    found = []
    for n in range(number):
        at = (start + timedelta(hours=n // METERS, seconds=round_)).strftime("%Y-%m-%dT%H:%M:%SZ")
        device = f"{n % METERS:016x}"
        found.append((mix.topic(n % PARTS, device), mix.payload(n, device, at)))
    return found


def _connect(made: mqtt.Client, url: str, *, lasting: bool) -> None:
    host, _, port = url.removeprefix("mqtt://").partition(":")
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 7200 if lasting else 0
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    made.connect(host, int(port), clean_start=not lasting, properties=properties)


def subscribe(url: str, name: str, filters: list[str]) -> None:
    """Leave a subscribed session behind."""
    done = threading.Event()
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    made.on_subscribe = lambda *_: done.set()
    _connect(made, url, lasting=True)
    made.loop_start()
    made.subscribe([(one, mqtt.SubscribeOptions(qos=1)) for one in filters])
    assert done.wait(10), "the broker does not confirm the subscription"
    made.disconnect()
    made.loop_stop()


def preload(url: str, sent: list[tuple[str, bytes]]) -> None:
    """Publish at QoS 1 until the broker has everything."""
    made = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    made.max_inflight_messages_set(2000)
    made.max_queued_messages_set(0)
    _connect(made, url, lasting=False)
    made.loop_start()
    # a client can have no more than 65,535 packet ids in use
    for first in range(0, len(sent), 20_000):
        for info in [made.publish(topic, payload, qos=1) for topic, payload in sent[first : first + 20_000]]:
            info.wait_for_publish(PATIENCE_S)
    made.disconnect()
    made.loop_stop()


@dataclass
class Bench:
    """Servers and figures of a run."""

    database: Database
    broker_url: str
    number: int
    mix: Mix = MIXES[0]
    committed: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    times: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)

    def filter(self, part: str = "+") -> str:
        """The topics of one part, or of all."""
        return self.mix.filter.format(part=part)

    def sessions(self) -> dict[str, list[str]]:
        """Every broker session of this mix, and its filters."""
        name, parts = self.mix.name, [self.filter(f"gw{part}") for part in range(PARTS)]
        return {
            f"hub-{name}": [self.filter()],
            f"hub-a-{name}": parts[::2],
            f"hub-b-{name}": parts[1::2],
            f"bare-{name}": [self.filter()],
            f"paho-{name}": [self.filter()],
            f"rows-{name}": [parts[ROWS_PART]],
            f"batched-{name}": [self.filter()],
        }

    # -------------------------------------------------------------------------------------------------- the hub

    def hub(self) -> float:
        """One ingest process."""
        return self._ingest({f"hub-{self.mix.name}": [self.filter()]}, "hub")

    def two(self) -> float:
        """Two ingest processes with a half of the topics each."""
        sessions = self.sessions()
        names = (f"hub-a-{self.mix.name}", f"hub-b-{self.mix.name}")
        return self._ingest({name: sessions[name] for name in names}, "two")

    def _ingest(self, sessions: dict[str, list[str]], name: str) -> float:
        before, finished = self._last(), threading.Event()
        worker = threading.Thread(target=self._roll_up, args=(finished,))
        subscribed = event()
        processes = [
            start_ingest(
                self.database.url,
                self.broker_url,
                name=one,
                topics=[f"{topic}={self.mix.adapter}" for topic in filters],
                subscribed=subscribed,
            )
            for one, filters in sessions.items()
        ]
        # as with the others, the time it takes to start is not counted
        assert subscribed.wait(30), "no ingest subscribes"
        begun = time.perf_counter()
        worker.start()
        self._await(lambda: self._stored(before) >= self.number, 0.05)
        self.committed.setdefault((self.mix.name, name), []).append(time.perf_counter() - begun)
        self._await(lambda: self._one("SELECT count(*) FROM consumption_due") == 0, 0.05)
        took = time.perf_counter() - begun
        finished.set()
        worker.join()
        key = (self.mix.name, name)
        self.memory[key] = max([self.memory.get(key, 0.0), *(_peak_mb(process.pid) for process in processes)])
        for process in processes:
            end(process)
        # what one contender stored must not be what the next one meets again
        with self.database.raw() as connection:
            connection.execute("TRUNCATE reading, raw_message, arrival, consumption_day, consumption_hours")
        return took

    def _roll_up(self, finished: threading.Event) -> None:
        pace = rollups.Pace(ZoneInfo("UTC"))
        while not finished.is_set():
            with self.database.transaction() as session:
                done = pace.round(session)
            if not done:
                finished.wait(rollups.LOOK_S)

    def _last(self) -> int:
        return int(self._one("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM raw_message_id_seq"))

    def _stored(self, before: int) -> int:
        """How many messages are committed; counted only once as many were begun, because counting costs."""
        begun = self._last() - before
        if begun < self.number:
            return 0
        return int(self._one(f"SELECT count(*) FROM raw_message WHERE id > {before}"))

    def _one(self, query: str) -> Any:
        with self.database.raw() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]

    def _await(self, condition: Callable[[], bool], pause: float, patience: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, "it does not come to an end"
            time.sleep(pause)

    # --------------------------------------------------------------------------------------------------- others

    def bare(self) -> float:
        """The hub's own loop, batch and acknowledgement; orjson; COPY into a table without index."""
        taker = _Queue()
        subscriber = Subscriber(
            self.broker_url, f"bare-{self.mix.name}", [self.filter()], taker, receive_maximum=RECEIVE_MAXIMUM,
            most_packet_bytes=2**20, session_expiry_s=7200, keepalive_s=30,
        )  # fmt: skip
        return self._drain(taker.inbox, subscriber.start, subscriber.acknowledge, subscriber.stop)

    def paho(self) -> float:
        """The same with paho's client in the place of the hub's."""
        inbox = Inbox()
        made = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"paho-{self.mix.name}", protocol=mqtt.MQTTv5, manual_ack=True
        )

        def arrived(_: mqtt.Client, __: Any, one: mqtt.MQTTMessage) -> None:
            inbox.put([(one.mid, Message("", one.topic, bytes(one.payload), None))])

        def start() -> None:
            _connect(made, self.broker_url, lasting=True)
            made.loop_start()

        def stop() -> None:
            made.disconnect()
            made.loop_stop()

        made.on_message = arrived
        return self._drain(inbox, start, lambda mids: [made.ack(mid, 1) for mid in mids], stop)

    def _drain(
        self, inbox: Inbox, start: Callable[[], Any], send: Callable[[list[int]], Any], stop: Callable[[], Any]
    ) -> float:
        left = self.number
        with psycopg.connect(psycopg_url(self.database.url)) as connection:
            begun = time.perf_counter()
            start()
            while left:
                taken = inbox.take(BATCH, 1)
                with connection.cursor() as cursor, cursor.copy("COPY bare (device, at, value) FROM STDIN") as copy:
                    for one in taken:
                        copy.write_row(self.mix.bare(orjson.loads(one.message.payload)))
                connection.commit()
                inbox.acknowledge(send, taken)
                left -= len(taken)
            took = time.perf_counter() - begun
            stop()
            connection.execute("TRUNCATE bare")
        return took

    def rows(self) -> float:
        """Node-RED, one INSERT per message; the time a whole load would have taken."""
        return self._node_red(f"rows-{self.mix.name}", batched=False, number=self.number // PARTS) * PARTS

    def batched(self) -> float:
        """Node-RED, with batches collected in a function node."""
        return self._node_red(f"batched-{self.mix.name}", batched=True, number=self.number)

    def _node_red(self, name: str, *, batched: bool, number: int) -> float:
        topic = self.sessions()[name][0]
        process = _node_red.start(
            self.database.url, self.broker_url, client_id=name, topic=topic, mix=self.mix.name, batched=batched
        )
        try:
            # the time it takes to start is not counted
            self._await(lambda: self._one("SELECT pg_relation_size('nodered')") > 0, 0.01, 30)
            begun = time.perf_counter()
            self._await(lambda: self._one("SELECT count(*) FROM nodered") >= number, 0.25)
            return time.perf_counter() - begun
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            with self.database.raw() as connection:
                connection.execute("TRUNCATE nodered")


class _Queue(Taker):
    """Queues what arrives, as the hub's ingest does."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    def arrived(self, messages: list[Arrived]) -> None:
        """On the network thread."""
        self.inbox.put([(one.mid, Message("", one.topic, one.payload, None)) for one in messages])

    def has_room(self) -> bool:
        """Bounded as the hub's."""
        return self.inbox.has_room()

    def subscribed(self, refused: Sequence[str]) -> None:
        """What was sent before waits in the session."""

    def lost(self, why: str) -> None:
        """What waits here will be delivered again."""
        self.inbox.next_generation()


def _peak_mb(pid: int | None) -> float:
    """The most memory a process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _prepare(database: Database) -> None:
    with database.raw() as connection:
        for table in ("bare", "nodered"):
            connection.execute(f"CREATE TABLE {table} (device text, at timestamptz, value numeric)")
        connection.execute(
            "INSERT INTO meter (serial, unit) SELECT 'M' || n, 'm3' FROM generate_series(0, %s) n", [METERS - 1]
        )
        connection.execute(
            "INSERT INTO device (id, device, meter, unit, valid_from) SELECT gen_random_uuid(),"
            " lpad(to_hex(n), 16, '0'), 'M' || n, 'm3', '1900-01-01' FROM generate_series(0, %s) n",
            [METERS - 1],
        )


def _contenders() -> tuple[list[str], str | None]:
    names = ["hub", "bare", "two", "paho", "rows", "batched"]
    try:
        _node_red.installed()
    except _node_red.Missing as error:
        return names[:4], str(error)
    return names, None


def run(bench: Bench, contenders: list[str], rounds: int) -> None:
    """All rounds of both mixes."""
    begun = time.monotonic()
    for bench.mix in MIXES:
        for round_ in range(rounds):
            # anew each time: Node-RED takes its subscription away when it stops
            for name, filters in bench.sessions().items():
                subscribe(bench.broker_url, name, filters)
            sent = messages(bench.mix, bench.number, round_)
            bench.sizes[bench.mix.name] = statistics.mean(len(payload) for _, payload in sent[:1000])
            preload(bench.broker_url, sent)
            del sent
            shift = round_ % len(contenders)
            for name in contenders[shift:] + contenders[:shift]:
                took = getattr(bench, name)()
                bench.times.setdefault((bench.mix.name, name), []).append(took)
                print(
                    f"{time.monotonic() - begun:5.0f} s  {bench.mix.name} round {round_ + 1} of {rounds}: {name}"
                    f" {bench.number / took:,.0f}/s",
                    file=sys.stderr,
                    flush=True,
                )
        for name in bench.sessions():
            _forget(bench.broker_url, name)


def _forget(url: str, name: str) -> None:
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    host, _, port = url.removeprefix("mqtt://").partition(":")
    made.connect(host, int(port), clean_start=True)
    made.loop_start()
    time.sleep(0.1)
    made.disconnect()
    made.loop_stop()


TITLES = {
    "hub": "hub, one ingest: raw message kept, keyed, judged, committed, acknowledged, rolled up",
    "two": "hub, two ingests with half the topics each",
    "bare": "bare: the same loop, batch and acknowledgement, orjson, COPY into a table without index",
    "paho": "the same bare loop on paho's client",
    "rows": "Node-RED {version}, an INSERT per message",
    "batched": "Node-RED {version}, batches of 1,000",
}


def report(bench: Bench, rounds: int, missing: str | None) -> None:
    """Medians as Markdown."""
    print(
        f"{bench.number:,} messages preloaded × {rounds} rounds, alternating, median, QoS 1, {os.cpu_count()} cores."
        " The hub's time ends when everything is committed *and* rolled up.\n"
    )
    if missing:
        print(f"Node-RED is not in this run: {missing}.\n")
    for mix in MIXES:
        rate = {
            name: bench.number / statistics.median(took) for (of, name), took in bench.times.items() if of == mix.name
        }
        print(f"**{mix.title}, {bench.sizes[mix.name]:,.0f} bytes**\n")
        print("| what | readings/s | hub ÷ it | two ingests ÷ it |\n|---|---:|---:|---:|")
        for name, title in TITLES.items():
            if name in rate:
                shown = title.format(version=_node_red.version()) if "{" in title else title
                ratios = f"{rate['hub'] / rate[name]:.2f} | {rate['two'] / rate[name]:.2f}"
                print(f"| {shown} | {rate[name]:,.0f} | {ratios} |")
        for name in ("hub", "two"):
            took = statistics.median(bench.committed[mix.name, name])
            share, shown = bench.number / took / rate["bare"], TITLES[name].split(":")[0]
            print(
                f"\n{shown}: {bench.number / took:,.0f} committed/s before the roll-ups, {share:.2f} of bare;"
                f" at most {bench.memory[mix.name, name]:,.0f} MB per ingest."
            )
        print()


def main() -> None:
    """Run and print."""
    # standard output is the page
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    number = int(os.environ.get("BENCH_MESSAGES", "200000")) // (PARTS * 1000) * PARTS * 1000
    rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
    contenders, missing = _contenders()
    if chosen := os.environ.get("BENCH_ONLY"):
        contenders = [name for name in contenders if name in chosen.split(",")]
    with PrivateCluster(scratch()) as cluster, PrivateBroker(scratch(), sync=False) as broker:
        migrations.upgrade(cluster.url)
        database = Database(cluster.url)
        _prepare(database)
        # whatever is forked from has loaded the hub before the first time is taken
        end(fork(time.sleep, 0))
        bench = Bench(database, broker.url, max(number, PARTS * 1000))
        run(bench, contenders, rounds)
        database.dispose()
    report(bench, rounds, missing)


if __name__ == "__main__":
    main()
