"""Servers of the hub's own for a machine that has none: a PostGIS cluster and an MQTT broker in the data folder.

`database_for` gives every command a database: the configured one, the running hub's, or one started for the command
alone. It brings a private database's schema up to date, and never touches the schema of a configured one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from hub import migrations
from hub.db import psycopg_url
from hub.private import cluster
from hub.private.cluster import PrivateCluster
from hub.private.folder import CannotStart, FolderLock, lives
from hub.settings import Settings

START_PATIENCE_S = 120.0


class SchemaMissing(CannotStart):
    """A configured database that answers and was never migrated."""


@contextmanager
def database_for(settings: Settings, *, migrate: bool = True) -> Iterator[str]:
    """The address of a database with a schema, for the length of one command.

    Raises CannotStart, saying what to do, when there is none to be had.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        if migrate:
            require_schema(url)
        yield url
        return
    lock = FolderLock(settings.data_dir)
    deadline = time.monotonic() + START_PATIENCE_S
    while not lock.try_acquire("a command"):
        found = shared_database(settings)
        if found is not None:
            if migrate:
                migrations.upgrade(found)
            yield found
            return
        if time.monotonic() > deadline:
            raise CannotStart(
                f"The hub that uses {settings.data_dir} (process {lock.holder().get('pid', 'unknown')}) does not "
                "get its database started: look at what it says, stop it and start it again."
            )
        time.sleep(0.1)
    try:
        with PrivateCluster(settings.data_dir) as private:
            if migrate:
                migrations.upgrade(private.url)
            yield private.url
    finally:
        lock.release()


def shared_database(settings: Settings) -> str | None:
    """The private database of a hub that runs on this data folder, or None."""
    holder = FolderLock(settings.data_dir).holder()
    if not holder.get("shared") or not lives(int(holder.get("pid", 0))):
        return None
    return cluster.running(settings.data_dir)


def shared_broker(settings: Settings) -> str | None:
    """The address of the broker that a hub on this data folder runs, or None."""
    holder = FolderLock(settings.data_dir).holder()
    if not holder.get("shared") or not lives(int(holder.get("pid", 0))):
        return None
    address = holder.get("mqtt_url")
    return str(address) if address else None


def require_schema(url: str) -> None:
    """Raise CannotStart when the database at `url` cannot be reached or was never migrated."""
    try:
        with psycopg.connect(psycopg_url(url), connect_timeout=10) as connection:
            found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CannotStart(
            f"The database in CURBSTOP_DATABASE_URL does not answer ({reason}): start it, or correct the address."
        ) from error
    if found is None or found[0] is None:
        raise SchemaMissing(
            "The database in CURBSTOP_DATABASE_URL has no tables of the hub yet: run `curbstop migrate`."
        )
