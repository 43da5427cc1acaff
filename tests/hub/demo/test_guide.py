"""The tour: pages answer whatever the hub does, visitors drive the crew they took, and only our worker dies."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from hub.demo import calendar
from hub.demo.businesstime import BusinessClock
from hub.demo.consumption import Meters
from hub.demo.crews import Crew, Phone
from hub.demo.dispatcher import Dispatcher
from hub.demo.fieldwork import Place
from hub.demo.guide import Guide, Story, create_app, workers_of
from hub.demo.hydraulics import Water
from hub.demo.settings import DemoSettings, write_document
from tests.hub.demo.conftest import eventually
from tests.hub.demo.test_crews import HubStandIn, order

AWAY = httpx.MockTransport(lambda request: httpx.Response(503))


@pytest.fixture
def hub() -> HubStandIn:
    return HubStandIn()


@pytest.fixture
def guide(tmp_path: Path, hub: HubStandIn, hamlet_meters: Meters, still_water: Water) -> Guide:
    write_document(
        tmp_path / "keys.json", {"logins": [{"role": "admin", "email": "a@l-town.example", "password": "<b>"}]}
    )
    settings = DemoSettings(tmp_path, "http://hub", "mqtt://broker", "ltown", 1, 2, supervisor=0)
    away = httpx.Client(transport=AWAY, base_url="http://away")
    tour = Guide(settings, away, away)
    client = httpx.Client(transport=httpx.MockTransport(hub), base_url="http://hub")
    crew = Crew("c1", "North", Phone(client), Place(hamlet_meters, {}))
    clock = BusinessClock(datetime.now(UTC), calendar.STORY + timedelta(hours=2), 1)
    tour.story = Story(clock, still_water, hamlet_meters, [crew], Dispatcher(client, [crew]))
    return tour


@pytest.fixture
def site(guide: Guide, serve: Callable[[FastAPI], str]) -> Iterator[httpx.Client]:
    url = serve(create_app(guide))
    with httpx.Client(base_url=url, headers={"origin": url}, timeout=30) as client:
        yield client


def test_pages_answer_before_the_town_is_there_and_while_the_hub_is_away(guide: Guide, site: httpx.Client) -> None:
    assert "Take over" in site.get("/").text
    assert "&lt;b&gt;" in site.get("/").text
    story, guide.story = guide.story, None
    assert "being prepared" in site.get("/").text
    assert site.get("/water").status_code == 200
    assert site.get("/truth.json").json()["leaks"] == []
    guide.story = story


def test_the_truth_is_shown_even_when_the_hub_cannot_tell(guide: Guide, site: httpx.Client) -> None:
    guide._balances = [guide._balance("A", *guide.periods()[0])]
    assert "Curbstop cannot tell yet" in site.get("/water").text
    [entry] = site.get("/truth.json").json()["balances"]
    assert entry["truth"]["registered"] > 0 and entry["hub"] == {}


def test_a_visitor_takes_a_crew_drives_and_reports(hub: HubStandIn, site: httpx.Client) -> None:
    assert site.post("/crews/North/take-over").status_code == 303
    hub.give(order())
    page = site.get("/crews/North").text
    assert "Drive there" in page and "1 Bay Lane" in page
    site.post("/crews/North/do", data={"what": "travel", "order": order()["id"]})
    site.post("/crews/North/do", data={"what": "arrive"})
    site.post("/crews/North/report", data={"result": "done:cut_and_locked", "reading": "12,5", "remark": "hello"})
    assert hub.told() == ["acknowledge", "start_travel", "arrive", "complete"]
    answers = hub.commands[-1]["answers"]
    assert answers["reading"] == {"value": "12.5", "unit": "m3", "how": "visual"}
    assert (answers["code"], answers["remark"]) == ("cut_and_locked", "hello")


def test_the_tour_leads_to_the_account_whose_shutoff_is_on_the_way(guide: Guide, site: httpx.Client) -> None:
    story = guide.story
    assert story is not None
    assert "Nobody is on the way" in site.get("/").text
    [crew], shutoff = story.crews, order()
    crew.phone.orders[shutoff["id"]] = shutoff
    crew.take(shutoff["id"], guide.now())
    story.dispatcher.accounts = {shutoff["id"]: "700007"}
    assert "http://127.0.0.1:1/accounts/700007" in site.get("/").text
    assert "No reception" not in site.get("/").text
    crew.offline_until = guide.now() + timedelta(hours=1)
    assert "No reception" in site.get("/").text


def test_a_visitor_called_back_turns_round(hub: HubStandIn, site: httpx.Client) -> None:
    site.post("/crews/North/take-over")
    hub.give(order())
    site.get("/crews/North")
    site.post("/crews/North/do", data={"what": "travel", "order": order()["id"]})
    hub.give(order(status="en_route", cancel_requested={"reason": "paid"}))
    assert "Turn back" in site.get("/crews/North").text
    site.post("/crews/North/do", data={"what": "turn-back"})
    assert hub.told()[-1] == "cancel_acknowledge"


def test_nothing_is_done_with_a_crew_nobody_took(hub: HubStandIn, site: httpx.Client) -> None:
    site.post("/crews/North/do", data={"what": "travel", "order": order()["id"]})
    assert hub.told() == []
    assert site.post("/crews/Nobody/take-over").status_code == 303


def test_another_sites_form_kills_nothing(site: httpx.Client) -> None:
    assert site.post("/worker/kill", headers={"origin": "https://evil.example"}).status_code == 403


def test_only_a_worker_of_our_supervisor_is_found() -> None:
    script = (
        "import subprocess, sys, json\n"
        "run = lambda *words: subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', *words]).pid\n"
        "print(json.dumps([run('hub.cli', 'work'), run('hub.cli', 'serve'), run('work')]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None and supervisor.stdin is not None
        pids = json.loads(supervisor.stdout.readline())
        try:
            eventually(lambda: workers_of(supervisor.pid) == [pids[0]], "the worker")
            assert workers_of(1) == []
        finally:
            for pid in pids:
                subprocess.run(["kill", "-9", str(pid)], check=True)
            supervisor.stdin.close()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pids[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
