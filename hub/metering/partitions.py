"""Month partitions of `reading` and `raw_message`, made when a row needs one. Writes in the caller's transaction.

A partition is made beside its table and then attached: creating it in place would lock out every reader until commit.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql
from sqlalchemy.orm import Session

from hub import clock
from hub.db import Database, raw_of

Partitioned = Literal["reading", "raw_message"]
_COLUMN: dict[str, str] = {"reading": "measured_at", "raw_message": "received_at"}
# An advisory lock of this number keeps two writers from making the same month at once.
_LOCK = 0x63757262
# The first server that lets a column say how it is compressed.
_COMPRESSES = 140000


def month_of(at: datetime) -> date:
    """The first day of the UTC month that holds `at`."""
    day = at.astimezone(UTC).date()
    return day.replace(day=1)


def months_of(times: Sequence[datetime]) -> set[date]:
    """The first days of the UTC months that hold `times`."""
    if not times:
        return set()
    first, last = month_of(min(times)), month_of(max(times))
    # a batch of thousands lies in one month, mostly
    return {first} if first == last else {month_of(at) for at in times}


def next_month(month: date) -> date:
    """The first day of the month after `month`."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def month_before(month: date) -> date:
    """The first day of the month before `month`."""
    return (month.replace(day=1) - timedelta(days=1)).replace(day=1)


def existing(database: Database, table: Partitioned) -> list[tuple[str, date]]:
    """The partitions of `table` with their months, oldest first."""
    with database.raw() as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = to_regclass(%s) ORDER BY c.relname",
            [table],
        ).fetchall()
    months = []
    for (name,) in rows:
        year, month = name.removeprefix(f"{table}_").split("_")
        months.append((name, date(int(year), int(month), 1)))
    return months


def ensure(connection: "psycopg.Connection[tuple[Any, ...]]", table: Partitioned, months: Iterable[date]) -> None:
    """Make the partitions of `table` for `months` (first days) that do not exist yet."""
    names = {f"{table}_{month:%Y_%m}": month for month in months}
    if not names:
        return
    found = connection.execute(
        "SELECT n FROM unnest(%s::text[]) n WHERE to_regclass(n) IS NULL", [list(names)]
    ).fetchall()
    if not found:
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    like = sql.SQL("INCLUDING COMPRESSION" if connection.info.server_version >= _COMPRESSES else "")
    # to_regclass would still say what it said above, from its cache, though another writer made the table meanwhile
    for (name,) in connection.execute(
        "SELECT n FROM unnest(%s::text[]) n WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.relname = n"
        " AND c.relnamespace = current_schema()::regnamespace) ORDER BY n",
        [list(names)],
    ).fetchall():
        first = names[name]
        parent, child = sql.Identifier(table), sql.Identifier(name)
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS {})").format(child, parent, like))
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                parent, child, sql.Literal(f"{first}T00:00:00+00"), sql.Literal(f"{next_month(first)}T00:00:00+00")
            )
        )


def ensure_ahead(session: Session, *, months: int = 2) -> None:
    """Make this month's partitions and those of the next `months`, so that no live batch has to."""
    month = month_of(clock.now(session))
    wanted = [month]
    for _ in range(months):
        wanted.append(next_month(wanted[-1]))
    ensure(raw_of(session), "raw_message", wanted)
    ensure(raw_of(session), "reading", wanted)
