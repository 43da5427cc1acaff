"""How Alembic reaches the database. A migration gives up on a lock after five seconds and is tried again later."""

from alembic import context
from geoalchemy2 import alembic_helpers
from sqlalchemy import create_engine, text

import hub.models  # noqa: F401  (fills the metadata)
from hub.db import Base

engine = create_engine(context.config.attributes["url"])
with engine.connect() as connection:
    # one migration at a time, whoever starts it
    connection.execute(text("SELECT pg_advisory_lock(7266118)"))
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        include_object=alembic_helpers.include_object,
        process_revision_directives=alembic_helpers.writer,
        render_item=alembic_helpers.render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
