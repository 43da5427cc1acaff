"""The compose file: valid, closed where it must be, and its commands run against servers started by hand.

No container engine is needed: the hub's services are started here with the very commands, environment and secrets of
docker-compose.yml, against a PostgreSQL and a Mosquitto on TCP with passwords.
"""

import contextlib
import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator
from paho.mqtt.enums import CallbackAPIVersion

from hub.private import broker, cluster, folder, process
from hub.private.cluster import PrivateCluster
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PATIENCE_S = 120
HUB_SERVICES = ("migrate", "web", "worker", "ingest")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.1)


def test_it_is_valid_by_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = (HERE / "compose-spec.json").read_bytes()
    assert hashlib.sha256(schema).hexdigest() in (HERE / "README.md").read_text()
    faults = [
        f"{list(fault.path)}: {fault.message}"
        for fault in Draft202012Validator(json.loads(schema)).iter_errors(compose)
    ]
    assert faults == []


def test_every_service_is_watched_bounded_and_without_rights_it_does_not_need(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["logging"]["options"]["max-size"], name
        assert name == "migrate" or "healthcheck" in service, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert re.search(r":[\d.]+", service["image"]), f"{name}: an image without a version"
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
    for name in HUB_SERVICES:
        assert compose["services"][name]["read_only"] is True
        assert compose["services"][name]["cap_drop"] == ["ALL"]
    assert "USER 10001" in (ROOT / "Dockerfile").read_text()


def test_no_secret_stands_in_it(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            secret = any(word in name for word in ("PASSWORD", "SECRET", "_URL")) and name != "CURBSTOP_BASE_URL"
            assert not secret or (name.endswith("_FILE") and value.startswith("/run/secrets/")), name
    assert all(entry["file"].startswith("./secrets/") for entry in compose["secrets"].values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_images_packages_are_those_that_are_tested() -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE))

    for name in ("requirements.lock", "requirements-image.lock"):
        assert not re.search(r"://|file:", (ROOT / name).read_text()), f"{name} names an address"
    assert len(pinned("requirements-image.lock")) > 30
    assert pinned("requirements-image.lock") <= pinned("requirements.lock")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Servers:
    """What the other containers are: a PostgreSQL and a Mosquitto on TCP, with the generated passwords."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.secrets = home / "secrets"
        self.database_port, self.mqtt_port, self.web_port = free_port(), free_port(), free_port()
        self._children: list[subprocess.Popen[bytes]] = []
        self._make_secrets()

    def _make_secrets(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "setup" / "secrets"), *words],
            env={**os.environ, "CURBSTOP_SECRETS": str(self.secrets)},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def gateway(self, name: str) -> str:
        """A gateway's password, known to the broker once this returns."""
        password = self._make_secrets("gateway", name)
        self.secrets.chmod(0o711)
        self._children[-1].send_signal(signal.SIGHUP)
        return password

    def start_database(self) -> None:
        """PostgreSQL as the container has it: TCP, scram, the password from the file."""
        password = (self.secrets / "database_password").read_text()
        with PrivateCluster(self.home, sync=False) as made, psycopg.connect(made.url) as connection:
            connection.execute(psycopg.sql.SQL("ALTER USER curbstop PASSWORD {}").format(password))
        data = self.home / "postgres" / "data"
        (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        words = [str(cluster.binaries(None) / "postgres"), "-D", str(data), "-k", "", "-c", "fsync=off"]
        words += ["-c", "listen_addresses=127.0.0.1", "-p", str(self.database_port)]
        self._spawn(words, "postgres", signal.SIGINT)
        until(lambda: _accepts(self.database_port), "the database")

    def start_broker(self) -> None:
        """Mosquitto with the configuration of the container, only its places and port changed."""
        home = self.home / "mosquitto"
        shutil.copytree(ROOT / "setup" / "compose", home)
        shutil.copy(self.secrets / "mqtt_passwords", home)
        config = (home / "mosquitto.conf").read_text()
        config = config.replace("listener 1883", f"listener {self.mqtt_port} 127.0.0.1")
        config = config.replace("/run/secrets/mqtt_passwords", str(self.secrets / "mqtt_passwords"))
        config = config.replace("/mosquitto/config/", f"{home}/").replace("/mosquitto/data/", f"{home}/")
        (home / "mosquitto.conf").write_text(config)
        self.secrets.chmod(0o711)
        home.chmod(0o777)
        self._spawn([broker.binary(), "-c", str(home / "mosquitto.conf")], "mosquitto", signal.SIGTERM)
        until(lambda: _accepts(self.mqtt_port), "the broker")

    def _spawn(self, words: list[str], user: str, dies_with: signal.Signals) -> None:
        account = folder.Account.for_server(user, "nobody")
        with (self.home / f"{user}.log").open("wb") as log:
            self._children.append(process.spawn(words, account=account, dies_with=dies_with, log=log))

    def local(self, text: str) -> str:
        """`text` of the compose file with the other containers' names and secrets where they are here."""
        return (
            text.replace("/run/secrets/", f"{self.secrets}/local-")
            .replace("postgis:5432", f"127.0.0.1:{self.database_port}")
            .replace("mosquitto:1883", f"127.0.0.1:{self.mqtt_port}")
            .replace("127.0.0.1:8000", f"127.0.0.1:{self.web_port}")
        )

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """The environment of a service; secrets' files hold the addresses of here."""
        for secret in service["secrets"]:
            (self.secrets / f"local-{secret}").write_text(self.local((self.secrets / secret).read_text()))
        named = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in service["environment"].items()}
        named["CURBSTOP_DATA_DIR"] = str(self.home / "data")
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CURBSTOP_")}
        return plain | {name: self.local(value) for name, value in named.items()}

    def command(self, service: dict[str, Any]) -> list[str]:
        """The command of a service, on the free port of here."""
        words = [str(self.web_port) if word == "8000" else word for word in service["command"]]
        return [sys.executable, "-m", "hub.cli", *words]

    def healthy(self, service: dict[str, Any]) -> bool:
        """Run the service's own health check once."""
        kind, *words = service["healthcheck"]["test"]
        assert kind == "CMD"
        program = {"python": [sys.executable], "curbstop": [sys.executable, "-m", "hub.cli"]}[words[0]]
        done = subprocess.run(
            [*program, *map(self.local, words[1:])],
            cwd=ROOT,
            env=self.environment(service),
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def stop(self) -> None:
        """End both servers."""
        for child in self._children:
            process.stop(child, signal.SIGINT)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture
def servers() -> Iterator[Servers]:
    home = scratch()
    running = Servers(home)
    try:
        running.start_database()
        running.start_broker()
        yield running
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


def test_its_commands_run_against_servers_started_by_hand(compose: dict[str, Any], servers: Servers) -> None:
    services = compose["services"]
    migrated = subprocess.run(
        servers.command(services["migrate"]), cwd=ROOT, env=servers.environment(services["migrate"]), check=False
    )
    assert migrated.returncode == 0
    with (servers.home / "hub.log").open("wb") as log:
        running = {
            name: subprocess.Popen(
                servers.command(services[name]),
                cwd=ROOT,
                env=servers.environment(services[name]),
                stdout=log,
                stderr=log,
            )
            for name in ("web", "worker", "ingest")
        }
    try:
        # Worker and ingest have the same check, which takes seconds.
        for name in ("web", "ingest"):
            until(lambda name=name: servers.healthy(services[name]), f"{name} to be healthy")
        _send_reading(servers)
        url = servers.local((servers.secrets / "database_url").read_text())
        until(lambda: _raw_messages(url) > 0, "the gateway's reading in the database")
        for one in running.values():
            one.send_signal(signal.SIGTERM)
        assert {name: one.wait(PATIENCE_S) for name, one in running.items()} == dict.fromkeys(running, 0)
    finally:
        for one in running.values():
            one.kill()
            one.wait()


def _send_reading(servers: Servers) -> None:
    password = servers.gateway("north")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "north-gateway")
    client.username_pw_set("north", password)
    client.reconnect_delay_set(1, 1)
    connected: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: connected.append(not reason.is_failure)
    client.connect("127.0.0.1", servers.mqtt_port)
    client.loop_start()
    # The broker takes a moment to read the new password; the client tries again meanwhile.
    until(lambda: True in connected, "the broker to let the gateway in")
    reading = {"device": "d1", "register": "main", "value": "1", "unit": "m3", "measured_at": "2026-03-02T07:30:00Z"}
    sent = client.publish("curbstop/v1/north/readings", json.dumps({"readings": [reading]}), qos=1)
    sent.wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()


def _raw_messages(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM raw_message").fetchone()
        return int(row[0]) if row else 0


def test_secrets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setattr(sys, "argv", ["secrets"])
    found = []
    for _ in range(2):
        runpy.run_path(str(ROOT / "setup" / "secrets"), run_name="__main__")
        found.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})
    texts = found[0]
    assert found[1] == texts
    assert texts["database_password"] in texts["database_url"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
