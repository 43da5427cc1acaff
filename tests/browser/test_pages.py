"""Every page: found accessible by axe in light and dark, narrow and wide; and what each role may open."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Page, TimeoutError, expect

from tests.browser.conftest import PATIENCE_MS, SignIn, Town, Watch
from tests.conftest import Live

expect.set_options(timeout=PATIENCE_MS)
AXE = (Path(__file__).parent / "vendor/axe-core/axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe holds against the page, one line each."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE)
    found = page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", RULES)
    return [
        f"{page.url} {one['id']}: {one['help']} at {[node['target'] for node in one['nodes']][:3]}"
        for one in found["violations"]
    ]


_NOT_WIDER = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def settle(page: Page, path: str) -> None:
    """Wait until a page shows what it is about."""
    page.wait_for_load_state("load")
    if path.startswith("/?") or path == "/":
        expect(page.get_by_role("listbox", name="Work orders").get_by_role("option").first).to_be_visible()
        page.wait_for_selector("work-map[data-state=idle]")
    if path.startswith("/?order"):
        expect(page.get_by_role("complementary")).to_be_visible()
    if path == "/zones":
        expect(page.get_by_role("button", name="Harbour")).to_be_visible()
    if path == "/leaks":
        expect(page.get_by_text("Nothing runs that the flows would show.")).to_be_visible()
    if path.startswith("/billing"):
        expect(page.locator("message-list section")).to_be_visible()


def in_every_look(page: Page) -> list[str]:
    """Violations in light and dark, wide and narrow; a narrow window must not have to scroll sideways."""
    found = []
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 320)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        found += [f"{scheme} {width}: {one}" for one in violations(page)]
        try:
            # maps and plots follow a window's size when they are told of it, not at once
            page.wait_for_function(_NOT_WIDER, timeout=10_000)
        except TimeoutError:
            found.append(f"{page.url} is wider than {width} px")
    page.set_viewport_size({"width": 1280, "height": 800})
    return found


def test_no_page_breaks_a_rule_of_accessibility(live: Live, town: Town, sign_in: SignIn, watch: Watch) -> None:
    watch.allowed = ("status of 404",)
    page = sign_in("supervisor", "/zones")
    found = []
    order = town.orders["SP1"]
    for path in (
        "/zones",
        "/leaks",
        "/accounts/A1",
        "/places/SP1",
        f"/orders/{order}/ticket",
        "/billing/events",
        "/billing/messages",
        "/places/unknown",
        f"/?order={order}",
    ):
        page.goto(live.url + path)
        settle(page, path)
        found += in_every_look(page)
    panel = page.get_by_role("complementary")
    panel.get_by_role("button", name="Assign…").click()
    found += in_every_look(page)
    page.keyboard.press("1")
    panel.get_by_role("button", name="Complete…").click()
    expect(page.get_by_role("dialog").get_by_role("radio").first).to_be_visible()
    found += in_every_look(page)
    assert found == []


def test_sign_in_page_is_accessible_and_keeps_out_who_may_not_enter(
    live: Live, town: Town, watch: Watch, context: BrowserContext
) -> None:
    watch.allowed = ("status of 401", "status of 403")
    page = context.new_page()
    page.goto(f"{live.url}/accounts/A1")
    assert page.url == f"{live.url}/sign-in?next=%2Faccounts%2FA1"
    page.get_by_label("E-mail address").fill("dispatcher@example.org")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    assert violations(page) == []
    page.get_by_label("Password").fill("three unrelated words")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{live.url}/accounts/A1")
    page.locator(".menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_analyst_sees_zones_and_no_names(live: Live, town: Town, sign_in: SignIn, watch: Watch) -> None:
    watch.allowed = ("status of 403",)
    page = sign_in("analyst", "/zones")
    expect(page.get_by_role("link", name="Work")).to_have_count(0)
    page.goto(f"{live.url}/places/SP1")
    expect(page.get_by_role("heading", name="Meters")).to_be_visible()
    assert "Customer 1" not in page.content()
    page.goto(f"{live.url}/accounts/A1")
    expect(page.get_by_text("may not do this")).to_be_visible()


def test_billing_clerk_sees_work_and_opens_it_but_gives_none_out(live: Live, town: Town, sign_in: SignIn) -> None:
    page = sign_in("billing", f"/?order={town.orders['SP1']}")
    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("link", name="Customer 1")).to_be_visible()
    expect(panel.get_by_role("button", name="Assign…")).to_have_count(0)
    expect(page.get_by_role("region", name="Crews")).to_have_count(0)
    page.goto(f"{live.url}/accounts/A1")
    expect(page.get_by_role("button", name="New order")).to_be_visible()
