"""The web process: uvicorn around `hub.app`, ending soon when asked even while event streams are open.

Writes nothing.
"""

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from hub.app import create_app
from hub.settings import Settings

# Longer than an event stream takes to notice that it should end, shorter than the five seconds promised for all.
GRACE_S = 3


class WebServer(uvicorn.Server):
    """uvicorn that tells open event streams to end: they alone would keep it alive long after SIGTERM."""

    def __init__(self, app: FastAPI, settings: Settings, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )
        self.app, self._on_ready = app, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so once requests are taken."""
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Before uvicorn waits for open answers, those that never end by themselves are told."""
        self.app.state.stopping.set()
        super().handle_exit(sig, frame)


def run(settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve on `listener` until SIGTERM or SIGINT; `on_ready` is called once it answers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal that ended it once more; an orderly end is a success and not a death by signal.
        signal.signal(number, lambda _number, _frame: None)
    WebServer(create_app(settings), settings, on_ready).run(sockets=[listener])
