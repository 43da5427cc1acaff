"""Imports as people watch them: how far one is, what became of it, and that a killed process leaves word of it."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from hub import imports
from hub.errors import TooManyRequests, Unavailable
from hub.imports import readings, runs
from tests import factories
from tests.conftest import Live
from tests.hub.imports.conftest import ZONE

HEAD = "meter,read_at,value\n"
ASYNC = {"Prefer": "handling=strict, respond-async"}


def lines(count: int, meter: str = "M1") -> str:
    """A file of `count` readings of a meter, one a minute."""
    rows = (f"{meter},2025-01-{1 + n // 1440:02}T{n // 60 % 24:02}:{n % 60:02}:00Z,{100 + n}\n" for n in range(count))
    return HEAD + "".join(rows)


@pytest.fixture
def http(live: Live) -> httpx.Client:
    """A supervisor's client; meter M1 is known."""
    with live.database.transaction() as session:
        factories.service_point(session, "SP1")
        factories.meter(session, "M1", at="SP1")
    return live.client("supervisor")


def until(asked: Callable[[], Any], seconds: float = 30) -> Any:
    """What `asked` answers once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := asked()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


@contextmanager
def nothing_booked(live: Live) -> Iterator[None]:
    """No reading can be written while this lasts."""
    with live.database.transaction() as session:
        session.execute(text("LOCK TABLE reading IN SHARE MODE"))
        yield


def test_an_import_that_is_waited_for_leaves_its_row_too(http: httpx.Client) -> None:
    answer = http.post("/api/v1/imports/readings?file=route%207.csv", content=lines(3))
    assert (answer.status_code, answer.json()["inserted"]) == (200, 3)
    (run,) = http.get("/api/v1/import-runs").json()["items"]
    assert run["id"] == answer.json()["id"]
    assert (run["file"], run["state"], run["phase"], run["done"], run["total"]) == (
        "route 7.csv",
        "done",
        "written",
        3,
        3,
    )
    assert (run["outcome"]["inserted"], run["by"], run["faults"]) == (3, "token:test supervisor", 0)
    assert run["finished_at"] >= run["started_at"]
    assert http.post("/api/v1/imports/wishes", content=b"x").status_code == 404
    assert len(http.get("/api/v1/import-runs").json()["items"]) == 1


def test_others_see_how_far_a_running_import_is_and_the_next_one_waits(
    live: Live, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.1)
    with nothing_booked(live):
        first, second = (http.post("/api/v1/imports/readings", content=lines(n), headers=ASYNC) for n in (40, 50))
        assert (first.status_code, first.headers["Preference-Applied"]) == (202, "respond-async")
        assert first.json()["state"] in ("waiting", "running")
        path = first.headers["Location"]
        run = until(lambda: (one := http.get(path).json())["phase"] == "written" and one)
        assert (run["state"], run["done"], run["total"], run["outcome"]) == ("running", 0, 40, None)
        assert http.get(second.headers["Location"]).json()["state"] == "waiting"
    for answer, count in ((first, 40), (second, 10)):
        run = until(lambda at=answer: (one := http.get(at.headers["Location"]).json())["state"] == "done" and one)
        assert (run["outcome"]["inserted"], run["errors"]) == (count, [])


def test_every_bad_row_of_a_refused_file_is_kept(http: httpx.Client) -> None:
    bad = HEAD + "".join(f"M{n % 2 + 1},2025-01-01,=x{n}\n" for n in range(150))
    path = http.post("/api/v1/imports/readings", content=bad, headers=ASYNC).headers["Location"]
    run = until(lambda: (one := http.get(path).json())["state"] == "refused" and one)
    assert (run["faults"], len(run["errors"]), run["errors"][0]["row"]) == (225, 100, 2)
    assert run["detail"].startswith("Nothing was imported: 150 bad rows.")
    found, cursor = [], None
    while page := http.get(f"{path}/faults", params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json():
        found += page["items"]
        if not (cursor := page["next_cursor"]):
            break
    listed = list(csv.DictReader(io.StringIO(http.get(f"{path}/faults?format=csv").text)))
    assert len(found) == len(listed) == 225
    assert found[-1] == {
        "row": 151,
        "column": "value",
        "value": "=x149",
        "problem": "is not a number",
        "remedy": "Write digits with a decimal point, without thousands separators.",
    }
    # no spreadsheet takes it for a formula
    assert listed[-1]["value"] == "'=x149"
    # the same of one that is waited for, whose answer names them all
    waited = http.post("/api/v1/imports/readings", content=bad)
    assert (waited.status_code, len(waited.json()["errors"])) == (422, 225)
    assert [one["faults"] for one in http.get("/api/v1/import-runs?limit=1").json()["items"]] == [225]
    for wrong in (f"{path}/faults?cursor=W10", f"{path}/faults?cursor=WyJ4Il0", f"{path}/faults?cursor=WzFlMzAwXQ"):
        assert http.get(wrong).status_code == 400
    assert http.get("/api/v1/import-runs/01900000-0000-7000-8000-000000000000/faults").status_code == 404


def test_a_killed_process_leaves_a_row_that_says_so_and_nothing_of_its_file(
    live: Live, http: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "route.csv").write_text(lines(40))
    environment = os.environ | {"CURBSTOP_DATABASE_URL": live.settings.database_url.get_secret_value()}  # type: ignore[union-attr]
    with nothing_booked(live):
        words = [sys.executable, "-m", "hub.cli", "import", "readings", str(tmp_path / "route.csv")]
        process = subprocess.Popen(words, env=environment)
        try:
            run = until(lambda: (all := http.get("/api/v1/import-runs").json()["items"]) and all[0])
            assert (run["state"], run["file"]) == ("running", "route.csv")
            until(lambda: http.get(f"/api/v1/import-runs/{run['id']}").json()["phase"] == "written")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    with live.database.transaction() as session:
        # what the clock brings by itself
        session.execute(text("UPDATE import_run SET beat_at = beat_at - interval '31 s'"))
    run = http.get(f"/api/v1/import-runs/{run['id']}").json()
    assert (run["state"], run["outcome"]) == ("interrupted", None)
    assert "Nothing of the file was stored. Import the file again." in run["detail"]
    assert http.get("/api/v1/meters/M1/readings").json()["items"] == []


def test_a_hub_that_stops_ends_an_import_and_says_so(live: Live, http: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "route.csv"
    path.write_text(lines(3))
    run_id = runs.begin(live.database, "readings", file="x", size=1, by="test")
    seen: list[str] = []

    def stopping() -> bool:
        return seen[-1:] == ["written"]

    with pytest.raises(Unavailable):
        runs.carry_out(
            live.database, run_id, path, zone=ZONE, progress=lambda what, *_: seen.append(what), stopping=stopping
        )
    assert seen[0] == "read" and "staged" in seen
    run = http.get(f"/api/v1/import-runs/{run_id}").json()
    assert (run["state"], run["detail"]) == (
        "failed",
        "The hub is being stopped. Nothing of the file was stored. Import the file again.",
    )
    assert http.get("/api/v1/meters/M1/readings").json()["items"] == []


def test_what_goes_wrong_inside_is_told_without_secrets(
    live: Live, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("SELECT secret")

    monkeypatch.setattr(imports, "run", broken)
    path = http.post("/api/v1/imports/readings", content=lines(3), headers=ASYNC).headers["Location"]
    run = until(lambda: (one := http.get(path).json())["state"] == "failed" and one)
    assert run["detail"] == "Something went wrong inside the hub. Nothing of the file was stored."


def test_too_many_waiting_are_refused_and_leave_no_file(
    live: Live, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "curbstop-import-of-a-killed-process"
    left.touch()
    os.utime(left, (0, 0))
    with nothing_booked(live):
        first = http.post("/api/v1/imports/readings", content=lines(3), headers=ASYNC)
        assert http.post("/api/v1/imports/readings", content=lines(3), headers=ASYNC).status_code == 429
    until(lambda: http.get(first.headers["Location"]).json()["state"] == "done")
    until(lambda: list(tmp_path.iterdir()) == [])
    states = [one["state"] for one in http.get("/api/v1/import-runs").json()["items"]]
    assert states == ["failed", "done"]
    assert live.client("dispatcher").post("/api/v1/imports/readings", content=lines(3)).status_code == 403
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TooManyRequests):
        monkeypatch.setattr(runs, "_places", threading.Semaphore(0))
        runs.start(live.database, UUID(int=0), tmp_path / "x", zone=ZONE, stopping=lambda: False)


def test_readings_are_booked_in_slices(live: Live, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "SLICE", 7)
    http.post("/api/v1/imports/readings", content=lines(10))
    again = http.post("/api/v1/imports/readings", content=lines(20) + "M1,2025-01-01T00:05:00Z,105\n").json()
    assert (again["inserted"], again["rows"], again["unchanged"]) == (10, 21, 11)
    assert len(http.get("/api/v1/meters/M1/readings?limit=1000").json()["items"]) == 20
