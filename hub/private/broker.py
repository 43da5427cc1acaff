"""A private Mosquitto for one machine without servers, on loopback, with a queue that outlives it.

Writes its own folder. Mosquitto's defaults drop what a hub that is down for a night should find in the morning; the
settings here keep everything up to a bound in bytes.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from hub.private import process
from hub.private.folder import Account, CannotStart, place, require_space

LOOPBACK = "127.0.0.1"
USUAL_PORT = 1883
START_BYTES = 64 * 2**20
LEAST_QUEUE, MOST_QUEUE = 64 * 2**20, 4 * 2**30


class PrivateBroker:
    """`start()` runs the broker; `url` is its address.

    Without a `port` it keeps the one it had last time, because gateways have been told of it; the first time that is
    1883, or any free one when 1883 is taken. `sync=False` is for tests: always a free port. `queue_bytes` bounds what
    it keeps for one absent client.
    """

    def __init__(
        self, data_dir: Path | str, port: int | None = None, *, sync: bool = True, queue_bytes: int | None = None
    ) -> None:
        self.data_dir = Path(data_dir)
        self.host = LOOPBACK
        self.port = port or 0
        self.sync = sync
        self.queue_bytes = queue_bytes
        self._wanted = port
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for clients on this machine."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the broker, None when it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self, *, patience: float = 120.0) -> Self:
        """Run the broker until it answers; reading a large queue back may take up to `patience` seconds.

        Raises CannotStart, with the remedy, when the program is missing, storage is full or the port is taken.
        """
        program = binary()
        account = Account.for_server("mosquitto", "nobody")
        folder = place(self.data_dir, "broker", account)
        _leave_behind_nobody(folder)
        require_space(folder, START_BYTES)
        chosen = folder / "port"
        self.port = self._wanted or self._pick(chosen)
        config = folder / "mosquitto.conf"
        config.write_text(configuration(folder, self.port, self.queue_bytes or queue_bound(folder)))
        for path in (config, folder / "mosquitto.db"):
            if account is not None and path.exists():
                os.chown(path, account.uid, account.gid)
        chosen.write_text(str(self.port))
        with (folder / "broker.log").open("wb") as log:
            self._child = process.spawn(
                [program, "-c", str(config)], account=account, dies_with=signal.SIGTERM, log=log
            )
        (folder / "pid").write_text(str(self._child.pid))
        try:
            self._await_ready(folder, patience)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the broker; it writes its queue to disk before it goes."""
        if self._child is not None:
            process.stop(self._child, signal.SIGTERM)
        self._child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _pick(self, chosen: Path) -> int:
        """The port of last time, else 1883, else a free one."""
        if not self.sync:
            return _free_port(0)
        try:
            before = int(chosen.read_text())
        except (OSError, ValueError):
            return _free_port(USUAL_PORT) or _free_port(0)
        if not _free_port(before):
            raise CannotStart(
                f"Port {before}, on which gateways know this hub's MQTT broker, is taken by another program: "
                f"stop that program, or delete {chosen} to let the hub choose another port."
            )
        return before

    def _await_ready(self, folder: Path, patience: float) -> None:
        assert self._child is not None
        deadline = time.monotonic() + patience
        while not (self._child.poll() is None and _listens(self._child.pid, self.port)):
            if self._child.poll() is not None:
                said = (folder / "broker.log").read_text(errors="replace")
                if "Address already in use" in said:
                    raise CannotStart(
                        f"Port {self.port} is taken by another program, so the MQTT broker cannot listen there: stop "
                        "that program, or name a broker of your own in CURBSTOP_MQTT_URL."
                    )
                reason = next((line for line in said.splitlines() if "Error" in line), "no reason given")
                raise CannotStart(
                    f"The MQTT broker did not start: Mosquitto says {reason.partition('Error: ')[2] or reason!r}; "
                    "mend that and start again."
                )
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"The MQTT broker does not answer on port {self.port} after {patience:.0f} s: look into "
                    f"{folder / 'broker.log'} and start the hub again."
                )
            time.sleep(0.02)


def configuration(folder: Path, port: int, queue_bytes: int) -> str:
    """Mosquitto's configuration: loopback only, everything queued for absent clients up to `queue_bytes` each.

    `autosave_on_changes` stays off: with it every message rewrites the whole store, and a long queue stands still.
    """
    return "\n".join(
        [
            f"listener {port} {LOOPBACK}",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "max_queued_messages 0",
            f"max_queued_bytes {queue_bytes}",
            "max_inflight_messages 0",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "",
        ]
    )


def queue_bound(folder: Path) -> int:
    """Bytes the broker may keep for one absent client.

    A tenth of the free disk (the store is written beside its predecessor before it replaces it), and an eighth of the
    memory, where Mosquitto holds its queues while it runs.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(LEAST_QUEUE, min(MOST_QUEUE, shutil.disk_usage(folder).free // 10, memory // 8))


def binary() -> str:
    """Path of Mosquitto; raises CannotStart naming the package."""
    found = shutil.which("mosquitto", path=process.plain_environment()["PATH"] + ":/usr/local/sbin:/usr/sbin")
    if found is None:
        raise CannotStart(
            "Mosquitto is not installed: run `make setup`, or install the package mosquitto, or name a broker of your "
            "own in CURBSTOP_MQTT_URL."
        )
    return found


def _free_port(wanted: int) -> int:
    """`wanted` if nobody has it (0: any), else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _listens(pid: int, port: int) -> bool:
    """Whether *our* process (not a stranger that was there first) listens on `port`."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    try:
        return any(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _leave_behind_nobody(folder: Path) -> None:
    """Wait for the broker of a crashed hub, which is writing its queue to disk; tell it to stop if nobody has."""
    try:
        pid = int((folder / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if os.fsencode(folder / "mosquitto.conf") not in words:
        return
    os.kill(pid, signal.SIGTERM)
    if not process.wait_until_gone([pid], patience=60):
        raise CannotStart(
            f"The MQTT broker of an earlier run (process {pid}) does not end: end it with `kill {pid}` and start again."
        )
