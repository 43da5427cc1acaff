"""Two crews with devices, speaking to a running server, and the office that gives them work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, text

from hub.db import Database, new_id
from hub.models import OrderException, WorkOrder
from hub.private.cluster import PrivateCluster
from hub.settings import Settings
from hub.work import orders
from tests.conftest import Live, ServerThread, copy_of, drop
from tests.hub.work.conftest import BY, Cast, people


@pytest.fixture(scope="package")
def served(cluster: PrivateCluster, template: str) -> Iterator[Live]:
    """One web server for all of these tests; its town lives by UTC."""
    url = copy_of(cluster, template)
    database = Database(url)
    settings = Settings(database_url=url, time_zone="UTC")
    thread = ServerThread(settings, database)
    yield Live(thread.started(), database, settings)
    thread.stop()
    database.dispose()
    drop(cluster, url)


@pytest.fixture
def live(served: Live) -> Iterator[Live]:
    """The server with an empty database behind it."""
    kept = {"hub_epoch", "alembic_version", "spatial_ref_sys"}
    with served.database.transaction() as session:
        found = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        named = ", ".join(f'"{name}"' for name in found if name not in kept)
        session.execute(text(f"TRUNCATE {named}"))
    yield served
    served.close()
    served._clients.clear()


@dataclass
class Device:
    """A crew's device: it keeps its orders and its cursor, and numbers its commands."""

    client: httpx.Client
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    cursor: str | None = None
    sent: int = 0

    def pull(self, **params: Any) -> list[dict[str, Any]]:
        """Ask for everything new, page by page; the changes, in order."""
        seen = []
        while True:
            asked = {**params, **({"cursor": self.cursor} if self.cursor else {})}
            answer = self.client.get("/mobile/v1/sync/changes", params=asked)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            self.cursor = page["cursor"]
            for change in page["changes"]:
                seen.append(change)
                if change["op"] == "upsert":
                    self.orders[change["id"]] = change["data"]
                else:
                    self.orders.pop(change["id"], None)
                    self.removed[change["id"]] = change["reason"]
            if not page["has_more"]:
                return seen

    def command(self, type: str, target: object = None, **more: Any) -> dict[str, Any]:
        """A command of the next number, against the revision the device knows."""
        self.sent += 1
        made = {"id": str(new_id()), "device_seq": self.sent, "type": type}
        if target is not None:
            made["target"] = str(target)
            if str(target) in self.orders:
                made["base_rev"] = self.orders[str(target)]["rev"]
        return made | more

    def push(self, *commands: dict[str, Any]) -> list[dict[str, Any]]:
        """Send commands; their results."""
        answer = self.client.post("/mobile/v1/sync/mutations", json={"commands": list(commands)})
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        assert [r["id"] for r in results] == [c["id"] for c in commands]
        return results

    def do(self, type: str, target: object = None, **more: Any) -> dict[str, Any]:
        """Send one command; its result."""
        return self.push(self.command(type, target, **more))[0]


@dataclass
class Field:
    """The crews' side and the office's side of one hub."""

    database: Database
    north: Device
    south: Device
    north_id: UUID
    south_id: UUID

    @contextmanager
    def office(self) -> Iterator[Cast]:
        """One transaction of the office, with the cast of the work tests."""
        with self.database.transaction() as session:
            yield self._cast(session)

    def _cast(self, session: Any) -> Cast:
        from hub.models import BillingSource, Crew

        crews = {crew.name: crew for crew in session.scalars(select(Crew))}
        return Cast(session, session.scalar(select(BillingSource.id)), crews["North"], crews["South"])

    def assigned(self, type: str = "reread", *, crew: UUID | None = None, **more: Any) -> str:
        """An order of a type at SP1, given to crew North (or another); its id."""
        with self.office() as cast:
            made = cast.shutoff(**more) if type == "shutoff" else cast.order(type, **more)
            orders.assign(cast.session, made.id, crew_id=crew or self.north_id, by=BY)
            return str(made.id)

    def order(self, id_: str) -> WorkOrder:
        """The order as the hub has it."""
        with self.database.transaction() as session:
            return session.get_one(WorkOrder, UUID(id_))

    def exceptions(self) -> list[str]:
        """Kinds of what waits for a dispatcher."""
        with self.database.transaction() as session:
            return list(session.scalars(select(OrderException.kind).order_by(OrderException.id)))

    def count(self, table: str) -> int:
        """Rows of a table."""
        with self.database.transaction() as session:
            return session.execute(select(func.count()).select_from(text(table))).scalar_one()


@pytest.fixture
def town(live: Live) -> Field:
    """A running hub with work to do."""
    with live.database.transaction() as session:
        cast = people(session)
        north, south = cast.north.id, cast.south.id
    devices = [Device(live.client("crew", crew_id=crew)) for crew in (north, south)]
    return Field(live.database, *devices, north, south)
