"""what devices show of themselves, alarms, gaps, reading exceptions and revisions, and findings that open work"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_watch"
down_revision = "20261123_initial"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_seen", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raw_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("state IN ('active', 'cleared', 'latched', 'historic')", name=op.f("ck_alarm_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index(
        "ix_alarm_active", "alarm", ["type", "since"], unique=False, postgresql_where=sa.text("state = 'active'")
    )
    op.create_index("ix_alarm_device", "alarm", ["device", "last_seen"], unique=False)
    op.create_index("ix_alarm_meter", "alarm", ["meter", "last_seen"], unique=False)
    op.create_index(
        "uq_alarm_ongoing",
        "alarm",
        [
            sa.literal_column("coalesce(device, '')"),
            sa.literal_column("coalesce(meter, '')"),
            "type",
            sa.literal_column("(state = 'historic')"),
        ],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "arrival",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrival")),
    )
    op.create_table(
        "device_state",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("publisher", sa.Text(), nullable=True),
        sa.Column("heard_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("read_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("seq_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("time_source", sa.Text(), nullable=True),
        sa.Column("offsets_s", postgresql.ARRAY(postgresql.DOUBLE_PRECISION()), server_default="{}", nullable=False),
        sa.Column("status_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("event_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_device_state")),
    )
    op.create_index("ix_device_state_publisher", "device_state", ["publisher", "heard_at"], unique=False)
    op.create_table(
        "gateway_state",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("seq_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("gateway", name=op.f("pk_gateway_state")),
    )
    op.create_table(
        "meter_review",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "queued_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("meter_id", name=op.f("pk_meter_review")),
    )
    op.create_index("ix_meter_review_queued", "meter_review", ["queued_at"], unique=False)
    op.create_table(
        "reading_exception",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("meter_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("measured_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("detail", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("found_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolution", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading_exception")),
    )
    op.create_index(
        "ix_reading_exception_open",
        "reading_exception",
        ["rule", "found_at"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index("uq_reading_exception", "reading_exception", ["meter_id", "rule", "measured_at"], unique=True)
    op.create_table(
        "reading_revision",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("measured_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("value_m3", sa.Numeric(), nullable=True),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("flags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("raw_id", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("replaced_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "measured_at", "revision", name=op.f("pk_reading_revision")),
    )
    op.create_table(
        "rebooking",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("begins", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ends", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("after_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "queued_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rebooking")),
    )
    op.create_table(
        "sequence_gap",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("first_missing", sa.BigInteger(), nullable=False),
        sa.Column("last_missing", sa.BigInteger(), nullable=False),
        sa.Column("after_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("before_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("found_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ask_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("asks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('device', 'gateway')", name=op.f("ck_sequence_gap_kind")),
        sa.CheckConstraint("last_missing >= first_missing", name=op.f("ck_sequence_gap_order")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_gap")),
    )
    op.create_index(
        "ix_sequence_gap_open",
        "sequence_gap",
        ["kind", "subject", "first_missing"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index(
        "ix_sequence_gap_ask",
        "sequence_gap",
        ["ask_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL AND ask_at IS NOT NULL"),
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("service_point", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("evidence", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("noticed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("notified_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "state IN ('noticed', 'notified', 'waiting', 'incident', 'opened', 'joined', 'settled')",
            name=op.f("ck_finding_state"),
        ),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_finding_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    op.create_index(
        "ix_finding_order", "finding", ["order_id"], unique=False, postgresql_where=sa.text("order_id IS NOT NULL")
    )
    op.create_index(
        "uq_finding_ongoing",
        "finding",
        ["rule", "subject"],
        unique=True,
        postgresql_where=sa.text("state <> 'settled'"),
    )


def downgrade() -> None:
    op.drop_table("finding")
    op.drop_table("sequence_gap")
    op.drop_table("rebooking")
    op.drop_table("reading_revision")
    op.drop_table("reading_exception")
    op.drop_table("meter_review")
    op.drop_table("gateway_state")
    op.drop_table("device_state")
    op.drop_table("arrival")
    op.drop_table("alarm")
