"""The shutoff policy: each rule alone, the earliest lawful time, clock changes, holidays, mistakes in packs."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.accounts import Hold, Notice
from hub.errors import ConfigurationError
from hub.work import policy, policy_packs
from hub.work.policy import CutFacts, decide
from tests.hub.billing.conftest import NOW, ZONE, Town, delinquent

DEFAULT = policy_packs.load()
LAWFUL = CutFacts(
    account="A1",
    lives_there=True,
    requested=True,
    past_due=Decimal(120),
    due_since=date(2026, 8, 1),
    as_of=NOW - timedelta(hours=1),
    notices=(Notice("mail", NOW - timedelta(days=20)),),
    premise_class="residential",
    critical=False,
)


def codes(facts: CutFacts, at: datetime = NOW, zone: ZoneInfo = ZONE) -> list[str]:
    """The reasons of the default pack."""
    return [reason.code for reason in decide(facts, DEFAULT, at, zone).reasons]


def earliest(facts: CutFacts, at: datetime = NOW, zone: ZoneInfo = ZONE) -> str | None:
    """The earliest lawful time in local time."""
    found = decide(facts, DEFAULT, at, zone).earliest_at
    return None if found is None else found.astimezone(zone).isoformat()


def test_a_lawful_cut_is_allowed() -> None:
    assert decide(LAWFUL, DEFAULT, NOW, ZONE) == policy.Decision(True, (), NOW)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"account": None}, "account_unknown"),
        ({"source_known": False}, "account_unknown"),
        ({"lives_there": False}, "not_resident"),
        ({"successor": "A9"}, "place_taken"),
        ({"requested": False}, "not_requested"),
        ({"past_due": None}, "balance_unknown"),
        ({"past_due": Decimal(0)}, "nothing_past_due"),
        ({"due_since": None}, "due_date_unknown"),
        ({"due_since": date(2026, 10, 1)}, "not_due_long_enough"),
        ({"as_of": None}, "balance_stale"),
        ({"as_of": NOW - timedelta(hours=24, seconds=1)}, "balance_stale"),
        ({"notices": ()}, "notice_missing"),
        ({"notices": (Notice("mail", NOW - timedelta(days=61)),)}, "notice_missing"),
        ({"notices": (Notice("mail", NOW - timedelta(days=9)),)}, "notice_too_recent"),
        ({"holds": (Hold("medical", None),)}, "hold_medical"),
        ({"holds": (Hold("zoning_appeal", None),)}, "hold_unknown"),
        ({"premise_class": "hospital"}, "premise_protected"),
        ({"critical": True}, "place_critical"),
        ({"critical": None}, "place_unknown"),
        ({"missing": 7}, "event_missing"),
        ({"parked": 1}, "event_parked"),
        ({"waiting": 1}, "event_waiting"),
        ({"silent_since": NOW - timedelta(days=2)}, "source_silent"),
        ({"list_in_doubt": True}, "cut_list_resent"),
    ],
)
def test_each_fact_that_is_missing_stale_or_against_it_is_a_no(change: dict[str, Any], code: str) -> None:
    assert codes(replace(LAWFUL, **change)) == [code]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"due_since": date(2026, 10, 1)}, "2026-11-30T08:00:00-06:00"),
        ({"notices": (Notice("mail", NOW - timedelta(days=9)),)}, "2026-11-17T08:00:00-06:00"),
        ({"holds": (Hold("dispute", NOW + timedelta(hours=1)),)}, "2026-11-16T11:00:00-06:00"),
        # it ends on Wednesday before Thanksgiving, an eve; then a holiday, Friday and the weekend
        ({"holds": (Hold("dispute", datetime(2026, 11, 25, 9, tzinfo=ZONE)),)}, "2026-11-30T08:00:00-06:00"),
        ({"holds": (Hold("dispute", None),)}, None),
        ({"critical": True, "due_since": date(2026, 10, 1)}, None),
        ({"as_of": None}, None),
    ],
)
def test_the_earliest_lawful_time(change: dict[str, Any], wanted: str | None) -> None:
    assert earliest(replace(LAWFUL, **change)) == wanted


@pytest.mark.parametrize(
    ("local", "code", "opens"),
    [
        ("2026-11-16T07:59:59", "outside_hours", "2026-11-16T08:00:00-06:00"),
        ("2026-11-16T08:00:00", None, None),
        ("2026-11-16T15:59:59", None, None),
        ("2026-11-16T16:00:00", "outside_hours", "2026-11-17T08:00:00-06:00"),
        ("2026-11-19T17:00:00", "outside_hours", "2026-11-23T08:00:00-06:00"),
        ("2026-11-20T10:00:00", "outside_hours", "2026-11-23T08:00:00-06:00"),
        ("2026-11-21T10:00:00", "outside_hours", "2026-11-23T08:00:00-06:00"),
        ("2026-11-25T10:00:00", "holiday", "2026-11-30T08:00:00-06:00"),
        ("2026-11-26T10:00:00", "holiday", "2026-11-30T08:00:00-06:00"),
        # Christmas on a Friday: Thursday is its eve
        ("2026-12-24T10:00:00", "holiday", "2026-12-28T08:00:00-06:00"),
    ],
)
def test_days_and_hours(local: str, code: str | None, opens: str | None) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=ZONE)
    facts = replace(LAWFUL, as_of=at, notices=(Notice("mail", at - timedelta(days=20)),))
    assert codes(facts, at) == ([code] if code else [])
    if opens:
        assert earliest(facts, at) == opens


@pytest.mark.parametrize(
    ("night", "opens"),
    [
        # clocks go forward on Sunday 14 March 2027 and back on Sunday 1 November 2026
        (datetime(2027, 3, 13, 23, 0, tzinfo=ZONE), "2027-03-15T13:00:00+00:00"),
        (datetime(2026, 10, 31, 23, 0, tzinfo=ZONE), "2026-11-02T14:00:00+00:00"),
    ],
)
def test_office_hours_follow_the_wall_clock_over_a_clock_change(night: datetime, opens: str) -> None:
    facts = replace(LAWFUL, as_of=night, notices=(Notice("mail", night - timedelta(days=20)),))
    found = decide(facts, DEFAULT, night, ZONE).earliest_at
    assert found is not None and found.astimezone(UTC).isoformat() == opens


def test_days_are_local_days() -> None:
    """A bill due since 17 September is 60 days old when 16 November begins here, not when it begins in Greenwich."""
    facts = replace(LAWFUL, due_since=date(2026, 9, 17))
    assert codes(facts) == []
    utc_already = datetime(2026, 11, 17, 1, 0, tzinfo=UTC)
    facts = replace(LAWFUL, due_since=date(2026, 9, 18), as_of=utc_already)
    assert codes(facts, utc_already) == ["not_due_long_enough", "outside_hours"]


INSTANTS = st.integers(0, 2 * 365 * 86_400).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
AGES = st.integers(0, 120)


@given(at=INSTANTS, due=AGES, notice=AGES, hold=st.one_of(st.none(), st.integers(-5, 40)))
def test_the_earliest_time_is_lawful_and_nothing_before_it_is(
    at: datetime, due: int, notice: int, hold: int | None
) -> None:
    def facts(now: datetime) -> CutFacts:
        return replace(
            LAWFUL,
            as_of=now,
            due_since=at.date() - timedelta(days=due),
            notices=(Notice("mail", at - timedelta(days=notice)),),
            holds=() if hold is None else (Hold("medical", at + timedelta(days=hold)),),
        )

    decision = decide(facts(at), DEFAULT, at, ZONE)
    assert decision.allowed == (not decision.reasons)
    if decision.earliest_at is None:
        # the only way never to get there: the notice has lapsed by the time that everything else is in order
        assert not decision.allowed
        assert notice > 60 or max(60 - due, hold or 0) + notice > 50
        return
    found = decision.earliest_at
    assert found >= at
    assert decide(facts(found), DEFAULT, found, ZONE).allowed
    for before in (found - timedelta(seconds=1), at + (found - at) / 2):
        if at <= before < found:
            assert not decide(facts(before), DEFAULT, before, ZONE).allowed


@given(at=INSTANTS)
def test_every_reason_of_a_rule_names_its_source(at: datetime) -> None:
    facts = replace(LAWFUL, due_since=None, as_of=None, notices=(), holds=(Hold("x", None),), critical=None)
    for reason in decide(facts, DEFAULT, at, ZONE).reasons:
        assert reason.citation, reason.code
        assert policy.is_own_reason(reason.code)


# --------------------------------------------------------------------------------------------------------------- packs


def pack(folder: Path, rules: str, name: str = "own") -> Path:
    """A folder with one pack."""
    (folder / f"{name}.toml").write_text(f'name = "{name}"\ntitle = "Our own"\n{rules}', encoding="utf-8")
    return folder


HOURS = '[[rule]]\nkind = "hours"\nweekdays = ["mon"]\nfrom = "09:00"\nto = "10:00"\ncitation = "ours"\n'


def test_a_utility_overlays_its_own_pack(tmp_path: Path) -> None:
    own = policy_packs.load("own", pack(tmp_path, HOURS))
    late = NOW.replace(hour=9, minute=30)
    assert decide(replace(LAWFUL, as_of=None, notices=()), own, late, ZONE).allowed
    assert [r.code for r in decide(LAWFUL, own, NOW, ZONE).reasons] == ["outside_hours"]
    # What no pack can switch off still holds.
    assert not decide(replace(LAWFUL, missing=2), own, late, ZONE).allowed


def test_rules_are_dated_and_limited_to_places(tmp_path: Path) -> None:
    rules = HOURS + 'effective_from = 2026-12-01\npremise_classes = ["residential"]\n'
    own = policy_packs.load("own", pack(tmp_path, rules))
    friday = datetime(2026, 12, 4, 12, tzinfo=ZONE)
    assert decide(LAWFUL, own, NOW, ZONE).allowed
    assert not decide(LAWFUL, own, friday, ZONE).allowed
    assert decide(replace(LAWFUL, premise_class="commercial"), own, friday, ZONE).allowed
    assert not decide(replace(LAWFUL, premise_class=None), own, friday, ZONE).allowed


def test_business_days_and_channels(tmp_path: Path) -> None:
    rules = (
        '[[rule]]\nkind = "notice"\ndays_before = 7\nbusiness_days = true\n'
        'channels = ["phone", "visit"]\ncitation = "one"\n'
        '[[rule]]\nkind = "holidays"\ncountry = "US"\ncitation = "two"\n'
        '[[rule]]\nkind = "amount"\nmore_than = "200.00"\ncitation = "three"\n'
    )
    own = policy_packs.load("own", pack(tmp_path, rules))
    # Monday 9 November, with Veterans Day in between: the seventh business day is Thursday the 19th.
    sent = Notice("phone", datetime(2026, 11, 9, 12, tzinfo=ZONE))
    facts = replace(LAWFUL, past_due=Decimal("200.01"), notices=(sent, Notice("mail", NOW - timedelta(days=40))))
    decision = decide(facts, own, NOW, ZONE)
    assert [r.code for r in decision.reasons] == ["notice_too_recent"]
    assert decision.earliest_at is not None
    assert decision.earliest_at.astimezone(ZONE).isoformat() == "2026-11-19T00:00:00-06:00"
    assert not decide(replace(facts, past_due=Decimal(200)), own, datetime(2026, 11, 20, tzinfo=ZONE), ZONE).allowed


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("", "rule"),
        ('[[rule]]\nkind = "moon"\ncitation = "x y z"\n', "rule[0]"),
        ('[[rule]]\nkind = "days_past_due"\ndays = -1\ncitation = "x y z"\n', "days"),
        ('[[rule]]\nkind = "days_past_due"\ndays = 1\n', "citation"),
        (HOURS.replace("10:00", "08:00"), "later than"),
        (HOURS.replace("09:00", "9 am"), "time of day"),
        ('[[rule]]\nkind = "holidays"\ncountry = "XX"\ncitation = "x y z"\n', "no calendar"),
        ('[[rule]]\nkind = "amount"\nmore_than = 5.0\ncitation = "x y z"\n', "in quotes"),
        ("[[rule]\n", "cannot be read"),
    ],
)
def test_every_mistake_in_a_pack_is_explained(tmp_path: Path, rules: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        policy_packs.load("own", pack(tmp_path, rules))
    assert "own.toml" in error.value.detail and says in error.value.detail


def test_a_pack_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="default"):
        policy_packs.load("nowhere")


def test_fee_caps_of_the_pack_in_force(town: Town) -> None:
    assert policy.fee_caps(town.session, account="A1", service_point="SP1", at=NOW) == {
        "reconnect_fee": Decimal("50.00")
    }


def test_facts_are_gathered_from_what_billing_told(town: Town) -> None:
    town.send(delinquent())
    decision = policy.may_cut(town.session, account="A1", service_point="SP1", stage="start")
    assert decision.allowed
    for wrong in ({"account": "A2"}, {"service_point": "SP2"}, {"account": None}, {"service_point": None}):
        where: dict[str, Any] = {"account": "A1", "service_point": "SP1"} | wrong
        assert not policy.may_cut(town.session, stage="start", **where).allowed
