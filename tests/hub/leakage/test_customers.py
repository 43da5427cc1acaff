"""Customers' leaks from stored hours: a tap that drips is named, a household and a bakery are not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.orm import Session

from hub import clock
from hub.db import raw_of
from hub.leakage import customers
from hub.settings import Settings
from tests import factories
from tests.conftest import Live

NOW = datetime(2026, 4, 20, 9, 0, tzinfo=UTC)
DAYS = 30


def use(session: Session, serial: str, point: str, hourly: np.ndarray) -> None:  # type: ignore[type-arg]
    """A meter at a place with litres for each of the last DAYS · 24 hours, as the roll-ups keep them."""
    factories.service_point(session, point, zone="Z1", address=f"{point} Mill Lane")
    factories.account(session, f"A-{point}", at=point)
    meter = factories.meter(session, serial, at=point)
    begin = (NOW - timedelta(days=DAYS)).date()
    with raw_of(session).cursor() as cursor:
        cursor.executemany(
            "INSERT INTO consumption_hours (meter_id, day, volumes_m3, estimated) VALUES (%s, %s, %s, 0)",
            [
                (meter.id, begin + timedelta(days=day), [float(v) / 1000 for v in hourly[day * 24 : day * 24 + 24]])
                for day in range(DAYS)
            ],
        )


def household(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    dice = np.random.default_rng(seed)
    awake = np.tile(np.r_[np.zeros(6), np.ones(17), 0.0], DAYS)
    return np.round(awake * dice.gamma(0.6, 25, DAYS * 24))


def town(session: Session) -> None:
    clock.set_clock(session, business_at=NOW, rate=0)
    factories.zone(session)
    leaking = household(1)
    leaking[20 * 24 + 5 :] += 12
    use(session, "DRIP", "P1", leaking)
    use(session, "FINE", "P2", household(2))
    use(session, "BAKER", "P3", np.round(np.random.default_rng(3).gamma(9, 20, DAYS * 24) + 5))
    ended = household(4)
    ended[5 * 24 : 15 * 24] += 9
    use(session, "OVER", "P4", ended)


def test_only_the_leak_that_runs_is_named(session: Session, counted: list[str]) -> None:
    town(session)
    counted.clear()
    (found,) = customers.leaks(session, Settings())
    assert len(counted) <= 3
    assert (found["meter"], found["certain"], found["account"], found["address"]) == (
        "DRIP", True, "A-P1", "P1 Mill Lane",
    )  # fmt: skip
    assert found["litres_per_hour"] == pytest.approx(12, abs=1)
    began = (NOW - timedelta(days=DAYS)).replace(hour=0) + timedelta(days=20, hours=5)
    assert abs(found["since"] - began) <= timedelta(hours=2)
    (hidden,) = customers.leaks(session, Settings(), addresses=False)
    assert not {"account", "address", "service_point"} & hidden.keys()


def test_the_list_tells_an_analyst_no_address(live: Live) -> None:
    with live.database.transaction() as session:
        town(session)
    assert live.client("billing").get("/api/v1/customer-leaks").json()["items"][0]["address"] == "P1 Mill Lane"
    assert "address" not in live.client("analyst").get("/api/v1/customer-leaks").json()["items"][0]
