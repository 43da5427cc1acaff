"""The receiving MQTT client against a broker that a test plays on a socket, byte for byte."""

import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import mqtt5
import pytest

from hub import subscriber
from hub.subscriber import Arrived, Subscriber, Taker


class Heard(Taker):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.messages: list[Arrived] = []
        self.losses: list[str] = []
        self.refused: list[str] | None = None
        self.room = True
        self.changed = threading.Condition()

    def arrived(self, messages: list[Arrived]) -> None:
        with self.changed:
            self.messages += messages
            self.changed.notify_all()

    def has_room(self) -> bool:
        return self.room

    def subscribed(self, refused: Sequence[str]) -> None:
        with self.changed:
            self.refused = list(refused)
            self.changed.notify_all()

    def lost(self, why: str) -> None:
        with self.changed:
            self.losses.append(why)
            self.changed.notify_all()

    def until(self, what: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(what, 20), (self.losses, self.messages)


OPEN: list[socket.socket] = []


class Broker:
    """One accepted connection, read and written by hand."""

    def __init__(self, listening: socket.socket) -> None:
        self.connection, _ = listening.accept()
        OPEN.append(self.connection)
        self.connection.settimeout(20)
        self._data = b""

    def packet(self) -> Any:
        while True:
            try:
                found, size = mqtt5.read(memoryview(self._data))
            except IndexError:
                more = self.connection.recv(65536)
                assert more, "the client went away"
                self._data += more
            else:
                self._data = self._data[size:]
                return found

    def acknowledged(self) -> int:
        """The packet id of the next acknowledgement, pings passed over."""
        while not isinstance(found := self.packet(), mqtt5.PubAckPacket):
            assert isinstance(found, mqtt5.PingReqPacket)
        return found.packet_id

    def welcome(self) -> Any:
        hello = self.packet()
        self.connection.sendall(mqtt5.ConnAckPacket().write())
        asked = self.packet()
        self.connection.sendall(
            mqtt5.SubAckPacket(asked.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()
        )
        return hello, asked


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(20)
        yield found
        while OPEN:
            OPEN.pop().close()


@pytest.fixture
def heard(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(subscriber, "LEAST_PAUSE_S", 0.01)
    monkeypatch.setattr(subscriber, "MOST_PAUSE_S", 0.05)
    taker = Heard()
    client = Subscriber(
        f"mqtt://user:p%40ss@127.0.0.1:{listening.getsockname()[1]}",
        "name",
        ["a/+"],
        taker,
        receive_maximum=77,
        most_packet_bytes=100_000,
        session_expiry_s=600,
        keepalive_s=1,
    )
    taker.client = client  # type: ignore[attr-defined]
    client.start()
    yield taker
    client.stop()
    assert not client._thread.is_alive()


def publish(topic: str, payload: bytes, mid: int, **more: Any) -> bytes:
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=mid, **more).write()


def test_the_session_is_kept_and_what_comes_is_acknowledged_when_told(listening: socket.socket, heard: Heard) -> None:
    broker = Broker(listening)
    hello, asked = broker.welcome()
    assert (hello.client_id, hello.clean_start, hello.session_expiry_interval, hello.receive_max) == (
        "name",
        False,
        600,
        77,
    )
    assert (hello.username, hello.password) == ("user", b"p@ss")
    assert asked.topic_filters[0].retain_handling == mqtt5.RetainHandling.SEND_NEVER
    heard.until(lambda: heard.refused == [])
    stream = publish("a/b", b"x" * 50_000, 1) + publish("a/c", b"y", 2, duplicate=True)
    for start in range(0, len(stream), 7_001):
        broker.connection.sendall(stream[start : start + 7_001])
    heard.until(lambda: len(heard.messages) == 2)
    assert heard.messages[0] == Arrived(1, "a/b", b"x" * 50_000, False, False)
    assert heard.messages[1] == Arrived(2, "a/c", b"y", False, True)
    heard.client.acknowledge([1, 2])  # type: ignore[attr-defined]
    assert [broker.acknowledged(), broker.acknowledged()] == [1, 2]


# the codec panics on it and leaves an exception nobody can catch behind
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_packet_the_codec_refuses_is_handed_on_and_does_not_stall(listening: socket.socket, heard: Heard) -> None:
    broker = Broker(listening)
    broker.welcome()
    # a user property that is no UTF-8
    body = b"\x00\x03a/b" + b"\x00\x09" + b"\x08\x26\x00\x01a\x00\x02\xc0\xc0" + b"body"
    broker.connection.sendall(bytes([0x3A, len(body)]) + body + publish("a/b", b"good", 10))
    heard.until(lambda: len(heard.messages) == 2)
    assert (heard.messages[0].mid, heard.messages[0].topic, heard.messages[0].redelivered) == (9, "a/b", True)
    assert heard.messages[0].payload.endswith(b"body")
    assert heard.messages[1].payload == b"good"
    assert heard.losses == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x32\xff\xff\xff\xff\xff",
        b"\x32\xff\xff\xff\x7f",
        b"\xf0\x00",
        b"\x40\x01\x00",
        mqtt5.DisconnectPacket().write(),
    ],
)
def test_what_is_no_packet_ends_the_connection_and_the_client_comes_back(
    listening: socket.socket, heard: Heard, sent: bytes
) -> None:
    broker = Broker(listening)
    broker.welcome()
    broker.connection.sendall(sent)
    heard.until(lambda: heard.losses)
    Broker(listening).welcome()


def test_acknowledgements_of_a_lost_connection_are_not_sent_on_the_next(listening: socket.socket, heard: Heard) -> None:
    broker = Broker(listening)
    broker.packet()  # no welcome: acknowledgements must wait
    heard.client.acknowledge([5])  # type: ignore[attr-defined]
    broker.connection.close()
    heard.until(lambda: heard.losses)
    again = Broker(listening)
    again.welcome()
    assert isinstance(again.packet(), mqtt5.PingReqPacket)


def test_while_there_is_no_room_nothing_is_read_and_the_connection_is_kept(
    listening: socket.socket, heard: Heard
) -> None:
    heard.room = False
    broker = Broker(listening)
    heard.room = True
    broker.welcome()
    heard.until(lambda: heard.refused == [])
    heard.room = False
    assert isinstance(broker.packet(), mqtt5.PingReqPacket)
    broker.connection.sendall(publish("a/b", b"x", 1))
    assert isinstance(broker.packet(), mqtt5.PingReqPacket)
    assert heard.messages == []
    heard.room = True
    heard.until(lambda: heard.messages)


def test_a_silent_broker_and_one_that_refuses_are_left(listening: socket.socket, heard: Heard) -> None:
    broker = Broker(listening)
    broker.welcome()
    heard.until(lambda: "the broker fell silent" in heard.losses)
    refusing = Broker(listening)
    refusing.packet()
    refusing.connection.sendall(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED).write())
    heard.until(lambda: "the broker refuses us: not_authorized" in heard.losses)
