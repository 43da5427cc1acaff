"""The hub's three processes as an operator runs them, and a way to kill them."""

import contextlib
import http.client
import os
import signal
import socket
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests import forks


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """`curbstop serve`, `work` and `ingest` on a given database and broker, each in a process of its own."""

    def __init__(self, database_url: str, mqtt_url: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.environment = {
            **os.environ,
            "CURBSTOP_DATABASE_URL": database_url,
            "CURBSTOP_MQTT_URL": mqtt_url,
            "CURBSTOP_DATA_DIR": str(folder / "data"),
            "CURBSTOP_ALLOW_PRIVATE_ENDPOINTS": "127.0.0.1/32",
            "CURBSTOP_TIME_ZONE": "America/Chicago",
            "CURBSTOP_WEBHOOK_RATE": "1000",
        }
        self.commands = {
            "web": ["serve", "--port", str(self.port)],
            "worker": ["work"],
            "ingest": ["ingest", "--name", f"ingest-{self.port}"],
        }
        self.running: dict[str, ForkServerProcess] = {}

    def start(self, name: str) -> None:
        """Start one of web, worker, ingest."""
        self.running[name] = forks.curbstop(self.commands[name], self.environment, self.folder / f"{name}.log")

    def start_all(self) -> None:
        """Start all three and wait until the web answers that it is ready."""
        for name in self.commands:
            self.start(name)
        self.await_web()

    def await_web(self) -> None:
        """Return when the web process is ready."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.running["web"].is_alive(), self.log("web")
            if self._web_is_ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"the web process is not ready:\n{self.log('web')}")

    def _web_is_ready(self) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(asked), contextlib.suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/readyz")
            return asked.getresponse().status == 200
        return False

    def await_up(self, name: str, lives: int) -> None:
        """Return when a process has come up for the `lives`th time (the first start counts)."""
        if name == "web":
            self.await_web()
            return
        marker = {"worker": b"worker ready", "ingest": b"ingest subscribed"}[name]
        deadline = time.monotonic() + 60
        while (self.folder / f"{name}.log").read_bytes().count(marker) < lives:
            assert time.monotonic() < deadline, f"{name} does not come up:\n{self.log(name)}"
            time.sleep(0.02)

    def kill(self, name: str) -> None:
        """kill -9, and gone."""
        assert forks.end(self.running[name], signal.SIGKILL) == -signal.SIGKILL

    def stop(self) -> None:
        """End all politely; every process must obey."""
        for process in self.running.values():
            process.terminate()
        for name, process in self.running.items():
            process.join(30)
            if process.exitcode is None:
                process.kill()
                process.join(30)
                raise AssertionError(f"{name} does not end on SIGTERM:\n{self.log(name)}")

    def log(self, name: str) -> str:
        """The last lines a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]
