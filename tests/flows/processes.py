"""The hub's three processes as an operator runs them, and a way to kill them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


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
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one of web, worker, ingest."""
        log = (self.folder / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            [sys.executable, "-m", "hub.cli", *self.commands[name]], env=self.environment, stdout=log, stderr=log
        )
        log.close()

    def start_all(self) -> None:
        """Start all three and wait until the web answers that it is ready."""
        for name in self.commands:
            self.start(name)
        self.await_web()

    def await_web(self) -> None:
        """Return when the web process is ready."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.running["web"].poll() is None, self.log("web")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the web process is not ready:\n{self.log('web')}")

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
        process = self.running[name]
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        """End all politely; every process must obey."""
        for process in self.running.values():
            process.terminate()
        for name, process in self.running.items():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
                raise AssertionError(f"{name} does not end on SIGTERM:\n{self.log(name)}") from None

    def log(self, name: str) -> str:
        """The last lines a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]
