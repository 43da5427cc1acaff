"""The schema's history: linear, dated Alembic migrations, each in a transaction of its own."""

import hashlib
import time
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from hub.db import sqlalchemy_url

LOCK_ATTEMPTS = 10


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = sqlalchemy_url(url)
    return config


def upgrade(url: str) -> None:
    """Bring the schema at `url` up to date; waits politely for locks and tries again, so a busy hub is not blocked."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            command.upgrade(_config(url), "head")
            return
        except OperationalError as error:
            if "lock timeout" not in str(error) or attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(1 + attempt)


def revision_in(session: Session) -> str | None:
    """The revision of the schema that `session` works on; None before the first migration."""
    return MigrationContext.configure(session.connection()).get_current_revision()


@cache
def head() -> str | None:
    """The newest revision the code knows."""
    return ScriptDirectory(str(Path(__file__).parent)).get_current_head()


def fingerprint() -> str:
    """A name for the present state of all migrations, for databases kept as templates."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "versions").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
