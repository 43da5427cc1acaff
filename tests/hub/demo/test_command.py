"""What `curbstop demo` decides before anything runs: where the town's clock resumes, and whose settings it forgets."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from hub import clock
from hub.cli import demo
from hub.demo import calendar
from hub.demo.businesstime import BusinessClock
from hub.demo.settings import DemoSettings, write_document


@pytest.fixture
def told(tmp_path: Path) -> DemoSettings:
    return DemoSettings(tmp_path, "http://127.0.0.1:1", "mqtt://127.0.0.1:2", "ltown", 3, 4, 5)


def test_a_fresh_town_begins_on_monday_morning(session: Session, told: DemoSettings) -> None:
    assert demo._resume_at(session, told) == calendar.STORY
    assert (calendar.STORY.weekday(), calendar.STORY.hour, calendar.STORY.minute) == (0, 7, 30)


def test_a_town_that_was_stopped_goes_on_without_going_back(session: Session, told: DemoSettings) -> None:
    noted = calendar.STORY + timedelta(hours=30)
    write_document(told.folder / "state.json", {"business_at": noted.isoformat(), "speed": 60})
    clock.set_clock(session, business_at=noted + timedelta(days=3), rate=60)
    assert demo._resume_at(session, told) == noted + timedelta(minutes=15)


def test_a_quick_restart_does_not_run_ahead_of_the_clock(session: Session, told: DemoSettings) -> None:
    noted = calendar.STORY + timedelta(hours=30)
    write_document(told.folder / "state.json", {"business_at": noted.isoformat(), "speed": 60})
    clock.set_clock(session, business_at=noted + timedelta(minutes=3), rate=0)
    assert demo._resume_at(session, told) == noted + timedelta(minutes=3)


def test_a_real_hubs_settings_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"DATABASE_URL": "postgresql://real/hub", "SECRET_KEY_FILE": "/run/secrets/key"}.items():
        monkeypatch.setenv(f"CURBSTOP_{name}", value)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    demo._own_settings(tmp_path)
    kept = {name for name in os.environ if name.startswith("CURBSTOP_")}
    assert kept == {*demo.TOWN_SETTINGS, "CURBSTOP_DATA_DIR"}


def test_the_contract_survives_the_environment(told: DemoSettings) -> None:
    assert DemoSettings.from_environment(told.environment()) == told
    assert told.clock() is None
    running = BusinessClock(datetime.now(UTC), calendar.STORY, 60.0)
    write_document(told.folder / "story.json", {"clock": running.text()})
    assert told.clock() == running


def test_business_time_runs_at_its_rate() -> None:
    began = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    running = BusinessClock(began, calendar.STORY, 60.0)
    assert running.at(began + timedelta(seconds=90)) == calendar.STORY + timedelta(minutes=90)


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    write_document(tmp_path / "keys.json", {"token": "x"}, mode=0o600)
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
