"""Volumes of registers that were worked out once, kept until a reading changes them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_kept_volumes"
down_revision = "20261125_retention"
branch_labels = None
depends_on = None

NOTE = """
CREATE FUNCTION note_volume_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reading_change (meters, first_at, last_at)
    SELECT array_agg(DISTINCT meter_id), min(measured_at), max(measured_at) FROM changed HAVING count(*) > 0;
    RETURN NULL;
END $$
"""
TRIGGERS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))


def upgrade() -> None:
    op.create_table(
        "kept_volume",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lower", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("upper", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("starts", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ends", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("modulus_m3", sa.Numeric(), nullable=True),
        sa.Column("volume_m3", sa.Double(), nullable=False),
        sa.Column("straddling_m3", sa.Double(), nullable=False),
        sa.Column("covered_s", sa.Double(), nullable=False),
        sa.Column("breaks", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("newest_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("recent_m3_per_s", sa.Double(), nullable=True),
        sa.Column("used_from", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("used_to", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("kept_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "lower", "upper", "starts", name=op.f("pk_kept_volume")),
    )
    op.create_table(
        "reading_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("xid", sa.Text(), server_default=sa.text("pg_current_xact_id()::text"), nullable=False),
        sa.Column("meters", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("first_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading_change")),
    )
    op.execute(NOTE)
    for event, rows in TRIGGERS:
        op.execute(
            f"CREATE TRIGGER note_volume_{event.lower()} AFTER {event} ON reading REFERENCING {rows} TABLE AS changed"
            " FOR EACH STATEMENT EXECUTE FUNCTION note_volume_change()"
        )


def downgrade() -> None:
    for event, _ in TRIGGERS:
        op.execute(f"DROP TRIGGER note_volume_{event.lower()} ON reading")
    op.execute("DROP FUNCTION note_volume_change()")
    op.drop_table("reading_change")
    op.drop_table("kept_volume")
