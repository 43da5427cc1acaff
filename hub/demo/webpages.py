"""What the demo's own little web servers share: templates, strict headers, refusal of other sites' forms.

Writes nothing.
"""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.demo.calendar import LOCAL

PAGES = Path(__file__).parent / "pages"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ASSETS = {"style.css": "text/css", "live.js": "text/javascript"}


def local_time(value: datetime | str | None) -> str:
    """An instant as the town's people write it, e.g. `Mon 2 Mar 07:30`; nothing for None."""
    if not value:
        return ""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    at = at.astimezone(LOCAL)
    return f"{at:%a} {at.day} {at:%b %H:%M}"


def days(start: date, end: date) -> str:
    """The days from `start` to the one before `end`, e.g. `1 Feb – 28 Feb`."""
    last = end - timedelta(days=1)
    first = f"{start.day} {start:%b}"
    return first if last <= start else f"{first} – {last.day} {last:%b}"


def words(value: str) -> str:
    """`work_order.completed` and `cut_and_locked` as words."""
    return value.replace("_", " ").replace(".", ": ", 1)


_environment = Environment(loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined)
_environment.filters |= {"local": local_time, "words": words, "days": days, "number": lambda value: f"{value:,.0f}"}


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered page."""
    return HTMLResponse(_environment.get_template(name).render(**values), status_code=status)


def prepare(app: FastAPI) -> None:
    """Add the headers every answer carries, the same-site check, and the files pages need."""

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        response: Response
        if request.method == "POST" and "webhook-id" not in request.headers and not _own_form(request):
            response = PlainTextResponse("This form was sent by another site.", 403)
        else:
            response = await proceed(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def asset(name: str) -> Callable[[], FileResponse]:
        def answer() -> FileResponse:
            return FileResponse(PAGES / name, media_type=_ASSETS[name], headers={"Cache-Control": "no-cache"})

        return answer

    for name in _ASSETS:
        app.get(f"/{name}", include_in_schema=False)(asset(name))


class FrontDoor:
    """Hands every request to `app`, which may be replaced while the server runs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, answered by whatever stands behind the door just now."""
        await self.app(scope, receive, send)


def _own_form(request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin and origin != "null":
        return urlsplit(origin).netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site") in ("same-origin", "none")
