"""Delivery against real receivers: the retry stories, order, fencing, parking. Time moves in the database, not here."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from adapters.billing.signatures import verify
from hub import outbox
from hub.db import Database
from hub.guarded import Guard
from hub.models import BillingSource, Change, DeliveryAttempt, OutboundMessage
from hub.outbox import delivery
from hub.outbox.schedule import DELAYS
from hub.outbox.sender import Sender
from tests import factories
from tests.hub.outbox.orders import order
from tests.hub.outbox.receivers import Receiver, answer, receiving

GUARD = Guard(["127.0.0.1/32"])
OK, FAIL = answer(200), answer(500)


@pytest.fixture
def owed(database: Database) -> "Owed":
    return Owed(database)


class Owed:
    """A billing source whose endpoint the test chooses, and what it is owed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as session:
            self.source_id = factories.source(session).id

    def to(self, receiver: Receiver) -> "Owed":
        with self.database.transaction() as session:
            session.execute(update(BillingSource).values(endpoint=receiver.url))
        return self

    def put(self, type: str = "work_order.opened", *, order_id: object = None, **data: object) -> object:
        with self.database.transaction() as session:
            return outbox.put(session, type=type, data=dict(data), order_id=order_id, source_id=self.source_id)[0]

    def order(self) -> object:
        with self.database.transaction() as session:
            return order(session, source=session.get(BillingSource, self.source_id)).id

    def message(self, id_: object) -> OutboundMessage:
        with self.database.transaction() as session:
            return session.get_one(OutboundMessage, id_)

    def due_now(self) -> None:
        """Let the waiting time of every pending message pass."""
        with self.database.transaction() as session:
            session.execute(
                update(OutboundMessage)
                .where(OutboundMessage.status == "pending")
                .values(next_attempt_at=text("clock_timestamp()"))
            )

    def deliver(self) -> int:
        return delivery.deliver_due(self.database, GUARD)

    def now(self) -> datetime:
        with self.database.transaction() as session:
            return session.execute(text("SELECT clock_timestamp()")).scalar_one()


def ids(receiver: Receiver) -> list[str]:
    return [request.headers["webhook-id"] for request in receiver.requests]


def test_ds_01_delivered_at_the_first_attempt(owed):
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put(account="A1", amount="35.00")
        assert owed.deliver() == 1
        assert owed.deliver() == 0
    (request,) = receiver.requests
    assert verify([factories.SECRET], request.headers, request.body, datetime.now(UTC)) == str(id_)
    assert request.line == "POST /hooks HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert request.body.startswith(b'{"type":"work_order.opened","timestamp":"')
    message = owed.message(id_)
    assert (message.status, message.tries, message.reason) == ("delivered", 1, None)
    assert message.delivered_at is not None


def test_ds_02_two_failures_then_delivered_with_one_id_and_fresh_signatures(owed):
    with receiving([FAIL, FAIL, OK]) as receiver:
        id_ = owed.to(receiver).put()
        for _ in range(3):
            assert owed.deliver() == 1
            owed.due_now()
            # timestamps are whole seconds: let the clock of the signatures pass into the next one
            last = int(receiver.requests[-1].headers["webhook-timestamp"])
            deadline = time.monotonic() + 30
            while owed.now().timestamp() < last + 1 and time.monotonic() < deadline:
                time.sleep(0.02)
    assert ids(receiver) == [str(id_)] * 3
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 3
    assert len({request.headers["webhook-signature"] for request in receiver.requests}) == 3
    assert len({request.body for request in receiver.requests}) == 1
    for request in receiver.requests:
        verify([factories.SECRET], request.headers, request.body, datetime.now(UTC))
    assert (owed.message(id_).status, owed.message(id_).tries) == ("delivered", 3)


def test_a_failure_waits_by_the_schedule_and_is_written_down(owed):
    with receiving([answer(503)]) as receiver:
        id_ = owed.to(receiver).put()
        for number, delay in enumerate(DELAYS, start=1):
            owed.due_now()
            before = owed.now()
            assert owed.deliver() == 1
            message = owed.message(id_)
            wait = (message.next_attempt_at - before).total_seconds()
            assert delay * 0.8 <= wait <= delay * 1.2 + (owed.now() - before).total_seconds()
            assert (message.status, message.tries) == ("pending", number)
            assert message.reason == "The endpoint answered 503."
            assert owed.deliver() == 0
    with owed.database.transaction() as session:
        attempts = session.scalars(select(DeliveryAttempt).order_by(DeliveryAttempt.attempt)).all()
    assert [(a.attempt, a.status_code) for a in attempts] == [(n, 503) for n in range(1, 11)]


def test_ds_03_retry_after_is_honoured(owed):
    with receiving([answer(429, "retry-after: 7"), OK]) as receiver:
        id_ = owed.to(receiver).put()
        before = owed.now()
        owed.deliver()
        assert owed.message(id_).next_attempt_at >= before + timedelta(seconds=7)
        owed.due_now()
        owed.deliver()
    assert owed.message(id_).status == "delivered"


def test_ds_04_a_redirect_is_a_failure_and_not_followed(owed):
    with receiving([OK]) as other, receiving([answer(302, f"location: {other.url}"), OK]) as receiver:
        id_ = owed.to(receiver).put()
        owed.deliver()
        assert other.connections == 0
        assert owed.message(id_).reason == "The endpoint answered 302."
        owed.due_now()
        owed.deliver()
    assert owed.message(id_).status == "delivered"


def test_ds_05_silence_ends_at_the_deadline_and_is_tried_again(owed, monkeypatch):
    impatient = Guard(["127.0.0.1/32"])
    patient_post = impatient.post
    monkeypatch.setattr(impatient, "post", lambda url, **rest: patient_post(url, **rest, total=0.5))
    with receiving([None, OK]) as receiver:
        id_ = owed.to(receiver).put()
        assert delivery.deliver_due(owed.database, impatient) == 1
        message = owed.message(id_)
        assert message.status == "pending"
        assert "did not answer within" in message.reason
        owed.due_now()
        assert delivery.deliver_due(owed.database, impatient) == 1
    assert (owed.message(id_).status, owed.message(id_).tries) == ("delivered", 2)


def test_ds_06_gone_parks_the_endpoint_and_the_queue_grows(owed):
    with receiving([answer(410), OK]) as receiver:
        first = owed.to(receiver).put()
        owed.deliver()
        others = [owed.put() for _ in range(3)]
        owed.due_now()
        assert owed.deliver() == 0
        assert len(receiver.requests) == 1
        assert owed.message(first).status == "parked"
        assert [owed.message(id_).status for id_ in others] == ["pending"] * 3
        with owed.database.transaction() as session:
            verbs = set(session.scalars(select(Change.verb)))
            assert {"message_parked", "endpoint_parked"} <= verbs
            outbox.replay(session, first, by="user:pat")
        assert owed.deliver() == 4
    assert sorted(ids(receiver)[1:]) == sorted(str(id_) for id_ in [first, *others])
    assert all(owed.message(id_).status == "delivered" for id_ in [first, *others])


def test_ds_07_a_2xx_status_line_counts_though_the_body_breaks_off(owed):
    with receiving([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", OK]) as receiver:
        id_ = owed.to(receiver).put()
        owed.deliver()
        owed.due_now()
        assert owed.deliver() == 0
    assert owed.message(id_).status == "delivered"


def test_ds_08_after_the_schedule_it_is_parked_and_replay_delivers_it(owed):
    healthy = threading.Event()
    with receiving(lambda n: OK if healthy.is_set() else FAIL) as receiver:
        id_ = owed.to(receiver).put()
        for _ in range(11):
            owed.due_now()
            assert owed.deliver() == 1
        assert (owed.message(id_).status, owed.message(id_).tries) == ("parked", 11)
        owed.due_now()
        assert owed.deliver() == 0
        with owed.database.transaction() as session:
            assert session.scalars(select(Change).where(Change.verb == "message_parked")).one().subject_id == str(id_)
            outbox.replay(session, id_, by="user:pat")
        healthy.set()
        assert owed.deliver() == 1
    assert set(ids(receiver)) == {str(id_)}
    assert len(receiver.requests) == 12
    assert owed.message(id_).status == "delivered"


def test_messages_of_one_order_leave_in_order_and_a_parked_one_holds_those_behind_it(owed):
    sick = threading.Event()
    sick.set()
    with receiving(lambda n: FAIL if sick.is_set() else OK) as receiver:
        owed.to(receiver)
        mine, other = owed.order(), owed.order()
        chain = [owed.put(f"step.{n}", order_id=mine) for n in range(3)]
        loose = owed.put(order_id=other)
        for _ in range(11):
            owed.due_now()
            owed.deliver()
        assert set(ids(receiver)) == {str(chain[0]), str(loose)}
        assert owed.message(chain[0]).status == "parked"
        assert [owed.message(id_).tries for id_ in chain[1:]] == [0, 0]
        sick.clear()
        owed.due_now()
        assert owed.deliver() == 0
        before = len(receiver.requests)
        with owed.database.transaction() as session:
            outbox.replay(session, chain[0], by="user:pat")
        assert owed.deliver() == 3
    assert ids(receiver)[before:] == [str(id_) for id_ in chain]


def test_a_claim_is_exclusive_until_its_lease_ends_and_the_late_one_is_fenced_off(owed):
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put()
        with owed.database.transaction() as session:
            (slow,) = delivery.claim(session, most=10)
        with owed.database.transaction() as session:
            assert delivery.claim(session, most=10) == []
            session.execute(text("UPDATE outbound_message SET leased_until = clock_timestamp()"))
        with owed.database.transaction() as session:
            (quick,) = delivery.claim(session, most=10)
        assert (slow.attempt, quick.attempt) == (1, 2)
        failed = delivery.Outcome(500, None, None, 1)
        with owed.database.transaction() as session:
            assert not delivery.finish(session, slow, failed)
        assert owed.message(id_).leased_until is not None
        assert delivery.deliver(owed.database, GUARD, quick)
    assert (owed.message(id_).status, owed.message(id_).tries) == ("delivered", 2)


def test_a_lease_outlasts_a_try_and_returns_within_forty_seconds(owed):
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put()
        with owed.database.transaction() as session:
            delivery.claim(session, most=1)
        lease = owed.message(id_).leased_until - owed.now()
        assert timedelta(seconds=20) < lease <= timedelta(seconds=40)


def test_a_secret_that_cannot_sign_is_a_failure_that_waits_for_mending(owed):
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put()
        with owed.database.transaction() as session:
            session.execute(update(BillingSource).values(secrets=["whsec_"]))
        owed.deliver()
        assert receiver.connections == 0
        assert (owed.message(id_).status, owed.message(id_).tries) == ("pending", 1)
        with owed.database.transaction() as session:
            session.execute(update(BillingSource).values(secrets=[factories.SECRET]))
        owed.due_now()
        owed.deliver()
    assert owed.message(id_).status == "delivered"


def test_during_a_rotation_both_secrets_sign(owed):
    new = "whsec_" + "QUJD" * 12
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put()
        with owed.database.transaction() as session:
            session.execute(update(BillingSource).values(secrets=[new, factories.SECRET]))
        owed.deliver()
    (request,) = receiver.requests
    for secret in (new, factories.SECRET):
        assert verify([secret], request.headers, request.body, datetime.now(UTC)) == str(id_)


def test_a_refused_address_gets_no_byte(owed):
    with receiving([OK]) as receiver:
        id_ = owed.to(receiver).put()
        assert delivery.deliver_due(owed.database, Guard()) == 1
        assert receiver.connections == 0
    assert "public internet" in owed.message(id_).reason


def test_endpoints_silent_for_five_days_are_parked(owed):
    with receiving([FAIL]) as receiver:
        owed.to(receiver).put()
        owed.deliver()
        with owed.database.transaction() as session:
            delivery.park_silent_endpoints(session)
            assert session.scalar(select(BillingSource.parked_at)) is None
            session.execute(text("UPDATE outbound_message SET created_at = now() - interval '121 hours'"))
            delivery.park_silent_endpoints(session)
            session.expire_all()
            assert session.scalar(select(BillingSource.parked_at)) is not None


@pytest.fixture
def senders(owed) -> Iterator[list[Sender]]:
    stopping = threading.Event()
    made = [Sender(owed.database, GUARD, poll_s=0.05) for _ in range(2)]
    threads = [threading.Thread(target=sender.run, args=(stopping,)) for sender in made]
    for thread in threads:
        thread.start()
    yield made
    stopping.set()
    for thread in threads:
        thread.join()


def test_two_senders_deliver_everything_in_order_and_nothing_twice(owed, senders):
    with receiving(lambda n: FAIL if n % 7 == 3 else OK) as receiver:
        owed.to(receiver)
        orders = [owed.order() for _ in range(6)]
        chains = {order_id: [owed.put(f"step.{n}", order_id=order_id) for n in range(8)] for order_id in orders}
        wanted = {str(id_) for chain in chains.values() for id_ in chain}
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with owed.database.transaction() as session:
                if not session.scalar(select(OutboundMessage.id).where(OutboundMessage.status != "delivered").limit(1)):
                    break
            owed.due_now()
            time.sleep(0.05)
    accepted = [id_ for n, id_ in enumerate(ids(receiver)) if n % 7 != 3]
    assert sorted(accepted) == sorted(wanted)
    for chain in chains.values():
        mine = [str(id_) for id_ in chain]
        assert [id_ for id_ in accepted if id_ in mine] == mine


def test_a_slow_destination_leaves_room_for_another(owed, senders):
    with receiving([None]) as slow, receiving([OK]) as quick:
        owed.to(slow)
        for _ in range(40):
            owed.put()
        with owed.database.transaction() as session:
            other = factories.source(session, "county", endpoint=quick.url)
        with owed.database.transaction() as session:
            (id_,) = outbox.put(session, type="x", data={}, source_id=other.id)
        deadline = time.monotonic() + 60
        while owed.message(id_).status != "delivered":
            assert time.monotonic() < deadline
            time.sleep(0.05)
