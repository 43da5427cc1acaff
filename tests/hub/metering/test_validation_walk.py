"""Validation of a register reading by reading."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.metering.validation_rules import rules
from hub.metering.validation_walk import Stand, walk

START = datetime(2026, 5, 4, tzinfo=UTC)
# twenty hours of ordinary use, 20 l an hour
QUIET = [Decimal(100) + Decimal("0.02") * hour for hour in range(20)]


def said(values: list[Any], *, modulus: str | None = None, **marks: set[int]) -> list[tuple[str, str, int, int]]:
    """(rule, kind, first, last) of what is flagged in hourly values, by their positions."""
    stands = [
        Stand(
            START + timedelta(hours=hour),
            Decimal(str(value)),
            hour in marks.get("estimated", set()),
            hour in marks.get("settled", set()),
        )
        for hour, value in enumerate(values)
    ]
    found = walk(stands, rules(), modulus=Decimal(modulus) if modulus else None, size_mm=None)
    hours = lambda at: int((at - START).total_seconds() // 3600)  # noqa: E731
    return [(flag.rule, flag.kind, hours(flag.first), hours(flag.last)) for flag in found]


def test_ordinary_use_is_not_flagged() -> None:
    assert said([*QUIET, 101, "101.9"]) == []


@pytest.mark.parametrize("factor", ["10", "1000", "7.48051948", "0.1", "0.001", "0.1336805556"])
def test_a_register_in_another_unit_is_one_run_until_it_is_back(factor: str) -> None:
    jumped = [(Decimal("100.4") + Decimal("0.02") * hour) * Decimal(factor) for hour in range(5)]
    assert said([*QUIET, *jumped]) == [("unit_jump", "unit_jump", 20, 24)]
    assert said([*QUIET, *jumped, "100.52"]) == [("unit_jump", "unit_jump", 20, 24)]


def test_a_run_in_another_unit_goes_on_however_far_it_gets() -> None:
    jumped = [(Decimal("100.4") + Decimal("0.1") * hour) * 1000 for hour in range(400)]
    assert said([*QUIET, *jumped]) == [("unit_jump", "unit_jump", 20, 419)]


def test_a_small_register_that_grows_tenfold_has_not_changed_its_unit() -> None:
    assert said(["0.1", "0.4", "1.0", "3.2"]) == []


def test_falls_are_told_apart() -> None:
    assert said([*QUIET, "99.9", "99.95"]) == [("register_fall", "backflow", 20, 20)]
    assert said([*QUIET, "63", "63.02"]) == [("register_fall", "reset", 20, 20)]
    assert said([*QUIET, "63", "100.5", "100.52"]) == [("register_fall", "misread", 20, 20)]
    near = [Decimal("99999.5") + Decimal("0.02") * hour for hour in range(20)]
    assert said([*near, "0.1", "0.12"], modulus="100000") == [("register_fall", "rollover", 20, 20)]


def test_a_reset_is_not_held_against_what_follows() -> None:
    assert said([*QUIET, "60", "60.02", "60.5"]) == [("register_fall", "reset", 20, 20)]


def test_a_burst_of_use_is_a_spike() -> None:
    assert said([*QUIET, "104.5", "104.52"]) == [("spike", "spike", 20, 20)]


def test_a_spike_from_which_the_register_comes_back_was_a_misread() -> None:
    assert said([*QUIET, "700.4", "100.42", "100.44"]) == [("spike", "misread", 20, 21)]
    # what follows is held against what was usual before
    assert said([*QUIET, "700.4", "100.42", "104.9"])[1:] == [("spike", "spike", 22, 22)]
    # a register that falls below where it was has been reset, whatever it showed before
    assert [kind for _, kind, *_ in said([*QUIET, "700.4", "60", "60.02"])] == ["spike", "reset"]
    # what a person believes stays
    assert "misread" not in [kind for _, kind, *_ in said([*QUIET, "700.4", "100.42"], settled={20})]


def test_an_estimate_above_the_next_reading_is_reversed() -> None:
    assert said([*QUIET, "102", "100.6", "100.62"], estimated={20}) == [
        ("estimate_reversal", "estimate_reversal", 20, 21)
    ]
    # an estimate below an estimate is no reading to reverse it
    assert [rule for rule, *_ in said([*QUIET, "102", "100.6"], estimated={20, 21})] == ["register_fall"]


def test_what_a_person_settled_is_believed() -> None:
    assert said([*QUIET, "100400", "100400.02"], settled={20}) == []
    assert said([*QUIET, "60", "60.02"], settled={20}) == []


@given(st.lists(st.decimals(0, 10**9, places=3), max_size=40), st.sets(st.integers(0, 40)))
def test_no_register_stops_the_walk(values: list[Decimal], estimated: set[int]) -> None:
    said([*values], estimated=estimated, modulus="1000000")


@given(st.lists(st.decimals(0, 1, places=3), min_size=2, max_size=60))
def test_a_register_that_rises_within_what_a_meter_can_pass_is_never_flagged(steps: list[Decimal]) -> None:
    total, values = Decimal(50), []
    for step in steps:
        total += step
        values.append(total)
    assert [found for found in said(values) if found[0] != "spike"] == []
