"""Balances read the ends of their window: no volumes are kept any more, suspect readings are found by an index, and
registers of reverse flow are rolled up too, so that their falls are known."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_quick_balances"
down_revision = "20261125_daily_run"
branch_labels = None
depends_on = None

REVERSE = """
INSERT INTO consumption_due (meter_ids, lowers, uppers)
SELECT array_agg(id), array_agg('-infinity'::timestamptz), array_agg('infinity'::timestamptz) FROM meter
WHERE register = 'volume_reverse' GROUP BY id / 200
"""


def upgrade() -> None:
    for event in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER note_volume_{event} ON reading")
    op.execute("DROP FUNCTION note_volume_change()")
    op.drop_table("reading_change")
    op.drop_table("kept_volume")
    op.create_index(
        "ix_reading_suspect",
        "reading",
        ["meter_id", "measured_at"],
        postgresql_where=sa.text("quality = 'suspect'"),
    )
    op.execute(REVERSE)


def downgrade() -> None:
    op.drop_index("ix_reading_suspect", "reading")
    former = op.get_context().script.get_revision("20261125_kept_volumes").module
    former.upgrade()
