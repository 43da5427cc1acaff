"""Leaks seen in zones' inflow, the watch over each zone, and the ledger of what repairs saved."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_leaks"
down_revision = "20261125_findings"
branch_labels = None
depends_on = None

_TIME = sa.TIMESTAMP(timezone=True)
_WRITTEN = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "leak_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("onset_at", _TIME, nullable=False),
        sa.Column("detected_at", _TIME, nullable=False),
        sa.Column("grown_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME, nullable=True),
        sa.Column("size_m3h", sa.Numeric(), nullable=False),
        sa.Column("low_m3h", sa.Numeric(), nullable=False),
        sa.Column("high_m3h", sa.Numeric(), nullable=False),
        sa.Column("baseline_m3h", sa.Numeric(), nullable=True),
        sa.Column("facts", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("dismissed", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("written_at", _TIME, server_default=_WRITTEN, nullable=False),
        sa.CheckConstraint("kind IN ('burst', 'incipient', 'over_threshold')", name=op.f("ck_leak_event_kind")),
        sa.CheckConstraint("status IN ('open', 'closed', 'dismissed')", name=op.f("ck_leak_event_status")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_leak_event_order_id")),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_leak_event_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leak_event")),
    )
    op.create_index("ix_leak_event_zone", "leak_event", ["zone", "onset_at"])
    op.create_index("ix_leak_event_open", "leak_event", ["zone"], postgresql_where=sa.text("status = 'open'"))
    op.create_index("ix_leak_event_order", "leak_event", ["order_id"], postgresql_where=sa.text("order_id IS NOT NULL"))
    op.create_table(
        "leak_watch",
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("seen_until", _TIME, nullable=False),
        sa.Column("known_share", sa.Float(), nullable=False),
        sa.Column("written_at", _TIME, server_default=_WRITTEN, nullable=False),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_leak_watch_zone"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("zone", name=op.f("pk_leak_watch")),
    )
    op.create_table(
        "loss_entry",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("onset_at", _TIME, nullable=True),
        sa.Column("stopped_at", _TIME, nullable=False),
        *(sa.Column(name, sa.Numeric(), nullable=False)
          for name in ("before_m3h", "after_m3h", "drop_m3h", "low_m3h", "high_m3h")),
        *(sa.Column(name, sa.Numeric(), nullable=True) for name in ("predicted_m3h", "found_m3h", "lost_m3")),
        sa.Column("saved_m3_per_day", sa.Numeric(), nullable=False),
        sa.Column("saved_per_day", sa.Numeric(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("nights", postgresql.JSONB(), nullable=False),
        sa.Column("written_at", _TIME, server_default=_WRITTEN, nullable=False),
        sa.CheckConstraint("verdict IN ('verified', 'uncertain', 'not_seen')", name=op.f("ck_loss_entry_verdict")),
        sa.ForeignKeyConstraint(["event_id"], ["leak_event.id"], name=op.f("fk_loss_entry_event_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_loss_entry_order_id")),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_loss_entry_zone")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_loss_entry")),
    )  # fmt: skip
    op.create_index("ix_loss_entry_event_id", "loss_entry", ["event_id"])
    op.create_index("ix_loss_entry_zone", "loss_entry", ["zone", "stopped_at"])
