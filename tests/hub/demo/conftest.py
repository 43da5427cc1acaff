"""Small towns and stand-ins for the demo's tests."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from hub.demo import calendar
from hub.demo.consumption import Meters
from hub.demo.hydraulics import ZONES, Water, class_factors
from hub.demo.network import Network, read_network
from hub.demo.town import Town, build_town

PATIENCE_S = 30.0


def eventually(true: Callable[[], object], what: str) -> None:
    """Wait until `true()` holds; fail after a generous while."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def network() -> Network:
    return read_network()


@pytest.fixture(scope="session")
def town(network: Network) -> Town:
    return build_town(network)


@pytest.fixture(scope="session")
def still_water(network: Network) -> Water:
    """The whole calendar without EPANET: true use, constant bulk flows, no leaks."""
    hours = calendar.HOURS
    names = ("net_inflow", "used", "unauthorised", "flushing", "background", "bursts", "storage_increase")
    return Water(
        hours=hours,
        leaks=[],
        flushings=[],
        class_factor=class_factors(network, hours),
        zone_meter_m3={meter: np.full(hours, 20.0) for meter in ("M1", "M2", "M3", "M4")},
        tank_level_m=np.full(hours + 1, 3.0),
        components={f"{name}/{zone}": np.zeros(hours) for name in names for zone in ZONES},
        leak_m3={},
        pressure_m={zone: np.full(hours, 45.0) for zone in ZONES},
        split_error=0.0,
    )


@pytest.fixture(scope="session")
def hamlet(town: Town) -> Town:
    """The town's first four hundred customers: enough for files and books."""
    few = slice(400)
    return Town(town.network, town.customers[few], town.base[few], town.weight[few], town.polygons)


@pytest.fixture(scope="session")
def hamlet_meters(hamlet: Town, still_water: Water) -> Meters:
    return Meters(hamlet, still_water)


@dataclass
class StandIn:
    """A hub's door that keeps what it was sent and answers as told."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def door() -> Iterator[StandIn]:
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            stand_in.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(stand_in.answers.pop(0) if stand_in.answers else 202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Run an application on a free port; gives its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: FastAPI) -> str:
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        eventually(lambda: server.started, "the server")
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(PATIENCE_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
