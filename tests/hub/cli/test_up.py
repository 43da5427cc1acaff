"""`curbstop up`: the whole hub as one command, run as people run it, stopped, shared, broken and killed."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from hub.cli import run
from hub.errors import ConfigurationError
from hub.private import cluster, process, supervisor
from hub.private.folder import CannotStart, lives
from hub.settings import Settings
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120


def curbstop(*words: str, data_dir: Path, text: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """One command, run to its end."""
    environment = {**os.environ, "CURBSTOP_DATA_DIR": str(data_dir), **variables}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", *words],
        cwd=ROOT,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Up:
    """A running `curbstop up`."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.said = data_dir.parent / f"{data_dir.name}.log"
        with self.said.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hub.cli", "up", "--port", "0"],
                cwd=ROOT,
                env={**os.environ, "CURBSTOP_DATA_DIR": str(data_dir), **variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ready(self) -> str:
        """Wait for the line, and give the address in it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), line + self.said.read_text()
        return line.split()[1]

    def child(self, name: str) -> int:
        """Process id of one of the hub's processes."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = status.read_text().rpartition(")")[2].split()
                words = (status.parent / "cmdline").read_bytes().split(b"\0")
                if fields[1] == str(self.process.pid) and name.encode() in words:
                    return int(status.parent.name)
        raise AssertionError(f"no process {name}")

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self.forget()
        return status

    def forget(self) -> None:
        """Close what this test holds of it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.said.unlink(missing_ok=True)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.05)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def running(data_dir: Path) -> Iterator[Up]:
    hub = Up(data_dir)
    yield hub
    hub.forget()


def servers_in(data_dir: Path) -> list[int]:
    return [pid for folder in data_dir.glob("postgres/data") for pid in process.living_in(folder, "postgres")]


def test_up_serves_shares_nothing_and_ends_with_open_streams(running: Up, data_dir: Path) -> None:
    address = running.ready()
    assert httpx.get(f"{address}/readyz").json()["status"] == "ready"
    assert "curbstop user add" in running.said.read_text()

    refused = curbstop("up", "--port", "0", data_dir=data_dir)
    assert refused.returncode == 1
    assert re.search(rf"in use by `curbstop up` \(process {running.process.pid}\).*CURBSTOP_DATA_DIR", refused.stderr)

    made = curbstop("token", "create", "--role", "supervisor", "--name", "t", data_dir=data_dir)
    assert made.returncode == 0, made.stderr
    token = made.stdout.split()[-1]

    headers = {"Authorization": f"Bearer {token}"}
    ended = threading.Event()
    opened = threading.Event()

    def follow() -> None:
        with httpx.stream("GET", f"{address}/api/v1/events", headers=headers, timeout=PATIENCE_S) as stream:
            opened.set()
            with contextlib.suppress(httpx.HTTPError):
                for _line in stream.iter_lines():
                    pass
        ended.set()

    reader = threading.Thread(target=follow)
    reader.start()
    assert opened.wait(PATIENCE_S)
    assert running.end() == 0
    reader.join(PATIENCE_S)
    assert ended.is_set()
    assert servers_in(data_dir) == []
    revoked = curbstop("token", "revoke", token[:11], data_dir=data_dir)
    assert revoked.returncode == 0, revoked.stderr
    assert servers_in(data_dir) == []


def test_a_killed_process_is_started_again_and_a_killed_hub_leaves_nothing_broken(running: Up, data_dir: Path) -> None:
    address = running.ready()
    for name in ("serve", "work", "ingest"):
        before = running.child(name)
        os.kill(before, signal.SIGKILL)
        until(lambda name=name, before=before: _restarted(running, name, before), f"{name} to be started again")
    until(lambda: _ready(address), "the hub to be ready again")
    curbstop("user", "add", "kim@water.example", "--role", "admin", data_dir=data_dir, text="long enough 42\n")

    children = [running.child(name) for name in ("serve", "work", "ingest")]
    running.process.kill()
    again = Up(data_dir)
    try:
        again.ready()
        assert not any(lives(pid) for pid in children)
        url = cluster.running(data_dir)
        assert url is not None
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT email FROM user_account").fetchall() == [("kim@water.example",)]
        os.kill(servers_in(data_dir)[0], signal.SIGKILL)
        until(lambda: cluster.running(data_dir) is not None, "the database to be started again")
        assert again.end() == 0
    finally:
        again.forget()


def _restarted(hub: Up, name: str, before: int) -> bool:
    try:
        return hub.child(name) != before
    except AssertionError:
        return False


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} on 127.0.0.1 is taken.*--port {port + 1}"):
            supervisor.listen("127.0.0.1", port)


@pytest.mark.parametrize("command", [run.up, run.serve])
def test_beyond_loopback_only_with_encryption(
    command: Callable[..., None], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(data_dir))
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ConfigurationError, match=r"CURBSTOP_TLS_CERT.*CURBSTOP_BASE_URL=https://"):
        command(host="0.0.0.0", port=0)


def test_what_makes_a_wider_address_acceptable() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        run.require_private_or_tls(Settings(), host)
    run.require_private_or_tls(Settings(base_url="https://water.example"), "0.0.0.0")
    run.require_private_or_tls(Settings(tls_cert=Path("c"), tls_key=Path("k")), "::")
    for settings in (Settings(), Settings(base_url="http://water.example"), Settings(tls_cert=Path("c"))):
        with pytest.raises(ConfigurationError):
            run.require_private_or_tls(settings, "0.0.0.0")


def test_a_configured_database_that_is_away_is_said(data_dir: Path) -> None:
    url = "postgresql://hub:secret@127.0.0.1:1/hub"
    refused = curbstop("up", "--port", "0", data_dir=data_dir, CURBSTOP_DATABASE_URL=url)
    assert refused.returncode == 1
    assert "CURBSTOP_DATABASE_URL does not answer" in refused.stderr
    assert "secret" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", "mysql://hub:secret@db/hub"), ("MQTT_URL", "broker.example:1883")]
)
def test_an_address_of_another_kind_is_refused(data_dir: Path, name: str, value: str) -> None:
    refused = curbstop("work", data_dir=data_dir, **{f"CURBSTOP_{name}": value})
    assert (refused.returncode, f"CURBSTOP_{name}" in refused.stderr) == (1, True)
    assert "secret" not in refused.stderr


def test_a_process_on_a_database_without_tables_says_what_to_do(
    data_dir: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(data_dir))
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", request.getfixturevalue("cluster").url)
    for command in (run.work, lambda: run.serve(port=0)):
        with pytest.raises(CannotStart, match="run `curbstop migrate`"):
            command()


def test_a_process_alone_asks_for_its_servers(data_dir: Path) -> None:
    refused = curbstop("work", data_dir=data_dir)
    assert refused.returncode == 1
    assert "CURBSTOP_DATABASE_URL, or run `curbstop up`" in refused.stderr
