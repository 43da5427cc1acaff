"""How a page is made: templates, the formats of times and money on them, and refusals as pages.

Writes nothing.
"""

import json
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from hub import clock
from hub.auth import Principal
from hub.console.events import position_now
from hub.errors import CurbstopError, NotAuthenticated
from hub.paths import segment
from hub.web import Tx, rfc3339, settings_of

FOLDER = Path(__file__).parent
# The security headers that every answer has come from `hub.app`; these are for pages alone.
HEADERS = {
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    # pages carry customers' names: no proxy and no back button after sign-out may keep them
    "Cache-Control": "no-store",
}
# Which pages a role finds in the bar; the routes themselves decide who may open them.
MENU = [
    ("/", "Work", ("admin", "supervisor", "dispatcher", "billing")),
    ("/zones", "Zones", ("admin", "supervisor", "dispatcher", "billing", "analyst")),
    ("/leaks", "Leaks", ("admin", "supervisor", "dispatcher", "analyst")),
    ("/quarantine", "Metering", ("admin", "supervisor", "dispatcher", "billing", "analyst")),
    ("/imports", "Files", ("admin", "supervisor", "billing")),
    ("/billing/events", "From billing", ("admin", "supervisor", "billing")),
    ("/billing/messages", "To billing", ("admin", "supervisor", "billing")),
]


_MACHINE_WORD = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}$|(user|crew|source|token):")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT")
_CODE = re.compile(r"[a-z]+(_[a-z]+)+$")
_ABBREVIATIONS = {"Sms": "SMS", "Id": "ID"}


def words(code: Any) -> str:
    """`some_code` as words a person reads: "Some code"."""
    plain = str(code or "").replace("_", " ").replace("-", " ").strip()
    text = plain[:1].upper() + plain[1:]
    return _ABBREVIATIONS.get(text, text)


def details(detail: dict[str, Any], at: "Times") -> list[str]:
    """What a line of the change log adds to its verb, in words; keys of rows and names of actors say nothing here."""
    shown = []
    for key, value in detail.items():
        if not isinstance(value, str | int | float) or value is False or value == "":
            continue
        if _MACHINE_WORD.match(str(value)):
            continue
        if isinstance(value, str) and _INSTANT.match(value):
            value = at.moment(value)
        elif isinstance(value, str) and _CODE.match(value):
            value = words(value).lower()
        shown.append(f"{words(key).lower()} {value}")
    return shown[:5]


def money(amount: Any, currency: str | None) -> str:
    """An amount with its currency, two decimals, thousands apart."""
    if amount is None or amount == "":
        return ""
    value = Decimal(str(amount))
    return f"{value:,.2f} {currency}" if currency else f"{value:,.2f}"


def actor_name(actor: str | None) -> str:
    """Whom an actor of the change log names: "crew:North" is "Crew North"."""
    kind, _, name = (actor or "").partition(":")
    if not name:
        return words(kind)
    return {"crew": f"Crew {name}", "token": f"Program {name}", "source": f"Billing ({name})"}.get(kind, name)


class Times:
    """Instants and days as the utility's people read them, in its time zone, seen from one moment of business time."""

    def __init__(self, zone: ZoneInfo, now: datetime) -> None:
        self.zone, self.now = zone, now

    def moment(self, at: datetime | str | None) -> str:
        """ "14:30" today, "Tue 24 Nov, 14:30" this year, with the year otherwise."""
        value = self._local(at)
        if value is None:
            return ""
        today = self.now.astimezone(self.zone)
        if value.date() == today.date():
            return f"{value:%H:%M}"
        year = "" if value.year == today.year else f" {value.year}"
        return f"{value:%a} {value.day} {value:%b}{year}, {value:%H:%M}"

    def written(self, at: datetime | str | None) -> str:
        """ "Tue 24 Nov 2026, 14:30", for paper: nobody knows on which day it will be read."""
        value = self._local(at)
        return f"{value:%a} {value.day} {value:%b %Y, %H:%M}" if value else ""

    def day(self, value: date | datetime | str | None) -> str:
        """ "24 Nov 2026"."""
        if isinstance(value, str):
            value = date.fromisoformat(value[:10]) if len(value) == 10 else self._local(value)
        elif isinstance(value, datetime):
            value = value.astimezone(self.zone)
        return f"{value.day} {value:%b} {value.year}" if value else ""

    def distance(self, at: datetime | str | None) -> str:
        """ "in 2 h", "5 min ago"."""
        value = self._local(at)
        if value is None:
            return ""
        seconds = (value - self.now).total_seconds()
        size = abs(seconds)
        if size < 45:
            return "now"
        if size < 5400:
            span = f"{round(size / 60)} min"
        elif size < 129_600:
            span = f"{round(size / 3600)} h"
        else:
            span = f"{round(size / 86_400)} days"
        return f"in {span}" if seconds > 0 else f"{span} ago"

    def _local(self, at: datetime | str | None) -> datetime | None:
        if not at:
            return None
        value = datetime.fromisoformat(at) if isinstance(at, str) else at
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(self.zone)


_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    words=words,
    segment=segment,
    details=details,
    money=money,
    actor_name=actor_name,
    json=lambda v: json.dumps(v, default=str),
)


def note_position(request: Request, session: Tx) -> None:
    """Keep where the change log stands before a page reads anything: what changes from here on, its stream tells."""
    request.state.position = position_now(session)


def page(
    request: Request, template: str, *, session: Session, who: Principal, status_code: int = 200, **context: Any
) -> HTMLResponse:
    """A page for a signed-in person, with the facts its scripts need as data attributes."""
    settings = settings_of(request)
    now = clock.now(session)
    rate = session.execute(sql("SELECT rate FROM clock")).scalar()
    return _render(
        request,
        template,
        status_code,
        who=who,
        menu=[(path, label) for path, label, roles in MENU if who.role in roles],
        now=rfc3339(now),
        rate=float(rate or 1),
        position=request.state.position,
        at=Times(settings.zone, now),
        **context,
    )


def plain_page(request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page for somebody who is not signed in."""
    return _render(request, template, status_code, who=None, **context)


def _render(request: Request, template: str, status_code: int, **context: Any) -> HTMLResponse:
    html = _environment.get_template(template).render(settings=settings_of(request), path=request.url.path, **context)
    return HTMLResponse(html, status_code=status_code, headers=HEADERS)


def sign_in_path(request: Request) -> str:
    """The sign-in page that leads back to what was asked for."""
    # as it was written: a decoded address may lead elsewhere
    here = request.scope.get("raw_path", b"/").partition(b"?")[0].decode("latin-1")
    here += f"?{request.url.query}" if request.url.query else ""
    return "/sign-in" if here == "/" else f"/sign-in?next={quote(here, safe='')}"


class PageRoute(APIRoute):
    """A route whose refusals are read by a person: not signed in leads to the sign-in page, the rest become a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with refusals turned into pages."""
        handle = super().get_route_handler()

        async def with_pages(request: Request) -> Response:
            try:
                return await handle(request)
            except NotAuthenticated:
                return RedirectResponse(sign_in_path(request), status_code=303)
            except CurbstopError as error:
                return plain_page(request, "refused.html", status_code=error.status, error=error)

        return with_pages
