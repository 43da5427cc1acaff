"""Kept messages read again after what reads them has changed: nothing is replaced silently, nothing is lost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from hub.cli import build
from hub.metering import replays
from hub.metering.replays import Chosen
from tests.conftest import Live

Command = Callable[..., str]
BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=3)


def reading(device: str, value: Any, hour: int, **more: Any) -> dict[str, Any]:
    return {"device": device, "value": value, "measured_at": (BEGIN + timedelta(hours=hour)).isoformat()} | more


def sql(live: Live, statement: str) -> None:
    with live.database.transaction() as session:
        session.execute(text(statement))


@pytest.fixture
def http(live: Live) -> httpx.Client:
    """A supervisor's client; D1 and D2 report M1 and M2 in cubic metres, five messages each, and one of both."""
    client = live.client("supervisor")
    for number in (1, 2):
        entry = {"device": f"D{number}", "meter": f"M{number}", "unit": "m3"}
        assert client.post("/api/v1/devices", json=entry).status_code == 201
        for hour in range(5):
            body = {"readings": [reading(f"D{number}", 1000 + hour, hour)]}
            assert client.post("/api/v1/readings", json=body).json()["stored"] == 1
    both = {"readings": [reading("D1", 1005, 5), reading("D2", 1005, 5)]}
    assert client.post("/api/v1/readings", json=both).json()["stored"] == 2
    return client


@pytest.fixture
def command(live: Live, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`curbstop readings replay …` on that database; what it prints."""
    assert live.settings.database_url is not None
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", live.settings.database_url.get_secret_value())
    monkeypatch.setattr(replays, "SLICE", 2)

    def run(*words: str) -> str:
        result = CliRunner().invoke(build("readings"), ["readings", "replay", *words])
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.output

    return run


def volumes(http: httpx.Client, meter: str) -> list[str]:
    """What a meter's readings stand at in m³, oldest first."""
    items = http.get(f"/api/v1/meters/{meter}/readings").json()["items"]
    return [one["value_m3"] for one in reversed(items)]


def conflicts(http: httpx.Client) -> int:
    found: int = http.get("/api/v1/quarantine").json()["counts"].get("value_conflict", 0)
    return found


def test_a_changed_decoder_corrects_only_when_told_so(live: Live, http: httpx.Client, command: Command) -> None:
    edited = (BEGIN + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    edit = {"action": "replace", "value": "7", "unit": "m3", "reason": "read from the photo"}
    assert http.post(f"/api/v1/meters/M1/readings/{edited}/edit", json=edit).status_code == 200
    before = volumes(http, "M1")
    # as a mended decoder would say: the device counts litres
    sql(live, "UPDATE device SET unit = 'l' WHERE device = 'd1'")

    said = command("--device", "D1", "--dry-run")
    assert "Nothing was changed; it would be so: 6 messages read again, 0" in said
    assert "5 readings told differently while the booked one stands" in said
    assert (volumes(http, "M1"), conflicts(http)) == (before, 0)
    said = command("--device", "D1", "--dry-run", "--correct", "it counts litres")
    assert "5 readings corrected" in said and "1000 m3 becomes 1000 l" in said
    assert (volumes(http, "M1"), conflicts(http)) == (before, 0)

    assert "5 readings told differently" in command("--device", "D1")
    assert (volumes(http, "M1"), conflicts(http)) == (before, 5)
    said = command("--adapter", "plain", "--correct", "it counts litres")
    assert "11 messages read again, 5 quarantine entries settled" in said
    assert "5 readings corrected" in said and "7 readings as they stand" in said
    assert volumes(http, "M1") == ["1.000", "7", "1.002", "1.003", "1.004", "1.005"]
    assert (volumes(http, "M2"), conflicts(http)) == ([str(1000 + hour) for hour in range(6)], 0)
    first = http.get(f"/api/v1/meters/M1/readings/{BEGIN.isoformat().replace('+00:00', 'Z')}").json()
    (former,) = first["revisions"]
    assert (former["value_m3"], former["reason"]) == ("1000", "it counts litres")
    # once more changes nothing
    assert "corrected" not in command("--device", "D1", "--correct", "again")
    with live.database.transaction() as session:
        logged = session.execute(text("SELECT detail FROM change WHERE verb = 'messages_read_again'")).scalars().all()
    assert sum(line["corrected"] for line in logged) == 5
    assert {line.get("reason") for line in logged} == {"it counts litres"}


def test_what_could_not_be_read_is_booked_and_settled(live: Live, http: httpx.Client, command: Command) -> None:
    for hour in range(3):
        http.post("/api/v1/readings", json={"readings": [reading("D1", hour, hour, register="low")]})
    sql(live, "INSERT INTO meter (serial, register, unit) VALUES ('M1', 'low', 'm3')")
    assert "3 readings booked that were not before" in command("--reason", "unknown_register", "--dry-run")
    assert http.get("/api/v1/quarantine").json()["counts"] == {"unknown_register": 3}
    said = command("--reason", "unknown_register")
    assert "3 messages read again, 3 quarantine entries settled" in said
    assert http.get("/api/v1/quarantine").json()["counts"] == {}


def test_a_reading_that_its_message_no_longer_tells_is_taken_out(
    live: Live, http: httpx.Client, command: Command
) -> None:
    sql(live, "INSERT INTO meter (serial, register, unit) VALUES ('M1', 'low', 'm3')")
    sql(live, "UPDATE device SET register = 'low' WHERE device = 'd1'")
    said = command("--device", "d1", "--correct", "it was the low register")
    assert "6 readings taken out" in said and "6 readings booked" in said
    items = http.get("/api/v1/meters/M1/readings").json()["items"]
    assert {one["register"] for one in items} == {"low"} and len(items) == 6
    at = BEGIN.isoformat().replace("+00:00", "Z")
    assert len(http.get(f"/api/v1/meters/M1/readings/{at}?register=volume").json()["revisions"]) == 1


def test_messages_are_chosen_by_arrival_and_progress_is_told(live: Live, http: httpx.Client) -> None:
    seen: list[tuple[int, int]] = []
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    told = replays.run(live.database, Chosen(since=soon, until=late), by="test", progress=lambda *at: seen.append(at))
    assert (told.messages, told.counts["duplicate"], seen[-1]) == (11, 12, (11, 11))
    assert replays.run(live.database, Chosen(since=late), by="test").messages == 0
    assert replays.run(live.database, Chosen(until=soon), by="test").messages == 0
    assert replays.run(live.database, Chosen(device="nobody\x00"), by="test").messages == 0


def test_nothing_to_read_is_said(command: Command) -> None:
    assert "No kept message is of that kind." in command("--device", "nobody")


def test_what_cannot_be_meant_is_refused(command: Command) -> None:
    for words, part in (
        ([], "which messages"),
        (["--adapter", "nonsense"], "There is no adapter"),
        (["--since", "yesterday"], "since"),
        (["--device", "d", "--correct", " "], "not said why"),
    ):
        result = CliRunner().invoke(build("readings"), ["readings", "replay", *words])
        assert result.exit_code != 0 and part in repr(result.exception) + result.output, words
