"""From facts of metering to work: what opens an order, what joins, waits, is told first, or is one incident."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from hub import clock
from hub.db import new_id
from hub.errors import BadInput, ConfigurationError, Conflict
from hub.metering import devices
from hub.models import (
    Alarm,
    Change,
    Device,
    DeviceState,
    Finding,
    Meter,
    MeterInstallation,
    OrderException,
    OutboundMessage,
    Quarantine,
    ReadingException,
    WorkOrder,
)
from hub.work import findings, opening_rules, orders
from tests import factories
from tests.hub.work.conftest import BY, TUESDAY, Cast

ZONE = ZoneInfo("America/Chicago")


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    """The shipped rules."""
    opening_rules.use()
    yield
    opening_rules.use()


def alarm(
    session: Session, type: str, days: float = 2, *, state: str = "active", meter: str = "M1", **more: Any
) -> None:
    now = clock.now(session)
    session.execute(
        insert(Alarm).values(
            id=new_id(),
            device=f"d-{meter}",
            meter=meter,
            type=type,
            state=state,
            form="reading",
            since=now - timedelta(days=days),
            last_seen=now,
            text=type.upper(),
            raw_id=7,
            **more,
        )
    )


def flagged(session: Session, rule: str, days: float = 1, kind: str = "reset") -> None:
    meter_id = session.scalars(select(Meter.id).where(Meter.serial == "M1")).one()
    at = clock.now(session) - timedelta(days=days)
    session.execute(
        insert(ReadingException).values(
            id=new_id(),
            meter_id=meter_id,
            rule=rule,
            kind=kind,
            measured_at=at,
            last_at=at,
            found_at=at,
            detail={"m3": "7"},
        )
    )


def radio(
    session: Session, name: str, meter: str, *, silent_days: float, gateway: str = "curbstop/v1/g1", at: str = "SP1"
) -> None:
    """A device of `meter` at a place of its own, silent for so long."""
    now = clock.now(session)
    if session.scalar(select(Meter.id).where(Meter.serial == meter)) is None:
        factories.service_point(session, f"SP-{meter}", zone="Z1")
        factories.meter(session, meter, at=f"SP-{meter}")
    devices.register(session, device=name, meter=meter, by="test")
    silent = now - timedelta(days=silent_days)
    session.add(DeviceState(device=name, publisher=gateway, heard_at=silent, read_at=silent, offsets_s=[]))
    session.flush()


def run(session: Session, *, days: float = 0) -> list[tuple[str, str, str]]:
    """What the job does, so many days later: (rule, subject, state) of what is not settled."""
    if days:
        session.execute(
            text("UPDATE clock SET business_at = business_at + make_interval(secs => :s)"), {"s": days * 86400}
        )
        session.execute(text("UPDATE alarm SET last_seen = business_now() WHERE ended_at IS NULL"))
    findings.notice(session)
    for finding_id in findings.due(session, ZONE):
        findings.open_due(session, finding_id)
    session.expire_all()
    return sorted((one.rule, one.subject, one.state) for one in findings.listed(session, limit=1000))


def opened(session: Session) -> list[tuple[str, str | None]]:
    return sorted((one.type, one.meter) for one in session.scalars(select(WorkOrder)))


def test_a_leak_is_told_to_the_customer_first_and_opens_an_order_only_if_it_lasts(cast: Cast) -> None:
    session = cast.session
    alarm(session, "leak", 0.5)
    assert run(session) == [("leak", "M1", "noticed")]
    assert run(session, days=1) == [("leak", "M1", "notified")]
    (body,) = session.scalars(select(OutboundMessage.body).where(OutboundMessage.type == "leak.suspected"))
    told = body["data"]
    assert (told["account"], told["service_point"], told["meter"]) == ("A1", "SP1", "M1")
    assert told["evidence"]["alarms"][0]["text"] == "LEAK"
    assert run(session, days=6) == [("leak", "M1", "notified")]
    assert opened(session) == []
    assert run(session, days=2) == [("leak", "M1", "opened")]
    assert opened(session) == [("leak_investigation", "M1")]
    # nothing more while it lasts, and once told is told
    run(session, days=3)
    assert len(opened(session)) == 1
    assert cast.told().count("leak.suspected") == 1


def test_a_leak_that_stops_opens_nothing(cast: Cast) -> None:
    session = cast.session
    alarm(session, "continuous_flow")
    assert run(session) == [("leak", "M1", "notified")]
    session.execute(update(Alarm).values(state="cleared", ended_at=clock.now(session)))
    assert run(session, days=9) == []
    assert opened(session) == []
    assert session.scalars(select(Finding.state)).all() == ["settled"]


def test_an_order_carries_its_evidence_on_its_timeline(cast: Cast) -> None:
    session = cast.session
    alarm(session, "burst")
    run(session)
    order = session.scalars(select(WorkOrder)).one()
    assert (order.type, order.account, order.service_point, order.opened_by) == (
        "leak_investigation",
        "A1",
        "SP1",
        "hub",
    )
    line = session.scalars(select(Change.detail).where(Change.order_id == order.id, Change.verb == "evidence")).one()
    assert line["rule"] == "burst"
    assert line["evidence"]["alarms"][0]["raw_message"] == 7
    assert order.note is not None
    assert "burst" in order.note


@pytest.mark.parametrize("state", ["latched", "historic", "cleared"])
def test_latched_historic_and_past_alarms_open_nothing(cast: Cast, state: str) -> None:
    ended = None if state != "cleared" else clock.now(cast.session)
    alarm(cast.session, "tamper", state=state, ended_at=ended)
    assert (run(cast.session), opened(cast.session)) == ([], [])


def test_an_alarm_long_unheard_of_opens_nothing(cast: Cast) -> None:
    alarm(cast.session, "tamper", 30)
    cast.session.execute(update(Alarm).values(last_seen=TUESDAY - timedelta(days=20)))
    assert run(cast.session) == []


def test_a_second_fact_joins_the_order_of_its_place_and_purpose(cast: Cast) -> None:
    session = cast.session
    alarm(session, "tamper")
    assert run(session) == [("tamper_alarm", "M1", "opened")]
    flagged(session, "use_on_inactive", kind="use_on_inactive")
    assert ("use_on_inactive", "M1", "joined") in run(session)
    order = session.scalars(select(WorkOrder)).one()
    assert cast.verbs(order).count("evidence") == 2


def test_an_order_that_ended_is_not_opened_again_while_the_fact_lasts(cast: Cast) -> None:
    session = cast.session
    alarm(session, "tamper")
    run(session)
    order = cast.assigned(session.scalars(select(WorkOrder)).one())
    orders.complete(session, order.id, by=BY, answers={"code": "false_alarm"}, via="radio")
    run(session, days=1)
    assert len(opened(session)) == 1
    session.execute(update(Alarm).values(state="cleared", ended_at=clock.now(session)))
    run(session)
    session.execute(update(Alarm).values(ended_at=clock.now(session) - timedelta(days=1)))
    alarm(session, "tamper", 0)
    run(session)
    assert len(opened(session)) == 2


def test_what_is_over_the_cap_of_the_day_waits_and_is_listed(cast: Cast, tmp_path: Path) -> None:
    session = cast.session
    (tmp_path / opening_rules.FILE).write_text(
        '[[rule]]\nname = "t"\nfacts = "alarm"\ntypes = ["tamper"]\nopens = "tamper"\ndaily_cap = 2\n'
    )
    opening_rules.use(tmp_path)
    for number in range(5):
        factories.service_point(session, f"P{number}", zone="Z1")
        factories.meter(session, f"N{number}", at=f"P{number}")
        alarm(session, "tamper", 5 - number / 10, meter=f"N{number}")
    states = run(session)
    # the oldest first
    assert [state for _, _, state in states] == ["opened", "opened", "waiting", "waiting", "waiting"]
    assert findings.counts(session) == {"t": {"opened": 2, "waiting": 3}}
    run(session)
    assert len(opened(session)) == 2
    run(session, days=1)
    assert len(opened(session)) == 4


def test_a_silent_gateway_is_one_incident_and_its_meters_open_no_orders(cast: Cast) -> None:
    session = cast.session
    for number in range(6):
        radio(session, f"r{number}", f"R{number}", silent_days=4)
    radio(session, "other", "R9", silent_days=4, gateway="curbstop/v1/g2")
    assert run(session) == [("missing_reads", "R9", "opened"), ("silent_gateway", "curbstop/v1/g1", "incident")]
    assert opened(session) == [("no_read", "R9")]
    (incident,) = findings.listed(session, rule="silent_gateway")
    assert incident.evidence["devices"] == 6
    # it speaks again, but for two of its devices
    now = clock.now(session)
    session.execute(
        update(DeviceState).where(DeviceState.device.in_(["r0", "r1", "r2", "r3"])).values(heard_at=now, read_at=now)
    )
    run(session)
    assert opened(session) == [("no_read", "R4"), ("no_read", "R5"), ("no_read", "R9")]


def test_a_meter_is_silent_only_when_all_its_devices_are(cast: Cast) -> None:
    radio(cast.session, "a", "M1", silent_days=9)
    radio(cast.session, "b", "M1", silent_days=0.1)
    assert run(cast.session) == []


def test_a_drop_a_unit_jump_and_a_new_serial_are_put_before_a_person(cast: Cast) -> None:
    session = cast.session
    flagged(session, "register_fall")
    flagged(session, "unit_jump", kind="unit_jump")
    session.execute(
        insert(Quarantine).values(
            id=new_id(),
            source="mqtt:x",
            device="d1",
            meter="M1",
            reason="other_serial",
            detail={"text": "names M9"},
            received_at=TUESDAY - timedelta(hours=1),
        )
    )
    assert [state for _, _, state in run(session)] == ["opened"] * 3
    assert sorted(cast.exceptions()) == ["new_serial", "unexplained_drop", "unit_jump"]
    run(session)
    assert len(cast.exceptions()) == 3
    assert opened(session) == []


def test_where_work_cannot_be_opened_a_person_is_told(cast: Cast) -> None:
    session = cast.session
    session.add(Meter(serial="Z9", unit="m3"))
    session.flush()
    session.add(MeterInstallation(serial="Z9", zone="Z1", direction="in", installed_at=TUESDAY - timedelta(days=9)))
    session.flush()
    alarm(session, "tamper", meter="Z9")
    run(session)
    assert (cast.exceptions(), opened(session)) == (["tamper_alarm"], [])
    assert session.scalars(select(OrderException.ours)).one() == {"meter": "Z9"}


def test_a_person_dismisses_a_finding_while_the_fact_lasts(cast: Cast) -> None:
    session = cast.session
    alarm(session, "low_battery", 3)
    assert run(session) == [("low_battery", "M1", "noticed")]
    (finding,) = findings.listed(session)
    with pytest.raises(BadInput):
        findings.dismiss(session, finding.id, by=BY, reason=" ")
    findings.dismiss(session, finding.id, by=BY, reason="the radio is exchanged next month")
    assert run(session, days=20) == [("low_battery", "M1", "dismissed")]
    assert opened(session) == []
    with pytest.raises(Conflict):
        findings.dismiss(session, finding.id, by=BY, reason="again")


def test_a_rule_that_is_no_longer_in_force_settles_what_it_noticed(cast: Cast, tmp_path: Path) -> None:
    alarm(cast.session, "low_battery", 3)
    run(cast.session)
    (tmp_path / opening_rules.FILE).write_text("rule = []")
    opening_rules.use(tmp_path)
    assert run(cast.session) == []


def test_noticing_asks_as_often_for_many_facts_as_for_few(cast: Cast, counted: list[str]) -> None:
    session = cast.session
    asked = []
    for first, last in ((0, 2), (2, 30)):
        for number in range(first, last):
            factories.service_point(session, f"P{number}", zone="Z1")
            factories.meter(session, f"N{number}", at=f"P{number}")
            alarm(session, "low_battery", 2, meter=f"N{number}")
        counted.clear()
        findings.notice(session)
        asked.append(len(counted))
    assert asked[0] == asked[1]
    assert session.scalar(select(func.count()).select_from(Finding)) == 30


# (type, answers, messages billing hears, exceptions, orders that follow)
ENDS: list[tuple[str, dict[str, Any], set[str], list[str], list[str]]] = [
    (
        "leak_investigation",
        {"code": "customer_side", "moves_with_taps_closed": True, "acoustic": "inside", "flow_l_per_min": "3.5"},
        {"leak.confirmed"},
        [],
        [],
    ),
    ("leak_investigation", {"code": "utility_side", "found_at": "at the tap"}, {"leak.confirmed"}, [], ["leak_repair"]),
    ("leak_investigation", {"code": "none_found", "moves_with_taps_closed": False}, set(), [], []),
    ("tamper", {"code": "bypass", "seal": "missing", "evidence": "a hose"}, {"tamper.found"}, ["bypass"], []),
    (
        "tamper",
        {"code": "self_restored", "seal": "broken", "evidence": "cut", "reading": {"value": "5", "unit": "m3"}},
        {"tamper.found", "reading.captured"},
        ["self_restored"],
        [],
    ),
    ("tamper", {"code": "false_alarm"}, set(), [], []),
    (
        "no_read",
        {"code": "battery", "endpoint": "D1", "signal_dbm": 90, "reading": {"value": "5", "unit": "m3"}},
        {"reading.captured"},
        [],
        [],
    ),
    ("no_read", {"code": "wire_cut"}, set(), ["wire_cut"], []),
    ("no_read", {"code": "pit_flooded"}, set(), ["pit_flooded"], []),
]


@pytest.mark.parametrize(
    ("type", "answers", "told", "excepted", "follow"), ENDS, ids=[f"{e[0]} {e[1]['code']}" for e in ENDS]
)
def test_how_the_work_ends(
    cast: Cast, type: str, answers: dict[str, Any], told: set[str], excepted: list[str], follow: list[str]
) -> None:
    order = cast.assigned(cast.order(type))
    orders.complete(cast.session, order.id, by=BY, answers=answers, via="radio")
    assert order.status == "completed"
    assert set(cast.told(order)) - {"work_order.opened", "work_order.assigned", "work_order.completed"} == told
    assert cast.exceptions() == excepted
    assert [one for one, _ in opened(cast.session) if one != type] == follow
    if "leak.confirmed" in told:
        message = cast.message(order, "leak.confirmed")
        assert (message["side"], message["code"]) == (answers["code"], answers["code"])


MISSING: list[tuple[str, dict[str, Any]]] = [
    ("leak_investigation", {"code": "customer_side"}),
    ("leak_investigation", {"code": "utility_side"}),
    ("tamper", {"code": "bypass", "seal": "broken"}),
    ("no_read", {"code": "battery", "endpoint": "D1"}),
]


@pytest.mark.parametrize(("type", "answers"), MISSING)
def test_a_result_needs_what_its_code_asks_for(cast: Cast, type: str, answers: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        orders.complete(cast.session, cast.assigned(cast.order(type)).id, by=BY, answers=answers, via="radio")


@pytest.mark.parametrize(
    ("type", "code", "then"),
    [("leak_investigation", "dog", "retry"), ("tamper", "refused", "escalate"), ("no_read", "weather", "retry")],
)
def test_why_the_work_could_not_be_done_says_what_follows(cast: Cast, type: str, code: str, then: str) -> None:
    order = cast.assigned(cast.order(type))
    orders.unable(cast.session, order.id, by=BY, code=code, via="radio")
    assert order.completion is not None
    assert order.completion["then"] == then


WRONG: list[tuple[str, str]] = [
    ('facts = "alarm"\ntypes = ["leak"]\nopens = "nothing"\ndaily_cap = 5', "opens: expected one of"),
    ('facts = "alarm"\ntypes = []\nopens = "tamper"\ndaily_cap = 5', "types"),
    ('facts = "alarm"\ntypes = ["leak"]\nopens = "tamper"', "daily_cap: expected a value, it is missing"),
    ('facts = "weather"\n', "expected"),
    ('facts = "silent_gateway"\nsilent_hours = 5\ndevices = 2\nshare = "1.5"', "share: expected at most 1"),
]


@pytest.mark.parametrize(("rule", "expected"), WRONG)
def test_every_mistake_in_the_rules_is_told(tmp_path: Path, rule: str, expected: str) -> None:
    (tmp_path / opening_rules.FILE).write_text(f'[[rule]]\nname = "x"\n{rule}\n')
    _, mistakes = opening_rules.check(tmp_path)
    assert any(expected in line for line in mistakes), mistakes
    with pytest.raises(ConfigurationError):
        opening_rules.use(tmp_path)


def test_devices_are_only_those_of_today(cast: Cast) -> None:
    radio(cast.session, "a", "M1", silent_days=9)
    cast.session.execute(update(Device).values(valid_to=TUESDAY - timedelta(days=5)))
    assert run(cast.session) == []
