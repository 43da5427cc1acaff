"""what batches leave behind is compressed by lz4 where the server has it"""

from alembic import op

revision = "20261125_arrivals"
down_revision = "20261125_rollups"
branch_labels = None
depends_on = None

LZ4 = """
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        ALTER TABLE arrival ALTER COLUMN body SET COMPRESSION lz4;
    END IF;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server has no lz4; arrivals stay compressed by pglz';
END $$
"""


def upgrade() -> None:
    op.execute(LZ4)


def downgrade() -> None:
    op.execute("ALTER TABLE arrival ALTER COLUMN body SET COMPRESSION default")
