"""A real Chromium on a real hub with a small town. Every page is watched: no word of the content security policy, no
script error, no request to anywhere but the hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import BrowserContext, Page
from sqlalchemy.orm import Session

from hub import auth, clock
from hub.models import WorkOrder
from hub.work import orders
from tests import factories
from tests.conftest import Live

PASSWORD = "three unrelated words"
PATIENCE_MS = 45_000
# Debian's Chromium, drawing WebGL in software.
LAUNCH: dict[str, Any] = {
    "executable_path": "/usr/bin/chromium",
    "headless": True,
    "args": [
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
    ],
}


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """How Playwright starts Chromium."""
    return LAUNCH


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, Any]:
    """The same window, language and time zone on every machine."""
    return {
        "viewport": {"width": 1280, "height": 800},
        "reduced_motion": "reduce",
        "locale": "en-GB",
        "timezone_id": "America/Chicago",
    }


@dataclass
class Watch:
    """What a page did that it must not do."""

    host: str
    faults: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()

    def page(self, page: Page) -> None:
        """Watch `page` from now on."""
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.set_default_timeout(PATIENCE_MS)

    def _said(self, kind: str, text: str) -> None:
        if "Content Security Policy" in text or (kind == "error" and not any(word in text for word in self.allowed)):
            self.faults.append(f"console {kind}: {text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.faults.append(f"request to {url}")


@pytest.fixture
def watch(live: Live, context: BrowserContext) -> Iterator[Watch]:
    """Fails the test at its end when a page broke a rule."""
    watching = Watch(urlsplit(live.url).netloc)
    context.on("page", watching.page)
    yield watching
    assert watching.faults == []


@dataclass
class Town:
    """Who and what is there: crews by name, orders by place."""

    crews: dict[str, UUID]
    orders: dict[str, UUID]
    numbers: dict[str, str]


def order_at(session: Session, place: str, kind: str = "reread", **more: Any) -> WorkOrder:
    """An order at a place, due in four hours."""
    account = f"A{place[2:]}"
    due = clock.now(session) + timedelta(hours=4)
    return orders.open_order(session, type=kind, by="user:test@example.org", account=account, due_by=due, **more).order


@pytest.fixture
def town(live: Live) -> Town:
    """Two zones, six places with their accounts, meters and one re-read each, two crews, a user of every role."""
    with live.database.transaction() as session:
        for role in ("admin", "supervisor", "dispatcher", "billing", "analyst", "crew"):
            auth.add_user(session, email=f"{role}@example.org", name=role, role=role, password=PASSWORD)
        factories.zone(session, "Z1", name="Harbour")
        factories.zone(session, "Z2", name="Hillside", west=1.0)
        source = factories.source(session, "city")
        made = {}
        for number in range(1, 7):
            place, lon = f"SP{number}", 0.2 + 0.25 * number
            factories.service_point(
                session,
                place,
                zone="Z1" if lon < 1 else "Z2",
                lon=lon,
                lat=0.3 + 0.07 * number,
                address=f"{number} Mill Lane",
            )
            factories.account(session, f"A{number}", at=place, source_id=source.id, name=f"Customer {number}")
            factories.meter(session, f"M{number}", at=place)
            made[place] = order_at(session, place)
        crews = {name: factories.crew(session, name).id for name in ("North", "South")}
        return Town(crews, {p: o.id for p, o in made.items()}, {p: o.number for p, o in made.items()})


SignIn = Callable[..., Page]


@pytest.fixture
def sign_in(live: Live, town: Town, watch: Watch, context: BrowserContext) -> SignIn:
    """`sign_in(role, path)` gives a page that shows `path` to a person of that role."""

    def enter(role: str = "dispatcher", path: str = "/", url: str | None = None) -> Page:
        base = url or live.url
        page = context.new_page()
        page.goto(f"{base}/sign-in?next={path}")
        page.get_by_label("E-mail address").fill(f"{role}@example.org")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{base}{path}")
        return page

    return enter


def status_of(live: Live, order_id: UUID) -> tuple[str, UUID | None]:
    """Status and crew of an order as they are stored."""
    with live.database.transaction() as session:
        order = session.get_one(WorkOrder, order_id)
        return order.status, order.crew_id
