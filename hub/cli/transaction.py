"""One transaction for a command, on whatever database it is given; every connection is closed afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from hub.db import Database
from hub.private import database_for
from hub.settings import Settings


@contextmanager
def command_transaction(settings: Settings) -> Iterator[Session]:
    """A session on the configured database, the running hub's or one started for the command; committed at the end."""
    with database_for(settings) as url:
        database = Database(url, pool_size=1)
        try:
            with database.transaction() as session:
                yield session
        finally:
            database.dispose()
