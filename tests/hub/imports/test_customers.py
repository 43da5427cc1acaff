"""Accounts and the nightly ageing."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import accounts
from hub.accounts import Stamp
from hub.models import Account, Occupancy
from hub.work import opening
from tests.hub.imports.conftest import Bring, Refuse


@pytest.fixture
def places(bring: Bring) -> None:
    bring("service-points", "id,address,lon,lat", "P1,a,0,0", "P2,b,0,0")


def test_accounts_live_somewhere(session: Session, bring: Bring, places: None) -> None:
    lines = (
        "account,service_point,since,until,name,holds,billing_zone",
        "A1,P1,2020-01-01,2024-06-01,Ada,,Z1",
        'A1,P2,2024-06-01,,Ada Lovelace,"medical; Dispute",Z2',
        "A2,P1,2024-06-01,2025-01-01,,,",
    )
    outcome = bring("accounts", *lines)
    assert (outcome.inserted, outcome.updated) == (3, 0)
    assert accounts.lives_at(session, "A1", "P2", date(2026, 1, 1))
    assert session.execute(select(Account.name, Account.status).order_by(Account.number)).all() == [
        ("Ada Lovelace", "active"),
        (None, "closed"),
    ]
    facts = accounts.facts(session, "A1")
    assert facts is not None and [hold.kind for hold in facts.holds] == ["dispute", "medical"]
    assert bring("accounts", *lines).unchanged == 3

    # a later file knows that A1 left; a column it does not have changes nothing; it lifts no hold
    outcome = bring("accounts", "account,service_point,since,until", "A1,P2,2024-06-01,2026-01-01")
    assert outcome.updated == 1
    stay = session.execute(select(Occupancy.until, Occupancy.billing_zone).where(Occupancy.service_point == "P2")).one()
    assert tuple(stay) == (date(2026, 1, 1), "Z2")
    assert session.execute(select(Account.name, Account.status).where(Account.number == "A1")).one() == (
        "Ada Lovelace",
        "closed",
    )
    facts = accounts.facts(session, "A1")
    assert facts is not None and len(facts.holds) == 2


def test_bad_accounts(refuse: Refuse, places: None) -> None:
    header = "account,service_point,since,until"
    assert refuse("accounts", header, "A1,P9,2020-01-01,")[0].column == "service_point"
    assert refuse("accounts", header, "A1,P1,2020-01-01,2019-01-01")[0].column == "until"
    assert refuse("accounts", header, "A1,P1,01.02.2020,")[0].column == "since"
    assert refuse("accounts", header, "A1,P1,2020-01-01,", "A1,P1,2020-01-01,")[0].row == 3


def test_bad_rows_of_every_kind_are_named_at_once(refuse: Refuse, places: None) -> None:
    lines = ("A1,P1,2026-02-30,", "A2,P9,2026-01-01,", "A3,P1,2026-01-02,2026-01-01", "A4,P1,2026-01-01,", "A5,P1")
    faults = refuse("accounts", "account,service_point,since,until", *lines)
    assert [(f.row, f.column) for f in faults] == [(2, "since"), (3, "service_point"), (4, "until"), (6, None)]


def test_the_ageing_is_the_newest_word_only_when_newer(session: Session, bring: Bring, places: None) -> None:
    bring("accounts", "account,service_point,since", "A1,P1,2020-01-01", "A2,P2,2020-01-01")
    paid_at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    accounts.record_debt(session, "A2", past_due=Decimal(0), stamp=Stamp(paid_at))
    outcome = bring(
        "balances",
        "account,past_due,as_of,due_since,holds",
        "A1,120.50,2026-01-05T02:00:00Z,2025-11-01,medical",
        "A2,99,2026-01-05T02:00:00Z,,",
    )
    assert outcome.inserted == 1
    assert outcome.notes == ["1 accounts already had a balance as new or newer"]
    first, second = accounts.facts(session, "A1"), accounts.facts(session, "A2")
    assert first is not None and second is not None
    assert (first.past_due, first.due_since, first.as_of) == (
        Decimal("120.50"),
        date(2025, 11, 1),
        datetime(2026, 1, 5, 2, tzinfo=UTC),
    )
    assert [hold.kind for hold in first.holds] == ["medical"]
    assert second.past_due == 0

    # the next night: paid, and the hold is gone from the list
    bring("balances", "account,past_due,as_of,holds", "A1,0,2026-01-06T02:00:00Z,")
    first = accounts.facts(session, "A1")
    assert first is not None and first.past_due == 0 and first.holds == () and first.word("settled") is not None


def test_bad_balances(session: Session, refuse: Refuse, bring: Bring, places: None) -> None:
    bring("accounts", "account,service_point,since", "A1,P1,2020-01-01")
    header = "account,past_due,as_of"
    assert refuse("balances", header, "A9,1,2026-01-01")[0].problem == "is not known"
    for amount in ("1.234", "1e400", "1e29", "NaN", "abc", "99999999999999"):
        assert refuse("balances", header, f"A1,{amount},2026-01-01")[0].column == "past_due"
    assert refuse("balances", header, "A1,1,yesterday")[0].column == "as_of"
    # it would outlive every payment until then
    assert refuse("balances", header, "A1,1,2126-01-01")[0].problem == "lies in the future"
    assert refuse("balances", header, "A1,1,2026-01-01", "A1,2,2026-01-01")[0].row == 3
    assert session.execute(text("SELECT count(*) FROM account_fact")).scalar_one() == 0


def test_an_ageing_without_debt_withdraws_the_shutoff(session: Session, bring: Bring, places: None) -> None:
    bring("accounts", "account,service_point,since", "A1,P1,2020-01-01")
    opened = opening.open_order(session, type="shutoff", by="user:kim", account="A1", service_point="P1")
    outcome = bring("balances", "account,past_due,as_of", "A1,0,2026-01-05")
    assert outcome.notes == ["1 work orders follow from it"]
    session.refresh(opened.order)
    assert opened.order.status == "cancelled"
