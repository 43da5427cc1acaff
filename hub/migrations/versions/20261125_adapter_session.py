"""what stateful senders (Sparkplug B edge nodes) said at their births"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_adapter_session"
down_revision = "20261125_water_loss"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "adapter_session",
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("known", postgresql.JSONB(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("session", "since", name=op.f("pk_adapter_session")),
    )


def downgrade() -> None:
    op.drop_table("adapter_session")
