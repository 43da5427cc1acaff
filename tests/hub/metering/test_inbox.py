"""The queue between the network thread and the commits: order, bounds, and packet ids of connections that are gone."""

import threading
from typing import Any, cast

import paho.mqtt.client as mqtt

from hub import ingest
from hub.ingest import Inbox
from hub.metering.ledger import Message


class Acknowledged:
    """Stands for the client; remembers what was acknowledged."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def ack(self, mid: int, qos: int) -> None:
        self.ids.append(mid)


def arrived(payload: bytes = b"x") -> Message:
    return Message("mqtt:test", "t", payload, "plain")


def acknowledge(inbox: Inbox, deliveries: list[Any]) -> list[int]:
    client = Acknowledged()
    inbox.acknowledge(cast(mqtt.Client, client), deliveries)
    return client.ids


def test_messages_are_acknowledged_in_order_of_arrival() -> None:
    inbox = Inbox()
    for mid in (7, 3, 9):
        inbox.put(mid, arrived())
    assert acknowledge(inbox, inbox.take(10, 1)) == [7, 3, 9]


def test_a_batch_takes_no_more_than_asked() -> None:
    inbox = Inbox()
    for mid in range(1, 6):
        inbox.put(mid, arrived())
    assert [len(inbox.take(2, 1)), len(inbox.take(2, 1)), len(inbox.take(2, 1)), len(inbox.take(2, 0))] == [2, 2, 1, 0]


def test_nothing_of_a_lost_connection_is_acknowledged() -> None:
    inbox = Inbox()
    inbox.put(1, arrived())
    before = inbox.take(10, 1)
    inbox.put(2, arrived())
    inbox.next_generation()
    inbox.put(1, arrived())
    assert acknowledge(inbox, before + inbox.take(10, 1)) == [1]


def test_qos_0_has_nothing_to_acknowledge() -> None:
    inbox = Inbox()
    inbox.put(0, arrived())
    assert acknowledge(inbox, inbox.take(10, 1)) == []


def test_the_queue_is_bounded_in_bytes() -> None:
    inbox = Inbox()
    inbox.put(1, arrived(b"x" * (ingest.QUEUE_BYTES + 1)))
    second = threading.Thread(target=inbox.put, args=(2, arrived()))
    second.start()
    assert [one.mid for one in inbox.take(10, 1)] == [1]
    second.join(30)
    assert not second.is_alive()
    assert [one.mid for one in inbox.take(10, 1)] == [2]
