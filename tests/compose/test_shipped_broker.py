"""The broker's shipped configuration at work: who gets in, who may write and read what, what is kept."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.compose.shipped_broker import ROOT, ShippedBroker, accepts, until
from tests.private_servers import scratch


@pytest.fixture(scope="module")
def shipped() -> Iterator[ShippedBroker]:
    home = scratch()
    running = ShippedBroker(home)
    try:
        yield running.start()
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)


class Session:
    """A client in its loop: what it was granted, what arrived, what the broker said of its messages."""

    def __init__(self, client: mqtt.Client) -> None:
        self.client = client
        self.arrived: list[str] = []
        self.granted: list[bool] = []
        self.published: list[str] = []
        self.ended: list[str] = []
        client.on_message = lambda _c, _d, message: self.arrived.append(message.topic)
        client.on_subscribe = lambda _c, _d, _m, codes, _p: self.granted.extend(not code.is_failure for code in codes)
        client.on_publish = lambda _c, _d, _m, code, _p: self.published.append(str(code))
        client.on_disconnect = lambda _c, _d, _f, code, _p: self.ended.append(str(code))
        client.loop_start()

    def subscribe(self, *filters: str) -> list[bool]:
        self.client.subscribe([(one, mqtt.SubscribeOptions(qos=1)) for one in filters])
        until(lambda: len(self.granted) >= len(filters), "the broker's answer")
        return self.granted

    def publish(self, topic: str, payload: bytes = b"{}") -> str:
        before = len(self.published)
        self.client.publish(topic, payload, qos=1)
        until(lambda: len(self.published) > before, "the broker's answer")
        return self.published[-1]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def session(shipped: ShippedBroker) -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def open_one(name: str, client_id: str = "") -> Session:
        opened.append(Session(shipped.client(name, client_id=client_id)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_gateway_writes_under_its_own_name_and_the_hub_reads_it(session: Callable[..., Session]) -> None:
    hub, north = session("hub"), session("north")
    hub.subscribe("#")
    assert north.publish("curbstop/v1/north/readings") == "Success"
    for topic in (
        "curbstop/v1/south/readings",
        "application/1/device/0102030405060708/event/up",
        "curbstop/v1/northern/readings",
    ):
        assert north.publish(topic) == "Not authorized", topic
    assert north.publish("curbstop/v1/north/events") == "Success"
    until(lambda: len(hub.arrived) >= 2, "the hub to hear")
    assert hub.arrived == ["curbstop/v1/north/readings", "curbstop/v1/north/events"]


def test_a_gateway_reads_only_what_it_is_asked_for(session: Callable[..., Session]) -> None:
    hub, north, south = session("hub"), session("north"), session("south")
    north.subscribe("#", "curbstop/v1/south/readings", "curbstop/v1/north/resend", "$SYS/#")
    assert south.publish("curbstop/v1/south/readings") == "Success"
    assert hub.publish("curbstop/v1/south/resend") == "Success"
    assert hub.publish("spBv1.0/G/NCMD/node") == "Success"
    assert hub.publish("curbstop/v1/north/readings") == "Not authorized"
    assert hub.publish("curbstop/v1/north/resend") == "Success"
    until(lambda: bool(north.arrived), "the gateway to hear")
    time.sleep(0.2)
    assert set(north.arrived) == {"curbstop/v1/north/resend"}


def test_nobody_takes_over_the_hubs_session(session: Callable[..., Session]) -> None:
    hub = session("hub", "curbstop")
    hub.subscribe("curbstop/v1/+/readings")
    thief = session("north", "curbstop")
    assert thief.publish("curbstop/v1/north/readings") == "Success"
    until(lambda: bool(hub.arrived), "the hub to hear")
    assert hub.ended == []


def test_only_certificates_of_the_authority_and_only_tls_1_3(shipped: ShippedBroker) -> None:
    assert shipped.admits(shipped.context("north"))
    assert not shipped.admits(shipped.context(None))
    old = shipped.context("north")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not shipped.admits(old)
    foreign = ShippedBroker(scratch())
    try:
        context = ssl.create_default_context(cafile=str(shipped.secrets / "mqtt_ca"))
        context.load_cert_chain(foreign.files("north") / "certificate.pem", foreign.files("north") / "key.pem")
        assert not shipped.admits(context)
    finally:
        shutil.rmtree(foreign.home.parent, ignore_errors=True)


def test_a_revoked_certificate_is_refused_and_a_new_one_of_that_name_is_not(shipped: ShippedBroker) -> None:
    lost = shipped.context("lost")
    assert shipped.admits(lost)
    shipped.make_secrets("revoke", "lost")
    shipped.stop()
    shipped.start()
    assert not shipped.admits(lost)
    shipped.make_secrets("gateway", "lost")
    assert shipped.admits(shipped.context("lost"))
    assert shipped.admits(shipped.context("north"))


def test_no_listener_without_tls_beyond_loopback(shipped: ShippedBroker) -> None:
    """As shipped: every listener has certificates, or is bound to loopback; there nobody gets in without a password."""
    plain, secure = [], []
    for block in (ROOT / "setup/compose/mosquitto.conf").read_text().split("\nlistener ")[1:]:
        where = block.splitlines()[0].split()
        words = block.split("\n\n")[0]
        (secure if "require_certificate true" in words and "tls_version tlsv1.3" in words else plain).append(where)
    assert plain == [["1883", "127.0.0.1"]]
    assert [where[0] for where in secure] == ["8883", "8884"]
    assert accepts(shipped.check_port)
    answers: list[bool] = []
    for user, password in ((None, None), ("hub", ""), ("check", (shipped.secrets / "mqtt_check").read_text())):
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            client.username_pw_set(user, password)
        client.on_connect = lambda _c, _d, _f, code, _p: answers.append(not code.is_failure)
        before = len(answers)
        client.connect("127.0.0.1", shipped.check_port)
        while len(answers) == before:
            client.loop(0.1)
        client.disconnect()
    assert answers == [False, False, True]


def test_what_arrives_while_the_hub_is_away_outlives_the_broker(
    shipped: ShippedBroker, session: Callable[..., Session]
) -> None:
    hub = Session(shipped.client("hub", client_id="night", keep_s=3600))
    hub.subscribe("curbstop/v1/+/readings")
    hub.close()
    north = session("north")
    for _ in range(1500):
        north.client.publish("curbstop/v1/north/readings", b"x" * 200, qos=1)
    until(lambda: len(north.published) >= 1500, "the broker to take them")
    # a message beyond what the hub reads ends the connection of whoever sent it
    north.client.publish("curbstop/v1/north/readings", b"x" * 400_000, qos=1)
    until(lambda: bool(north.ended), "the broker's answer")
    north.close()
    time.sleep(1.5)  # autosave_interval 1
    shipped.kill()
    shipped.start()
    back = Session(shipped.client("hub", client_id="night", keep_s=3600))
    until(lambda: len(back.arrived) >= 1500, "what waited")
    back.close()


def test_the_configuration_says_so() -> None:
    text = (ROOT / "setup/compose/mosquitto.conf").read_text()
    options = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {"autosave_interval 1", "max_queued_messages 0", "max_queued_bytes 1073741824"} <= set(options)
    assert not any(line.startswith(("autosave_on_changes true", "allow_anonymous true")) for line in options)


def test_a_name_that_would_reach_into_other_topics_gets_no_certificate(shipped: ShippedBroker) -> None:
    for name in ("+", "#", "a/b", "hub", "Curbstop", "check", ""):
        with pytest.raises(subprocess.CalledProcessError):
            shipped.make_secrets("gateway", name)
