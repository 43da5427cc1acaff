"""Everything in one: the private servers where no others are configured, and the hub's processes, kept running.

Writes the data folder (lock, key, servers); the schema through the migrations; no rows.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
import structlog

from hub import migrations
from hub.private import SchemaMissing, process, require_schema
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from hub.private.folder import KEY_FILE, CannotStart, FolderLock, prepare
from hub.settings import Settings

log = structlog.get_logger()
STOP_PATIENCE_S = 8.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0
TICK_S = 0.1
HOPELESS = 3
# A child that inherits this writes its name to it when it does its work.
READY_FD = "CURBSTOP_READY_FD"
# So long a start waits for the broker to take the ingest's subscription; afterwards the hub is ready without meters.
SUBSCRIPTION_PATIENCE_S = 30.0


class Stopped(BaseException):
    """Somebody asked the hub to end (Ctrl-C, SIGTERM, a closed terminal)."""


@dataclass
class Child:
    """One of the hub's processes: started again when it ends, later each time it ends soon."""

    name: str
    words: Sequence[str]
    inherits: Sequence[int] = ()
    running: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    not_before: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    restarts: int = 0

    def tend(self, environment: dict[str, str]) -> None:
        """Start it when it does not run and its pause is over; note when it ended."""
        now = time.monotonic()
        if self.running is not None:
            status = self.running.poll()
            if status is None:
                return
            self.pause_s = FIRST_PAUSE_S if now - self.started_at > STEADY_S else min(self.pause_s * 2, LONGEST_PAUSE_S)
            self.not_before = now + self.pause_s
            self.running = None
            self.restarts += 1
            log.warning("a process of the hub ended and is started again", process=self.name, status=status)
        if now >= self.not_before:
            # Standard output is kept for the line that says the hub is ready.
            self.running = process.spawn(
                self.words,
                dies_with=signal.SIGTERM,
                log=sys.stderr.fileno(),
                environment=environment,
                inherits=self.inherits,
            )
            self.started_at = now


@dataclass
class Hub:
    """A running hub, as `run` hands it to `on_ready`."""

    address: str
    database_url: str
    mqtt_url: str
    environment: dict[str, str]
    children: list[Child] = field(default_factory=list)


class Supervisor:
    """`run()` starts everything, calls `on_ready`, and keeps it running until somebody asks it to end."""

    def __init__(self, settings: Settings, *, host: str, port: int, command: str = "up") -> None:
        self.settings = settings
        self.host = host
        self.port = port
        self.command = command
        self._cluster: PrivateCluster | None = None
        self._broker: PrivateBroker | None = None
        self._children: list[Child] = []
        self._told = -1

    def run(self, on_ready: Callable[[Hub], Sequence[Child] | None]) -> None:
        """Returns when everything is stopped; raises CannotStart with the remedy when it cannot run.

        `on_ready` may give back further children to keep running.
        """
        with _asked_to_end(), contextlib.ExitStack() as owned:
            try:
                listener = owned.enter_context(listen(self.host, self.port))
                lock = FolderLock(self.settings.data_dir)
                lock.acquire(self.command, shared=True, patience=60)
                owned.callback(lock.release)
                owned.callback(self._stop)
                hub = self._start(listener, lock)
                self._keep_running(hub, until_ready=True)
                hub.children += on_ready(hub) or []
                self._keep_running(hub)
            except Stopped:
                pass
            finally:
                _deaf()

    def _start(self, listener: socket.socket, lock: FolderLock) -> Hub:
        settings = self.settings
        if settings.database_url is None:
            self._cluster = PrivateCluster(settings.data_dir).start()
            database_url = self._cluster.url
        else:
            database_url = settings.database_url.get_secret_value()
            require_answer(database_url)
        migrations.upgrade(database_url)
        if settings.mqtt_url is None:
            self._broker = PrivateBroker(settings.data_dir).start()
            mqtt_url = self._broker.url
        else:
            mqtt_url = settings.mqtt_url.get_secret_value()
        address = address_of(settings, self.host, listener)
        lock.note(address=address, mqtt_url=self._broker.url if self._broker else None)
        environment = {
            **os.environ,
            "CURBSTOP_DATABASE_URL": database_url,
            "CURBSTOP_MQTT_URL": mqtt_url,
            "CURBSTOP_DATA_DIR": str(prepare(settings.data_dir)),
        }
        if settings.secret_key is None:
            environment["CURBSTOP_SECRET_KEY_FILE"] = str(secret_key_file(settings.data_dir))
        self._told, telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        environment[READY_FD] = str(telling)
        serve = command("serve", "--host", self.host, "--fd", str(listener.fileno()))
        self._children = [
            Child("web", serve, (lock.fileno(), listener.fileno())),
            Child("worker", command("work"), (lock.fileno(),)),
            Child("ingest", command("ingest"), (lock.fileno(), telling)),
        ]
        return Hub(address, database_url, mqtt_url, environment, self._children)

    def _keep_running(self, hub: Hub, *, until_ready: bool = False) -> None:
        web_since: float | None = None
        next_look = 0.0
        subscribed = False
        while True:
            self._tend_servers()
            for child in self._children:
                child.tend(hub.environment)
            if until_ready:
                self._give_up_on_loops()
                now = time.monotonic()
                subscribed = subscribed or self._heard(b"ingest")
                if web_since is None and now >= next_look:
                    web_since = now if answers(hub.address) else None
                    next_look = now + 0.2
                if web_since is not None and subscribed:
                    return
                if web_since is not None and now - web_since > SUBSCRIPTION_PATIENCE_S:
                    log.warning("the MQTT broker has not taken our subscription: run `curbstop doctor`")
                    return
            time.sleep(TICK_S)

    def _give_up_on_loops(self) -> None:
        """At the start, a process that ends every time will not be mended by trying on."""
        for child in self._children:
            if child.restarts >= HOPELESS:
                raise CannotStart(
                    f"The {child.name} process of the hub ends as soon as it starts: what it says stands above; mend "
                    "that (`curbstop doctor` may know more), then start the hub again."
                )

    def _heard(self, name: bytes) -> bool:
        try:
            return name in os.read(self._told, 4096)
        except BlockingIOError:
            return False

    def _tend_servers(self) -> None:
        """Start a private server that ended (the out-of-memory killer, say) again; the processes reconnect."""
        for server in (self._cluster, self._broker):
            if server is not None and server.pid is None:
                log.warning("a private server ended and is started again", server=type(server).__name__)
                try:
                    server.start()
                except CannotStart as error:
                    log.error("a private server cannot start", reason=error.detail)
                    time.sleep(5)

    def _stop(self) -> None:
        """The processes first and together, then the servers they talk to."""
        running = [child.running for child in self._children if child.running is not None]
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_PATIENCE_S
        for one in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(max(0.0, deadline - time.monotonic()))
            if one.poll() is None:
                one.kill()
                one.wait()
        if self._broker is not None:
            self._broker.stop()
        if self._cluster is not None:
            self._cluster.stop()


def tell_ready(name: str) -> None:
    """Tell the supervisor, if one started this process, that `name` does its work now."""
    handle = os.environ.get(READY_FD)
    if handle is not None:
        with contextlib.suppress(OSError):
            os.write(int(handle), name.encode())


def command(*words: str) -> list[str]:
    """The words that run `curbstop` with this interpreter; -P: never with code that lies in the present folder."""
    return [sys.executable, "-P", "-m", "hub.cli", *words]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; children inherit it, so that a web process that is started again loses no client.

    Raises CannotStart when the port is taken or the address is none of this machine's.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        if error.errno == 98:  # EADDRINUSE
            raise CannotStart(
                f"Port {port} on {host} is taken by another program: stop that program, or choose another port, "
                f"for example --port {port + 1}."
            ) from error
        raise CannotStart(
            f"The hub cannot listen on {host} port {port} ({error.strerror}): choose another --host or --port."
        ) from error


def answers(address: str) -> bool:
    """Whether the web process at `address` says that it is ready."""
    try:
        # The certificate is for the name people type, not for the loopback address asked here.
        return httpx.get(f"{address}/readyz", timeout=5, verify=False, trust_env=False).status_code == 200  # noqa: S501
    except httpx.HTTPError:
        return False


def require_answer(url: str) -> None:
    """Raise CannotStart when the configured database cannot be reached."""
    with contextlib.suppress(SchemaMissing):
        require_schema(url)


def secret_key_file(data_dir: Path) -> Path:
    """The file with the hub's key, made on first use, readable by its owner alone."""
    path = prepare(data_dir) / KEY_FILE
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path


def address_of(settings: Settings, host: str, listener: socket.socket) -> str:
    """What to type into a browser on this machine to reach a web process that listens there."""
    return f"{'https' if settings.tls_cert else 'http'}://{_shown_host(host)}:{listener.getsockname()[1]}"


def _shown_host(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1" if host != "::" else "[::1]"
    return f"[{host}]" if ":" in host else host


@contextmanager
def _asked_to_end() -> Iterator[None]:
    """Turn SIGTERM, Ctrl-C and a closed terminal into Stopped, whatever is going on."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Stopped

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it to outlive the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf() -> None:
    """A second Ctrl-C must not interrupt the orderly stop, which takes seconds at most."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
