"""Months that leave the database: nothing goes unless the settings say so, and only what the file truly holds."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from sqlalchemy import text

from hub import clock
from hub.db import Database
from hub.errors import BadInput, Unavailable
from hub.metering import devices, readings, retention, rollups, usage
from hub.metering.ledger import Message
from hub.settings import Settings

NOW = datetime(2026, 5, 20, tzinfo=UTC)


@pytest.fixture
def filled(database: Database) -> Database:
    """A reading a day from January to May, awkward flags and payloads among them, rolled up."""
    with database.transaction() as session:
        clock.set_clock(session, business_at=NOW)
        devices.register(session, device="d1", meter="M1", unit="gal", by="test")
        first = datetime(2026, 1, 1, tzinfo=UTC)
        lines = [
            f'{{"device":"d1","value":{n}.123456789012,"measured_at":"{(first + timedelta(days=n)).isoformat()}",'
            f'"flags":["a, \\"b\\"","x\\ny"],"seq":{n}}}'
            for n in range(130)
        ]
        for start in range(0, 130, 10):
            body = f'{{"readings":[{",".join(lines[start : start + 10])}]}}'.encode()
            message = Message('mqtt:"te\nst', "curbstop/v1/g/readings", body, "plain")
            message.received_at = first + timedelta(days=start + 10)
            readings.receive(session, [message], live=False)
        session.execute(text("INSERT INTO raw_message (received_at, source, topic, payload, disposition)"
                             " VALUES ('2026-01-05', '', 't', '\\x00ff22', 'quarantine')"))  # fmt: skip
    _roll_up(database)
    return database


def _roll_up(database: Database) -> None:
    while True:
        with database.transaction() as session:
            if not rollups.roll_up(session, ZoneInfo("UTC")):
                return


def settings(folder: Path, **more: int) -> Settings:
    return Settings(archive_dir=folder, **more)  # type: ignore[arg-type]


def table(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.raw() as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def days(database: Database) -> list[Decimal | None]:
    with database.transaction() as session:
        used, _ = usage.of_meter(
            session,
            "M1",
            begins=datetime(2026, 1, 1, tzinfo=UTC),
            ends=datetime(2026, 5, 1, tzinfo=UTC),
            step="day",
            zone=ZoneInfo("UTC"),
        )
    return [one.volume_m3 for one in used]


def test_nothing_leaves_unless_asked(filled: Database, tmp_path: Path) -> None:
    assert retention.run(filled, settings(tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []


def test_old_months_are_archived_proven_dropped_and_brought_back(filled: Database, tmp_path: Path) -> None:
    everything = "SELECT * FROM reading ORDER BY measured_at", "SELECT * FROM raw_message ORDER BY id"
    before = [table(filled, query) for query in everything]
    used = days(filled)
    policy = settings(tmp_path, retention_reading_months=2, retention_raw_message_months=2)
    # January and February end more than two whole months before May
    assert retention.run(filled, policy) == 4
    assert retention.run(filled, policy) == 0
    assert table(filled, "SELECT min(measured_at) FROM reading") == [(datetime(2026, 3, 1, tzinfo=UTC),)]
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"{kind}_2026_{month}.parquet" for kind in ("raw_message", "reading") for month in ("01", "02")]
    query = f"SELECT serial, count(*), max(value) FROM '{tmp_path}/reading_*.parquet' GROUP BY 1"
    assert duckdb.sql(query).fetchall() == [("M1", 59, Decimal("58.123456789012"))]
    # roll-ups outlive their readings, also when something arrives late
    late = b'{"readings":[{"device":"d1","value":90.6,"measured_at":"2026-04-01T12:00:00Z"},'
    late += b'{"device":"d1","value":3.5,"measured_at":"2026-01-04T12:00:00Z"}]}'
    with filled.transaction() as session:
        readings.receive(session, [Message("mqtt:test", "t", late, "plain")], live=False)
    _roll_up(filled)
    assert days(filled)[:59] == used[:59]
    for path in sorted(tmp_path.iterdir()):
        assert retention.restore(filled, path).new > 0
    with filled.raw() as connection:
        connection.execute("DELETE FROM reading WHERE source = 'mqtt:test'")
        connection.execute("DELETE FROM raw_message WHERE source = 'mqtt:test'")
    assert [table(filled, query) for query in everything] == before
    _roll_up(filled)
    assert days(filled) == used


def test_a_file_that_is_not_what_the_table_was_drops_nothing(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(filled, "SELECT count(*) FROM reading WHERE measured_at < '2026-03-01'")
    policy = settings(tmp_path, retention_reading_months=2)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "proof_of", lambda path, table: (58,))
        with pytest.raises(Unavailable):
            retention.run(filled, policy)
    left = "(SELECT count(*) FROM reading_2026_01_leaving) + (SELECT count(*) FROM reading_2026_02_leaving)"
    assert table(filled, f"SELECT {left}") == rows
    assert retention.run(filled, policy) == 2


def test_a_month_finds_its_meters_in_a_database_built_anew(filled: Database, tmp_path: Path) -> None:
    retention.run(filled, settings(tmp_path, retention_reading_months=2))
    before = duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/reading_2026_01.parquet'").fetchall()
    (here,) = table(filled, "SELECT id FROM meter WHERE serial = 'M1'")[0]
    with filled.raw() as connection:
        connection.execute("UPDATE meter SET serial = 'M0' WHERE serial = 'M1'")
    with pytest.raises(BadInput, match=r"M1 \(volume\)"):
        retention.restore(filled, tmp_path / "reading_2026_01.parquet")
    with filled.raw() as connection:
        connection.execute("INSERT INTO meter (serial, register, unit) VALUES ('M1', 'volume', 'gal')")
    told: list[tuple[int, int]] = []
    back = retention.restore(filled, tmp_path / "reading_2026_01.parquet", lambda *at: told.append(at))
    assert (back.new, back.months, told[-1]) == (before[0][0], [date(2026, 1, 1)], (back.rows, back.rows))
    ids = table(filled, "SELECT DISTINCT meter_id FROM reading WHERE measured_at < '2026-02-01'")
    assert len(ids) == 1 and ids != [(here,)]
    assert retention.restore(filled, tmp_path / "reading_2026_01.parquet").new == 0


def test_what_is_no_archive_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        retention.restore(database, tmp_path / "reading_*.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput):
        retention.restore(database, tmp_path / "x.parquet")
    duckdb.sql(f"COPY (SELECT 1 AS a) TO '{tmp_path}/y.parquet'")
    with pytest.raises(BadInput):
        retention.restore(database, tmp_path / "y.parquet")


def test_hourly_roll_ups_end_where_the_settings_say(filled: Database, tmp_path: Path) -> None:
    retention.run(filled, settings(tmp_path, retention_hourly_months=1))
    assert table(filled, "SELECT min(day) FROM consumption_hours") == [(datetime(2026, 4, 1, tzinfo=UTC).date(),)]
    assert table(filled, "SELECT min(day) FROM consumption_day") == [(datetime(2026, 1, 1, tzinfo=UTC).date(),)]
