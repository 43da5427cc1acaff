"""A small place for work: a house whose account is on the cut list, two crews, a billing system that listens."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub import accounts, clock
from hub.accounts import Stamp
from hub.models import Change, Charge, Crew, OrderException, OutboundMessage, PlaceFact, WorkOrder
from hub.work import orders
from tests import factories

# a Tuesday morning in March: no holiday, within the hours of the default pack in UTC
TUESDAY = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
BY = "user:dispatcher@example.org"


def owing(session: Session, number: str, *, past_due: str = "180.00") -> None:
    """Make the account one that billing wants cut and the default policy allows: all facts fresh and complete."""
    now = clock.now(session)
    stamp = Stamp(now - timedelta(minutes=5))
    accounts.record_debt(session, number, past_due=Decimal(past_due), stamp=stamp)
    accounts.record_fact(session, number, accounts.DUE, {"due_since": str(now.date() - timedelta(days=90))}, stamp)
    accounts.record_fact(session, number, accounts.DELINQUENCY, {"stage": "cut"}, stamp)
    sent = now - timedelta(days=20)
    accounts.record_fact(
        session,
        number,
        f"{accounts.NOTICE}mail:{sent.isoformat()}",
        {"channel": "mail", "sent_at": sent.isoformat()},
        stamp,
    )


@dataclass
class Cast:
    """What the tests play with."""

    session: Session
    source_id: UUID
    north: Crew
    south: Crew

    def shutoff(self, **more: Any) -> WorkOrder:
        """A shutoff of A1 at SP1."""
        asked = {"account": "A1", "service_point": "SP1", "source_id": self.source_id, "amount_due": Decimal("180.00")}
        return orders.open_order(self.session, type="shutoff", by="billing:city", **{**asked, **more}).order

    def order(self, type: str = "reread", **more: Any) -> WorkOrder:
        """Other work at SP1."""
        asked = {"account": "A1", "service_point": "SP1", "source_id": self.source_id}
        return orders.open_order(self.session, type=type, by="billing:city", **{**asked, **more}).order

    def assigned(self, order: WorkOrder) -> WorkOrder:
        """The order with crew North."""
        return orders.assign(self.session, order.id, crew_id=self.north.id, by=BY)

    def on_site(self, order: WorkOrder) -> WorkOrder:
        """The order with crew North at the place."""
        self.assigned(order)
        orders.start_travel(self.session, order.id, by="crew:North", crew_id=self.north.id)
        return orders.arrive(self.session, order.id, by="crew:North", crew_id=self.north.id)

    def told(self, order: WorkOrder | None = None) -> list[str]:
        """Types of the messages owed to billing (about an order), in order."""
        statement = select(OutboundMessage.type).order_by(OutboundMessage.seq)
        if order is not None:
            statement = statement.where(OutboundMessage.order_id == order.id)
        return list(self.session.scalars(statement))

    def message(self, order: WorkOrder, type: str) -> dict[str, Any]:
        """The data of the only message of a type about an order."""
        (body,) = self.session.scalars(
            select(OutboundMessage.body).where(OutboundMessage.order_id == order.id, OutboundMessage.type == type)
        ).all()
        data: dict[str, Any] = body["data"]
        return data

    def verbs(self, order: WorkOrder) -> list[str]:
        """The order's timeline, as verbs."""
        return list(
            self.session.scalars(select(Change.verb).where(Change.order_id == order.id).order_by(Change.cursor))
        )

    def exceptions(self) -> list[str]:
        """Kinds of what waits for a dispatcher."""
        return list(self.session.scalars(select(OrderException.kind).order_by(OrderException.id)))

    def billed(self, account: str = "A1") -> Decimal:
        """The sum of an account's invoice lines."""
        total = self.session.scalar(select(func.sum(Charge.amount)).where(Charge.account == account))
        return total if total is not None else Decimal(0)


def people(session: Session) -> Cast:
    """The cast, in a fresh or rolled-back database."""
    clock.set_clock(session, business_at=TUESDAY, rate=1)
    factories.zone(session)
    source = factories.source(session, endpoint="https://billing.example.org/hook")
    source.heard_at = clock.now(session)
    source.as_of = clock.now(session)
    factories.service_point(session, zone="Z1", address="12 Main Street")
    factories.service_point(session, "SP2", zone="Z1", lon=0.6)
    session.execute(update(PlaceFact).values(since=TUESDAY - timedelta(days=400)))
    factories.account(session, source_id=source.id)
    factories.account(session, "A2", at=None, source_id=source.id)
    factories.meter(session)
    owing(session, "A1")
    cast = Cast(session, source.id, factories.crew(session), factories.crew(session, "South"))
    session.flush()
    return cast


@pytest.fixture
def cast(session: Session) -> Cast:
    """The cast on a database that forgets."""
    return people(session)
