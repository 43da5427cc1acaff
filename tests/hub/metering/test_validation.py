"""Validation of what was read lately, on a real database: flags, exceptions, people's decisions, derived alarms."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from hub import clock
from hub.db import raw_of
from hub.errors import BadInput, ConfigurationError, Conflict
from hub.metering import consumption, devices, exceptions, partitions, rebooking, revisions, validation, watching
from hub.metering import validation_rules as declared
from hub.models import (
    Alarm,
    Meter,
    MeterInstallation,
    MeterReview,
    Occupancy,
    PlaceFact,
    Reading,
    ReadingException,
    ServicePoint,
)
from tests import factories

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
ZONE = ZoneInfo("America/Chicago")


@pytest.fixture
def town(session: Session) -> Session:
    """An account lives at SP1, where M1 measures; the shipped rules are in force."""
    declared.use()
    clock.set_clock(session, business_at=NOW)
    factories.zone(session)
    factories.service_point(session, zone="Z1")
    factories.account(session)
    factories.meter(session)
    return session


def read(session: Session, stands: Iterable[tuple[float, Any]], serial: str = "M1", register: str = "volume") -> None:
    """Store good readings, so many hours ago, and review their meter."""
    found = [(NOW - timedelta(hours=hours), Decimal(str(value))) for hours, value in stands]
    meter_id = session.scalars(select(Meter.id).where(Meter.serial == serial, Meter.register == register)).one()
    partitions.ensure(raw_of(session), "reading", {partitions.month_of(at) for at, _ in found})
    session.execute(
        text(
            "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)"
            " VALUES (:m, :at, :v, 'm3', :v, 'test') ON CONFLICT DO NOTHING"
        ),
        [{"m": meter_id, "at": at, "v": value} for at, value in found],
    )
    watching.queue_review(session, {meter_id: min(at for at, _ in found)})
    review(session)


def review(session: Session) -> None:
    while validation.review(session, ZONE):
        pass
    session.expire_all()


def hourly(first: int, last: int, start: float = 100.0, step: float = 0.02) -> list[tuple[float, float]]:
    return [(hours, round(start + step * (first - hours), 4)) for hours in range(first, last, -1)]


def daily(first: int, last: int, start: float, step: float) -> list[tuple[float, float]]:
    return [(24 * days, round(start + step * (first - days), 4)) for days in range(first, last - 1, -1)]


def flagged(session: Session, *, open_only: bool = True) -> list[tuple[str, str]]:
    return sorted((row[0].rule, row[0].kind) for row in exceptions.listed(session, open_only=open_only))


def qualities(session: Session, hours: int) -> list[tuple[str, list[str]]]:
    rows = session.execute(
        select(Reading.quality, Reading.flags)
        .where(Reading.measured_at > NOW - timedelta(hours=hours))
        .order_by(Reading.measured_at)
    )
    return [(row.quality, row.flags) for row in rows]


def test_a_unit_jump_stays_out_of_consumption_until_a_person_decides(town: Session) -> None:
    read(town, hourly(30, 4))
    read(town, [(4, 100_520), (3, 100_540), (2, 100_560)])
    assert qualities(town, 5) == [("suspect", ["vee:unit_jump"])] * 3
    ((exception, serial, _),) = exceptions.listed(town)
    assert (exception.rule, serial, exception.detail["factor"]) == ("unit_jump", "M1", "1000")
    assert exception.last_at == NOW - timedelta(hours=2)
    read(town, [(1, 100_580)])
    assert len(exceptions.listed(town)) == 1
    used, _ = consumption.of_meter(town, "M1", begins=NOW - timedelta(hours=30), ends=NOW, step="month", zone=ZONE)
    assert sum(one.volume_m3 or 0 for one in used) == Decimal("0.5")


def test_a_misread_upwards_stays_out_once_the_register_is_back(town: Session) -> None:
    read(town, hourly(30, 4))
    read(town, [(4, 700.52)])
    assert flagged(town) == [("spike", "spike")]
    read(town, [(3, 100.54)])
    read(town, [(2, 100.56), (1, 100.58)])
    assert flagged(town) == [("spike", "misread")]
    assert qualities(town, 5) == [("suspect", ["vee:spike"]), *[("good", [])] * 3]
    used, falls = consumption.of_meter(town, "M1", begins=NOW - timedelta(hours=30), ends=NOW, step="hour", zone=ZONE)
    assert ({one.volume_m3 for one in used[:-1]}, falls) == ({Decimal("0.02")}, [])


def test_a_corrected_profile_settles_the_jump_by_itself(town: Session) -> None:
    from tests.hub.metering.test_registry import send

    devices.register(town, device="D1", meter="M1", by="test", unit="m3")
    send(town, *((hours, 100 + (30 - hours) * 0.02) for hours in range(30, 4, -1)))
    send(town, (4, 100_520), (3, 100_540))
    watching.fold(town)
    review(town)
    assert flagged(town) == [("unit_jump", "unit_jump")]
    devices.register(
        town, device="D1", meter="M1", by="clerk", unit="l", valid_from=NOW - timedelta(hours=4, minutes=5)
    )
    while rebooking.run(town) is not None:
        pass
    watching.fold(town)
    review(town)
    assert (flagged(town), qualities(town, 5)) == ([], [("good", [])] * 2)
    resolved = town.scalars(select(ReadingException)).one()
    assert resolved.resolution == {"by": "hub", "action": "no longer so"}


def test_a_person_accepts_a_run_as_it_is(town: Session) -> None:
    read(town, hourly(30, 4))
    read(town, [(4, 100_520), (3, 100_540)])
    ((exception, _, _),) = exceptions.listed(town)
    with pytest.raises(BadInput):
        exceptions.settle(town, exception.id, verdict="accept", by="clerk", reason=" ")
    settled = exceptions.settle(town, exception.id, verdict="accept", by="clerk", reason="the town's pool was filled")
    review(town)
    assert settled.resolution is not None
    assert settled.resolution["readings"] == 2
    assert qualities(town, 5) == [("good", ["edited"])] * 2
    assert len(revisions.of(town, "M1", "volume", NOW - timedelta(hours=4))) == 1
    assert flagged(town) == []
    with pytest.raises(Conflict):
        exceptions.settle(town, exception.id, verdict="accept", by="clerk", reason="again")


def test_only_a_reset_waits_for_a_person(town: Session) -> None:
    read(town, [*hourly(30, 4), (4, 100.3), (3, 100.35), (2, 60), (1, 60.1)])
    assert flagged(town) == [("register_fall", "reset")]
    assert ("register_fall", "backflow") in flagged(town, open_only=False)


def test_an_estimate_that_was_too_high_counts_no_longer(town: Session) -> None:
    read(town, hourly(30, 4))
    revisions.edit(town, "M1", NOW - timedelta(hours=4), action="estimate", value="103", unit="m3", by="x", reason="y")
    town.execute(text("UPDATE reading SET flags = '{}' WHERE flags @> ARRAY['edited']"))
    read(town, [(3, 100.6), (2, 100.62)])
    assert qualities(town, 5) == [("suspect", ["vee:estimate_reversal"]), ("good", []), ("good", [])]
    assert flagged(town) == [("estimate_reversal", "estimate_reversal")]


def test_readings_that_came_late_take_a_flag_back(town: Session) -> None:
    read(town, [*hourly(60, 40), (4, 112), (3, 112.02)])
    assert flagged(town) == [("spike", "spike")]
    # what ran through in between, told by a gateway that had been away
    read(town, [(hours, 100.4 + (40 - hours) * 0.32) for hours in range(39, 4, -1)])
    assert flagged(town) == [] or all(rule == "spike" for rule, _ in flagged(town))


USE: list[tuple[str, list[tuple[float, float]], str]] = [
    ("high after the weeks before", daily(40, 8, 100, 0.3) + daily(7, 0, 112, 3.0), "high_use"),
    ("low after the weeks before", daily(40, 8, 100, 1.0) + daily(7, 0, 132.02, 0.005), "low_use"),
    ("no use in a month", daily(60, 31, 100, 0.01) + daily(30, 0, 100.29, 0.0), "zero_on_active"),
    ("stands still", daily(40, 5, 100, 0.5) + daily(4, 0, 117.5, 0.0), "stuck_register"),
    ("stands still after two weeks", daily(18, 5, 100, 0.5) + daily(4, 0, 106.5, 0.0), "stuck_register"),
    ("high after three weeks", daily(28, 8, 100, 0.3) + daily(7, 0, 106.5, 3.0), "high_use"),
]


@pytest.mark.parametrize(("why", "stands", "rule"), USE, ids=[case[0] for case in USE])
def test_use_out_of_the_ordinary_is_flagged(
    town: Session, why: str, stands: list[tuple[float, float]], rule: str
) -> None:
    read(town, stands)
    assert rule in [name for name, _ in flagged(town)]
    newest = town.scalars(select(Reading.flags).order_by(Reading.measured_at.desc()).limit(1)).one()
    assert f"vee:{rule}" in newest


def test_the_same_season_a_year_before_goes_first(town: Session) -> None:
    summer = [(24 * (365 + day), 100 + (30 - day) * 3) for day in range(30, -15, -1)]
    # as much as last year, though ten times the weeks before
    read(town, summer + daily(40, 8, 400, 0.3) + daily(7, 0, 412, 3.0))
    assert "high_use" not in [rule for rule, _ in flagged(town)]


def test_a_condition_is_told_once_and_ends_by_itself(town: Session) -> None:
    read(town, daily(40, 5, 100, 0.5) + daily(4, 1, 117.5, 0.0))
    read(town, [(0, 117.5)])
    ((exception, _, _),) = [row for row in exceptions.listed(town) if row[0].rule == "stuck_register"]
    assert exception.last_at == NOW
    read(town, [(-0.2, 117.9)])
    assert "stuck_register" not in [rule for rule, _ in flagged(town)]


def test_what_a_person_settled_is_quiet_for_a_while(town: Session) -> None:
    read(town, daily(40, 5, 100, 0.5) + daily(4, 1, 117.5, 0.0))
    ((exception, _, _),) = [row for row in exceptions.listed(town) if row[0].rule == "stuck_register"]
    exceptions.settle(town, exception.id, verdict="accept", by="clerk", reason="they are on holiday")
    read(town, [(0, 117.5)])
    assert "stuck_register" not in [rule for rule, _ in flagged(town)]


def test_use_where_nobody_lives_is_flagged(town: Session) -> None:
    town.execute(update(Occupancy).values(until=date(2026, 4, 24)))
    read(town, daily(40, 0, 100, 0.01))
    assert "use_on_inactive" not in [rule for rule, _ in flagged(town)]
    read(town, [(-0.2, 101.5)])
    ((exception, _, _),) = [row for row in exceptions.listed(town) if row[0].rule == "use_on_inactive"]
    assert exception.detail["why"] == "nobody has an account there"


def test_use_behind_a_closed_valve_is_flagged_only_from_then_on(town: Session) -> None:
    cut = update(PlaceFact).where(PlaceFact.fact == "valve")
    town.execute(cut.values(state="closed", since=NOW - timedelta(days=5)))
    read(town, daily(40, 6, 100, 1.0) + daily(5, 1, 134.9, 0.0))
    assert "use_on_inactive" not in [rule for rule, _ in flagged(town)]
    read(town, [(0, 135.6)])
    ((exception, _, _),) = [row for row in exceptions.listed(town) if row[0].rule == "use_on_inactive"]
    assert (exception.detail["why"], exception.detail["m3"]) == ("the valve is closed", "0.700")


def test_a_compound_meter_counts_only_with_all_its_registers(town: Session) -> None:
    town.add(Meter(serial="M1", register="low", unit="m3"))
    town.flush()
    read(town, daily(20, 0, 100, 0.5))
    read(town, daily(20, 10, 50, 0.1), register="low")
    ((exception, _, register),) = [row for row in exceptions.listed(town) if row[0].rule == "compound_sum"]
    assert (register, exception.measured_at) == ("low", NOW - timedelta(days=10))


def test_a_total_that_is_not_the_sum_is_flagged(town: Session) -> None:
    town.execute(update(Meter).values(register="high"))
    town.add_all([Meter(serial="M1", register=name, unit="m3") for name in ("low", "total")])
    town.flush()
    for register, step in (("high", 0.5), ("low", 0.1), ("total", 0.9)):
        read(town, daily(40, 0, 100, step), register=register)
    assert ("compound_sum", "compound_sum") in flagged(town)


def test_flow_in_every_hour_is_an_alarm_with_its_smallest_hour(town: Session) -> None:
    stands = [(hours, 100 + (30 - hours) * 0.03 + (0.5 if hours < 12 else 0)) for hours in range(30, 0, -1)]
    read(town, stands)
    alarm = town.scalars(select(Alarm)).one()
    assert (alarm.type, alarm.state, alarm.meter, alarm.device) == ("continuous_flow", "active", "M1", None)
    assert (alarm.detail["smallest_hour_m3h"], alarm.detail["hours"]) == ("0.030000", 24)
    read(town, [(0, stands[-1][1])])
    town.refresh(alarm)
    assert (alarm.state, alarm.ended_at) == ("cleared", NOW)


def test_a_meter_of_a_zone_always_runs(town: Session) -> None:
    town.execute(update(MeterInstallation).values(service_point=None, zone="Z1", direction="in"))
    read(town, [(hours, 100 + (30 - hours) * 3) for hours in range(30, -1, -1)])
    assert town.scalars(select(Alarm)).all() == []


@pytest.mark.parametrize("missing", [None, 8])
def test_a_place_that_runs_round_the_clock_or_an_hour_unknown_is_no_alarm(town: Session, missing: int | None) -> None:
    if missing is None:
        town.execute(update(ServicePoint).values(premise_class="Hospital"))
    read(town, [(hours, 100 + (30 - hours) * 0.03) for hours in range(30, -1, -1) if hours != missing])
    assert town.scalars(select(Alarm)).all() == []


def test_a_review_asks_the_database_the_same_number_of_times_for_many_meters(
    town: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    partitions.ensure(raw_of(town), "reading", {date(2026, 5, 1)})
    for count in (2, 40):
        for number in range(count):
            serial = f"N{count}-{number}"
            factories.meter(town, serial)
            meter_id = town.scalars(select(Meter.id).where(Meter.serial == serial)).one()
            town.execute(
                text(
                    "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source) SELECT :m,"
                    " :now - make_interval(hours => h), 100 - h * 0.01, 'm3', 100 - h * 0.01, 'test'"
                    " FROM generate_series(0, 30) h ON CONFLICT DO NOTHING"
                ),
                {"m": meter_id, "now": NOW},
            )
            watching.queue_review(town, {meter_id: NOW - timedelta(hours=30)})
        calls: list[int] = []
        real = validation.raw_of
        monkeypatch.setattr(validation, "raw_of", lambda s: calls.append(1) or real(s))  # noqa: B023
        assert validation.review(town, ZONE) == count
        monkeypatch.setattr(validation, "raw_of", real)
        asked.append(len(calls))
    assert asked[0] == asked[1]


def test_a_long_backfill_is_reviewed_piece_by_piece(town: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_READINGS", 40)
    read(town, [*hourly(200, 4), (4, 60), (3, 60.02)])
    assert flagged(town) == [("register_fall", "reset")]
    assert town.scalars(select(MeterReview)).all() == []


WRONG: list[tuple[str, str]] = [
    ("rule = 5", "rule: expected"),
    ('[[rule]]\nname = "x"\ncheck = "nothing"', "expected check to be"),
    ('[[rule]]\nname = "x"\ncheck = "zero"', "days: expected a value, it is missing"),
    ('[[rule]]\nname = "x"\ncheck = "zero"\ndays = 5\nday = 4', "expected no such key"),
    ('[[rule]]\nname = "x"\ncheck = "spike"\nfactor = 2.5\nat_least_m3 = "1"', "in quotes"),
    ('[[rule]]\nname = "x"\ncheck = "zero"\ndays = 5\n' * 2, "expected once"),
    ("[[rule]", "expected TOML"),
]


@pytest.mark.parametrize(("content", "expected"), WRONG)
def test_every_mistake_in_the_rules_is_told(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / declared.FILE).write_text(content)
    _, mistakes = declared.check(tmp_path)
    assert any(expected in line for line in mistakes), mistakes
    with pytest.raises(ConfigurationError):
        declared.use(tmp_path)
    declared.use()


def test_a_utility_replaces_the_rules_as_a_whole(tmp_path: Path, town: Session) -> None:
    (tmp_path / declared.FILE).write_text('[[rule]]\nname = "idle"\ncheck = "zero"\ndays = 3\n')
    declared.use(tmp_path)
    try:
        read(town, [*daily(40, 4, 100, 0.5), *daily(3, 0, 118, 0), (-0.1, 50)])
        assert flagged(town) == []
        town.execute(text("DELETE FROM reading WHERE value = 50"))
        read(town, [(-0.1, 118)])
        assert flagged(town) == [("idle", "idle")]
    finally:
        declared.use()
