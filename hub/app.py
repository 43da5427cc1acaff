"""The web process: wires the faces to one database and serves them. No rules live here."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import mobile_api.api
from hub import api
from hub.console import routes as console
from hub.db import Database
from hub.paths import PartedPaths
from hub.settings import Settings
from hub.web import Json, install_problem_handlers
from hub.work import in_force

HERE = Path(__file__).parent
MOST_BODY = 10 << 20
STREAMED = ("/api/v1/imports/", "/api/v1/readings", "/webhooks/")
# The answer to every page and file: nothing from elsewhere, nothing inline, no framing.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """The application with all faces, on `database` (default: the one the settings name)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.stopping.set()
        app.state.database.dispose()

    app = FastAPI(
        title="Curbstop",
        version="1",
        summary="The hub between a water utility's billing and its field work",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    in_force.use(settings)
    app.state.settings = settings
    if database is None:
        if settings.database_url is None:
            raise RuntimeError("create_app needs a database: the shells resolve a private one first")
        database = Database(settings.database_url.get_secret_value())
    app.state.database = database
    # set when the server shuts down; open event streams watch it
    app.state.stopping = threading.Event()
    install_problem_handlers(app)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)
    app.add_middleware(LimitedBodies)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(PartedPaths)
    for router in api.routers():
        app.include_router(router)
    app.include_router(mobile_api.api.router)
    console.mount(app)
    # after the console's own files, which lie below the same path
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="shared-static")
    return app


class LimitedBodies:
    """Refuses bodies beyond `MOST_BODY` bytes, which JSON routes would hold in memory before they know who asks.

    Files of `STREAMED` paths have limits of their own and are read piece by piece.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(STREAMED):
            await self._app(scope, receive, send)
            return
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BODY:
                raise HTTPException(413, f"A body may have {MOST_BODY >> 20} MiB at most.")
            return message

        await self._app(scope, receive_limited, send)


class SecurityHeaders:
    """Puts `SECURITY_HEADERS` on every answer, streams included, without touching its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
