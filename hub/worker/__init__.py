"""The worker process: applies billing events, delivers outbound messages, keeps schedules. Any number may run at once.

Wires and runs; every row is written by the modules it calls, in transactions they open. Nothing is lost when it is
killed: what it had in hand carries a lease and is taken up again by the next worker.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub import outbox
from hub.billing import inbox
from hub.db import Database
from hub.errors import ConfigurationError
from hub.guarded import Guard
from hub.metering import readings, rebooking, rollups, watching
from hub.settings import Settings
from hub.work import in_force, orders
from hub.worker.jobs import Runner, schedule

log = structlog.get_logger()
POLL_SECONDS = 1.0
UPKEEP_SECONDS = 2.0
CLOSED_AT_ONCE = 200
FOLDED_AT_ONCE = 50
WATCHDOG_SECONDS = 60.0
# Not an end anybody asked for: a supervisor starts the process anew, with fresh connections.
EXIT_STALLED = 75
POOL = 24


class Worker:
    """The loops of one worker. `run` returns when `stopping` was set and everything under way has ended."""

    def __init__(self, settings: Settings, database: Database, *, stalled: Callable[[], None] | None = None) -> None:
        self._settings, self._database = settings, database
        self._stalled = stalled or (lambda: os._exit(EXIT_STALLED))
        self._sender = outbox.Sender(database, Guard(settings.allow_private_endpoints))
        self._runner = Runner(database, settings)
        self._pace = rollups.Pace(settings.zone)
        self._inbox_wake = threading.Event()
        self._answered = time.monotonic()
        self.stopping = threading.Event()

    def run(self) -> None:
        """Work until `stopping` is set."""
        unhurried = threading.Event()  # of loops that only the end of the worker wakes early
        loops = {
            "outbox": lambda: self._sender.run(self.stopping),
            "inbox": lambda: self._rounds(self._apply_events, self._inbox_wake),
            "upkeep": lambda: self._rounds(self._upkeep, unhurried, UPKEEP_SECONDS),
            "consumption": lambda: self._rounds(self._roll_up, unhurried, rollups.LOOK_S),
            "jobs": lambda: self._rounds(self._runner.run_next, unhurried),
        }
        threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
        for side in (self._listen, self._probe):
            threading.Thread(target=side, name=side.__name__, daemon=True).start()
        for thread in threads:
            thread.start()
        scheduler = schedule(self._database)
        log.info("worker ready")
        try:
            while not self.stopping.wait(1.0):
                self._watch()
        finally:
            scheduler.shutdown(wait=False)
            self.stopping.set()
            self._sender.wake.set()
            self._inbox_wake.set()
            unhurried.set()
            for thread in threads:
                thread.join()
        log.info("worker stopped")

    def _rounds(self, work: Callable[[], int], wake: threading.Event, pause_s: float = POLL_SECONDS) -> None:
        """Call `work` again at once while it finds something, else when woken or after `pause_s`."""
        while not self.stopping.is_set():
            wake.clear()
            try:
                done = work()
            except SQLAlchemyError as error:
                log.warning("waits for the database", loop=threading.current_thread().name, error=type(error).__name__)
                done = 0
            except Exception as error:
                log.error("round failed", loop=threading.current_thread().name, exc_info=error)
                done = 0
            if not done and not self.stopping.is_set():
                wake.wait(pause_s)

    def _apply_events(self) -> int:
        return inbox.process_pending(self._database, most=200)

    def _upkeep(self) -> int:
        """What waits for something else to happen; safe beside other workers, who pass over each other's rows."""
        with self._database.transaction() as session:
            closed = orders.close_settled(session, limit=CLOSED_AT_ONCE)
        with self._database.transaction() as session:
            inbox.revive_known(session)
        with self._database.transaction() as session:
            readings.replay_claimed(session)
        with self._database.transaction() as session:
            folded = watching.fold(session, batches=FOLDED_AT_ONCE)
        with self._database.transaction() as session:
            rebooked = rebooking.run(session)
        return int(closed >= CLOSED_AT_ONCE or folded >= FOLDED_AT_ONCE or rebooked is not None)

    def _roll_up(self) -> int:
        with self._database.transaction() as session:
            return self._pace.round(session)

    def _listen(self) -> None:
        """Wake the loops early; when the connection breaks they go on by their polling."""
        while not self.stopping.is_set():
            try:
                with self._database.listener() as connection:
                    connection.execute(f"LISTEN {outbox.CHANNEL}")
                    connection.execute(f"LISTEN {inbox.CHANNEL}")
                    while not self.stopping.is_set():
                        for notice in connection.notifies(timeout=5.0, stop_after=1):
                            self._wake(notice.channel)
                        # a link that died without a word shows here
                        connection.execute("SELECT 1")
            except psycopg.Error as error:
                log.warning("listening stopped", error=type(error).__name__)
                self.stopping.wait(POLL_SECONDS)

    def _wake(self, channel: str) -> None:
        (self._sender.wake if channel == outbox.CHANNEL else self._inbox_wake).set()

    def _probe(self) -> None:
        """Ask the database something trivial every few seconds, so that silence can be told from idleness."""
        while not self.stopping.wait(5.0):
            try:
                with self._database.transaction() as session:
                    session.execute(text("SELECT 1"))
                self._answered = time.monotonic()
            except SQLAlchemyError as error:
                log.warning("database does not answer", error=type(error).__name__)

    def _watch(self) -> None:
        silent = time.monotonic() - self._answered
        if silent > WATCHDOG_SECONDS:
            log.critical("no answer from the database, the worker ends", seconds=round(silent))
            self._stalled()


def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; deliveries under way may take 20 s to end."""
    if settings.database_url is None:
        raise ConfigurationError("A worker needs a database.", remedy="Set CURBSTOP_DATABASE_URL.")
    in_force.use(settings)
    database = Database(settings.database_url.get_secret_value(), pool_size=POOL, application_name="curbstop worker")
    worker = Worker(settings, database)

    def stop(number: int, frame: FrameType | None) -> None:
        worker.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        worker.run()
    finally:
        database.dispose()
