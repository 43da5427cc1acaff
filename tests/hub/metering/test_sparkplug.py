"""Sparkplug B through the pipeline: births are remembered, what can be read is booked, nodes are asked for births."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from adapters import sparkplug
from hub import clock
from hub.metering import devices, readings
from hub.metering.readings import Batch, Message
from hub.models import Meter, Quarantine, RawMessage, Reading
from tests.adapters.meters.sparkplug_payloads import DOUBLE, INT32, INT64, metric, payload

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
NODE = "G/north"
ASK = "spBv1.0/G/NCMD/north"


@pytest.fixture
def town(session: Session) -> Session:
    """Device G/north/m1 reports meter M1 in m³; business time is a Monday morning."""
    clock.set_clock(session, business_at=NOW)
    session.add(Meter(serial="M1", unit="m3", dials=6))
    session.flush()
    devices.register(session, device="G/north/m1", meter="M1", adapter="sparkplug_b", by="test")
    return session


def ms(minutes: int = 0) -> int:
    return int((NOW - timedelta(hours=1) + timedelta(minutes=minutes)).timestamp() * 1000)


def sent(kind: str, body: bytes, *, minutes: int = 0, device: str | None = None, **more: bool) -> Message:
    topic = "/".join(part for part in ("spBv1.0/G", kind, "north", device) if part)
    at = NOW - timedelta(hours=1) + timedelta(minutes=minutes)
    return Message("mqtt:t", topic, body, "sparkplug_b", received_at=at, **more)


def births(minutes: int = 0) -> list[Message]:
    node = payload(
        ms(minutes), 0, metric("bdSeq", 7, datatype=INT64), metric("Node Control/Rebirth", False, datatype=11)
    )
    meter = payload(
        ms(minutes),
        1,
        metric("Water/Register", 10.0, alias=11, datatype=DOUBLE, engUnit="m3"),
        metric("Water/Reverse", 3, alias=12, datatype=INT32, engUnit="l"),
        metric("Battery", 90, alias=13, datatype=INT32),
    )
    return [sent("NBIRTH", node, minutes=minutes), sent("DBIRTH", meter, minutes=minutes, device="m1")]


def data(seq: int, value: float, minutes: int, **more: bool) -> Message:
    return sent("DDATA", payload(ms(minutes), seq, metric(alias=11, value=value)), minutes=minutes, device="m1", **more)


def booked(session: Session) -> list[Decimal | None]:
    session.expire_all()
    rows = session.scalars(select(Reading).join(Meter, Meter.id == Reading.meter_id).where(Meter.register == "volume")
                           .order_by(Reading.measured_at))  # fmt: skip
    return [row.value_m3 for row in rows]


def asked(batch: Batch) -> list[str]:
    return [topic for topic, _ in batch.asks]


def test_an_alias_means_what_the_birth_said_also_in_a_later_batch(town: Session) -> None:
    assert asked(readings.receive(town, births())) == []
    assert asked(readings.receive(town, [data(2, 11.0, 1), data(3, 12.0, 2)])) == []
    assert booked(town) == [10, 11, 12]


def test_a_leap_asks_for_a_rebirth_once_and_what_can_be_read_is_booked(town: Session) -> None:
    readings.receive(town, births())
    batch = readings.receive(town, [data(9, 11.0, 1)])
    assert asked(batch) == [ASK]
    command = sparkplug.parse(batch.asks[0][1])
    assert [found.name for found in command.metrics] == [sparkplug.REBIRTH]
    assert asked(readings.receive(town, [data(9, 11.2, 1, redelivered=False)])) == []
    assert asked(readings.receive(town, [data(20, 11.5, 2)])) == [ASK]
    assert booked(town) == [10, 11, Decimal("11.5")]


def test_data_without_a_birth_is_kept_and_asked_about(town: Session) -> None:
    batch = readings.receive(town, [data(5, 11.0, 0)])
    assert (asked(batch), batch.dispositions) == ([ASK], ["no_reading"])
    assert town.scalars(select(RawMessage.reason)).all() == ["alias_without_birth"]
    named = payload(ms(1), 6, metric("Total_m3", 11.5, datatype=DOUBLE))
    readings.receive(town, [sent("DDATA", named, minutes=1, device="m1")])
    assert booked(town) == [Decimal("11.5")]


def test_what_the_broker_delivers_again_is_no_fault(town: Session) -> None:
    readings.receive(town, births())
    readings.receive(town, [data(2, 11.0, 1), data(3, 12.0, 2)])
    again = readings.receive(town, [data(2, 11.0, 1, redelivered=True), data(3, 12.0, 2, redelivered=True)])
    assert (again.repeats, asked(again)) == (2, [])
    assert asked(readings.receive(town, [data(4, 13.0, 3)])) == []


def test_the_numbers_start_again_after_255(town: Session) -> None:
    readings.receive(town, births())
    town.execute(text("UPDATE adapter_session SET seq = 254"))
    assert asked(readings.receive(town, [data(255, 11.0, 1), data(0, 12.0, 2)])) == []


def test_only_the_death_of_this_birth_ends_it(town: Session) -> None:
    readings.receive(town, births())
    stale = payload(ms(1), None, metric("bdSeq", 6, datatype=INT64))
    assert asked(readings.receive(town, [sent("NDEATH", stale, minutes=1), data(2, 11.0, 1)])) == []
    own = payload(ms(2), None, metric("bdSeq", 7, datatype=INT64))
    assert asked(readings.receive(town, [sent("NDEATH", own, minutes=2), data(3, 12.0, 3)])) == [ASK]
    assert booked(town) == [10, 11, 12]
    assert asked(readings.receive(town, [*births(4), data(2, 13.0, 5)])) == []
    assert booked(town) == [10, 11, 12, 10, 13]


def test_null_bad_and_stale_values_are_no_register_and_stored_ones_are_history(town: Session) -> None:
    readings.receive(town, births())
    body = payload(
        ms(9),
        2,
        metric(alias=11, value=None),
        metric(alias=11, value=5.0, at=ms(1), Quality=0),
        metric(alias=11, value=6.0, at=ms(2), Quality=500),
        metric(alias=11, value=10.5, at=ms(3), historical=True),
        metric(alias=11, value=11.0, at=ms(8), Quality=192),
        metric(alias=11, value=float("nan"), at=ms(7)),
        metric(alias=12, value=-1, at=ms(8)),
    )
    readings.receive(town, [sent("DDATA", body, minutes=9, device="m1")])
    assert booked(town) == [10, Decimal("10.5"), 11]
    reasons = town.scalars(select(Quarantine.reason).order_by(Quarantine.id)).all()
    assert sorted(reasons) == ["bad_quality", "bad_quality", "negative_value"]
    flags = town.scalars(select(Reading.flags).order_by(Reading.measured_at)).all()
    assert ["q:historic"] in flags


def test_messages_are_read_again_with_the_birth_that_held_when_they_came(town: Session) -> None:
    other = births()
    other[1] = sent("DBIRTH", payload(ms(), 1, metric("Total_m3", 1.0, alias=77, datatype=DOUBLE)), device="m2")
    readings.receive(town, other)
    first = sent("DDATA", payload(ms(1), 2, metric(alias=77, value=2.0)), minutes=1, device="m2")
    readings.receive(town, [first])
    swapped = payload(ms(2), 1, metric("Battery", 50.0, alias=77, datatype=DOUBLE))
    readings.receive(town, [births(2)[0], sent("DBIRTH", swapped, minutes=2, device="m2")])
    before = town.execute(text("SELECT session, since, seq FROM adapter_session ORDER BY since")).all()
    town.add(Meter(serial="M2", unit="m3", dials=6))
    town.flush()
    devices.register(town, device="G/north/m2", meter="M2", adapter="sparkplug_b", by="test")
    readings.replay_device(town, "G/north/m2")
    assert booked(town) == [1, 2]
    assert town.execute(text("SELECT session, since, seq FROM adapter_session ORDER BY since")).all() == before
