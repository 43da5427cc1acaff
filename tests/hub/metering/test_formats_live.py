"""Every sample of every format, published by strangers' clients through a real broker into a running ingest."""

import base64
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import text

from adapters import sparkplug
from adapters.units import FACTORS_M3
from hub.db import Database
from hub.metering import devices
from hub.private.broker import PrivateBroker
from tests.adapters.meters import scoring
from tests.adapters.meters.sparkplug_payloads import DOUBLE, metric, payload
from tests.adapters.meters.test_samples import FURTHER, OWN
from tests.forks import end
from tests.hub.metering.processes import message, publish_all, publisher, start_ingest, until

_COLUMNS = {"decoder", "unit", "multiplier", "time_zone"}
_EUI = "0102030405060708"


class Sample:
    """One sample as a device sends it: its topic, bytes and registry entry."""

    def __init__(self, path: Path, number: int) -> None:
        said = path.read_text()
        if _EUI in said:
            # our own samples share an identity; here each has one of its own
            said = said.replace(_EUI, f"{number:016x}")
        self.path = path
        self.sample: dict[str, Any] = json.loads(said)
        self.topic: str = self.sample["topic"]
        self.adapter = self.sample.get("adapter", self.sample.get("format", "").replace("-", "_"))
        encoded = self.sample["payload"]
        self.payload = {
            "json": lambda: json.dumps(encoded).encode(),
            "utf8": lambda: encoded.encode(),
            "base64": lambda: base64.b64decode(encoded),
        }[self.sample["payload_encoding"]]()
        self.devices = {one["device_id"].lower() for one in self.sample["expected"] if one["device_id"]}

    def register(self, session: Any) -> None:
        """Every device of the sample with what its registry entry says, each on a meter of its own."""
        config = dict(self.sample.get("config") or {})
        if self.sample.get("needs_codec"):
            config["decoder"] = self.sample["needs_codec"]
        options = {name: config.pop(name) for name in list(config) if name not in _COLUMNS}
        for device in self.devices:
            devices.register(
                session, device=device, meter=f"M-{device}", by="test", config=options or None,
                **{name: Decimal(str(value)) if name == "multiplier" else value for name, value in config.items()},
            )  # fmt: skip

    def is_of_today(self) -> bool:
        """Whether every reading carries a time that can be true at its arrival now."""
        now = datetime.now(UTC)
        stamps = [item["timestamp"] for item in self.sample["expected"]]
        return all(
            stamp and timedelta() < now - datetime.fromisoformat(stamp) < timedelta(days=390) for stamp in stamps
        )

    def expected(self) -> Counter[tuple[str, str]]:
        """What must be found of it, booked or put aside with its value: (device, value in m³ or as counted)."""
        return Counter(
            (one["device_id"].lower(), _rounded(one["value"]))
            for one in self.sample["expected"]
            if one["value"] is not None and one["device_id"]
        )


def _rounded(value: Any) -> str:
    return f"{float(value):.5g}"


def _samples() -> list[Sample]:
    """All samples whose devices no other one has: a later one would be the same device with another past."""
    adapters: dict[str, str] = {}
    known: set[str] = set()
    found = []
    for number, path in enumerate([*OWN, *FURTHER], 1):
        one = Sample(path, number)
        if one.adapter in ("", "malformed") or one.devices & known or scoring.differences(one.sample):
            # the last: whose unit only a device's definition says, so that it stays a bare count
            continue
        if adapters.setdefault(one.topic, one.adapter) == one.adapter:
            known |= one.devices
            found.append(one)
    return found


def _topics() -> list[str]:
    """A filter per topic, with the adapter of what is published there."""
    return sorted({f"{one.topic}={one.adapter}" for one in _samples()})


@pytest.fixture
def mark() -> str:
    return uuid4().hex[:10]


@pytest.fixture
def listening(database: Database, broker: PrivateBroker, mark: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """An ingest that has subscribed to the topics of the test (its parameter: a function that lists them)."""
    topics = [*request.param(), f"curbstop/v1/{mark}/readings=plain"]
    process = start_ingest(database.url, broker.url, name=f"formats-{mark}", topics=topics)
    client = publisher(broker.url)

    def arrived() -> bool:
        publish_all(client, f"curbstop/v1/{mark}/readings", [message()])
        with database.transaction() as session:
            return bool(session.execute(text("SELECT count(*) FROM raw_message")).scalar_one())

    until(arrived)
    yield
    client.disconnect()
    client.loop_stop()
    end(process)


def _booked(database: Database) -> Counter[tuple[str, str]]:
    """(device, value in m³ or as counted) of every reading."""
    with database.transaction() as session:
        rows = session.execute(
            text(
                "SELECT substr(m.serial, 3), coalesce(r.value_m3, r.value) FROM reading r"
                " JOIN meter m ON m.id = r.meter_id"
            )
        ).all()
    return Counter((device, _rounded(value)) for device, value in rows)


def _aside(database: Database) -> set[tuple[str, str]]:
    """The same of what has no place today (an old log, a second value at once), whatever unit it was sent in."""
    with database.transaction() as session:
        rows = session.execute(
            text(
                "SELECT device, value::numeric FROM quarantine"
                " WHERE reason IN ('clock_behind', 'clock_ahead', 'value_conflict', 'time_without_zone',"
                " 'ambiguous_channel')"
            )
        ).all()
    return {
        ((device or "").lower(), _rounded(value * scale)) for device, value in rows for scale in FACTORS_M3.values()
    }


def _by_mosquitto(url: str, one: Sample) -> None:
    at = urlsplit(url)
    words = ["mosquitto_pub", "-h", at.hostname or "", "-p", str(at.port), "-t", one.topic, "-q", "1", "-s"]
    subprocess.run(words, input=one.payload, check=True, timeout=60)


@pytest.mark.parametrize("listening", [_topics], indirect=True)
def test_every_sample_arrives_once_with_its_values(
    listening: None, database: Database, broker: PrivateBroker, mark: str
) -> None:
    samples = _samples()
    assert {one.adapter for one in samples} == {path.parent.name for path in OWN}
    with database.transaction() as session:
        for one in samples:
            one.register(session)
    foreign = shutil.which("mosquitto_pub") is not None
    client = publisher(broker.url)
    for number, one in enumerate(samples):
        if foreign and number % 4 == 0:
            _by_mosquitto(broker.url, one)
        else:
            publish_all(client, one.topic, [one.payload])
    # what carries its own time is the same reading however often it comes
    timed = [one for one in samples if one.is_of_today()]
    for one in timed:
        client.publish(one.topic, one.payload, qos=1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    sent = len(samples) + len(timed)

    def all_kept() -> bool:
        with database.transaction() as session:
            kept = text("SELECT count(*) FROM raw_message WHERE topic <> :first")
            return int(session.execute(kept, {"first": f"curbstop/v1/{mark}/readings"}).scalar_one()) == sent

    until(all_kept)
    booked, wanted = _booked(database), Counter[tuple[str, str]]()
    for one in samples:
        wanted += one.expected()
    assert set((wanted - booked).elements()) - _aside(database) == set()
    assert sorted((booked - wanted).elements()) == []


@pytest.mark.parametrize("listening", [lambda: ["spBv1.0/Live/#=sparkplug_b"]], indirect=True)
def test_a_node_whose_birth_was_missed_is_asked_and_then_understood(
    listening: None, database: Database, broker: PrivateBroker
) -> None:
    with database.transaction() as session:
        devices.register(session, device="Live/edge/m1", meter="M-live/edge/m1", by="test")
    heard: list[bytes] = []
    node = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    at = urlsplit(broker.url)
    node.connect(at.hostname or "", at.port or 0)
    now = int(datetime.now(UTC).timestamp() * 1000)
    names = {"topic": "spBv1.0/Live/{}/edge/m1"}

    def answer(client: mqtt.Client, _data: Any, command: mqtt.MQTTMessage) -> None:
        heard.append(command.payload)
        client.publish("spBv1.0/Live/NBIRTH/edge", payload(now, 0, metric("bdSeq", 1, datatype=4)))
        birth = metric("Register", 7.0, alias=3, datatype=DOUBLE, engUnit="m3")
        client.publish(names["topic"].format("DBIRTH"), payload(now, 1, birth))
        client.publish(names["topic"].format("DDATA"), payload(now + 1000, 2, metric(alias=3, value=8.0)))

    node.on_message = answer
    node.subscribe("spBv1.0/Live/NCMD/edge")
    node.loop_start()
    node.publish(names["topic"].format("DDATA"), payload(now - 1000, 9, metric(alias=3, value=6.0)), qos=1)
    until(lambda: _booked(database) == {("live/edge/m1", "7"): 1, ("live/edge/m1", "8"): 1})
    node.disconnect()
    node.loop_stop()
    assert [one.name for one in sparkplug.parse(heard[0]).metrics] == [sparkplug.REBIRTH]
    assert len(heard) == 1
