"""`curbstop demo` from start to stop: the town lives, the visitor kills the worker, and nothing is left running."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.demo.book import make_book
from hub.demo.files import write_all
from hub.demo.hydraulics import Water, save
from hub.demo.town import Town
from tests.private_servers import scratch

PATIENCE_S = 300.0
ROOT = Path(__file__).parents[3]


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.3)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Demo:
    """A running `curbstop demo`, with the addresses it printed."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.said = data_dir / "said.txt"
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hub.cli",
                    "demo",
                    f"--port={free_port()}",
                    "--speed=300",
                    f"--data-dir={data_dir}/town",
                ],
                cwd=ROOT,
                env={**os.environ, "CURBSTOP_DATABASE_URL": "postgresql://nobody@203.0.113.1/never"},
                stdout=log,
                stderr=log,
            )
        until(lambda: re.search(r"^ready ", self.words(), re.M) or self.process.poll() is not None, "ready")
        found = dict(re.findall(r"^  (Tour|Curbstop|Billing) +(\S+)", self.words(), re.M))
        assert set(found) == {"Tour", "Curbstop", "Billing"}, self.words()
        self.hub, self.billing, self.tour = found["Curbstop"], found["Billing"], found["Tour"]

    def words(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace")

    def totals(self) -> dict[str, Any]:
        # a page that says "not open yet" is no JSON
        with contextlib.suppress(httpx.HTTPError, ValueError):
            found: dict[str, Any] = httpx.get(f"{self.billing}/state.json", timeout=30).json()
            return found
        return {"lines": 0}

    def press(self, path: str) -> httpx.Response:
        return httpx.post(f"{self.tour}{path}", headers={"origin": self.tour}, timeout=60, follow_redirects=False)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def relatives(self) -> list[str]:
        """Command lines of everything that still knows this town's folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(self.data_dir / "town").encode() in about:
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


@pytest.fixture
def demo(hamlet: Town, still_water: Water) -> Iterator[Demo]:
    folder = scratch()
    # The simulation has tests of its own; here a small town is there at once.
    place = folder / "town" / "demo"
    save(still_water, place / "water.npz")
    book = make_book(hamlet, still_water)
    write_all(place / "town", hamlet, still_water, book["debts"], set(book["late_bills"]))
    (place / "town" / "book.json").write_text(json.dumps(book))
    running = Demo(folder)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_town_lives_and_leaves_nothing_behind(demo: Demo) -> None:
    logins = re.findall(r"^    (\w+)@l-town\.example +(\S+)$", demo.words(), re.M)
    assert len(logins) == len({password for _, password in logins}) == 5
    assert "Take over" in httpx.get(demo.tour, timeout=60).text, "the tour answers while the town is prepared"

    until(lambda: demo.totals()["lines"] >= 2, "two invoice lines")
    before = demo.totals()["lines"]
    assert demo.press("/worker/kill").headers["location"] == "/?said=killed"
    until(lambda: demo.totals()["lines"] > before, "a line after the worker was killed")
    assert demo.totals()["doubled_lines"] == 0
    assert demo.totals()["refused"] == 0

    keys = json.loads((demo.data_dir / "town" / "demo" / "keys.json").read_text())
    assert (demo.data_dir / "town" / "demo" / "keys.json").stat().st_mode & 0o077 == 0
    headers = {"Authorization": f"Bearer {keys['dispatcher']}"}
    quarantine = httpx.get(f"{demo.hub}/api/v1/quarantine", headers=headers, timeout=60).json()
    assert quarantine["items"] == []

    assert demo.end() == 0
    until(lambda: demo.relatives() == [], "nothing left running")


def test_speed_and_port_are_checked_in_one_sentence() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "hub.cli", "demo", "--speed", "0.1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert refused.returncode == 1
    assert refused.stderr == "curbstop: --speed 0.1 is out of range: choose 1 to 3600.\n"
