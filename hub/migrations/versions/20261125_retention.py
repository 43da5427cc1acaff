"""Which months of readings and raw messages left the database, and where they are."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_retention"
down_revision = "20261125_arrivals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "archived_month",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("leaving", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("row_count", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column(
            "detached_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("dropped_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("table_name", "leaving", name=op.f("pk_archived_month")),
    )


def downgrade() -> None:
    op.drop_table("archived_month")
