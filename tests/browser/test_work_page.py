"""A dispatcher at work: list, map, giving work out by keyboard and by mouse, completion from paper, live changes."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS, SignIn, Town, Watch, status_of
from tests.conftest import Live, ServerThread

expect.set_options(timeout=PATIENCE_MS)


def rows(page: Page) -> Locator:
    """The rows of the work list."""
    return page.get_by_role("listbox", name="Work orders").get_by_role("option")


def row(page: Page, place: str) -> Locator:
    """The row of the order at `place`."""
    return rows(page).filter(has_text=f"{place[2:]} Mill Lane")


def test_list_filters_and_address(sign_in: SignIn, live: Live, town: Town) -> None:
    page = sign_in()
    expect(rows(page)).to_have_count(6)
    page.get_by_label("Zone").select_option("Z2")
    expect(rows(page)).to_have_count(3)
    assert "zone=Z2" in page.url

    page.goto(f"{live.url}/?q=2+Mill")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Held").click()
    expect(page.get_by_text("No work matches.")).to_be_visible()


def test_orders_stand_on_the_map_and_open_from_it(sign_in: SignIn, town: Town) -> None:
    page = sign_in()
    page.wait_for_selector("work-map[data-state=idle]")
    at = page.evaluate(
        """id => new Promise(resolve => {
            const map = document.querySelector('work-map').map;
            const look = () => {
                const hit = map.queryRenderedFeatures({layers: ['orders']}).find(one => one.properties.id === id);
                if (!hit) return map.once('idle', look);
                const {x, y} = map.project(hit.geometry.coordinates);
                const box = map.getCanvas().getBoundingClientRect();
                resolve({x: box.x + x, y: box.y + y});
            };
            map.jumpTo({center: map.getCenter()});
            look();
        })""",
        str(town.orders["SP3"]),
    )
    page.mouse.click(at["x"], at["y"])
    expect(page.get_by_role("complementary", name=re.compile(town.numbers["SP3"]))).to_be_visible()


def test_keyboard_alone_gives_work_out_and_takes_it_back(sign_in: SignIn, live: Live, town: Town) -> None:
    page = sign_in()
    expect(rows(page)).to_have_count(6)
    expect(page.locator("[data-crew=South]")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("2")
    expect(row(page, "SP5").get_by_text("Assigned")).to_be_visible()
    assert status_of(live, town.orders["SP5"]) == ("assigned", town.crews["South"])

    page.keyboard.press("Control+z")
    expect(row(page, "SP5").get_by_text("Ready")).to_be_visible()
    assert status_of(live, town.orders["SP5"]) == ("ready", None)

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name=re.compile("Search"))).to_be_focused()


def test_dragging_to_a_crew_gives_all_marked_orders_and_says_what_was_refused(
    sign_in: SignIn, live: Live, town: Town
) -> None:
    page = sign_in()
    for place in ("SP1", "SP2", "SP3"):
        row(page, place).locator("[data-mark]").click()
    expect(page.get_by_text("3 marked")).to_be_visible()
    # somebody else takes one of them in between: the page's revision of it is old
    live.client("supervisor").post(
        f"/api/v1/work-orders/{town.orders['SP2']}/assign", json={"crew": "South"}, headers={"If-Match": "*"}
    ).raise_for_status()
    row(page, "SP1").drag_to(page.locator("[data-crew=North]"))
    expect(page.get_by_text(re.compile("2 assigned to North, 1 refused"))).to_be_visible()
    assert status_of(live, town.orders["SP1"]) == ("assigned", town.crews["North"])
    assert status_of(live, town.orders["SP2"]) == ("assigned", town.crews["South"])
    assert status_of(live, town.orders["SP3"]) == ("assigned", town.crews["North"])


def test_menu_assigns_and_completion_from_paper_is_kept(sign_in: SignIn, live: Live, town: Town) -> None:
    page = sign_in(path=f"/?order={town.orders['SP4']}")
    panel = page.get_by_role("complementary")
    panel.get_by_role("button", name="Assign…").click()
    page.get_by_role("dialog").get_by_role("button", name="North").click()
    expect(panel.get_by_role("button", name="Complete…")).to_be_visible()

    panel.get_by_role("button", name="Complete…").click()
    form = page.get_by_role("dialog")
    form.get_by_role("radio").first.check()
    form.get_by_label("Register as it stands").fill("1234.5")
    form.get_by_label(re.compile("Unit on the dial")).select_option("m3")
    form.get_by_label(re.compile("Remark")).fill("Read from the ticket")
    form.get_by_role("button", name="Complete", exact=True).click()
    expect(form).to_have_count(0)
    expect(panel.get_by_text("Completed").first).to_be_visible()
    assert status_of(live, town.orders["SP4"])[0] == "completed"
    told = live.client("supervisor").get(f"/api/v1/work-orders/{town.orders['SP4']}").json()["completion"]
    assert told["answers"]["reading"]["value"] == "1234.5"
    assert told["via"] == "paper"


def test_hold_note_release_and_a_change_made_elsewhere(sign_in: SignIn, live: Live, town: Town) -> None:
    page = sign_in(path=f"/?order={town.orders['SP6']}")
    panel = page.get_by_role("complementary")
    panel.get_by_role("button", name="Hold…").click()
    page.get_by_label("Reason").fill("Street closed")
    page.get_by_role("dialog").get_by_role("button", name="Hold").click()
    expect(panel.get_by_label("Why it is held").get_by_text("Street closed")).to_be_visible()

    panel.get_by_role("button", name="Add a note…").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("Open again from noon")
    page.get_by_role("dialog").get_by_role("button", name="Add").click()
    expect(panel.get_by_label("Timeline").get_by_text("Open again from noon")).to_be_visible()

    # the change of another person arrives by itself
    live.client("supervisor").post(
        f"/api/v1/work-orders/{town.orders['SP6']}/release", headers={"If-Match": "*"}
    ).raise_for_status()
    expect(panel.get_by_role("button", name="Assign…")).to_be_visible()
    expect(row(page, "SP6").get_by_text("Ready")).to_be_visible()


def test_new_order_from_the_account_page_and_search(sign_in: SignIn, live: Live, town: Town) -> None:
    page = sign_in()
    page.get_by_role("combobox", name=re.compile("Search")).fill("Customer 2")
    page.get_by_role("listbox", name="Found").get_by_role("option").filter(has_text="Customer 2").click()
    page.wait_for_url(f"{live.url}/accounts/A2")
    expect(page.get_by_role("heading", name="What happens when")).to_be_visible()
    page.get_by_role("button", name="New order").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Work", exact=True).select_option("move_out")
    form.get_by_role("button", name="Open the order").click()
    page.wait_for_url(re.compile(r"/\?order="))
    expect(page.get_by_role("complementary").get_by_role("heading", name="Move-out")).to_be_visible()
    found = live.client("supervisor").get("/api/v1/work-orders?account=A2&type=move_out").json()["items"]
    assert [order["service_point"] for order in found] == ["SP2"]


def test_a_map_that_starts_late_is_announced_and_then_shown(live: Live, sign_in: SignIn) -> None:
    page = sign_in("supervisor", "/billing/events")
    page.route("**/tiles/**", lambda route: None)
    page.clock.install()
    page.goto(live.url)
    expect(rows(page)).to_have_count(6)
    page.wait_for_selector("work-map .maplibregl-canvas")
    page.clock.run_for(11_000)
    expect(page.get_by_text("has not started yet")).to_be_visible()
    page.unroute("**/tiles/**")  # lets go what was held
    page.clock.resume()
    page.wait_for_selector("work-map[data-state=idle]")
    expect(page.get_by_text("has not started yet")).to_have_count(0)


def test_page_tells_when_the_hub_is_gone(live: Live, town: Town, sign_in: SignIn, watch: Watch) -> None:
    watch.allowed = ("net::ERR_",)
    server = ServerThread(live.settings, live.database)
    url = server.started()
    watch.host = url.removeprefix("http://")
    page = sign_in(url=url)
    page.clock.install()
    page.reload()
    state = page.locator("live-state")
    expect(state).to_contain_text("Live")
    # an open stream does not keep the server from ending
    server.stop()
    assert not server.is_alive()
    page.clock.fast_forward(15_000)
    expect(state).to_contain_text(re.compile(r"\d+ s old"))
    page.clock.fast_forward(60_000)
    expect(state).to_contain_text("Stale")
