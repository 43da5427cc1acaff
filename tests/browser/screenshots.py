"""The pictures of docs/images, taken from a running demo with the eyes of its supervisor.

curbstop demo                                                   # in another terminal; it prints the logins
python -m tests.browser.screenshots URL EMAIL [TOUR-URL] < password-file

The morning of the town's first day shows most: begin a minute after the town's clock has started.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import LAUNCH

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
MAP_IDLE = "work-map[data-state=idle]"


def signed_in(browser: Browser, url: str, email: str, password: str, scheme: str) -> Page:
    """A page of a person who has just signed in."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        locale="en-GB",
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{url}/sign-in?next=/billing/events")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/billing/events")
    return page


def orders(page: Page, query: str) -> list[dict[str, str]]:
    """Orders as the API lists them."""
    found: list[dict[str, str]] = page.evaluate(
        "query => fetch('/api/v1/work-orders?' + query).then(r => r.json()).then(r => r.items)", query
    )
    return found


def save(page: Page, name: str) -> None:
    """Write the picture once the page is at rest."""
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / f"{name}.png")


def work(page: Page, url: str, name: str) -> None:
    """The work page with one order open: a held one if there is one, for it shows why."""
    chosen = (
        orders(page, "status=held&type=shutoff") or orders(page, "status=on_site") or orders(page, "status=open")
    )[0]
    page.goto(f"{url}/?order={chosen['id']}")
    page.wait_for_selector(MAP_IDLE)
    page.get_by_role("complementary").wait_for()
    save(page, name)


def completion(page: Page, url: str) -> None:
    """The form of a work type, as filled in from paper; a crew may finish an order before it is opened here."""
    for _ in range(10):
        waiting = orders(page, "status=assigned&type=move_in,move_out,reread") or orders(page, "status=assigned")
        if not waiting:
            # after hours no crew has anything
            return
        page.goto(f"{url}/?order={waiting[0]['id']}")
        page.wait_for_selector(MAP_IDLE)
        button = page.get_by_role("complementary").get_by_role("button", name="Complete…")
        if button.is_visible():
            button.click()
            page.get_by_role("dialog").get_by_role("radio").first.check()
            save(page, "completion")
            return


def tour(browser: Browser, url: str) -> None:
    """The demo's tour with a crew on its way to a shutoff, waited for."""
    page = browser.new_page(viewport={"width": 1280, "height": 1060}, locale="en-GB")
    page.goto(url)
    page.get_by_role("link", name="to pay").first.wait_for(timeout=180_000)
    page.screenshot(path=IMAGES / "tour.png")


def main() -> None:
    """Take all pictures."""
    url, email, password = sys.argv[1].rstrip("/"), sys.argv[2], sys.stdin.readline().strip()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        if len(sys.argv) > 3:
            tour(browser, sys.argv[3])
        page = signed_in(browser, url, email, password, "light")
        save(page, "from-billing")
        work(page, url, "work")
        completion(page, url)
        done = orders(page, "status=completed,closed,unable")
        told = next(
            (order for order in done if order["account"] and order["type"] == "shutoff"), done[0] if done else None
        )
        if told:
            page.goto(f"{url}/accounts/{told['account']}")
            save(page, "account")
            page.goto(f"{url}/orders/{told['id']}/ticket")
            save(page, "ticket")
        page.goto(f"{url}/zones")
        page.get_by_role("button", name="Last month").click()
        page.locator(".zone-name").first.click()
        page.wait_for_selector("zones-page[data-state=idle]")
        save(page, "zones")
        dark = signed_in(browser, url, email, password, "dark")
        work(dark, url, "work-dark")
        browser.close()


if __name__ == "__main__":
    main()
