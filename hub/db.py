"""The engine, the base of all tables, and the only commit.

Every door (request, queue row, batch of readings, command) opens one `Database.transaction()`; what it owes the outside
world is a row of that same transaction.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import Engine, MetaData, create_engine, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from uuid_utils.compat import uuid7

# A half-open link to the database must be noticed within a minute, and no statement of a face runs longer than one.
CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
STATEMENT_TIMEOUT_MS = 60_000
_WAKES = "wakes"


class Base(DeclarativeBase):
    """Base of every table; constraint names are derived so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _dumps(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


class Database:
    """A pool of connections to one utility's database."""

    def __init__(self, url: str, *, pool_size: int = 20, application_name: str = "curbstop") -> None:
        self.url = url
        options = (
            f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC -c idle_in_transaction_session_timeout=120s"
        )
        self.engine: Engine = create_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=5,
            pool_pre_ping=True,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
            connect_args={**CONNECT_ARGS, "options": options, "application_name": application_name},
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._waker = _Waker(self.engine)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        session = self._sessions()
        try:
            yield session
            session.commit()
            self._waker.wake(session.info.pop(_WAKES, ()))
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    @contextmanager
    def raw(self) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        """One transaction on a plain psycopg connection from the same pool, for the few hot paths."""
        pooled = self.engine.raw_connection()
        connection: psycopg.Connection[tuple[Any, ...]] = pooled.driver_connection  # type: ignore[assignment]
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            pooled.close()

    def listener(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection of one's own, outside the pool and in autocommit, for LISTEN and for session locks."""
        return psycopg.connect(psycopg_url(self.url), autocommit=True, **CONNECT_ARGS)

    def dispose(self) -> None:
        """Close all connections of the pool."""
        self._waker.close()
        self.engine.dispose()


class _Waker:
    """Sends NOTIFY after commits, many in one.

    A NOTIFY inside a transaction makes its commit wait for every other such commit, disk write included (PostgreSQL
    holds one lock for the whole server meanwhile): accepting webhooks ran three times slower. A NOTIFY alone writes
    nothing and takes no time. One that gets lost with its process costs the listener no more than its polling floor.
    """

    GATHER_SECONDS = 0.01

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._due: set[str] = set()
        self._thread: threading.Thread | None = None
        self._something = threading.Event()
        self._closed = False

    def wake(self, channels: Iterable[str]) -> None:
        """Wake the listeners of `channels` within a moment."""
        with self._lock:
            before = len(self._due)
            self._due.update(channels)
            if len(self._due) == before or self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                self._thread.start()
        self._something.set()

    def close(self) -> None:
        """Send what is due and end."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._something.set()
        if thread is not None:
            thread.join(5)

    def _run(self) -> None:
        while not self._closed:
            self._something.wait()
            self._something.clear()
            if not self._closed:
                time.sleep(self.GATHER_SECONDS)
            with self._lock:
                due, self._due = self._due, set()
            # the polling floor covers a database that is away
            with contextlib.suppress(SQLAlchemyError), self._engine.connect() as connection:
                free = connection.execution_options(isolation_level="AUTOCOMMIT")
                for channel in sorted(due):
                    free.execute(select(func.pg_notify(channel, "")))


def wake(session: Session, channel: str) -> None:
    """Wake the listeners of `channel` once the transaction of `session` has committed, and not if it does not."""
    session.info.setdefault(_WAKES, set()).add(channel)


def sqlalchemy_url(url: str) -> str:
    """`url` with psycopg 3 as the driver, whatever spelling of PostgreSQL it came with."""
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def psycopg_url(url: str) -> str:
    """`url` as libpq understands it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def shown(url: str) -> str:
    """`url` for a log or a screen: without its password."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def raw_of(session: Session) -> "psycopg.Connection[tuple[Any, ...]]":
    """The psycopg connection behind `session`, inside the session's own transaction."""
    connection: psycopg.Connection[tuple[Any, ...]] = session.connection().connection.driver_connection  # type: ignore[assignment]
    return connection


def new_id() -> UUID:
    """A fresh UUIDv7: unique without asking, and sorted by the time it was made."""
    return uuid7()
