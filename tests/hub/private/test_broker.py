"""The private Mosquitto: what its defaults would lose is kept, and every start and stop is clear."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from hub.private import broker, folder
from hub.private.broker import PrivateBroker
from hub.private.folder import CannotStart
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited a minute for: {what}"
        time.sleep(0.02)


class Client:
    """A paho client with a kept session; its messages in `received`."""

    def __init__(self, running: PrivateBroker, name: str) -> None:
        self.received: list[bytes] = []
        self.ready = threading.Event()
        self._paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=False)
        self._paho.max_inflight_messages_set(0)
        self._paho.max_queued_messages_set(0)
        self._paho.on_connect = lambda client, *_: (
            client.subscribe("meters/#", 1) if name == "hub" else self.ready.set()
        )
        self._paho.on_subscribe = lambda *_: self.ready.set()
        self._paho.on_message = lambda _client, _data, message: self.received.append(message.payload)
        self._paho.connect(running.host, running.port)
        self._paho.loop_start()
        assert self.ready.wait(30)

    def publish(self, payloads: list[bytes]) -> None:
        sent = [self._paho.publish("meters/1", payload, 1) for payload in payloads]
        for one in sent:
            one.wait_for_publish(60)
            assert one.is_published()

    def leave(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()


def subscribe_and_leave(running: PrivateBroker) -> None:
    Client(running, "hub").leave()


def publish(running: PrivateBroker, payloads: list[bytes]) -> None:
    sender = Client(running, "gateway")
    sender.publish(payloads)
    sender.leave()


def test_everything_sent_while_the_hub_was_away_is_there_in_the_morning(data_dir: Path) -> None:
    payloads = [f"reading {number}".encode() for number in range(3000)]
    with PrivateBroker(data_dir, sync=False) as running:
        subscribe_and_leave(running)
        publish(running, payloads)
        hub = Client(running, "hub")
        until(lambda: len(hub.received) >= len(payloads), "all queued messages")
        assert hub.received == payloads
        hub.leave()


def test_the_queue_outlives_a_killed_broker(data_dir: Path) -> None:
    payloads = [f"reading {number}".encode() for number in range(2000)]
    first = PrivateBroker(data_dir, sync=False).start()
    subscribe_and_leave(first)
    publish(first, payloads)
    store = next(path for path in data_dir.glob("**/broker")) / "mosquitto.db"
    done = time.time()
    until(lambda: store.exists() and store.stat().st_mtime > done + 1, "a save that began after the last message")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with PrivateBroker(data_dir, sync=False) as second:
        hub = Client(second, "hub")
        until(lambda: len(hub.received) >= len(payloads), "all queued messages")
        assert sorted(hub.received) == sorted(payloads)
        hub.leave()
    first.stop()


def test_the_queue_is_bounded_in_bytes_not_in_messages(data_dir: Path) -> None:
    with PrivateBroker(data_dir, sync=False, queue_bytes=100_000) as running:
        subscribe_and_leave(running)
        publish(running, [bytes(1000)] * 400)
        hub = Client(running, "hub")
        publish(running, [b"last"])
        until(lambda: b"last" in hub.received, "the message sent after the return")
        assert 50 <= len(hub.received) <= 110
        hub.leave()


def test_the_bound_follows_the_disk_and_the_memory(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2 * 2**30))
    assert broker.queue_bound(data_dir) <= 2 * 2**30 // 10
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1))
    assert broker.queue_bound(data_dir) == broker.LEAST_QUEUE


def test_gateways_find_it_on_the_same_port_after_a_restart(data_dir: Path) -> None:
    with PrivateBroker(data_dir) as first:
        port = first.port
        listeners = [
            line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if f":{port:04X}" in line
        ]
        assert f"0100007F:{port:04X}" in listeners
        assert f"00000000:{port:04X}" not in listeners
    with PrivateBroker(data_dir) as second:
        assert second.port == port


def test_a_taken_port_is_named_with_what_to_do(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(CannotStart, match=f"Port {port} is taken.*CURBSTOP_MQTT_URL"):
            PrivateBroker(data_dir, port).start()
    with PrivateBroker(data_dir, port):
        pass
    with socket.create_server(("127.0.0.1", port)), pytest.raises(CannotStart, match=f"Port {port}.*delete"):
        PrivateBroker(data_dir).start()


def test_it_ends_with_a_killed_hub_and_keeps_what_it_had(data_dir: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from hub.private.broker import PrivateBroker
        running = PrivateBroker({str(data_dir)!r}, sync=False).start()
        print(running.pid, running.port, flush=True)
        sys.stdin.readline()
        """
    )
    hub = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert hub.stdout is not None
    pid, port = map(int, hub.stdout.readline().split())
    there = PrivateBroker(data_dir, port)
    subscribe_and_leave(there)
    publish(there, [b"before the crash"])
    hub.kill()
    hub.communicate()
    until(lambda: not folder.lives(pid), "the broker of a killed hub to end")
    with PrivateBroker(data_dir, sync=False) as again:
        back = Client(again, "hub")
        until(lambda: back.received == [b"before the crash"], "the message from before the crash")
        back.leave()


def test_a_broker_left_running_is_stopped_first(data_dir: Path) -> None:
    left = PrivateBroker(data_dir, sync=False).start()
    subscribe_and_leave(left)
    publish(left, [b"kept"])
    with PrivateBroker(data_dir, sync=False) as again:
        assert left.pid is None
        hub = Client(again, "hub")
        until(lambda: hub.received == [b"kept"], "what the broker left running had queued")
        hub.leave()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_named: None)
    with pytest.raises(CannotStart, match="install the package mosquitto"):
        broker.binary()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_as_root_it_runs_as_its_own_user(data_dir: Path) -> None:
    with PrivateBroker(data_dir, sync=False) as running:
        status = Path(f"/proc/{running.pid}/status").read_text()
    uid = pwd.getpwnam("mosquitto").pw_uid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
