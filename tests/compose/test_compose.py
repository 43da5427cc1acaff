"""The compose file: valid, closed where it must be, and its commands run against servers started by hand.

No container engine is needed: the hub's services are started here with the very commands, environment and secrets of
docker-compose.yml, against a PostgreSQL on TCP with a password and a Mosquitto with the shipped configuration.
"""

import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator

from hub.private import cluster, folder, process
from hub.private.cluster import PrivateCluster
from tests.compose.shipped_broker import PATIENCE_S, ShippedBroker, accepts, free_port, until
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
HUB_SERVICES = ("migrate", "web", "worker", "ingest")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


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
        # from elsewhere: the broker over TLS alone
        assert all(port.startswith("127.0.0.1:") or port == "8883:8883" for port in service.get("ports", [])), name
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


class Servers:
    """What the other containers are: a PostgreSQL and a Mosquitto on TCP, with the generated secrets."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.secrets = home / "secrets"
        self.database_port, self.web_port = free_port(), free_port()
        self.broker = ShippedBroker(home)
        self._children: list[subprocess.Popen[bytes]] = []

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
        until(lambda: accepts(self.database_port), "the database")

    def _spawn(self, words: list[str], user: str, dies_with: signal.Signals) -> None:
        account = folder.Account.for_server(user, "nobody")
        with (self.home / f"{user}.log").open("wb") as log:
            self._children.append(process.spawn(words, account=account, dies_with=dies_with, log=log))

    def local(self, text: str) -> str:
        """`text` of the compose file with the other containers' names and secrets where they are here."""
        return (
            text.replace("/run/secrets/", f"{self.secrets}/local-")
            .replace("postgis:5432", f"127.0.0.1:{self.database_port}")
            .replace("mosquitto:8884", f"127.0.0.1:{self.broker.hub_port}")
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
        self.broker.stop()
        for child in self._children:
            process.stop(child, signal.SIGINT)


@pytest.fixture
def servers() -> Iterator[Servers]:
    home = scratch()
    running = Servers(home)
    try:
        running.start_database()
        running.broker.start()
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
    client = servers.broker.client("north")
    client.loop_start()
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
        found.append({path.name: path.read_text() for path in (tmp_path / "secrets").rglob("*") if path.is_file()})
    texts = found[0]
    assert found[1] == texts
    assert texts["database_password"] in texts["database_url"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
