"""The state machine of alarms: when they begin, last, are latched, end, and tell of the past."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.metering.alarms import Episode, Form, Said, follow, merged, type_of, words_of

START = datetime(2026, 5, 4, tzinfo=UTC)


def said(hour: int, *words: str, form: Form = "reading", historic: bool = False, latching: str | None = None) -> Said:
    latched = frozenset({latching}) if latching else frozenset[str]()
    return Said(START + timedelta(hours=hour), form, words, historic, latched, hour)


def told(*words: Said) -> list[tuple[str, str, int, int | None]]:
    """(type, state, first hour, hour it ended) of the episodes that the words make, in the order they came."""
    episodes: list[Episode] = []
    newest: dict[str, datetime] = {}
    for one in words:
        follow(episodes, one, newest.get(one.form))
        if not one.historic:
            newest[one.form] = max(one.at, newest.get(one.form, one.at))
    hours = lambda at: None if at is None else int((at - START).total_seconds() // 3600)  # noqa: E731
    return [(e.type, e.state, hours(e.since), hours(e.ended_at)) for e in episodes]


def test_an_alarm_lasts_from_its_first_word_to_the_first_message_without() -> None:
    assert told(said(0), said(1, "leak"), said(2, "leak"), said(3)) == [("leak", "cleared", 1, 3)]
    assert told(said(1, "leak"), said(2, "leak")) == [("leak", "active", 1, None)]
    assert told(said(1, "leak"), said(2), said(3, "leak")) == [("leak", "cleared", 1, 2), ("leak", "active", 3, None)]


def test_words_of_stored_or_late_values_are_history() -> None:
    assert told(said(5), said(1, "leak")) == [("leak", "historic", 1, 1)]
    assert told(said(5, "tamper", historic=True)) == [("tamper", "historic", 5, 5)]
    # read again, nothing is told twice
    assert told(said(1, "leak"), said(2, "leak"), said(3), said(1, "leak"), said(2, "leak")) == [
        ("leak", "cleared", 1, 3)
    ]


def test_a_late_message_without_words_ends_nothing() -> None:
    assert told(said(5, "leak"), said(4)) == [("leak", "active", 5, None)]


def test_words_about_the_past_are_history_while_they_last() -> None:
    assert told(said(1, "leak_history"), said(2, "leak_history")) == [("leak", "historic", 1, None)]
    assert told(said(1, "leak_history"), said(2)) == [("leak", "historic", 1, 2)]
    assert told(said(1, "leak_history", "leak")) == [("leak", "historic", 1, None), ("leak", "active", 1, None)]


def test_a_latched_word_never_is_active() -> None:
    assert told(said(1, "backflow", latching="backflow"), said(2, "backflow", latching="backflow")) == [
        ("backflow", "latched", 1, None)
    ]


def test_a_bare_alarm_is_not_ended_by_a_reading() -> None:
    assert told(said(1, "leak", form="event"), said(2)) == [("leak", "active", 1, None)]
    assert told(said(1, "leak", form="event"), said(2, form="event")) == [("leak", "cleared", 1, 2)]


def test_words_of_one_instant_count_together() -> None:
    (one,) = merged([said(1, "leak"), said(1, "tamper")])
    assert one.words == ("leak", "tamper")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("leak", ("leak", False)),
        ("leak_history", ("leak", True)),
        ("LEAK NOW!", ("leak_now", False)),
        ("_history", ("history", False)),
        ("\N{WATER WAVE}", ("other", False)),
    ],
)
def test_a_word_names_its_type(word: str, expected: tuple[str, bool]) -> None:
    assert type_of(word) == expected


def test_judgements_are_not_the_devices_words() -> None:
    assert words_of(["q:historic", "leak", "clock_ahead", "vee:spike", "beyond_dials"]) == ("leak",)
