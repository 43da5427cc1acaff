"""A meter on its page and what of the metering needs a person, on one town whose meters have a past."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import event, text

from hub.console import meters
from hub.metering import validation, watching
from tests.browser.conftest import PATIENCE_MS, SignIn, Town, Watch
from tests.browser.test_pages import in_every_look
from tests.conftest import Live

expect.set_options(timeout=PATIENCE_MS)
DAYS = 20


def item(device: str, value: Any, at: datetime, **more: Any) -> dict[str, Any]:
    """One reading of our own JSON."""
    return {"device": device, "value": value, "unit": "m3", "measured_at": at.isoformat()} | more


@pytest.fixture
def http(live: Live, town: Town) -> httpx.Client:
    """A supervisor's client, once M1 has a past: a jump, a stretch without readings, an alarm, a missing number."""
    client = live.client("supervisor")
    answer = client.post("/api/v1/devices", json={"device": "d1", "meter": "M1", "valid_from": "2020-01-01T00:00:00Z"})
    assert answer.status_code == 201, answer.text
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    readings = []
    for number in range(DAYS * 4):
        if 30 <= number < 44:
            continue
        value = f"{100 + number * 0.1:.3f}"
        # one reading in litres where all others are cubic metres
        value = f"{(100 + number * 0.1) * 1000:.0f}" if number == 60 else value
        more = {"seq": number + 1, "flags": ["leak"] if number > 75 else []}
        readings.append(item("d1", value, begin + timedelta(hours=6 * number), **more))
    readings.append(item("d1", -4, begin + timedelta(hours=1)))
    assert client.post("/api/v1/readings", json={"readings": readings}).status_code == 200
    for number in range(3):
        # a register that the meter does not have, until it is registered
        said = item("d1", number, begin + timedelta(hours=2 + number), register="night")
        assert client.post("/api/v1/readings", json={"readings": [said]}).json()["quarantined"] == 1
    strange = [item("stranger", 7, begin + timedelta(days=day)) for day in range(3)]
    assert client.post("/api/v1/readings", json={"readings": strange}).json()["unclaimed"] == 3
    with live.database.transaction() as session:
        watching.fold(session)
    with live.database.transaction() as session:
        validation.review(session, live.settings.zone)
    return client


def counted_statements(live: Live, serial: str) -> int:
    """How many statements the server's part of a meter's page takes."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    with live.database.transaction() as session:
        # on this connection alone: the server answers the page meanwhile
        event.listen(session.connection(), "before_cursor_execute", note)
        meters.meter(session, serial)
    return len(seen)


def shows_the_meter(page: Page) -> None:
    """Charts, doubts, alarms, gaps and messages of M1."""
    page.wait_for_selector("meter-use[data-state=drawn]")
    expect(page.locator("[data-chart=use] svg pattern").first).to_be_attached()
    expect(page.locator("[data-chart=register] svg path").first).to_be_attached()
    page.get_by_text("Consumption as a table").click()
    expect(page.get_by_role("region", name="Consumption", exact=True).get_by_text("estimated").first).to_be_visible()
    expect(page.get_by_role("region", name="Alarms").get_by_text("Leak", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Gaps").get_by_text("14 missing")).to_be_visible()
    expect(page.get_by_role("link", name="1 Mill Lane").first).to_have_attribute("href", "/places/SP1")
    expect(page.get_by_role("link", name="Customer 1")).to_be_visible()


def test_a_meter_shows_its_past_and_lets_people_judge_it(
    live: Live, http: httpx.Client, sign_in: SignIn, watch: Watch
) -> None:
    page = sign_in("dispatcher", "/places/SP1")
    page.get_by_role("link", name="M1", exact=True).click()
    page.wait_for_url("**/meters/M1")
    shows_the_meter(page)
    assert in_every_look(page) == []

    doubts = page.get_by_role("region", name="Doubts about readings")
    doubts.get_by_role("button", name="Estimate…").first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Why?").fill("sent in litres")
    page.get_by_role("button", name="Estimate the reading").click()
    expect(doubts.get_by_text("sent in litres")).to_be_visible()
    (edited,) = [one for one in http.get("/api/v1/meters/M1/readings").json()["items"] if "edited" in one["flags"]]
    assert (edited["quality"], float(edited["value_m3"])) == ("estimated", 106)

    page.get_by_role("button", name="Hours").click()
    page.wait_for_selector("meter-use[data-state=drawn]")
    messages = page.get_by_role("region", name="Raw messages")
    messages.get_by_role("button").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("adapter plain")).to_be_visible()
    expect(dialog.get_by_text('"readings"')).to_be_visible()
    assert in_every_look(page) == []
    page.keyboard.press("Escape")

    page.get_by_role("combobox", name="Search").fill("M3")
    page.get_by_role("option", name="Meter M3").click()
    page.wait_for_url("**/meters/M3")
    expect(page.get_by_text("No reading of")).to_be_visible()
    exchanged = {"new": {"serial": "M9", "unit": "m3"}, "at": datetime.now(UTC).isoformat()}
    assert http.post("/api/v1/meters/M3/exchange", json=exchanged).status_code == 201
    page.reload()
    page.get_by_role("link", name="M9").click()
    page.wait_for_url("**/meters/M9")
    expect(page.get_by_role("link", name="M3")).to_be_visible()
    assert counted_statements(live, "M1") == counted_statements(live, "M3")


def dismisses_and_takes_back(page: Page) -> None:
    """One entry alone, then all of a reason, by keyboard; what was said is shown, and both are taken back."""
    page.get_by_role("button", name="Dismiss…", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_label("Why is nothing to be done?").fill("a test of the fitter")
    assert in_every_look(page) == []
    page.get_by_role("button", name="Dismiss", exact=True).press("Enter")
    expect(page.get_by_text("Nothing is put aside.")).to_be_visible()
    expect(page.locator("section.card")).to_be_focused()
    page.get_by_role("button", name="Dismissed", exact=True).press("Enter")
    expect(page.get_by_text("a test of the fitter")).to_be_visible()
    expect(page.get_by_text("supervisor@example.org,")).to_be_visible()
    assert in_every_look(page) == []
    page.get_by_role("button", name="Open again", exact=True).press("Enter")
    expect(page.get_by_text("Nobody has dismissed anything.")).to_be_visible()

    page.get_by_role("button", name="Put aside", exact=True).press("Enter")
    page.get_by_role("button", name="d1", exact=True).first.press("Enter")
    page.get_by_role("button", name="Dismiss all 1…").press("Enter")
    page.get_by_label("Why is nothing to be done?").fill("known")
    page.get_by_role("button", name="Dismiss", exact=True).press("Enter")
    expect(page.get_by_text("1 dismissed.").first).to_be_visible()
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.get_by_role("button", name="Negative value 1")).to_be_visible()


def test_what_was_put_aside_is_read_again_and_a_stranger_registered(
    live: Live, http: httpx.Client, sign_in: SignIn, watch: Watch
) -> None:
    page = sign_in("supervisor", "/quarantine")
    expect(page.get_by_role("button", name="Unknown register 3")).to_be_visible()
    expect(page.get_by_text('"register":"night"').first).to_be_visible()
    assert in_every_look(page) == []
    with live.database.transaction() as session:
        session.execute(text("INSERT INTO meter (serial, register, unit) VALUES ('M1', 'night', 'm3')"))
    page.get_by_role("button", name="Unknown register 3").click()
    page.get_by_role("button", name="Read all 3 again").click()
    expect(page.get_by_text("3 of 3 read again, 3 settled")).to_be_visible()
    expect(page.get_by_role("button", name="Unknown register")).to_have_count(0)
    page.get_by_role("button", name="Negative value 1").click()
    page.get_by_role("button", name="Read again").click()
    expect(page.get_by_text("put aside for the same reason")).to_be_visible()
    dismisses_and_takes_back(page)

    page.get_by_role("button", name="Unknown devices").click()
    page.get_by_role("button", name="Register…").click()
    assert in_every_look(page) == []
    page.get_by_label("Serial of the meter").fill("M2")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_text("3 readings booked")).to_be_visible()
    expect(page.get_by_text("Every device that reports is registered.")).to_be_visible()
    for view, seen in (("Doubted readings", "Unit jump"), ("Missing numbers", "d1"), ("Gateways", "Gateway")):
        page.get_by_role("button", name=view).click()
        expect(page.locator("section.card").get_by_text(seen).first).to_be_visible()
        assert in_every_look(page) == [], view


def test_messages_are_decoded_for_those_who_may_read_them(live: Live, http: httpx.Client) -> None:
    (entry,) = http.get("/api/v1/quarantine", params={"reason": "negative_value"}).json()["items"]
    assert entry["preview"].startswith('{"readings"')
    path = f"/api/v1/raw-messages/{entry['raw_message']}"
    decoded = http.get(path).json()["decoded"]
    assert decoded["disposition"] == "readings" and decoded["values"] > 60
    assert any("negative_value" in step for step in decoded["steps"])
    clerk = live.client("billing")
    assert clerk.get(path).status_code == 403
    assert clerk.get("/api/v1/quarantine").json()["items"][0]["preview"] is None
    assert [http.get(f"/api/v1/raw-messages/{wrong}").status_code for wrong in (0, "x", 2**63)] == [404, 422, 422]
    curve = {"from": "2026-01-01", "to": "2025-01-01"}
    assert http.get("/api/v1/meters/M1/register-curve", params=curve).status_code == 422
    assert http.get("/api/v1/meters/nobody/register-curve?from=2026-01-01&to=2026-01-02").status_code == 404
