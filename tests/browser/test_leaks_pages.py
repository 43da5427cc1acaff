"""A leak on the pages: listed, explained on a chart that can be read as a table, dismissed with a reason, reported."""

import io
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from pypdf import PdfReader
from sqlalchemy import select

from hub.models import LeakEvent
from tests.browser.conftest import PATIENCE_MS, SignIn, Watch
from tests.browser.conftest import Town as Place
from tests.browser.test_pages import in_every_look
from tests.conftest import Live
from tests.hub.leakage.test_leaks import LEAK_AT, Town

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def leak(live: Live, town: Place) -> str:
    """The id of a leak of four days."""
    with live.database.transaction() as session:
        leaky = Town(session, "L1", "LP1", west=5.0)
        leaky.run(LEAK_AT + timedelta(days=4))
        (event,) = leaky.look()
        return str(event.id)


def test_a_leak_is_listed_explained_and_dismissed(live: Live, leak: str, sign_in: SignIn, watch: Watch) -> None:
    page = sign_in("dispatcher", "/leaks")
    page.get_by_role("link", name="Somewhere in Zone L1").click()
    page.wait_for_url(f"**/leaks/{leak}")
    page.wait_for_selector("night-flow[data-state=drawn]")
    expect(page.locator("night-flow svg path").first).to_be_attached()
    expect(page.get_by_text("more than usual run into zone L1")).to_be_visible()
    page.get_by_text("Night flow as a table").click()
    expect(page.get_by_role("rowheader", name="2026-04-15")).to_be_visible()
    assert in_every_look(page) == []

    page.goto(f"{live.url}/zones?from=2026-04-01&to=2026-04-18&zone=L1")
    expect(page.get_by_role("rowheader", name="Non-revenue water")).to_be_visible()
    page.get_by_text("Night flow", exact=True).click()
    page.wait_for_selector("night-flow[data-state=drawn]")
    assert in_every_look(page) == []

    page.goto(f"{live.url}/leaks/{leak}")
    page.get_by_role("button", name="No leak…").click()
    page.get_by_label("What was the water used for?").fill("the new pool")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("the new pool (dispatcher@example.org)")).to_be_visible()
    with live.database.transaction() as session:
        assert session.scalars(select(LeakEvent.status)).all() == ["dismissed"]
    page.goto(f"{live.url}/leaks?view=events")
    expect(page.get_by_text("Dismissed")).to_be_visible()
    for view in ("Saved", "Customers", "Survey plan", "Mains", "Dig list"):
        page.get_by_role("button", name=view).click()
        expect(page.locator("section.leak-card[aria-busy=false]")).to_have_attribute("aria-label", f"Shown: {view}")
        assert in_every_look(page) == [], view


def test_the_report_of_a_month_is_one_pdf(live: Live, leak: str) -> None:
    client = live.client("analyst")
    answer = client.get("/api/v1/leak-report?month=2026-04")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)
    for words in ("Leakage report 2026-04", "Water balance", "Where to dig", "somewhere, Zone L1", "burst", "Surveys"):
        assert words in text.replace("\n", " "), words
    for month in ("2026-13", "x", "", "0001-01", "2026-01-01", "2026-1\x00"):
        assert client.get("/api/v1/leak-report", params={"month": month}).status_code == 422
