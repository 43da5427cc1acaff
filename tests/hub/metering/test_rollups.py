"""Consumption kept ready is the consumption computed from readings, whatever came, in whatever order it came."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.errors import NotFound
from hub.metering import consumption, partitions, rollups, usage
from hub.metering.consumption import Point, Step, Used
from hub.models import Meter, MeterInstallation
from tests import factories

START = datetime(2026, 3, 1, tzinfo=UTC)
NEW_YORK, KOLKATA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
MODULUS = Decimal(1000)
Stored = tuple[datetime, Decimal | None, str]


def register(session: Session, serial: str = "M", **more: object) -> int:
    meter = Meter(serial=serial, unit="m3", **more)
    session.add(meter)
    session.flush()
    return meter.id


def store(session: Session, meter: int, readings: list[Stored]) -> None:
    connection = session.connection().connection.driver_connection
    assert connection is not None
    partitions.ensure(connection, "reading", {partitions.month_of(at) for at, _, _ in readings})
    session.execute(
        text(
            "INSERT INTO reading (meter_id, measured_at, value, value_m3, quality, source)"
            " VALUES (:meter, :at, coalesce(:value, 0), :value, :quality, 'test')"
        ),
        [{"meter": meter, "at": at, "value": value, "quality": quality} for at, value, quality in readings],
    )


def roll_up(session: Session, zone: ZoneInfo = NEW_YORK) -> None:
    while rollups.roll_up(session, zone):
        pass


def from_roll_ups(
    session: Session, monkeypatch: pytest.MonkeyPatch, begins: datetime, ends: datetime, step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[consumption.Event]]:
    with monkeypatch.context() as patch:
        patch.setattr(consumption, "over", lambda *_: pytest.fail("computed from readings"))
        return usage.of_meter(session, "M", begins=begins, ends=ends, step=step, zone=zone)


def from_readings(
    session: Session, monkeypatch: pytest.MonkeyPatch, begins: datetime, ends: datetime, step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[consumption.Event]]:
    """Where the clock is half an hour from UTC's, the hours of the answer are not those that are kept."""
    with monkeypatch.context() as patch:
        patch.setattr(usage, "_hours", lambda *_: pytest.fail("read from what is kept"))
        return usage.of_meter(session, "M", begins=begins, ends=ends, step=step, zone=zone)


def history(chance: random.Random) -> list[Stored]:
    """A register with every fault: gaps, misreads, rollovers, backflow, resets, suspects, estimates, no unit."""
    at, stand, found = START, Decimal(chance.choice([0, 5, 990])), []
    for _ in range(chance.randint(2, 60)):
        at += chance.choice(
            [
                timedelta(hours=1),
                timedelta(minutes=chance.randint(1, 200)),
                timedelta(microseconds=1),
                timedelta(days=chance.randint(1, 50), hours=5),
            ]
        )
        stand += Decimal(chance.randint(0, 4000)) / 1000
        shown = stand % MODULUS
        fault = chance.random()
        if fault < 0.08:
            shown = max(Decimal(0), shown - chance.choice([Decimal("0.4"), Decimal("0.5"), Decimal(300), Decimal(3)]))
            if chance.random() < 0.5:
                stand = shown
        elif fault < 0.12:
            stand = shown = Decimal(chance.choice([0, 1, 950, 999]))
        quality = chance.choices(["good", "estimated", "suspect", "invalid"], [80, 10, 5, 5])[0]
        found.append((at, None if chance.random() < 0.03 else shown, quality))
    return found


def naive(readings: list[Stored], marks: list[datetime], step: Step, modulus: Decimal | None) -> list[Used]:
    """The definition, said once more: judge the whole history, then add up every overlap as a fraction."""
    points = [
        Point(at, value, quality == "estimated")
        for at, value, quality in sorted(readings)
        if value is not None and quality in ("good", "estimated")
    ]
    movements, _ = consumption.rises(points, modulus)
    tolerance = consumption.LENGTH[step] / 20
    found = []
    for begins, ends in pairwise(marks):
        volume, covered, estimated = Fraction(0), timedelta(0), False
        for rise in movements:
            inside = min(rise.ends, ends) - max(rise.begins, begins)
            if rise.volume is not None and inside > timedelta(0):
                volume += (
                    Fraction(rise.volume)
                    * Fraction(inside / timedelta(microseconds=1))
                    / Fraction((rise.ends - rise.begins) / timedelta(microseconds=1))
                )
                covered += inside
                estimated |= rise.estimated or any(
                    min(edge - rise.begins, rise.ends - edge) > tolerance for edge in (begins, ends)
                )
        amount = Decimal(volume.numerator) / Decimal(volume.denominator)
        found.append(Used(begins, ends, amount if covered else None, covered / (ends - begins), estimated))
    return found


def close(one: list[Used], other: list[Used]) -> None:
    """The same but for the noise of floats."""
    assert [(a.begins, a.ends, a.missing, a.estimated, a.volume_m3 is None) for a in one] == [
        (b.begins, b.ends, b.missing, b.estimated, b.volume_m3 is None) for b in other
    ]
    for a, b in zip(one, other, strict=True):
        assert abs((a.volume_m3 or 0) - (b.volume_m3 or 0)) < Decimal("1e-8"), (a, b)
        assert abs(a.coverage - b.coverage) < 1e-9, (a, b)


@pytest.mark.parametrize("seed", range(16))
def test_kept_ready_is_computed_is_defined(session: Session, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    zone = chance.choice([NEW_YORK, KOLKATA, ZoneInfo("UTC")])
    modulus = chance.choice([None, MODULUS])
    meter = register(session, dials=3 if modulus else None)
    readings = history(chance)
    arriving = readings[:]
    chance.shuffle(arriving)
    while arriving:
        size = chance.randint(1, len(arriving))
        store(session, meter, arriving[:size])
        arriving = arriving[size:]
        if chance.random() < 0.7 or not arriving:
            roll_up(session, zone)
    gone = chance.choice(readings)
    if chance.random() < 0.5:
        session.execute(text("DELETE FROM reading WHERE measured_at = :at"), {"at": gone[0]})
        readings.remove(gone)
        roll_up(session, zone)
    first = datetime(2026, 2, 1, tzinfo=zone).astimezone(UTC)
    last = max(at for at, _, _ in [*readings, gone]) + timedelta(days=3)
    for step in consumption.STEPS:
        ends = consumption.edges(first, last, step if step != "hour" else "day", zone)[-2]
        begins = first
        if step == "hour":
            ends = ends.replace(minute=0)
            begins = max(first.replace(minute=0), ends - timedelta(hours=9000))
        marks = consumption.edges(begins, ends, step, zone)
        kept_so = step != "hour" or zone is not KOLKATA
        asked = from_roll_ups if kept_so else from_readings
        kept, falls = asked(session, monkeypatch, begins, ends, step, zone)
        computed, events = consumption.of_meter(session, "M", begins=begins, ends=ends, step=step, zone=zone)
        close(kept, computed)
        close(computed, naive(readings, marks, step, modulus))
        assert falls == events


def test_a_misread_just_before_the_time_asked_for_counts_nothing(session: Session) -> None:
    meter = register(session)
    hours = [START + timedelta(hours=n) for n in range(5)]
    store(session, meter, [(at, Decimal(v), "good") for at, v in zip(hours, (100, 10, 101, 102, 103), strict=True)])
    used, _ = consumption.of_meter(session, "M", begins=hours[2], ends=hours[4], step="hour", zone=ZoneInfo("UTC"))
    assert [one.volume_m3 for one in used] == [1, 1]


def test_what_is_due_is_computed_from_readings_until_it_is_rolled_up(session: Session) -> None:
    meter = register(session)
    store(session, meter, [(START, Decimal(1), "good"), (START + timedelta(hours=2), Decimal(3), "good")])
    roll_up(session)
    store(session, meter, [(START + timedelta(hours=1), Decimal("2.5"), "good")])

    def hours() -> list[Decimal | None]:
        used, _ = usage.of_meter(
            session, "M", begins=START, ends=START + timedelta(hours=2), step="hour", zone=NEW_YORK
        )
        return [one.volume_m3 for one in used]

    assert hours() == [Decimal("1.5"), Decimal("0.5")]
    roll_up(session)
    assert hours() == [Decimal("1.5"), Decimal("0.5")]
    assert session.execute(text("SELECT count(*) FROM consumption_due")).scalar_one() == 0


def test_other_dials_mean_other_falls(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = register(session)
    day = timedelta(days=1)
    store(session, meter, [(START, Decimal(999), "good"), (START + day, Decimal(1), "good")])
    roll_up(session, ZoneInfo("UTC"))
    arguments = (session, monkeypatch, START, START + day, "day", ZoneInfo("UTC"))
    used, falls = from_roll_ups(*arguments)  # type: ignore[arg-type]
    assert (used[0].volume_m3, [one.kind for one in falls]) == (None, [])
    assert from_roll_ups(session, monkeypatch, START, START + 2 * day, "day", ZoneInfo("UTC"))[1][0].kind == "reset"
    session.execute(text("UPDATE meter SET dials = 3"))
    roll_up(session, ZoneInfo("UTC"))
    assert from_roll_ups(*arguments)[0][0].volume_m3 == 2  # type: ignore[arg-type]
    session.execute(text("UPDATE reading SET quality = 'suspect' WHERE value = 1"))
    roll_up(session, ZoneInfo("UTC"))
    assert from_roll_ups(*arguments)[0][0].missing  # type: ignore[arg-type]


def test_counting_a_repeat_makes_nothing_due(session: Session) -> None:
    meter = register(session)
    store(session, meter, [(START, Decimal(1), "good")])
    roll_up(session)
    session.execute(text("UPDATE reading SET repeats = repeats + 1"))
    assert session.execute(text("SELECT count(*) FROM consumption_due")).scalar_one() == 0


def test_a_service_points_use_goes_on_from_meter_to_meter(session: Session) -> None:
    factories.service_point(session, "P")
    noon = START + timedelta(hours=12)
    for serial, begins, ends, stands in (
        ("OLD", None, noon, [(START, 100), (noon, 103)]),
        ("NEW", noon, None, [(noon, 0), (START + timedelta(days=1), 2), (START + timedelta(days=2), 6)]),
    ):
        meter = register(session, serial)
        session.add(
            MeterInstallation(
                serial=serial,
                service_point="P",
                installed_at=begins or datetime(2020, 1, 1, tzinfo=UTC),
                removed_at=ends,
            )
        )
        store(session, meter, [(at, Decimal(value), "good") for at, value in stands])
    register(session, "SUB", purpose="sub")
    session.add(MeterInstallation(serial="SUB", service_point="P", installed_at=START))
    session.flush()
    for _ in range(2):
        used, events, meters = usage.of_service_point(
            session, "P", begins=START, ends=START + timedelta(days=3), step="day", zone=ZoneInfo("UTC")
        )
        assert [one.volume_m3 for one in used] == [5, 4, None]
        assert [one.missing for one in used] == [False, False, True]
        assert (events, meters) == ([], ["OLD", "NEW"])
        roll_up(session, ZoneInfo("UTC"))
    with pytest.raises(NotFound):
        usage.of_service_point(session, "Q", begins=START, ends=noon, step="day", zone=NEW_YORK)


def test_readings_that_keep_coming_are_waited_for_but_not_for_ever(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, done, pace = [0.0], [], rollups.Pace(NEW_YORK)
    monkeypatch.setattr(rollups.time, "monotonic", lambda: now[0])
    meter = register(session)
    for hour in range(40):
        store(session, meter, [(START + timedelta(hours=hour), Decimal(hour), "good")])
        done.append(bool(pace.round(session)))
        now[0] += rollups.LOOK_S
    # looked twice a second, over twenty seconds without a pause
    assert done.count(True) == 3
    # a pause of one look is enough
    store(session, meter, [(START + timedelta(hours=40), Decimal(40), "good")])
    assert [bool(pace.round(session)) for _ in range(3)] == [False, True, False]


def test_many_notes_are_not_waited_for(session: Session) -> None:
    meter, pace = register(session), rollups.Pace(NEW_YORK)
    for hour in range(rollups.NOTES):
        store(session, meter, [(START + timedelta(hours=hour), Decimal(hour), "good")])
    assert pace.round(session)


def test_what_a_round_puts_back_is_done_at_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "REGISTER_DAYS", 4)
    pace = rollups.Pace(NEW_YORK)
    for number in range(5):
        store(session, register(session, f"M{number}"), [(START, Decimal(1), "good")])
    rounds = [pace.round(session) for _ in range(6)]
    assert rounds[0] == 0 and all(rounds[1:4]) and rounds[-1] == 0
    assert session.execute(text("SELECT count(*) FROM consumption_due")).scalar_one() == 0
