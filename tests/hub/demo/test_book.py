"""What billing will tell the hub: plausible, in order, and understood by the hub's adapter to the last event."""

import json
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from adapters.billing import standard
from hub.demo import calendar
from hub.demo.book import make_book
from hub.demo.hydraulics import Water
from hub.demo.town import Town


@pytest.fixture(scope="module")
def book(hamlet: Town, still_water: Water) -> dict[str, Any]:
    return make_book(hamlet, still_water)


def test_every_planned_event_is_understood(book: dict[str, Any]) -> None:
    for event in book["plan"]:
        if event["type"] == "payment":
            continue
        body = json.dumps({"type": event["type"], "timestamp": event["at"], "data": event["data"]}).encode()
        assert standard.read(body).type == event["type"]


def test_the_first_morning_has_something_of_everything(book: dict[str, Any]) -> None:
    first = Counter(
        e["type"] for e in book["plan"] if datetime.fromisoformat(e["at"]) < calendar.STORY.replace(hour=8, minute=30)
    )
    assert {"account.delinquent", "account.opened", "account.closed", "reading.rejected", "reading.disputed"} <= set(
        first
    )


def test_events_are_in_order_and_within_the_simulated_weeks(book: dict[str, Any]) -> None:
    times = [event["at"] for event in book["plan"]]
    assert times == sorted(times)
    assert datetime.fromisoformat(times[0]) >= calendar.STORY
    assert datetime.fromisoformat(times[-1]) < calendar.END


def test_debts_are_old_enough_and_told_in_time(book: dict[str, Any]) -> None:
    for debt in book["debts"].values():
        assert Decimal(debt["past_due"]) > 0
        assert (calendar.STORY.date() - datetime.fromisoformat(debt["due_since"]).date()).days >= 60
        told = [datetime.fromisoformat(notice["sent_at"]) for notice in debt["notices"]]
        assert all(sent < calendar.STORY for sent in told) and len(told) >= 2


def test_nobody_is_debtor_mover_and_doubter_at_once(book: dict[str, Any]) -> None:
    moving = {
        e["data"]["account"] for e in book["plan"] if e["type"].startswith("account.o") or e["type"] == "account.closed"
    }
    assert not moving & set(book["debts"])


def test_new_accounts_are_new(book: dict[str, Any]) -> None:
    known = {entry["account"] for entry in book["accounts"]}
    opened = [e["data"]["account"] for e in book["plan"] if e["type"] == "account.opened"]
    assert opened and not known & set(opened) and len(opened) == len(set(opened))


def test_the_same_book_every_time(hamlet: Town, still_water: Water, book: dict[str, Any]) -> None:
    assert make_book(hamlet, still_water) == book
