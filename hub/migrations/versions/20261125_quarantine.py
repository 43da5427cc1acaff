"""who dismissed a quarantine entry and why; its lists by device and by message"""

import sqlalchemy as sa
from alembic import op

revision = "20261125_quarantine"
down_revision = "20261125_kept_volumes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quarantine", sa.Column("resolved_by", sa.Text(), nullable=True))
    op.add_column("quarantine", sa.Column("note", sa.Text(), nullable=True))
    op.drop_index("ix_quarantine_device", table_name="quarantine")
    op.create_index("ix_quarantine_device", "quarantine", [sa.text("lower(device)"), "id"])
    op.create_index(
        "ix_quarantine_dismissed", "quarantine", ["reason", "id"], postgresql_where=sa.text("resolution = 'dismissed'")
    )
    op.create_index("ix_quarantine_raw", "quarantine", ["raw_id"], postgresql_where=sa.text("raw_id IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_quarantine_raw", table_name="quarantine")
    op.drop_index("ix_quarantine_dismissed", table_name="quarantine")
    op.drop_index("ix_quarantine_device", table_name="quarantine")
    op.create_index("ix_quarantine_device", "quarantine", ["device", "received_at"])
    op.execute("UPDATE quarantine SET resolved_at = NULL, resolution = NULL WHERE resolution = 'dismissed'")
    op.drop_column("quarantine", "note")
    op.drop_column("quarantine", "resolved_by")
