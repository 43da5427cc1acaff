"""A town of two places and two accounts whose billing system sends events; business time stands on a Monday morning."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import clock
from hub.billing import inbox
from hub.db import Database, new_id
from hub.models import BillingEvent, WorkOrder
from hub.work import policy
from tests import factories

ZONE = ZoneInfo("America/Chicago")
# A Monday, ten in the morning in the utility's time zone.
NOW = datetime(2026, 11, 16, 10, 0, tzinfo=ZONE)


@pytest.fixture(autouse=True)
def in_force() -> None:
    """The shipped pack in the utility's time zone."""
    policy.use(zone=ZONE)


def event(type: str, *, at: datetime = NOW, seq: int | None = None, reference: str | None = None, **data: Any) -> bytes:
    """The canonical body of an event; account A1 unless told otherwise."""
    inner = {"account": "A1", **data}
    if inner["account"] is None:
        del inner["account"]
    if seq is not None:
        inner["seq"] = seq
    if reference is not None:
        inner["reference"] = reference
    return json.dumps({"type": type, "timestamp": at.isoformat(), "data": inner}).encode()


def delinquent(amount: str = "120.00", **more: Any) -> bytes:
    """A debt old enough, announced long enough ago, to be cut for."""
    fields: dict[str, Any] = {
        "service_point": "SP1",
        "amount_due": amount,
        "currency": "USD",
        "due_since": "2026-08-01",
        "stage": "cut",
        "notices": [{"channel": "mail", "sent_at": (NOW - timedelta(days=20)).isoformat()}],
    }
    return event("account.delinquent", **(fields | more))


def signed(
    body: bytes, *, secret: str = factories.SECRET, webhook_id: str | None = None, at: datetime | None = None
) -> dict[str, str]:
    """Standard Webhooks headers, made independently of the hub's own code."""
    id_, stamp = webhook_id or new_id().hex, str(int((at or datetime.now(UTC)).timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id_,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        "content-type": "application/json",
    }


@dataclass
class Town:
    """Sends events into one session's inbox and looks at what came of them."""

    session: Session
    source_id: UUID
    source: str = "city"
    sent: list[UUID] = field(default_factory=list)

    @property
    def sender(self) -> inbox.Sender:
        """The billing system as the door knows it."""
        found = inbox.sender_called(self.session, self.source)
        assert found is not None
        return found

    def send(self, *bodies: bytes) -> BillingEvent:
        """Receive and process each body; the last one's row."""
        for body in bodies:
            self.sent.append(self.keep(new_id().hex, body))
            self.process()
        return self.row(self.sent[-1])

    def keep(self, webhook_id: str, body: bytes) -> UUID:
        """Receive a body and leave it waiting; its id."""
        return inbox.receive(self.session, sender=self.sender, webhook_id=webhook_id, body=body).event_id

    def process(self) -> None:
        """Process what is pending, in this session."""
        while inbox.process_next(self.session):
            pass

    def row(self, event_id: UUID) -> BillingEvent:
        """An event as it stands."""
        return self.session.scalars(
            select(BillingEvent).where(BillingEvent.id == event_id), execution_options={"populate_existing": True}
        ).one()

    def orders(self, type: str | None = None) -> list[WorkOrder]:
        """All orders, or those of a type, in the order of their opening."""
        statement = select(WorkOrder).order_by(WorkOrder.number)
        if type is not None:
            statement = statement.where(WorkOrder.type == type)
        return list(self.session.scalars(statement, execution_options={"populate_existing": True}))

    def one(self, type: str = "shutoff") -> WorkOrder:
        """The only order of a type."""
        found = self.orders(type)
        assert len(found) == 1, [(o.number, o.status) for o in found]
        return found[0]

    def at(self, moment: datetime) -> None:
        """Let business time be this moment."""
        clock.set_clock(self.session, business_at=moment, rate=0)


def populate(session: Session) -> UUID:
    """Two places with meters, two accounts, a crew, a billing system; business time stands still. The source's id."""
    clock.set_clock(session, business_at=NOW, rate=0)
    source = factories.source(session)
    factories.zone(session)
    for place, lon in (("SP1", 0.5), ("SP2", 0.6)):
        factories.service_point(session, place, zone="Z1", lon=lon)
        factories.meter(session, f"M-{place}", at=place)
    factories.account(session, "A1", at="SP1", source_id=source.id)
    factories.account(session, "A2", at="SP2", source_id=source.id)
    factories.crew(session)
    return source.id


@pytest.fixture
def town(session: Session) -> Town:
    """The town in a session that is rolled back."""
    return Town(session, populate(session))


def populated(database: Database) -> UUID:
    """The town, committed to a database of the test's own."""
    with database.transaction() as session:
        return populate(session)
