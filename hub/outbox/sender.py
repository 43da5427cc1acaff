"""The sender: takes due messages and delivers them side by side. Any number of senders may run at once.

Writes only through `hub.outbox.delivery`, in transactions of its own.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub.db import Database
from hub.guarded import Guard
from hub.outbox.delivery import Claim, Outcome, claim, finish, send

log = structlog.get_logger()
SLOTS = 16
# One slow destination must leave room for the others.
SLOTS_PER_SOURCE = 8
BATCH = 4
POLL_SECONDS = 1.0
# An outcome is worth some patience: when it is lost, the message is sent once more after its lease.
WRITE_PAUSES = (0.2, 1.0, 3.0, 6.0)


class Sender:
    """`run` delivers until `stopping` is set, then lets the tries under way end (20 s at most).

    `wake` cuts the wait short when something new is due; without it the queue is looked at every second.
    """

    def __init__(self, database: Database, guard: Guard, *, slots: int = SLOTS, poll_s: float = POLL_SECONDS) -> None:
        self._database, self._guard = database, guard
        self._slots, self._poll_s = slots, poll_s
        self._under_way: Counter[UUID] = Counter()
        self._lock = threading.Lock()
        self.wake = threading.Event()

    def run(self, stopping: threading.Event) -> None:
        """Deliver until `stopping`; database failures are waited out."""
        with ThreadPoolExecutor(self._slots, thread_name_prefix="deliver") as pool:
            while not stopping.is_set():
                self.wake.clear()
                try:
                    claimed = self._claim()
                except SQLAlchemyError as error:
                    log.warning("outbox waits for the database", error=type(error).__name__)
                    claimed = []
                for message in claimed:
                    pool.submit(self._deliver, message)
                if not claimed:
                    self.wake.wait(self._poll_s)

    def _claim(self) -> list[Claim]:
        with self._lock:
            free = self._slots - self._under_way.total()
            busy = [source for source, count in self._under_way.items() if count >= SLOTS_PER_SOURCE]
        if free <= 0:
            return []
        with self._database.transaction() as session:
            claimed = claim(session, most=min(free, BATCH), busy=busy)
        with self._lock:
            self._under_way.update(message.source_id for message in claimed)
        return claimed

    def _deliver(self, message: Claim) -> None:
        try:
            self._write(message, send(self._guard, message))
        except Exception as error:
            log.error("delivery outcome lost", message=str(message.id), exc_info=error)
        finally:
            with self._lock:
                self._under_way[message.source_id] -= 1
            self.wake.set()

    def _write(self, message: Claim, outcome: Outcome) -> None:
        for pause in (*WRITE_PAUSES, None):
            try:
                with self._database.transaction() as session:
                    counted = finish(session, message, outcome)
                log.info(
                    "delivery",
                    message=str(message.id),
                    type=message.type,
                    source=message.source,
                    tries=message.tries,
                    status=outcome.status_code,
                    error=outcome.error,
                    ms=outcome.took_ms,
                    counted=counted,
                )
                return
            except SQLAlchemyError:
                if pause is None:
                    raise
                threading.Event().wait(pause)
