"""Volumes kept from one balance to the next: used while they are true, and never a moment longer."""

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from gis import kept
from gis.losses import zone_losses
from hub import imports
from hub.db import Database
from hub.leakage import balances
from hub.metering import units
from tests.hub.leakage.test_zone_routes import METERS, POINTS, READINGS, ZONES

ZONE = ZoneInfo("America/Chicago")


def bring(database: Database, folder: Path, kind: str, body: bytes) -> None:
    path = folder / f"{kind}.csv"
    path.write_bytes(body)
    with database.transaction() as session:
        imports.run(session, kind, path, actor="test", zone=ZONE)


@pytest.fixture
def town(database: Database, tmp_path: Path) -> Database:
    for kind, body in (("zones", ZONES), ("service-points", POINTS), ("meters", METERS), ("readings", READINGS)):
        bring(database, tmp_path, kind, body)
    return database


def billed_in(session: Session) -> dict[str | None, float]:
    start, end = balances.window(date(2026, 1, 1), date(2026, 2, 1), ZONE)
    found = zone_losses(session, start, end, time_zone=ZONE, units=units.FACTORS_M3)
    return {loss.zone: loss.consumption.billed_m3 for loss in found}


def billed(database: Database) -> dict[str | None, float]:
    with database.transaction() as session:
        return billed_in(session)


def keeping(database: Database) -> int:
    with database.transaction() as session:
        return int(session.execute(text("SELECT count(*) FROM kept_volume")).scalar_one())


def absorb(database: Database) -> int:
    with database.raw() as connection:
        return kept.absorb(connection)


def test_what_is_kept_is_used(town: Database) -> None:
    assert absorb(town) == 0
    first = billed(town)
    # two customers, two meters at the edges
    assert keeping(town) == 4
    # a volume that only the kept row can have given
    with town.transaction() as session:
        session.execute(
            text(
                "UPDATE kept_volume SET volume_m3 = volume_m3 + 1000"
                " WHERE meter_id IN (SELECT id FROM meter WHERE serial IN ('C1', 'C2'))"
            )
        )
    second = billed(town)
    assert second == pytest.approx({"A": first["A"] + 1000, "B": first["B"] + 1000, None: first[None] + 2000})


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO reading (meter_id, measured_at, value, value_m3, source)"
        " SELECT id, '2026-01-10T06:00Z', 500, 500, 'late' FROM meter WHERE serial = 'C1'",
        "UPDATE reading SET value_m3 = 600 WHERE measured_at > '2026-01-15' AND value_m3 = 510",
        "UPDATE reading SET quality = 'invalid' WHERE measured_at < '2026-01-15' AND value_m3 = 10",
        "DELETE FROM reading WHERE measured_at > '2026-01-15' AND value_m3 = 510",
        # beyond the month, but next to it
        "INSERT INTO reading (meter_id, measured_at, value, value_m3, source)"
        " SELECT id, '2026-02-10T06:00Z', 3, 3, 'late' FROM meter WHERE serial = 'C1'",
        "UPDATE meter SET dials = 3 WHERE serial = 'C1'",
        "UPDATE meter_installation SET installed_at = '2026-01-05' WHERE serial = 'C1'",
    ],
)
def test_a_change_is_never_missed(town: Database, change: str) -> None:
    billed(town)
    absorb(town)
    with town.transaction() as session:
        session.execute(text(change))
    after = billed(town)
    with town.transaction() as session:
        session.execute(text("DELETE FROM kept_volume"))
    assert billed(town) == after
    # the notes may go at any time
    absorb(town)
    assert billed(town) == after


def test_a_change_committed_while_a_balance_was_worked_out(town: Database) -> None:
    absorb(town)
    with town.transaction() as slow:
        before = billed_in(slow)
        with town.transaction() as quick:
            quick.execute(text("UPDATE reading SET value_m3 = 310 WHERE measured_at > '2026-01-15' AND value_m3 = 510"))
        # nobody takes the note away while somebody keeps what was seen before it
        assert absorb(town) == 0
    assert keeping(town) == 4
    after = billed(town)
    assert after["A"] == pytest.approx(before["A"] - 200)
    assert absorb(town) == 0
    assert billed(town) == after


def test_changes_and_balances_in_one_transaction(town: Database) -> None:
    with town.transaction() as session:
        session.execute(text("UPDATE reading SET value_m3 = 410 WHERE measured_at > '2026-01-15' AND value_m3 = 510"))
        before = billed_in(session)
        session.execute(text("UPDATE reading SET value_m3 = 310 WHERE measured_at > '2026-01-15' AND value_m3 = 410"))
        assert billed_in(session)["A"] == pytest.approx(before["A"] - 100)


def test_only_whole_months_that_are_over() -> None:
    january = balances.window(date(2026, 1, 1), date(2026, 2, 1), ZONE)
    now = balances.window(date(2026, 3, 1), date(2026, 3, 2), ZONE)[0]
    assert kept.keeps(*january, now, ZONE)
    assert not kept.keeps(*january, january[0], ZONE)
    assert not kept.keeps(*balances.window(date(2026, 1, 1), date(2026, 3, 1), ZONE), now, ZONE)
    assert not kept.keeps(*balances.window(date(2026, 1, 2), date(2026, 2, 2), ZONE), now, ZONE)
