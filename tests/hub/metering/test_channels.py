"""One device, several counters: the registry says which is the meter's, and nothing is booked while it does not."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import clock
from hub.metering import devices, readings
from hub.metering.readings import Message
from hub.models import Meter, Quarantine, Reading
from tests.adapters.meters.sparkplug_payloads import DOUBLE, INT64, metric, payload

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


@pytest.fixture
def town(session: Session) -> Session:
    clock.set_clock(session, business_at=NOW)
    return session


def counters(**counts: int) -> Message:
    body = {"Time": "2026-05-04T09:00:00Z", "COUNTER": counts}
    return Message("mqtt:test", "tele/cellar/SENSOR", json.dumps(body).encode(), "tasmota")


def registered(session: Session, device: str, *registers: str) -> None:
    for register in registers:
        session.add(Meter(serial="M1", register=register, unit="l", dials=6))
    session.flush()
    for register in registers:
        devices.register(session, device=device, meter="M1", register=register, unit="l", by="test")


def booked(session: Session) -> list[tuple[str, Decimal]]:
    rows = session.execute(select(Meter.register, Reading.value).join(Meter, Meter.id == Reading.meter_id))
    return sorted((register, value) for register, value in rows)


def reasons(session: Session) -> list[str]:
    return list(session.scalars(select(Quarantine.reason).order_by(Quarantine.id)))


def test_several_counters_of_one_meter_are_put_aside_until_one_is_named(town: Session) -> None:
    registered(town, "cellar", "volume")
    batch = readings.receive(town, [counters(C1=5, C2=7)])
    assert [result.reason for result in batch.results[0]] == ["ambiguous_channel", "ambiguous_channel"]
    assert (booked(town), batch.dispositions) == ([], ["quarantine"])
    readings.receive(town, [counters(C1=5)])
    assert booked(town) == [("volume", Decimal(5))]


def test_named_channels_find_their_registers_and_the_others_are_nobodys(town: Session) -> None:
    registered(town, "cellar", "C2", "C3")
    readings.receive(town, [counters(C1=5, C2=7, C3=9)])
    assert booked(town) == [("C2", Decimal(7)), ("C3", Decimal(9))]
    readings.receive(town, [counters(C1=6)])
    assert (len(booked(town)), reasons(town)) == (2, [])


def test_a_node_that_sends_one_of_its_two_totals_is_as_ambiguous(town: Session) -> None:
    registered(town, "G/edge/m1", "volume")
    first = int(NOW.timestamp() * 1000) - 60_000
    totals = [metric(name, 10.0 + at, alias=at, datatype=DOUBLE) for at, name in ((1, "A/Total_m3"), (2, "B/Total_m3"))]
    births = [
        ("spBv1.0/G/NBIRTH/edge", payload(first, 0, metric("bdSeq", 1, datatype=INT64))),
        ("spBv1.0/G/DBIRTH/edge/m1", payload(first, 1, *totals)),
        ("spBv1.0/G/DDATA/edge/m1", payload(first + 1000, 2, metric(alias=2, value=13.0))),
    ]
    for topic, body in births:
        readings.receive(
            town, [Message("mqtt:test", topic, body, "sparkplug_b", received_at=NOW + timedelta(seconds=1))]
        )
    assert (booked(town), set(reasons(town))) == ([], {"ambiguous_channel"})
