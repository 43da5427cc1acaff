"""On which local day a job that is done once a day was done last."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_daily_run"
down_revision = "20261125_zone_versions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daily_run",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_daily_run")),
    )


def downgrade() -> None:
    op.drop_table("daily_run")
