"""Broker and database restarted or killed, the disk full: nothing lost, nothing doubled."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import paho.mqtt.client as mqtt
import pytest
from sqlalchemy import text

from hub import migrations
from hub.db import Database
from hub.metering import devices, watching
from hub.private import process
from hub.private.broker import PrivateBroker
from hub.private.cluster import DATABASE, NEW_CLUSTER_BYTES, PrivateCluster
from hub.settings import Settings
from tests.conftest import ServerThread, copy_of, drop
from tests.forks import end
from tests.hub.metering.processes import (
    await_subscription,
    count,
    hour,
    message,
    publish_all,
    publisher,
    reading,
    start_ingest,
    until,
)
from tests.private_servers import TestCluster, scratch, start_test_broker

# Beside what a new cluster asks for, room for the databases of this file.
DISK_BYTES = NEW_CLUSTER_BYTES + 128 * 2**20


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder on a small disk of its own (in memory) where this user may mount one, else a plain folder."""
    folder = scratch()
    options = f"size={DISK_BYTES},mode=711"
    words = ["mount", "-t", "tmpfs", "-o", options, "curbstop-test", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def own_cluster(disk: Path) -> Iterator[PrivateCluster]:
    """A migrated cluster that tests may stop, kill and starve; it commits as it does at a utility."""
    server = TestCluster(disk / "hub").start()
    migrations.upgrade(server.url)
    yield server
    server.stop()


@pytest.fixture
def own_database(own_cluster: PrivateCluster) -> Iterator[Database]:
    """A database of the test's own in the cluster that tests may stop, with devices d0 … d9."""
    if own_cluster.pid is None:
        own_cluster.start()
    url = copy_of(own_cluster, DATABASE)
    opened = Database(url)
    _register(opened)
    yield opened
    opened.dispose()
    drop(own_cluster, url)


@pytest.fixture
def own_broker() -> Iterator[PrivateBroker]:
    """A broker that a test may stop, kill and start again; it keeps its address."""
    server = start_test_broker()
    server._wanted = server.port
    yield server
    server.stop()


@pytest.fixture
def names() -> tuple[str, str]:
    """A client id and a topic of the test's own: the broker may be shared."""
    mark = uuid4().hex[:10]
    return f"ingest-{mark}", f"curbstop/v1/{mark}/readings"


def _register(database: Database) -> None:
    with database.transaction() as session:
        for number in range(10):
            devices.register(session, device=f"d{number}", meter=f"M{number}", unit="m3", by="test")


def _count(database: Database, table: str) -> int:
    """Rows of `table`; -1 while the database does not answer."""
    with contextlib.suppress(Exception):
        return count(database, table)
    return -1


def _connected(pid: int, port: int) -> bool:
    """Whether the process has a connection to `port` of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {
        f"socket:[{line[9]}]" for line in lines if line[3] == "01" and int(line[2].partition(":")[2], 16) == port
    }
    found = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(handle.readlink()))
    return bool(sockets & found)


def _stored(database: Database) -> list[int]:
    """The values of all readings, in order."""
    with database.transaction() as session:
        return [int(value) for value in session.execute(text("SELECT value FROM reading ORDER BY value")).scalars()]


def _listed_gaps(database: Database) -> set[int]:
    """The numbers that a gateway counted and that are listed as missing, once the worker has folded what arrived."""
    query = "SELECT first_missing, last_missing FROM sequence_gap WHERE kind = 'gateway' AND closed_at IS NULL"
    with database.transaction() as session:
        while watching.fold(session):
            pass
        return {number for first, last in session.execute(text(query)) for number in range(first, last + 1)}


def test_a_broker_restart_is_survived(database: Database, own_broker: PrivateBroker, names: tuple[str, str]) -> None:
    _register(database)
    ingest = start_ingest(database.url, own_broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    try:
        await_subscription(own_broker.url, names[1], database)
        client = publisher(own_broker.url)
        publish_all(client, names[1], [message(reading("d1", n, hour(n))) for n in range(50)])
        client.disconnect()
        client.loop_stop()
        PrivateBroker.stop(own_broker)
        own_broker.start()
        client = publisher(own_broker.url)
        publish_all(client, names[1], [message(reading("d2", n, hour(n))) for n in range(50)])
        until(lambda: count(database, "reading") == 100)
        client.disconnect()
        client.loop_stop()
    finally:
        end(ingest)


def test_what_a_killed_broker_loses_is_listed(
    database: Database, own_broker: PrivateBroker, names: tuple[str, str]
) -> None:
    _register(database)
    topics = [f"{names[1]}=plain"]
    ingest = start_ingest(database.url, own_broker.url, name=names[0], topics=topics)
    await_subscription(own_broker.url, names[1], database)
    # from here on the broker alone has the messages
    end(ingest)
    began, store = hour(0), own_broker.data_dir / "broker" / "mosquitto.db"
    payloads = [
        message(reading(f"d{n % 10}", n, began - timedelta(minutes=1000 - n // 10)), seq=n) for n in range(1, 1001)
    ]
    client = publisher(own_broker.url, inflight=50)
    publish_all(client, names[1], payloads[:100])
    _await_saved(store)
    acknowledged = _kill_at_acknowledgement(300, own_broker, client)
    sent = {number: client.publish(names[1], payload, qos=1).mid for number, payload in enumerate(payloads[100:], 101)}
    until(lambda: own_broker.pid is None and not client.is_connected(), patience=30)
    unacknowledged = {number for number, mid in sent.items() if mid not in acknowledged}
    assert len(unacknowledged) >= 50
    PrivateBroker.stop(own_broker)
    own_broker.start()
    until(lambda: acknowledged >= set(sent.values()), patience=30)
    client.disconnect()
    client.loop_stop()
    ingest = start_ingest(database.url, own_broker.url, name=names[0], topics=topics)
    try:
        until(lambda: 1000 in _stored(database), patience=30)
        stored, missing = _stored(database), _listed_gaps(database)
        assert len(stored) == len(set(stored))
        # what the broker had written is there, and what it had not acknowledged was sent again
        assert set(range(1, 101)) | unacknowledged <= set(stored)
        # of the rest every single one is either there or listed
        assert missing == set(range(1, 1001)) - set(stored)
    finally:
        end(ingest)


def _kill_at_acknowledgement(number: int, broker: PrivateBroker, client: mqtt.Client) -> set[int]:
    """Have the broker killed on its `number`-th acknowledgement; the packet ids it has acknowledged, still growing."""
    acknowledged: set[int] = set()

    def on_publish(_client: object, _data: object, mid: int, _reason: object, _properties: object) -> None:
        acknowledged.add(mid)
        if len(acknowledged) == number and broker.pid is not None:
            os.kill(broker.pid, signal.SIGKILL)

    client.on_publish = on_publish
    return acknowledged


def _await_saved(store: Path) -> None:
    """Wait until the broker has written its store twice: the second time holds all that it has acknowledged by now."""
    for _ in range(2):
        before = store.stat().st_mtime_ns if store.exists() else 0
        until(lambda before=before: store.exists() and store.stat().st_mtime_ns > before, patience=20)


def test_what_arrives_while_the_database_is_down_is_stored_after_its_return(
    own_cluster: PrivateCluster, own_database: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    ingest = start_ingest(own_database.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    try:
        await_subscription(broker.url, names[1], own_database)
        client = publisher(broker.url)
        publish_all(client, names[1], [message(reading("d1", n, hour(n))) for n in range(200)], pause=0.002)
        PrivateCluster.stop(own_cluster)  # the data stays
        publish_all(client, names[1], [message(reading("d1", n, hour(n))) for n in range(200, 400)])
        own_cluster.start()
        until(lambda: _count(own_database, "reading") == 400)
        assert count(own_database, "raw_message") == 400
        client.disconnect()
        client.loop_stop()
    finally:
        end(ingest)


def test_a_killed_database_loses_and_doubles_nothing(
    own_cluster: PrivateCluster, own_database: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    ingest = start_ingest(own_database.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    client = publisher(broker.url)
    payloads = [message(reading(f"d{n % 10}", n, hour(n // 10))) for n in range(2000)]
    sender = threading.Thread(
        target=publish_all, args=(client, names[1], payloads), kwargs={"pause": 0.0005}, daemon=True
    )
    try:
        await_subscription(broker.url, names[1], own_database)
        assert ingest.pid is not None
        pid = ingest.pid
        assert _connected(pid, broker.port)
        sender.start()
        until(lambda: _count(own_database, "reading") > 100)
        _kill(own_cluster)
        until(lambda: not _connected(pid, broker.port), patience=20)
        sender.join(60)
        own_cluster.start()
        until(lambda: _count(own_database, "reading") == 2000)
        assert count(own_database, "raw_message") == 2000
        assert _stored(own_database) == list(range(2000))
        # it came back by itself
        assert ingest.is_alive()
        assert _connected(pid, broker.port)
    finally:
        end(ingest)
        client.disconnect()
        client.loop_stop()


def _kill(cluster: PrivateCluster) -> None:
    """`kill -9` for the server and all that serve its connections, in no order."""
    pids = process.living_in(cluster.data_dir / "postgres" / "data", "postgres")
    assert cluster.pid in pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert process.wait_until_gone(pids, patience=20)
    PrivateCluster.stop(cluster)


def test_a_full_disk_is_named_and_loses_nothing(
    disk: Path, own_cluster: PrivateCluster, own_database: Database, broker: PrivateBroker, names: tuple[str, str]
) -> None:
    if not disk.is_mount():
        pytest.skip("a disk of the test's own needs the right to mount one")
    filler = disk / "filler"
    web = ServerThread(Settings(database_url=own_database.url), own_database)
    ingest = start_ingest(own_database.url, broker.url, name=names[0], topics=[f"{names[1]}=plain"])
    client = publisher(broker.url)
    try:
        ready = f"{web.started()}/readyz"
        await_subscription(broker.url, names[1], own_database)
        assert httpx.get(ready, timeout=60).status_code == 200
        with own_database.transaction() as session:
            # a fresh file of the write-ahead log, with room for what follows: only the tables find the disk full
            session.execute(text("SELECT pg_switch_wal()"))
            session.execute(text("CHECKPOINT"))
        _register(own_database)
        _fill(filler)
        payloads = [message(reading(f"d{n % 10}", n, hour(n // 10)), note=os.urandom(2000).hex()) for n in range(300)]
        publish_all(client, names[1], payloads)
        until(lambda: _says_full(ready), patience=30)
        time.sleep(1.5)  # it tries again meanwhile
        assert count(own_database, "raw_message") == 0
        filler.unlink()
        until(lambda: _count(own_database, "reading") == 300)
        assert count(own_database, "raw_message") == 300
        assert _stored(own_database) == list(range(300))
        assert ingest.is_alive()
        assert httpx.get(ready, timeout=60).status_code == 200
    finally:
        filler.unlink(missing_ok=True)
        end(ingest)
        web.stop()
        client.disconnect()
        client.loop_stop()


def _says_full(ready: str) -> bool:
    answer = httpx.get(ready, timeout=60)
    return answer.status_code == 503 and "Storage full" in str(answer.json()["reasons"])


def _fill(filler: Path) -> None:
    """Take all the room there is."""
    block = bytes(2**20)
    with filler.open("wb", buffering=0) as file:
        size = len(block)
        while size:
            try:
                file.write(block[:size])
            except OSError:
                size //= 2
