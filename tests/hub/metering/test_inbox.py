"""The queue between the network thread and the commits: order, bounds, and packet ids of connections that are gone."""

from collections.abc import Sequence

from hub import ingest
from hub.ingest import Delivery, Inbox, subscriptions
from hub.metering.ledger import Message


def arrived(payload: bytes = b"x") -> Message:
    return Message("mqtt:test", "t", payload, "plain")


def acknowledge(inbox: Inbox, deliveries: Sequence[Delivery]) -> list[int]:
    """What is acknowledged."""
    sent: list[int] = []
    inbox.acknowledge(sent.extend, deliveries)
    return sent


def test_messages_are_acknowledged_in_order_of_arrival() -> None:
    inbox = Inbox()
    for mid in (7, 3, 9):
        inbox.put([(mid, arrived())])
    assert acknowledge(inbox, inbox.take(10, 1)) == [7, 3, 9]


def test_a_batch_takes_no_more_than_asked() -> None:
    inbox = Inbox()
    for mid in range(1, 6):
        inbox.put([(mid, arrived())])
    assert [len(inbox.take(2, 1)), len(inbox.take(2, 1)), len(inbox.take(2, 1)), len(inbox.take(2, 0))] == [2, 2, 1, 0]


def test_nothing_of_a_lost_connection_is_acknowledged() -> None:
    inbox = Inbox()
    inbox.put([(1, arrived())])
    before = inbox.take(10, 1)
    inbox.put([(2, arrived())])
    inbox.next_generation()
    inbox.put([(1, arrived())])
    assert acknowledge(inbox, before + inbox.take(10, 1)) == [1]


def test_qos_0_has_nothing_to_acknowledge() -> None:
    inbox = Inbox()
    inbox.put([(0, arrived())])
    assert acknowledge(inbox, inbox.take(10, 1)) == []


def test_the_queue_is_bounded_in_bytes_whatever_the_size_of_its_messages() -> None:
    for payload in (b"x" * (ingest.QUEUE_BYTES + 1), b""):
        inbox = Inbox()
        while inbox.has_room():
            inbox.put([(1, arrived(payload))] * (1 if payload else 1000))
        taken = inbox.take(10**9, 1)
        assert inbox.has_room()
        assert len(taken) * ingest.MESSAGE_BYTES < ingest.QUEUE_BYTES + 2000 * ingest.MESSAGE_BYTES


def test_a_topic_finds_the_adapter_of_its_filter() -> None:
    patterns = [one.pattern() for one in subscriptions(["a/+/c=plain", "site/#", "b.c"])]
    topics = {"a/b/c": 0, "a//c": 0, "site": 1, "site/x/y": 1, "b.c": 2, "bxc": None, "a/b/c/d": None, "sites": None}
    found = {t: next((n for n, p in enumerate(patterns) if p.fullmatch(t)), None) for t in topics}
    assert found == topics
