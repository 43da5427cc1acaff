"""Consumption from registers: rollover, backflow, misreads and resets judged; never negative by accident."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from hub import clock
from hub.errors import BadInput, NotFound
from hub.metering import consumption, devices, readings
from hub.metering.consumption import Point
from hub.metering.readings import Message
from hub.models import Meter

START = datetime(2026, 5, 4, tzinfo=UTC)
MILLION = Decimal(1_000_000)


def points(*volumes: str | float, hours: float = 1) -> list[Point]:
    return [Point(START + n * timedelta(hours=hours), Decimal(str(volume)), False) for n, volume in enumerate(volumes)]


def judged(*volumes: str | float, modulus: Decimal | None = None) -> tuple[list[Decimal | None], list[str]]:
    movements, events = consumption.rises(points(*volumes), modulus)
    return [rise.volume for rise in movements], [event.kind for event in events]


def test_a_register_that_rises_is_consumption() -> None:
    assert judged(1, "2.5", "2.5") == ([Decimal("1.5"), Decimal(0)], [])


def test_six_digits_roll_over() -> None:
    assert judged("999999.9", "3.2", modulus=MILLION) == ([Decimal("3.3")], ["rollover"])


def test_without_known_dials_a_great_fall_is_a_reset_and_counts_nothing() -> None:
    assert judged("999999.9", "3.2", "4.2") == ([None, Decimal(1)], ["reset"])


def test_a_small_fall_is_water_that_ran_back() -> None:
    assert judged(100, "99.75", 101) == ([Decimal(1)], ["misread"])
    assert judged(100, "99.75", "99.8") == ([Decimal("-0.25"), Decimal("0.05")], ["backflow"])


def test_a_new_meter_that_ran_backwards_through_zero_books_no_whole_register() -> None:
    assert judged(0, "99999.999", modulus=Decimal(100_000)) == ([Decimal("-0.001")], ["backflow"])


def test_a_misread_that_recovers_is_left_out() -> None:
    movements, events = consumption.rises(points(100, 10, 101), None)
    assert [(rise.volume, rise.ends - rise.begins) for rise in movements] == [(Decimal(1), timedelta(hours=2))]
    assert [event.kind for event in events] == ["misread"]


def test_steps_between_distant_readings_are_shared_evenly_and_marked() -> None:
    movements, _ = consumption.rises(points(0, 48, hours=48), None)
    marks = consumption.edges(START, START + timedelta(days=3), "day", ZoneInfo("UTC"))
    used = consumption.shares(movements, marks, "day")
    assert [(one.volume_m3, one.estimated, one.missing) for one in used] == [
        (Decimal(24), True, False),
        (Decimal(24), True, False),
        (None, False, True),
    ]


def test_days_are_local_and_have_the_hours_the_calendar_gives_them() -> None:
    zone = ZoneInfo("America/New_York")
    begins = datetime(2026, 3, 7, 5, tzinfo=UTC)
    marks = consumption.edges(begins, begins + timedelta(hours=71), "day", zone)
    assert [(after - before).total_seconds() / 3600 for before, after in pairwise(marks)] == [
        24,
        23,
        24,
    ]


@pytest.mark.parametrize(
    ("zone", "day", "hours", "steps"),
    [
        ("Asia/Kathmandu", date(2026, 5, 4), 24, 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5, 25),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5, 24),
        ("America/Chicago", date(2026, 3, 8), 23, 23),
        ("America/Chicago", date(2026, 11, 1), 25, 25),
        ("Africa/Cairo", date(2026, 4, 24), 23, 23),
        ("America/Havana", date(2026, 11, 1), 25, 25),
    ],
)
def test_hours_are_those_of_the_local_clock(zone: str, day: date, hours: float, steps: int) -> None:
    local = ZoneInfo(zone)
    begins, ends = (datetime.combine(at, time(), local).astimezone(UTC) for at in (day, day + timedelta(days=1)))
    assert consumption.edges(begins, ends, "day", local) == [begins, ends]
    marks = consumption.edges(begins, ends, "hour", local)
    assert ((ends - begins) / timedelta(hours=1), len(marks) - 1) == (hours, steps)
    assert {mark.astimezone(local).minute for mark in marks} <= {0, 30}
    assert [mark.astimezone(local).minute for mark in marks].count(30) <= 1


@given(st.lists(st.decimals(0, 1000, places=3), min_size=2, max_size=30), st.integers(1, 47))
def test_steps_sum_to_the_registers_whole_movement(rising: list[Decimal], offset: int) -> None:
    volumes = sorted(rising)
    movements, _ = consumption.rises(points(*map(str, volumes)), None)
    ends = START + timedelta(hours=len(volumes) - 1)
    marks = consumption.edges(START - timedelta(minutes=offset), ends, "hour", ZoneInfo("UTC"))
    total = sum(one.volume_m3 or Decimal(0) for one in consumption.shares(movements, marks, "hour"))
    assert abs(total - (volumes[-1] - volumes[0])) < Decimal("1e-20")


def _send(session: Session, serial: str, register: str, values: list[int]) -> None:
    lines = ",".join(
        f'{{"meter":"{serial}","register":"{register}","value":{value},"unit":"m3",'
        f'"measured_at":"{(START + timedelta(hours=n)).isoformat()}"}}'
        for n, value in enumerate(values)
    )
    batch = readings.receive(session, [Message("test", "x", f'{{"readings":[{lines}]}}'.encode(), "plain")], live=False)
    assert batch.count("stored") == len(values)


def test_compound_registers_are_summed_and_suspect_readings_left_out(session: Session) -> None:
    clock.set_clock(session, business_at=START + timedelta(days=1))
    session.add_all(
        [Meter(serial="C", register="high", unit="m3"), Meter(serial="C", register="low", unit="m3", dials=3)]
    )
    session.flush()
    _send(session, "C", "high", [10, 12, 15])
    _send(session, "C", "low", [998, 999, 1])
    ahead = {"meter": "C", "register": "low", "value": 500, "unit": "m3", "measured_at": "2027-01-01T00:00:00Z"}

    readings.receive(session, [Message("test", "x", json.dumps({"readings": [ahead]}).encode(), "plain")])
    used, events = consumption.of_meter(
        session, "C", begins=START, ends=START + timedelta(hours=3), step="hour", zone=ZoneInfo("UTC")
    )
    assert [one.volume_m3 for one in used] == [Decimal(3), Decimal(5), None]
    assert [event.kind for event in events] == ["rollover"]


def test_the_modulus_of_a_device_goes_before_the_dials(session: Session) -> None:
    clock.set_clock(session, business_at=START + timedelta(days=1))
    devices.register(session, device="d", meter="R", unit="m3", register_modulus_m3=Decimal(100), by="test")
    _send(session, "R", "volume", [99, 1])
    used, _ = consumption.of_meter(
        session, "R", begins=START, ends=START + timedelta(hours=1), step="hour", zone=ZoneInfo("UTC")
    )
    assert [one.volume_m3 for one in used] == [Decimal(2)]


def test_what_cannot_be_asked(session: Session) -> None:
    session.add(Meter(serial="Q", unit="m3"))
    session.flush()
    with pytest.raises(NotFound):
        consumption.of_meter(
            session, "none", begins=START, ends=START + timedelta(days=1), step="day", zone=ZoneInfo("UTC")
        )
    with pytest.raises(BadInput):
        consumption.of_meter(session, "Q", begins=START, ends=START, step="day", zone=ZoneInfo("UTC"))
