"""The web process: wires the faces to one database and serves them. No rules live here."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

import mobile_api.api
from hub import api
from hub.console import routes as console
from hub.db import Database
from hub.settings import Settings
from hub.web import Json, install_problem_handlers
from hub.work import in_force

HERE = Path(__file__).parent
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
    app.add_middleware(GZipMiddleware, minimum_size=1024)
    app.middleware("http")(_security_headers)
    for router in api.routers():
        app.include_router(router)
    app.include_router(mobile_api.api.router)
    console.mount(app)
    # after the console's own files, which lie below the same path
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="shared-static")
    return app


async def _security_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
