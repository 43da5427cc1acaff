"""Fixtures all tests share: one PostGIS cluster per run, a database per worker, rollback or a fresh copy per test."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from hub import auth, migrations
from hub.app import create_app
from hub.db import Database, new_id
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from hub.settings import Settings
from hub.work import catalogue, policy
from tests.private_servers import start_test_broker, start_test_cluster

# How long an example takes says something of the machine and of what else runs on it, nothing of the code.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")

# Files that take long begin first, so that no worker of a parallel run is left alone with one of them at the end.
LONG = (
    "flows/test_kills.py",
    "hub/cli/test_up.py",
    "hub/demo/test_whole_town.py",
    "hub/private/test_cluster.py",
    "hub/worker/test_kills.py",
    "browser/test_work_page.py",
    "browser/test_pages.py",
    "compose/test_compose.py",
    "gis/test_ltown.py",
    "hub/metering/test_ingest.py",
    "hub/metering/test_outages.py",
    "hub/billing/test_door.py",
    "hub/outbox/test_delivery.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; the order within a file stays."""
    turns = {Path(__file__).parent / name: turn for turn, name in enumerate(LONG)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


@pytest.fixture(autouse=True, scope="session")
def plain_environment() -> Iterator[None]:
    """No CURBSTOP_ setting of the machine reaches a test, but the samples folder."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CURBSTOP_")}
    if "CURBSTOP_SAMPLES" in kept:
        os.environ["CURBSTOP_SAMPLES"] = kept["CURBSTOP_SAMPLES"]
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True, scope="session")
def shipped_rules() -> None:
    """Unless a test names others, the shipped work types and pack are in force, in UTC."""
    catalogue.use()
    policy.use()


def keep_rules(patch: pytest.MonkeyPatch) -> None:
    """Let what is in force in this process now be in force again when `patch` is undone."""
    patch.setattr(policy, "_in_force", policy._in_force)
    patch.setattr(catalogue, "_in_force", dict(catalogue._in_force))


@pytest.fixture(autouse=True)
def kept_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves its time zone, pack or work types to the next."""
    keep_rules(monkeypatch)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with further samples; tests that need it are skipped without."""
    folder = os.environ.get("CURBSTOP_SAMPLES")
    if not folder:
        pytest.skip("CURBSTOP_SAMPLES names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[PrivateCluster]:
    """A PostGIS cluster of this run's own, without fsync."""
    server = start_test_cluster()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    """A Mosquitto of this run's own, on a free port."""
    server = start_test_broker()
    yield server
    server.stop()


def database_url(cluster: PrivateCluster, name: str) -> str:
    """The address of another database of the cluster."""
    head, _, query = cluster.url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def template(cluster: PrivateCluster) -> str:
    """The name of a migrated database that others are copied from."""
    name = f"template_{migrations.fingerprint()}"
    admin = Database(cluster.url)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    migrations.upgrade(database_url(cluster, name))
    admin.dispose()
    return name


def copy_of(cluster: PrivateCluster, template: str) -> str:
    """The address of a fresh copy of the migrated database."""
    name = f"test_{new_id().hex}"
    admin = Database(cluster.url)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    admin.dispose()
    return database_url(cluster, name)


def drop(cluster: PrivateCluster, url: str) -> None:
    """Remove a copy, whoever is still connected to it."""
    name = url.partition("?")[0].rpartition("/")[2]
    admin = Database(cluster.url)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture(scope="session")
def shared_database(cluster: PrivateCluster, template: str) -> Iterator[Database]:
    """The database of `session`: nothing in it outlives a test."""
    database = Database(copy_of(cluster, template))
    yield database
    database.dispose()


@pytest.fixture
def session(shared_database: Database) -> Iterator[Session]:
    """A session whose every write is undone when the test ends; commits inside it are savepoints."""
    with shared_database.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as opened:
            yield opened
        outer.rollback()


@pytest.fixture
def database(cluster: PrivateCluster, template: str) -> Iterator[Database]:
    """A database of the test's own, for committed data and several connections."""
    url = copy_of(cluster, template)
    opened = Database(url)
    yield opened
    opened.dispose()
    drop(cluster, url)


@dataclass
class Live:
    """A running web server on a database of its own."""

    url: str
    database: Database
    settings: Settings
    _clients: list[httpx.Client] = field(default_factory=list)

    def token(self, role: str, *, crew_id: UUID | None = None, source_id: UUID | None = None) -> str:
        """A fresh API token of `role`."""
        with self.database.transaction() as session:
            return auth.create_token(session, name=f"test {role}", role=role, crew_id=crew_id, source_id=source_id)

    def client(
        self, role: str | None = None, *, crew_id: UUID | None = None, source_id: UUID | None = None
    ) -> httpx.Client:
        """An HTTP client with a token of `role` (none: anonymous)."""
        headers = {"Authorization": f"Bearer {self.token(role, crew_id=crew_id, source_id=source_id)}"} if role else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=60)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close every client handed out."""
        for client in self._clients:
            client.close()


class ServerThread(threading.Thread):
    """uvicorn in a thread, on a free port of loopback; while it runs, the rules of its settings are in force."""

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__(daemon=True)
        self.rules_before = pytest.MonkeyPatch()
        keep_rules(self.rules_before)
        app = create_app(settings, database)
        self.server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=3)
        )
        self.app = app

    def run(self) -> None:
        """Serve until `should_exit`."""
        self.server.run()

    def started(self) -> str:
        """Start, wait until it listens, and return its address."""
        self.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert self.is_alive(), "the web server did not start"
            assert time.monotonic() < deadline, "the web server does not listen"
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """End it and wait."""
        self.app.state.stopping.set()
        self.server.should_exit = True
        self.join(30)
        self.rules_before.undo()


@pytest.fixture
def live_settings(database: Database) -> Settings:
    """The settings of `live`; a test module overrides this fixture to change them."""
    return Settings(database_url=database.url, allow_private_endpoints=["127.0.0.1/32"], time_zone="America/Chicago")


@pytest.fixture
def live(database: Database, live_settings: Settings) -> Iterator[Live]:
    """A real web server with a database of its own."""
    thread = ServerThread(live_settings, database)
    running = Live(thread.started(), database, live_settings)
    yield running
    running.close()
    thread.stop()


@pytest.fixture
def counted(shared_database: Database) -> Iterator[list[str]]:
    """The SQL statements executed on the shared database's engine while the test runs."""
    statements: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(shared_database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(shared_database.engine, "before_cursor_execute", note)
