"""The stage of the stories: a small town, the hub's processes, a billing office, a dispatcher and crews."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import select, text
from uuid_utils.compat import uuid7

from hub import auth, clock
from hub.db import Database
from hub.models import Crew, WorkOrder
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from tests import factories
from tests.conftest import copy_of, drop
from tests.flows.billing_office import BillingOffice
from tests.flows.processes import Processes

LOCAL = ZoneInfo("America/Chicago")
# a Tuesday morning: an ordinary working day on which a cut is lawful
MORNING = datetime(2026, 3, 3, 9, 0, tzinfo=LOCAL)
PATIENCE_S = 60.0


def eventually(what: str, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true thing that `look` returns; fails with `what` when none comes."""
    deadline = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


class Phone:
    """A crew's device: it may be offline, and sends what it collected when it is back."""

    def __init__(self, url: str, token: str, crew: UUID) -> None:
        self.crew = crew
        self.web = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        self.cursor: str | None = None
        self.orders: dict[str, dict[str, Any]] = {}
        self.queue: list[dict[str, Any]] = []
        self.online = True
        self.device_seq = 0

    def sync(self) -> None:
        """Fetch all changes."""
        while True:
            answer = self.web.get("/mobile/v1/sync/changes", params={"cursor": self.cursor} if self.cursor else {})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            for change in page["changes"]:
                if change["type"] == "work_order":
                    if change["op"] == "remove":
                        self.orders.pop(change["id"], None)
                    else:
                        self.orders[change["id"]] = change["data"] | {"rev": change["rev"]}
            self.cursor = page["cursor"]
            if not page["has_more"]:
                return

    def sees(self, order_id: str) -> dict[str, Any]:
        """The order on the phone, as soon as it is there."""

        def look() -> dict[str, Any] | None:
            self.sync()
            return self.orders.get(order_id)

        found: dict[str, Any] = eventually(f"order {order_id} on the phone", look)
        return found

    def does(self, type: str, order_id: str, *, at: datetime | None = None, **more: Any) -> dict[str, Any]:
        """Tap something. Online it is sent at once and its result returned; offline it waits in the queue."""
        self.device_seq += 1
        command = {
            "id": str(uuid7()),
            "device_seq": self.device_seq,
            "type": type,
            "target": order_id,
            "base_rev": self.orders.get(order_id, {}).get("rev"),
            "observed_at": (at or MORNING).astimezone(UTC).isoformat().replace("+00:00", "Z"),
            **more,
        }
        self.queue.append(command)
        return self.send()[-1] if self.online else {}

    def send(self) -> list[dict[str, Any]]:
        """Send the queue; commands leave it only when the hub has answered."""
        answer = self.web.post("/mobile/v1/sync/mutations", json={"mutations": self.queue})
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        assert [r["id"] for r in results] == [c["id"] for c in self.queue]
        self.queue = []
        return results


class Story:
    """A town with one zone and a few houses, and everybody who works in it."""

    def __init__(self, database: Database, processes: Processes, billing: BillingOffice) -> None:
        self.database, self.processes, self.billing = database, processes, billing
        billing.hub = processes.url
        with database.transaction() as session:
            clock.set_clock(session, business_at=MORNING)
            factories.zone(session)
            source = factories.source(session, billing.name, endpoint=billing.url)
            self.source_id = source.id
            dispatcher = auth.create_token(session, name="dispatcher", role="dispatcher")
            admin = auth.create_token(session, name="admin", role="supervisor")
        self.dispatcher = httpx.Client(
            base_url=processes.url, headers={"Authorization": f"Bearer {dispatcher}"}, timeout=60
        )
        self.supervisor = httpx.Client(base_url=processes.url, headers={"Authorization": f"Bearer {admin}"}, timeout=60)
        self.phones: list[Phone] = []

    def close(self) -> None:
        """Hang up."""
        for client in (self.dispatcher, self.supervisor, *(phone.web for phone in self.phones)):
            client.close()

    def house(self, id: str, account: str | None, *, serial: str | None = None, step: int = 0) -> None:
        """A house with a meter, and the account that lives there (None: vacant)."""
        with self.database.transaction() as session:
            factories.service_point(session, id, zone="Z1", lon=0.5 + step / 1000)
            factories.meter(session, serial or f"M-{id}", at=id)
            if account:
                factories.account(session, account, at=id, source_id=self.source_id)

    def crew(self, name: str) -> Phone:
        """A crew with a phone."""
        with self.database.transaction() as session:
            crew: Crew = factories.crew(session, name)
            token = auth.create_token(session, name=f"{name}'s phone", role="crew", crew_id=crew.id)
        self.phones.append(Phone(self.processes.url, token, crew.id))
        return self.phones[-1]

    def it_is(self, moment: datetime) -> None:
        """The town's clock now shows `moment`."""
        with self.database.transaction() as session:
            clock.set_clock(session, business_at=moment)

    def lease_time_passes(self) -> None:
        """What a killed worker had in hand may be taken by the next, as after half a minute; no other worker runs."""
        with self.database.transaction() as session:
            for table in ("outbound_message", "job_run"):
                session.execute(
                    text(f"UPDATE {table} SET leased_until = clock_timestamp() WHERE leased_until > clock_timestamp()")
                )

    def job_is_due(self, job: str) -> None:
        """The time of a scheduled job has come; returns when the worker has done it without an error."""
        insert = text(
            "INSERT INTO job_run (job, scheduled_for) VALUES (:job, clock_timestamp()) RETURNING scheduled_for"
        )
        done = text("SELECT error FROM job_run WHERE job = :job AND scheduled_for >= :at AND finished_at IS NOT NULL")
        with self.database.transaction() as session:
            at = session.scalar(insert, {"job": job})

        def look() -> list[str | None]:
            with self.database.transaction() as session:
                return list(session.scalars(done, {"job": job, "at": at}))

        assert not any(eventually(f"{job} done", look)), self.processes.log("worker")

    def imports(self, kind: str, file: bytes) -> None:
        """The supervisor hands in a file."""
        answer = self.supervisor.post(f"/api/v1/imports/{kind}", content=file)
        assert answer.status_code == 200, answer.text

    # ---- what billing says

    def billing_knows(self, account: str, place: str, *, past_due: str, at: datetime = MORNING) -> None:
        """The account is long overdue, was told twice, and its balance is fresh."""
        told = [
            {"channel": "mail", "sent_at": rfc3339(at - timedelta(days=30))},
            {"channel": "sms", "sent_at": rfc3339(at - timedelta(days=12))},
        ]
        self.billing.says(
            "account.delinquent",
            at=rfc3339(at),
            account=account,
            service_point=place,
            amount_due=past_due,
            currency="USD",
            due_since=(at - timedelta(days=95)).date().isoformat(),
            stage="cut",
            cut_list=f"list-{uuid4().hex[:8]}",
            notices=told,
        )

    def owed(self, order: dict[str, Any]) -> Decimal | None:
        """The debt an order stands for; dispatchers see only its band."""
        with self.database.transaction() as session:
            return session.scalar(select(WorkOrder.amount_due).where(WorkOrder.id == UUID(order["id"])))

    # ---- what the dispatcher sees and does

    def order(self, id: str) -> dict[str, Any]:
        """An order as the dispatcher sees it."""
        answer = self.dispatcher.get(f"/api/v1/work-orders/{id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def orders(self, **wanted: str) -> list[dict[str, Any]]:
        """The orders that match a filter of the work list."""
        answer = self.dispatcher.get("/api/v1/work-orders", params=wanted)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def sees_order(self, type: str, account: str, status: str = "ready") -> dict[str, Any]:
        """The order of this type for this account, as soon as it is in this status."""
        seen: dict[str, Any] = {}

        def look() -> dict[str, Any] | None:
            found = self.orders(type=type, account=account)
            seen["last"] = [(o["status"], o["reasons"], o["earliest_at"]) for o in found]
            return next((o for o in found if o["status"] == status), None)

        try:
            found: dict[str, Any] = eventually(f"{type} of {account} {status}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is {seen}; worker: {self.processes.log('worker')[-1500:]}") from None
        return found

    def sees_status(self, id: str, status: str) -> dict[str, Any]:
        """The order, as soon as it is in this status."""
        eventually(f"order {id} {status}", lambda: self.order(id)["status"] == status)
        return self.order(id)

    def assigns(self, order: dict[str, Any], phone: Phone) -> None:
        """Give an order to a crew."""
        answer = self.verb(order["id"], "assign", crew=str(phone.crew))
        assert answer.status_code == 200, answer.text

    def verb(self, id: str, verb: str, **body: Any) -> httpx.Response:
        """One verb on an order, with the revision just seen."""
        rev = self.order(id)["rev"]
        return self.dispatcher.post(f"/api/v1/work-orders/{id}/{verb}", json=body, headers={"If-Match": f'"{rev}"'})

    def quiet(self) -> None:
        """Nothing waits in the inbox or in the outbox."""

        def look() -> bool:
            waiting = self.supervisor.get("/api/v1/billing-events", params={"status": "pending"}).json()["items"]
            owed = self.supervisor.get("/api/v1/outbound-messages", params={"status": "pending"}).json()["items"]
            return not waiting and not owed

        eventually("a quiet hub", look)


def rfc3339(moment: datetime) -> str:
    """The moment in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Stage:
    """Running processes on an empty hub, and the billing office they deliver to."""

    database: Database
    processes: Processes
    billing: BillingOffice


@pytest.fixture(scope="package")
def stage(
    cluster: PrivateCluster, template: str, broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """The three processes, started once for all stories."""
    url = copy_of(cluster, template)
    stage = Stage(Database(url), Processes(url, broker.url, tmp_path_factory.mktemp("hub")), BillingOffice())
    stage.processes.start_all()
    try:
        yield stage
    finally:
        stage.processes.stop()
        stage.billing.close()
        stage.database.dispose()
        drop(cluster, url)


@pytest.fixture
def story(stage: Stage) -> Iterator[Story]:
    """A town of its own on the running processes; nothing of it is left for the next story."""
    told = Story(stage.database, stage.processes, stage.billing)
    try:
        yield told
    finally:
        told.close()
        wipe(stage.database)
        stage.billing.forget()
    assert stage.billing.forged == 0


def wipe(database: Database) -> None:
    """Empty every table while the servers run, but what a migrated database begins with."""
    kept = ("alembic_version", "hub_epoch", "spatial_ref_sys")
    with database.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        tables = session.scalars(
            text(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            )
        ).all()
        for table in tables:
            if table not in kept:
                session.execute(text(f'DELETE FROM "{table}"'))
