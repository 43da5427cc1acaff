"""The ingest process: from the MQTT broker to committed readings, each acknowledged only after its commit.

Writes through `hub.metering.readings`, one transaction per batch. The network thread only queues; the main thread takes
a batch, commits it and acknowledges it in order of arrival, unless the connection it came over is gone. While the
database is away the process leaves the broker, which keeps the messages, and comes back when it can commit again.
"""

import gc
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
import structlog
from paho.mqtt import MQTTException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub import publish
from hub.db import Database, shown
from hub.errors import ConfigurationError
from hub.metering import decode, readings
from hub.metering.known import Known
from hub.metering.ledger import Message
from hub.settings import Settings
from hub.subscriber import Arrived, Subscriber

log = structlog.get_logger()

# What one transaction takes: so many messages, or fewer of so many bytes, for a decoded message weighs some fifteen
# times what it did as bytes. A concentrator may send a quarter of a megabyte at once.
BATCH = 2_000
BATCH_BYTES = 6 * 2**20
# A batch waits for company as long as more arrive, looking this often, up to that long: a lone message is committed
# after one look, a burst in batches worth their commit.
LINGER_S = 0.02
LONGEST_LINGER_S = 0.2
# What the broker may send ahead of our acknowledgements: it bounds the queue, and with it memory.
RECEIVE_MAXIMUM = 4_000
QUEUE_BYTES = 64 * 2**20
# What a queued message costs beside its bytes.
MESSAGE_BYTES = 600
MAX_PACKET_BYTES = 2**20
SESSION_EXPIRY_S = 30 * 86_400
KEEPALIVE_S = 30
LOCK_CHECK_S = 5.0
STANDBY_S = 1.0
# A main thread that does not come round for so long hangs in something no timeout covers; it is to be started again.
WATCHDOG_S = 180.0
# deadlock, serialisation failure, lock timeout: the same batch may simply be tried again
_TRY_AGAIN = frozenset({"40P01", "40001", "55P03"})


class _Away(Exception):
    """The database or our lock is gone; the session on the broker keeps what we did not acknowledge."""


@dataclass(slots=True, frozen=True)
class Subscription:
    """A topic filter and the adapter of what arrives under it (None: recognised message by message)."""

    filter: str
    adapter: str | None

    def pattern(self) -> "re.Pattern[str]":
        """The topics it stands for."""
        head, rest = (self.filter[:-2], "(/.*)?") if self.filter.endswith("/#") else (self.filter, "")
        levels = (".*" if level == "#" else "[^/]*" if level == "+" else re.escape(level) for level in head.split("/"))
        return re.compile("/".join(levels) + rest, re.DOTALL)


class Delivery(NamedTuple):
    """A message, its packet id and which connection (counted) it came over."""

    mid: int
    generation: int
    message: Message


def subscriptions(entries: list[str]) -> list[Subscription]:
    """`filter=adapter` or `filter` entries. Raises ConfigurationError for an unknown adapter or overlapping filters."""
    found = []
    for entry in entries:
        topic, _, name = entry.partition("=")
        adapter = decode.adapter_name(name) if name else None
        if name and adapter is None:
            raise ConfigurationError(
                f"{entry!r} names no adapter the hub has.",
                field="mqtt_topics",
                remedy=f"Use one of {', '.join(decode.adapter_names())}.",
            )
        if not _valid_filter(topic.strip()):
            raise ConfigurationError(f"{topic!r} is not an MQTT topic filter.", field="mqtt_topics")
        found.append(Subscription(topic.strip(), adapter))
    for position, one in enumerate(found):
        for other in found[position + 1 :]:
            if _overlap(one.filter.split("/"), other.filter.split("/")):
                raise ConfigurationError(
                    f"{one.filter!r} and {other.filter!r} overlap, so the broker would deliver some messages twice.",
                    field="mqtt_topics",
                )
    return found


def _valid_filter(topic: str) -> bool:
    levels = topic.split("/")
    alone = all(level in ("+", "#") or not set(level) & {"+", "#"} for level in levels)
    return bool(topic) and alone and "#" not in levels[:-1] and "\x00" not in topic


def _overlap(one: list[str], other: list[str]) -> bool:
    """Whether a topic exists that both filters match."""
    if not one or not other:
        return one == other or (one or other) == ["#"]
    if "#" in (one[0], other[0]):
        return True
    return (one[0] == other[0] or "+" in (one[0], other[0])) and _overlap(one[1:], other[1:])


class Inbox:
    """What arrived and is not committed yet: bounded in bytes, and emptied when its connection is lost.

    The consumer is woken by the first message only; a wake-up per message would cost more than the message.
    """

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._generation = 0
        self._lock = threading.Lock()
        self._some = threading.Event()

    def put(self, arrived: Sequence[tuple[int, Message]]) -> None:
        """Queue messages with their packet ids (network thread)."""
        with self._lock:
            generation = self._generation
            self._waiting.extend([Delivery(mid, generation, message) for mid, message in arrived])
            self._bytes += sum(_weight(message) for _, message in arrived)
        if not self._some.is_set():
            self._some.set()

    def has_room(self) -> bool:
        """Whether more may be put in without holding too much."""
        return self._bytes < QUEUE_BYTES

    def take(self, most: int, patience: float) -> list[Delivery]:
        """Up to `most` messages in order of arrival, after lingering for company; none after `patience` seconds.

        They weigh BATCH_BYTES at most, unless the first one does alone.
        """
        if not self._some.wait(patience):
            return []
        before, until = 0, time.monotonic() + LONGEST_LINGER_S
        while before < len(self._waiting) < most and time.monotonic() < until:
            before = len(self._waiting)
            time.sleep(LINGER_S)
        with self._lock:
            taken: list[Delivery] = []
            weight = 0
            while self._waiting and len(taken) < most:
                more = _weight(self._waiting[0].message)
                if taken and weight + more > BATCH_BYTES:
                    break
                weight += more
                taken.append(self._waiting.popleft())
            self._bytes -= weight
            if not self._waiting:
                self._some.clear()
        return taken

    def next_generation(self) -> None:
        """The connection is gone: what it brought will be delivered again, under other packet ids."""
        with self._lock:
            self._generation += 1
            self._waiting.clear()
            self._bytes = 0
            self._some.clear()

    def acknowledge(self, send: Callable[[list[int]], None], deliveries: Sequence[Delivery]) -> None:
        """Acknowledge in order of arrival what came over the present connection.

        An old packet id would acknowledge, and lose, another message; the broker delivers again what is left out.
        """
        with self._lock:
            # what came at QoS 0 has no packet id, and acknowledging one would be a protocol error
            mids = [one.mid for one in deliveries if one.mid and one.generation == self._generation]
            if mids:
                send(mids)


def _weight(message: Message) -> int:
    return len(message.payload) + len(message.topic) + MESSAGE_BYTES


class Ingest:
    """One ingest of one name: one session on the broker, one transaction per batch. Its subscriber's `Taker`."""

    def __init__(
        self,
        database: Database,
        mqtt_url: str,
        name: str,
        wanted: list[Subscription],
        on_subscribed: Callable[[], None] | None = None,
    ) -> None:
        self.database = database
        self.on_subscribed = on_subscribed
        self.mqtt_url = mqtt_url
        self.name = name
        self.wanted = wanted
        self.inbox = Inbox()
        self._known = Known()
        self.stopping = threading.Event()
        self._patterns = [(one.pattern(), one.adapter) for one in wanted]
        self._seen = time.monotonic()

    def run(self) -> None:
        """Serve until `stopping` is set; database and broker may come and go meanwhile."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        while not self.stopping.is_set():
            try:
                with self._lock() as lock:
                    if lock is not None:
                        self._serve(lock)
            except _Away as error:
                log.warning("the database is away; messages wait at the broker", why=str(error))
                self._pause(STANDBY_S)

    def _pause(self, seconds: float) -> None:
        self._seen = time.monotonic()
        self.stopping.wait(seconds)

    def _watch(self) -> None:
        while not self.stopping.wait(5):
            if time.monotonic() - self._seen > WATCHDOG_S:
                log.critical("ingest hangs; ending the process so that it is started again", name=self.name)
                os._exit(70)

    @contextmanager
    def _lock(self) -> "Iterator[psycopg.Connection[tuple[Any, ...]] | None]":
        """The connection that holds this name's lock; None when we were told to stop while standing by."""
        try:
            connection = self.database.listener()
        except psycopg.OperationalError as error:
            raise _Away(str(error).strip()) from error
        try:
            waiting = False
            while not self.stopping.is_set():
                if self._locked(connection):
                    yield connection
                    return
                if not waiting:
                    log.info("another ingest of this name runs; standing by", name=self.name)
                waiting = True
                self._pause(STANDBY_S)
            yield None
        finally:
            connection.close()

    def _locked(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> bool:
        try:
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"curbstop ingest {self.name}"]
            ).fetchone()
        except psycopg.OperationalError as error:
            raise _Away(str(error).strip()) from error
        return row is not None and bool(row[0])

    def _serve(self, lock: "psycopg.Connection[tuple[Any, ...]]") -> None:
        subscriber = Subscriber(
            self.mqtt_url,
            self.name,
            [one.filter for one in self.wanted],
            self,
            receive_maximum=RECEIVE_MAXIMUM,
            most_packet_bytes=MAX_PACKET_BYTES,
            session_expiry_s=SESSION_EXPIRY_S,
            keepalive_s=KEEPALIVE_S,
        )
        subscriber.start()
        log.info(
            "ingest serves", name=self.name, broker=shown(self.mqtt_url), filters=[one.filter for one in self.wanted]
        )
        checked = time.monotonic()
        try:
            while not self.stopping.is_set():
                self._seen = time.monotonic()
                deliveries = self.inbox.take(BATCH, 0.5)
                if deliveries:
                    self._commit([one.message for one in deliveries])
                    self.inbox.acknowledge(subscriber.acknowledge, deliveries)
                if time.monotonic() - checked > LOCK_CHECK_S:
                    _still_there(lock)
                    checked = time.monotonic()
        finally:
            subscriber.stop()
            self.inbox.next_generation()

    # ------------------------------------------------------------------------------------- on the network thread

    def subscribed(self, refused: Sequence[str]) -> None:
        """From here on the broker keeps for us whatever is sent."""
        if refused:
            log.error("the broker refuses topics", name=self.name, filters=list(refused))
        log.info("ingest subscribed", name=self.name)
        if self.on_subscribed is not None:
            self.on_subscribed()

    def lost(self, why: str) -> None:
        """What waits here will be delivered again."""
        self.inbox.next_generation()
        if not self.stopping.is_set():
            log.warning("no connection to the broker", name=self.name, why=why)

    def has_room(self) -> bool:
        """Whether the queue may grow."""
        return self.inbox.has_room()

    def arrived(self, messages: list[Arrived]) -> None:
        """Queue, nothing else."""
        source, now = f"mqtt:{self.name}", time.monotonic()
        self.inbox.put(
            [
                (
                    one.mid,
                    Message(
                        source, one.topic, one.payload, self._adapter(one.topic), now, one.retained, one.redelivered
                    ),
                )
                for one in messages
            ]
        )

    def _adapter(self, topic: str) -> str | None:
        if len(self._patterns) == 1:
            return self.wanted[0].adapter
        return next((adapter for pattern, adapter in self._patterns if pattern.fullmatch(topic)), None)

    # ---------------------------------------------------------------------------------------- on the main thread

    def _commit(self, messages: list[Message]) -> None:
        """Store a batch; what cannot be stored as a whole for a reason of its own in halves, down to one message."""
        for _ in range(5):
            # what was learnt in a transaction that does not commit may never have been
            known, self._known = self._known, Known()
            try:
                with self.database.transaction() as session:
                    batch = readings.receive(session, messages, known=known)
                self._known = known
                self._ask(batch.asks)
                return
            except (psycopg.Error, DBAPIError, PoolTimeout) as error:
                state = _sqlstate(error)
                if state in _TRY_AGAIN:
                    continue
                if _is_away(error):
                    raise _Away(str(error).splitlines()[0]) from error
                log.error("a batch could not be stored at once", error=type(error).__name__, state=state)
            except Exception:
                log.exception("a batch could not be stored at once")
            break
        if len(messages) == 1:
            self._keep_only(messages[0])
            return
        half = len(messages) // 2
        self._commit(messages[:half])
        self._commit(messages[half:])

    def _ask(self, asks: list[tuple[str, bytes]]) -> None:
        """Ask senders to begin anew (a Sparkplug rebirth); who is not reached is asked at the next fault."""
        if not asks:
            return
        try:
            publish.send(self.mqtt_url, [publish.Outgoing(topic, payload, 0) for topic, payload in asks])
            log.info("asked senders to begin anew", topics=[topic for topic, _ in asks][:20])
        except (OSError, ValueError, MQTTException) as error:
            log.warning("senders could not be asked to begin anew", error=type(error).__name__)

    def _keep_only(self, message: Message) -> None:
        """A message that our own code stumbles over is kept as it came and put aside."""
        try:
            with self.database.transaction() as session:
                readings.keep_unread(session, message, "pipeline_error")
        except (psycopg.Error, DBAPIError, PoolTimeout) as error:
            raise _Away(str(error).splitlines()[0]) from error


def _sqlstate(error: BaseException) -> str | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None)


def _is_away(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout)


def _still_there(lock: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """Raises _Away when the connection that holds our name's lock is gone, and with it the lock."""
    try:
        lock.execute("SELECT 1")
    except psycopg.Error as error:
        raise _Away(str(error).strip()) from error


def run(
    settings: Settings,
    name: str = "curbstop",
    topics: list[str] | None = None,
    on_subscribed: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `topics` are `filter` or `filter=adapter`, else those of the settings.

    `on_subscribed` is called (network thread) each time the broker has confirmed the subscriptions.

    Raises ConfigurationError when the database or broker is not named, or a topic cannot work.
    """
    if settings.database_url is None or settings.mqtt_url is None:
        raise ConfigurationError(
            "Ingest needs a database and a broker.", remedy="Set CURBSTOP_DATABASE_URL and CURBSTOP_MQTT_URL."
        )
    wanted = subscriptions(topics or settings.mqtt_topics)
    database = Database(
        settings.database_url.get_secret_value(), pool_size=2, application_name=f"curbstop ingest {name}"
    )
    ingest = Ingest(database, settings.mqtt_url.get_secret_value(), name, wanted, on_subscribed)
    if threading.current_thread() is threading.main_thread():
        # thousands of short-lived objects per batch, none in a cycle: looking for cycles costs more than it finds
        gc.freeze()
        gc.set_threshold(200_000, 20, 100)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ingest.stopping.set())
    try:
        ingest.run()
    finally:
        database.dispose()
