"""What follows from a batch beside its readings: device states, gaps, alarms, requests to send again."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import clock
from hub.db import Database
from hub.errors import BadInput, Conflict
from hub.metering import devices, network, readings, watching
from hub.metering.readings import Message
from hub.models import Alarm, GatewayState, Meter, MeterReview, SequenceGap
from hub.private.broker import PrivateBroker
from hub.settings import Settings
from hub.worker import resends

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


def cast(session: Session) -> None:
    clock.set_clock(session, business_at=NOW)
    session.add(Meter(serial="M1", unit="m3", dials=6))
    session.flush()
    devices.register(session, device="D1", meter="M1", by="test")


@pytest.fixture
def town(session: Session) -> Session:
    """Device d1 reports meter M1."""
    cast(session)
    return session


def item(value: Any, at: datetime, **more: Any) -> dict[str, Any]:
    return {"device": "d1", "value": value, "unit": "m3", "measured_at": at.isoformat()} | more


def message(*items: dict[str, Any], gateway: str = "gw1", **more: Any) -> Message:
    return Message(
        "mqtt:test", f"curbstop/v1/{gateway}/readings", json.dumps({"readings": items} | more).encode(), "plain"
    )


def send(session: Session, *messages: Message) -> None:
    readings.receive(session, messages)
    assert watching.fold(session) == 1


def alarm_states(session: Session) -> list[tuple[str, str, str | None]]:
    session.expire_all()
    return [(one.type, one.state, one.meter) for one in session.scalars(select(Alarm).order_by(Alarm.id))]


def test_a_device_shows_when_through_whom_and_how_late_its_clock_is(town: Session) -> None:
    for minutes in (10, 11, 12):
        send(town, message(item(minutes, NOW - timedelta(minutes=minutes))))
    state = network.state_of(town, "D1")
    assert state is not None
    assert (state["gateway"], state["clock_offsets_seen"], state["time_source"]) == ("curbstop/v1/gw1", 3, "meter")
    assert state["clock_offset_s"] == pytest.approx(-660, abs=30)
    assert state["read_at"] == NOW - timedelta(minutes=10)
    assert town.get(GatewayState, "curbstop/v1/gw1") is not None
    (gateway,) = network.gateways(town)
    assert (gateway["devices"], gateway["silent"]) == (1, 0)


def test_a_clock_that_cannot_be_true_still_shows_its_offset(town: Session) -> None:
    send(town, message(item(1, NOW + timedelta(days=2))))
    state = network.state_of(town, "d1")
    assert state is not None
    assert state["clock_offset_s"] == pytest.approx(2 * 86_400, abs=30)


def test_alarm_words_become_facts_that_begin_and_end(town: Session) -> None:
    send(town, message(item(1, NOW - timedelta(hours=3), flags=["leak"])))
    assert alarm_states(town) == [("leak", "active", "M1")]
    send(town, message(item(2, NOW - timedelta(hours=2), flags=["leak"])), message(item(3, NOW - timedelta(hours=1))))
    assert alarm_states(town) == [("leak", "cleared", "M1")]


def test_a_backfill_with_words_is_history_and_a_replay_changes_nothing(town: Session) -> None:
    send(town, message(item(5, NOW - timedelta(hours=1))))
    send(town, message(item(1, NOW - timedelta(days=9), flags=["burst"])))
    assert alarm_states(town) == [("burst", "historic", "M1")]
    raw_ids = list(town.scalars(text("SELECT id FROM raw_message")))
    readings.replay(town, raw_ids)
    watching.fold(town)
    assert alarm_states(town) == [("burst", "historic", "M1")]


def test_types_that_the_registry_calls_latching_are_latched(town: Session) -> None:
    devices.register(
        town, device="D1", meter="M1", by="test", config={"latching": ["tamper"]}, valid_from=devices.ALWAYS
    )
    send(town, message(item(1, NOW, flags=["tamper", "leak"])))
    assert sorted(alarm_states(town)) == [("leak", "active", "M1"), ("tamper", "latched", "M1")]


def test_a_person_ends_an_alarm_with_a_reason(town: Session) -> None:
    send(town, message(item(1, NOW, flags=["tamper"])))
    (alarm,) = network.alarms(town, state="active")
    with pytest.raises(BadInput):
        network.clear_alarm(town, alarm.id, by="test", reason=" \x00 "[:1])
    ended = network.clear_alarm(town, alarm.id, by="test", reason="the cover was lifted for a read")
    assert (ended.state, ended.detail["reason"]) == ("cleared", "the cover was lifted for a read")
    with pytest.raises(Conflict):
        network.clear_alarm(town, alarm.id, by="test", reason="again")


def test_counters_of_devices_and_gateways_have_their_own_gaps(town: Session) -> None:
    send(town, message(item(1, NOW - timedelta(hours=5), seq=1), seq=10))
    send(town, message(item(5, NOW - timedelta(hours=1), seq=5), seq=12))
    found = {
        gap["kind"]: (gap["after"], gap["before"], gap["missing"]) for gap in map(network.gap_json, network.gaps(town))
    }
    assert found == {"device": (1, 5, 3), "gateway": (10, 12, 1)}
    backfill = [item(n, NOW - timedelta(hours=6 - n), seq=n) for n in (2, 3, 4)]
    send(town, message(*backfill, seq=11))
    assert network.gaps(town) == []
    assert len(network.gaps(town, open_only=False)) == 2


def test_meters_with_new_readings_are_queued_from_the_first_new_one(town: Session) -> None:
    send(town, message(item(2, NOW)), message(item(1, NOW - timedelta(days=1))))
    (review,) = town.scalars(select(MeterReview))
    assert review.since == NOW - timedelta(days=1)


def test_a_name_with_half_a_character_stops_nothing(town: Session) -> None:
    send(town, message(item(1, NOW, flags=["caf\N{LATIN SMALL LETTER E WITH ACUTE}"])))
    readings.receive(town, [Message("mqtt:test", "x\ud800/y/z", b"{}", None)])
    assert watching.fold(town) == 1


def test_completeness_counts_against_a_usual_day(town: Session) -> None:
    for day in range(1, 5):
        hours = range(24) if day != 2 else range(6)
        midnight = NOW.replace(hour=0) - timedelta(days=day)
        send(town, message(*(item(100 - day + hour / 100, midnight + timedelta(hours=hour)) for hour in hours)))
    midnight = NOW.replace(hour=0)
    days = network.completeness(town, "M1", midnight - timedelta(days=5), midnight, "UTC")
    assert [(day["readings"], day["completeness"]) for day in days] == [(0, 0), (24, 1), (24, 1), (6, 0.25), (24, 1)]


@pytest.fixture
def gateway(broker: PrivateBroker) -> Iterator[tuple[mqtt.Client, list[mqtt.MQTTMessage], threading.Event]]:
    """A gateway that listens for requests to send again."""
    heard: list[mqtt.MQTTMessage] = []
    asked, ready = threading.Event(), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="gw1")
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _c, _u, arrived: (heard.append(arrived), asked.set())
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.subscribe("curbstop/v1/gw1/resend", qos=1)
    assert ready.wait(10)
    yield client, heard, asked
    client.disconnect()
    client.loop_stop()


def test_a_gateway_is_asked_for_what_is_missing_and_the_backfill_closes_it(
    database: Database, broker: PrivateBroker, gateway: tuple[mqtt.Client, list[mqtt.MQTTMessage], threading.Event]
) -> None:
    _, heard, asked = gateway
    settings = Settings(database_url=database.url, mqtt_url=f"mqtt://127.0.0.1:{broker.port}")
    with database.transaction() as session:
        cast(session)
        send(session, message(item(1, NOW - timedelta(hours=5), seq=1), item(4, NOW - timedelta(hours=1), seq=4)))
    resends.ask_for_missing(database, settings)
    assert not asked.is_set(), "a fresh gap may close by itself"
    with database.transaction() as session:
        clock.set_clock(session, business_at=NOW + timedelta(minutes=5))
    resends.ask_for_missing(database, settings)
    assert asked.wait(10)
    assert json.loads(heard[0].payload) == {"device": "d1", "first": 2, "last": 3}
    with database.transaction() as session:
        (gap,) = session.scalars(select(SequenceGap))
        assert (gap.asks, gap.closed_at) == (1, None)
        send(session, message(*(item(n, NOW - timedelta(hours=5 - n), seq=n) for n in (2, 3))))
    with database.transaction() as session:
        assert session.scalars(select(SequenceGap.closed_at)).one() is not None
