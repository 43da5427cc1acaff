"""The event stream `/api/v1/events`: what changed, told to every open page as it is committed. Writes nothing.

One follower per process reads the change log, woken by NOTIFY and by a polling floor; streams share what it read and
hold no session of their own. A position is (epoch, transaction, cursor): only rows whose transaction is older than
every running one are told, in that order, so a late commit is never skipped.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import orjson
import psycopg
import structlog
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.auth import Principal
from hub.changes import CHANNEL
from hub.db import Database
from hub.web import allow, rfc3339

log = structlog.get_logger()
router = APIRouter(prefix="/api/v1")

POLL_SECONDS = 2.0
# A burst of commits becomes one reading of the log.
GATHER_SECONDS = 0.1
BEAT_SECONDS = 5.0
# How often an idle stream looks whether the server is stopping or its reader has gone.
LOOK_SECONDS = 0.5
KEPT = 5_000
# Farther behind than this, looking at the lists again is cheaper than hearing every change.
FARTHEST_BEHIND = 5_000
LAST_CURSOR = 2**63 - 1

_CHANGES = """
SELECT xid::text::bigint, cursor, subject_type, subject_id, rev FROM change
WHERE xid >= %(xid)s::text::xid8 AND (xid, cursor) > (%(xid)s::text::xid8, %(cursor)s)
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, cursor LIMIT %(limit)s
"""
_HEAD = """
SELECT (SELECT left(id::text, 8) FROM hub_epoch), pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  business_now(), coalesce((SELECT rate FROM clock), 1)
"""


@dataclass(frozen=True, order=True)
class Position:
    """How far a stream has read: every change up to this transaction and cursor."""

    xid: int
    cursor: int


@dataclass(frozen=True)
class Event:
    """One change as the stream tells it."""

    position: Position
    data: bytes


class Follower:
    """Reads the change log for all streams of one process and keeps the newest events in memory."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.epoch = ""
        self.head = Position(0, 0)
        self.floor = Position(0, 0)
        self.events: deque[Event] = deque(maxlen=KEPT)
        self.beat = b"{}"
        self.answered = False
        self.streams = 0
        self._changed = asyncio.Condition()
        self._woken = asyncio.Event()
        self._started = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the head of the log and begin to follow it; a second call does nothing."""
        async with self._started:
            if self._task is None or self._task.done():
                await run_in_threadpool(self._find_head)
                self._task = asyncio.create_task(self._follow())

    async def changed(self, seconds: float) -> None:
        """Wait until something was read, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()

    async def after(self, position: Position) -> list[Event] | None:
        """Events after `position`, oldest first; None when they are too many to tell one by one."""
        if position >= self.head:
            return []
        if position >= self.floor:
            return [event for event in self.events if event.position > position]
        missed = await run_in_threadpool(self._read, position, FARTHEST_BEHIND + 1)
        return None if len(missed) > FARTHEST_BEHIND else missed

    def _find_head(self) -> None:
        with self.database.raw() as connection:
            self._hear(connection)
            # everything older than the oldest running transaction is told already
            self.head = self.floor = Position(self._oldest_running - 1, LAST_CURSOR)
            self.events.clear()

    def _hear(self, connection: "psycopg.Connection[Any]") -> None:
        epoch, self._oldest_running, now, rate = connection.execute(_HEAD).fetchone()  # type: ignore[misc]
        self.epoch = epoch or "0"
        self.beat = orjson.dumps({"now": rfc3339(now), "rate": float(rate)})
        self.answered = True

    def _read(self, position: Position, limit: int = 1_000) -> list[Event]:
        with self.database.raw() as connection:
            self._hear(connection)
            rows = connection.execute(
                _CHANGES, {"xid": position.xid, "cursor": position.cursor, "limit": limit}
            ).fetchall()
        return [
            Event(Position(xid, cursor), orjson.dumps({"type": kind, "id": subject, "rev": rev}))
            for xid, cursor, kind, subject, rev in rows
        ]

    async def _follow(self) -> None:
        listening = threading.Event()
        listening.set()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._listen, args=(loop, listening), name="change-listener", daemon=True)
        thread.start()
        try:
            while self.streams:
                try:
                    await self._take_in()
                except (psycopg.Error, SQLAlchemyError, OSError) as error:
                    self.answered = False
                    log.warning("change log cannot be read", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._woken.wait()
                self._woken.clear()
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            listening.clear()

    async def _take_in(self) -> None:
        while True:
            found = await run_in_threadpool(self._read, self.head)
            if not found:
                return
            if len(self.events) + len(found) > KEPT:
                drop = len(self.events) + len(found) - KEPT
                self.floor = [*self.events, *found][drop - 1].position
            self.events.extend(found)
            self.head = found[-1].position
            async with self._changed:
                self._changed.notify_all()

    def _listen(self, loop: asyncio.AbstractEventLoop, listening: threading.Event) -> None:
        """Wake the follower when a transaction that wrote a change commits. The polling floor covers a lost link."""
        while listening.is_set():
            try:
                with self.database.listener() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while listening.is_set():
                        for _ in connection.notifies(timeout=1.0, stop_after=1):
                            loop.call_soon_threadsafe(self._woken.set)
            except (psycopg.Error, OSError, RuntimeError):
                if not listening.wait(0) or loop.is_closed():
                    return
                threading.Event().wait(POLL_SECONDS)


_followers: "WeakKeyDictionary[FastAPI, Follower]" = WeakKeyDictionary()


def _follower_of(app: FastAPI) -> Follower:
    found = _followers.get(app)
    if found is None:
        found = _followers[app] = Follower(app.state.database)
    return found


def position_now(session: Session) -> str:
    """The position of everything that is final at this moment: a page made now misses nothing that comes after it."""
    epoch, oldest_running, _, _ = session.execute(text(_HEAD)).one()
    return f"{epoch or '0'}-{oldest_running - 1}-{LAST_CURSOR}"


def _resume(header: str | None, follower: Follower) -> Position | None:
    """The position that a `Last-Event-ID` names; None when it is not of this database, or not ours at all."""
    parts = (header or "").split("-")
    if len(parts) != 3 or parts[0] != follower.epoch or not all(p.isascii() and p.isdigit() for p in parts[1:]):
        return None
    position = Position(int(parts[1]), int(parts[2]))
    return position if position.xid < 2**63 and position.cursor <= LAST_CURSOR else None


def _message(follower: Follower, position: Position, data: bytes, event: str | None = None) -> bytes:
    name = f"event: {event}\n".encode() if event else b""
    return b"id: %s-%d-%d\n%sdata: %s\n\n" % (follower.epoch.encode(), position.xid, position.cursor, name, data)


async def _stream(request: Request, follower: Follower, last_event_id: str | None) -> AsyncIterator[bytes]:
    stopping = request.app.state.stopping
    loop = asyncio.get_running_loop()
    follower.streams += 1
    try:
        await follower.start()
        epoch = follower.epoch
        position = follower.head
        yield b"retry: 2000\n\n"
        if last_event_id is not None:
            resumed = _resume(last_event_id, follower)
            if resumed is None:
                yield _message(follower, position, b"{}", "reset")
            else:
                position = min(resumed, position)
        yield b"event: beat\ndata: %s\n\n" % follower.beat
        beat_at = loop.time() + BEAT_SECONDS
        while not stopping.is_set():
            events = await follower.after(position) if follower.epoch == epoch else None
            if events is None:
                # restored from a backup, or hopelessly behind: nothing the page shows can be trusted
                epoch, position = follower.epoch, follower.head
                yield _message(follower, position, b"{}", "reset")
                continue
            for event in events:
                position = event.position
                yield _message(follower, position, event.data)
            if loop.time() >= beat_at:
                if follower.answered:
                    yield b"event: beat\ndata: %s\n\n" % follower.beat
                else:
                    yield b": the database does not answer\n\n"
                beat_at = loop.time() + BEAT_SECONDS
            if not events:
                await follower.changed(LOOK_SECONDS)
    finally:
        follower.streams -= 1


@router.get(
    "/events",
    operation_id="stream_events",
    summary="Server-sent events: what changed",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    request: Request,
    after: Annotated[str | None, Query(max_length=80, description="a position; `Last-Event-ID` goes before it")] = None,
    who: Principal = allow("admin", "supervisor", "dispatcher", "billing", "analyst"),
) -> StreamingResponse:
    """Each change as `{type, id, rev}`; resume with `Last-Event-ID`. `reset` asks to look at everything again.

    `beat` comes every five seconds while the database answers, with the business clock.
    """
    return StreamingResponse(
        _stream(request, _follower_of(request.app), request.headers.get("last-event-id", after)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
