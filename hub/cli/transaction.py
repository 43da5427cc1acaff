"""The database for a command, or one transaction on it; every connection is closed afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from hub.db import Database
from hub.private import database_for
from hub.settings import Settings


@contextmanager
def command_database(settings: Settings) -> Iterator[Database]:
    """The configured database, the running hub's or one started for the command."""
    with database_for(settings) as url:
        database = Database(url, pool_size=1)
        try:
            yield database
        finally:
            database.dispose()


@contextmanager
def command_transaction(settings: Settings) -> Iterator[Session]:
    """A session on the configured database, committed at the end."""
    with command_database(settings) as database, database.transaction() as session:
        yield session
