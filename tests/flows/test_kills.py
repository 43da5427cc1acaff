"""A working day during which web, worker and ingest are each killed twenty times: nothing is lost, nothing doubled."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import func, insert, select

from hub.models import BillingEvent, Charge, Device, Meter, OutboundMessage, Reading, WorkOrder
from hub.private.broker import PrivateBroker
from tests.flows.conftest import MORNING, Phone, Story, eventually, rfc3339

KILLS_EACH = 20
HOUSES = 40
READINGS_EACH = 20
SEED = int(os.environ.get("KILL_SEED", "20260303"))


def insist(send: Callable[[], httpx.Response], stop: threading.Event) -> httpx.Response | None:
    """What a careful client does: repeat the same request until the hub answers."""
    while not stop.is_set():
        try:
            answer = send()
            if answer.status_code < 500:
                return answer
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    return None


def work_through(story: Story, phone: Phone, stop: threading.Event) -> None:
    """The dispatcher assigns what is ready; the crew does it, repeating a command with its id until it is answered."""
    while not stop.is_set():
        listed = insist(lambda: story.dispatcher.get("/api/v1/work-orders", params={"status": "ready"}), stop)
        for order in listed.json()["items"] if listed is not None else []:
            insist(
                lambda order=order: story.dispatcher.post(
                    f"/api/v1/work-orders/{order['id']}/assign",
                    json={"crew": str(phone.crew)},
                    headers={"If-Match": f'"{order["rev"]}"'},
                ),
                stop,
            )
        try:
            phone.sync()
        except (httpx.TransportError, AssertionError):
            continue
        for id, order in list(phone.orders.items()):
            if order["status"] == "assigned":
                phone.online = False
                phone.does("start_travel", id)
                phone.does("arrive", id)
                phone.does("complete", id, answers=answers(order))
                phone.online = True
                batch = {"mutations": phone.queue}
                insist(lambda batch=batch: phone.web.post("/mobile/v1/sync/mutations", json=batch), stop)
                phone.queue = []
        time.sleep(0.05)


def answers(order: dict[str, Any]) -> dict[str, Any]:
    """A plain completion of a shutoff."""
    return {
        "code": "cut_and_locked",
        "reading": {"value": "1042", "unit": "m3", "how": "dial"},
        "meter_serial": f"M-{order['service_point']}" if isinstance(order["service_point"], str) else "M-?",
        "valve_before": "open",
        "valve_after": "closed",
        "final_contact": "nobody_answered",
        "lock_number": "L1",
    }


class Killer(threading.Thread):
    """Kills a process at seeded instants of its life and starts it again, as a supervisor would."""

    def __init__(self, story: Story, name: str, seed: int) -> None:
        super().__init__()
        self.story, self.process, self.dice = story, name, random.Random(seed)
        self.kills = 0
        self.failure: AssertionError | None = None

    def run(self) -> None:
        """One life after the other."""
        try:
            for life in range(1, KILLS_EACH + 1):
                self.story.processes.await_up(self.process, life)
                time.sleep(self.dice.uniform(0, 1))
                self.story.processes.kill(self.process)
                self.kills += 1
                if self.process == "worker":
                    self.story.lease_time_passes()
                self.story.processes.start(self.process)
            self.story.processes.await_up(self.process, KILLS_EACH + 1)
        except AssertionError as error:
            self.failure = error


def test_killed_twenty_times_each_nothing_is_lost_and_nothing_doubled(story: Story, broker: PrivateBroker) -> None:
    for n in range(HOUSES):
        story.house(f"H{n}", f"ACC{n}", step=n)
    north = story.crew("North")
    with story.database.transaction() as session:
        session.execute(insert(Meter), [{"serial": f"R{n}", "unit": "m3"} for n in range(HOUSES)])
        long_ago = MORNING - timedelta(days=900)
        session.execute(
            insert(Device),
            [{"device": f"dev{n}", "meter": f"R{n}", "unit": "m3", "valid_from": long_ago} for n in range(HOUSES)],
        )
    stop = threading.Event()
    killers = [Killer(story, name, SEED + i) for i, name in enumerate(("web", "worker", "ingest"))]
    crew = threading.Thread(target=work_through, args=(story, north, stop))
    publisher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    publisher.connect("127.0.0.1", broker.port)
    publisher.loop_start()
    for thread in (*killers, crew):
        thread.start()
    try:
        a_days_work(story, publisher, killers)
        for killer in killers:
            killer.join()
            assert killer.failure is None, killer.failure
        # After the last kill the day's work is finished by itself.
        eventually("every cut closed", lambda: closed(story) == HOUSES, patience_s=180)
        eventually("every reading stored", lambda: readings(story) == HOUSES * READINGS_EACH, patience_s=60)
    finally:
        stop.set()
        for thread in (*killers, crew):
            thread.join()
        publisher.loop_stop()

    with story.database.transaction() as session:
        orders = session.scalar(select(func.count()).select_from(WorkOrder))
        outcomes = Counter(session.scalars(select(BillingEvent.status)))
        charges = Counter(session.scalars(select(Charge.account)))
        undelivered = session.scalar(
            select(func.count()).select_from(OutboundMessage).where(OutboundMessage.status != "delivered")
        )
    assert orders == HOUSES
    assert set(outcomes) <= {"applied", "joined", "superseded"}
    assert undelivered == 0
    lines = Counter(line["account"] for line in story.billing.events("charge.created"))
    assert lines == charges
    assert set(lines) == {f"ACC{n}" for n in range(HOUSES)}
    assert set(lines.values()) == {1}
    assert Counter(e["account"] for e in story.billing.events("service.disconnected")) == Counter(lines.keys())


def a_days_work(story: Story, publisher: mqtt.Client, killers: list[Killer]) -> None:
    """Debts and readings of one house after the other, spread over the kills; each sent until it was taken."""
    sent = []
    for n in range(HOUSES):
        due = n * len(killers) * KILLS_EACH // HOUSES
        while sum(killer.kills for killer in killers) < due and any(killer.is_alive() for killer in killers):
            time.sleep(0.05)
        story.billing_knows(f"ACC{n}", f"H{n}", past_due="200.00")
        for k in range(READINGS_EACH):
            at = rfc3339(MORNING - timedelta(hours=READINGS_EACH - k))
            reading = {"device": f"dev{n}", "value": str(100 + k), "unit": "m3", "measured_at": at, "seq": k}
            body = json.dumps({"readings": [reading]})
            sent.append(publisher.publish("curbstop/v1/town/readings", body, qos=1))
    for message in sent:
        message.wait_for_publish(60)


def closed(story: Story) -> int:
    """How many shutoffs are closed."""
    with story.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(WorkOrder).where(WorkOrder.status == "closed")) or 0


def readings(story: Story) -> int:
    """How many readings of the radio meters are stored."""
    with story.database.transaction() as session:
        radio = select(Meter.id).where(Meter.serial.like("R%"))
        return session.scalar(select(func.count()).select_from(Reading).where(Reading.meter_id.in_(radio))) or 0
