"""Ingest sees at once that the registry has changed; raw messages are compressed by lz4 where the server has it."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_registry_change"
down_revision = "20261125_adapter_session"
branch_labels = None
depends_on = None

NOTE = """
CREATE FUNCTION note_registry_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO registry_change DEFAULT VALUES;
    RETURN NULL;
END $$
"""
# pglz takes most of the time of storing a radio's uplink of two kilobytes
LZ4 = """
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        ALTER TABLE raw_message ALTER COLUMN payload SET COMPRESSION lz4;
    END IF;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server has no lz4; raw messages stay compressed by pglz';
END $$
"""


def upgrade() -> None:
    op.create_table(
        "registry_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_change")),
    )
    op.execute(NOTE)
    for table in ("device", "meter"):
        op.execute(
            f"CREATE TRIGGER note_registry_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION note_registry_change()"
        )
    op.execute("INSERT INTO registry_change DEFAULT VALUES")
    op.execute(LZ4)


def downgrade() -> None:
    for table in ("device", "meter"):
        op.execute(f"DROP TRIGGER note_registry_change ON {table}")
    op.execute("DROP FUNCTION note_registry_change()")
    op.drop_table("registry_change")
