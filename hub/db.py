"""The engine, the base of all tables, and the only commit.

Every door (request, queue row, batch of readings, command) opens one `Database.transaction()`; what it owes the outside
world is a row of that same transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import Engine, MetaData, create_engine, make_url
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

    def __init__(self, url: str, *, pool_size: int = 10, application_name: str = "curbstop") -> None:
        self.url = url
        options = (
            f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC -c idle_in_transaction_session_timeout=120s"
        )
        self.engine: Engine = create_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
            connect_args={**CONNECT_ARGS, "options": options, "application_name": application_name},
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        session = self._sessions()
        try:
            yield session
            session.commit()
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
        self.engine.dispose()


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
