"""shutoffs that ended while billing already wished for another one"""

import sqlalchemy as sa
from alembic import op

revision = "20261125_waiting_wish"
down_revision = "20261125_quick_balances"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_work_order_waiting_wish",
        "work_order",
        ["account"],
        postgresql_where=sa.text("details ->> 'waiting_wish' IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_work_order_waiting_wish", table_name="work_order")
