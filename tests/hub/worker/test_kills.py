"""Workers killed at twenty seeded instants: every event has one effect, every message arrives, none out of order."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from hub import clock
from hub.billing import inbox
from hub.db import Database
from hub.models import BillingEvent, OutboundMessage, WorkOrder
from tests import factories
from tests.hub.outbox.receivers import Receiver, answer, receiving
from tests.hub.work.conftest import TUESDAY

SEED = int(os.environ.get("KILL_SEED", "20260301"))
KILLS = 20
EVENTS = 60
PLACES = 12


class Nursery:
    """Starts workers and kills them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.worker.nursery", database.url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        self._database = database

    def worker(self) -> int:
        """The process id of a new worker."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def kill(self, worker: int) -> None:
        """Kill a worker, then let the time of its leases pass."""
        os.kill(worker, signal.SIGKILL)
        with self._database.transaction() as session:
            session.execute(
                text("UPDATE outbound_message SET leased_until = clock_timestamp() WHERE leased_until > now()")
            )
            session.execute(text("UPDATE job_run SET leased_until = clock_timestamp() WHERE leased_until > now()"))

    def close(self) -> None:
        """End the nursery."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def nursery(database: Database, tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(database, tmp_path)
    yield made
    made.close()


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def town(database: Database, receiver: Receiver) -> object:
    with database.transaction() as session:
        clock.set_clock(session, business_at=TUESDAY)
        source = factories.source(session, endpoint=receiver.url)
        for number in range(PLACES):
            factories.service_point(session, f"SP{number}", lon=0.5 + number / 100)
            factories.account(session, f"A{number}", at=f"SP{number}", source_id=source.id)
        return source.id


def send(database: Database, source_id: object, number: int) -> None:
    """Event `number`: a reread requested, or cancelled again two events later; twice each, as billing systems do."""
    place, step = number % PLACES, number // PLACES
    data: dict[str, object] = {"account": f"A{place}", "reference": f"R{place}-{step // 2}", "seq": step + 1}
    kind = "service.cancelled"
    if step % 2 == 0:
        kind = "service.requested"
        data |= {"service_point": f"SP{place}", "work_type": "reread"}
    at = (TUESDAY + timedelta(seconds=number)).isoformat()
    body = json.dumps({"type": kind, "timestamp": at, "data": data}).encode()
    for _ in range(2):
        with database.transaction() as session:
            sender = inbox.sender_called(session, "city")
            assert sender is not None
            inbox.receive(session, sender=sender, webhook_id=f"evt_{number}", body=body)


def settled(database: Database) -> bool:
    """Whether nothing waits any more; the waiting time of retries passes at once."""
    with database.transaction() as session:
        for table in ("outbound_message", "billing_event"):
            session.execute(
                text(f"UPDATE {table} SET next_attempt_at = now() WHERE status = 'pending' AND next_attempt_at > now()")
            )
        waiting = session.scalar(select(func.count()).select_from(BillingEvent).where(BillingEvent.status == "pending"))
        owed = session.scalar(
            select(func.count()).select_from(OutboundMessage).where(OutboundMessage.status != "delivered")
        )
        return waiting == 0 and owed == 0


def test_kill_9_of_the_worker_loses_nothing_and_doubles_nothing(database: Database, nursery: Nursery):
    chance = random.Random(SEED)
    lock, accepted = threading.Lock(), []

    def respond(number: int) -> bytes:
        time.sleep(0.02)
        with lock:
            if number % 9 == 4:
                return answer(500, "retry-after: 0")
            accepted.append(number)
        return answer(200)

    with receiving(respond) as receiver:
        source_id = town(database, receiver)
        number = 0
        for _ in range(KILLS):
            worker = nursery.worker()
            for _ in range(EVENTS // KILLS):
                send(database, source_id, number)
                number += 1
            time.sleep(chance.uniform(0.05, 0.9))
            nursery.kill(worker)
        last = nursery.worker()
        until(lambda: settled(database))
        with contextlib.suppress(ProcessLookupError):
            os.kill(last, signal.SIGTERM)
        delivered = [receiver.requests[n] for n in sorted(accepted)]
    judge(database, [(r.headers["webhook-id"], json.loads(r.body)) for r in delivered])


def judge(database: Database, delivered: list[tuple[str, dict[str, object]]]) -> None:
    """Compare what the receiver got with what is on record."""
    with database.transaction() as session:
        statuses = dict(session.execute(select(BillingEvent.status, func.count()).group_by(BillingEvent.status)).all())
        orders = session.execute(select(WorkOrder.reference, WorkOrder.status)).all()
        closing = {
            str(id_)
            for id_ in session.scalars(
                select(OutboundMessage.id).where(
                    OutboundMessage.type == "work_order.closed", OutboundMessage.status == "pending"
                )
            )
        }
        told = [
            (message.type.removeprefix("work_order."), message.body["data"]["reference"])
            for message in session.scalars(select(OutboundMessage).order_by(OutboundMessage.seq))
        ]
        owed = {
            str(id_): (str(order), seq)
            for id_, order, seq in session.execute(
                select(OutboundMessage.id, OutboundMessage.order_id, OutboundMessage.seq)
            )
        }
    # a first try that was cut off lets the next word of its account come first: a request is then overtaken by its own
    # cancellation and opens nothing, or joins the order whose cancellation is still to come
    assert sum(statuses.values()) == EVENTS and set(statuses) <= {"applied", "superseded", "joined"}
    # whatever came first: at each place the last request is the one that is open
    last = {f"R{place}-{(EVENTS // PLACES - 1) // 2}" for place in range(PLACES)}
    assert sorted(reference for reference, status in orders if status == "ready") == sorted(last)
    assert len(orders) == len({reference for reference, _ in orders})
    # and billing was told of each request at most once that it is open and once that it is not
    for reference in {f"R{place}-{turn}" for place in range(PLACES) for turn in range(EVENTS // PLACES // 2 + 1)}:
        heard = [kind for kind, of in told if of == reference and kind != "closed"]
        assert heard in ([["opened"]] if reference in last else [[], ["opened", "cancelled"]]), (reference, heard)
    # orders close by themselves once all else is delivered: the word of it may be written when the worker is stopped
    assert {id_ for id_, _ in delivered} | closing == set(owed)
    first_seen = list(dict.fromkeys(id_ for id_, _ in delivered))
    per_order: dict[str, list[int]] = {}
    for id_ in first_seen:
        order, seq = owed[id_]
        per_order.setdefault(order, []).append(seq)
    assert all(seqs == sorted(seqs) for seqs in per_order.values())
    bodies: dict[str, dict[str, object]] = {}
    for id_, body in delivered:
        assert bodies.setdefault(id_, body) == body


def test_a_worker_outlives_its_connections(database: Database, nursery: Nursery):
    with receiving([answer(200)]) as receiver:
        source_id = town(database, receiver)
        worker = nursery.worker()
        for number in range(EVENTS):
            send(database, source_id, number)
            if number % 12 == 0:
                until(lambda seen=len(receiver.requests): len(receiver.requests) > seen)
                _cut_connections(database)
        until(lambda: settled(database))
        os.kill(worker, signal.SIGTERM)
        until(lambda: _ended(database))
    judge(database, [(r.headers["webhook-id"], json.loads(r.body)) for r in receiver.requests])


def _cut_connections(database: Database) -> None:
    with database.transaction() as session:
        mine = "application_name = 'curbstop worker' AND datname = current_database()"
        session.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
        session.execute(text("UPDATE outbound_message SET leased_until = now() WHERE leased_until > now()"))


def test_a_worker_ends_in_order_when_asked(database: Database, nursery: Nursery):
    with receiving([answer(200)]) as receiver:
        source_id = town(database, receiver)
        worker = nursery.worker()
        send(database, source_id, 0)
        until(lambda: len(receiver.requests) >= 1)
        os.kill(worker, signal.SIGTERM)
        until(lambda: _ended(database))
        with database.transaction() as session:
            leased = select(func.count()).select_from(OutboundMessage).where(OutboundMessage.leased_until.is_not(None))
            assert session.scalar(leased) == 0


def _ended(database: Database) -> bool:
    with database.transaction() as session:
        running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'curbstop worker'"
        mine = " AND datname = current_database()"
        return session.execute(text(running + mine)).scalar_one() == 0
