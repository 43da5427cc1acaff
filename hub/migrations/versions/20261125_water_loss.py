"""Boundaries with their time of validity, meter tests, and unbilled use that no meter saw."""

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry

revision = "20261125_water_loss"
down_revision = "20261125_watch"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("zone", sa.Column("private_pipe_m", sa.Numeric(), nullable=True))
    op.add_column("zone", sa.Column("valid_from", sa.Date(), nullable=True))
    op.add_column("zone", sa.Column("valid_to", sa.Date(), nullable=True))
    op.create_table(
        "former_boundary",
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("valid_to", sa.Date(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("geometry", Geometry("MULTIPOLYGON", srid=4326, spatial_index=False), nullable=False),
        sa.CheckConstraint("valid_from IS NULL OR valid_to > valid_from", name=op.f("ck_former_boundary_order")),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_former_boundary_zone"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("zone", "valid_to", name=op.f("pk_former_boundary")),
    )
    op.create_table(
        "zone_membership",
        sa.Column("service_point", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_to", sa.Date(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_point"], ["service_point.id"], name=op.f("fk_zone_membership_service_point"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_zone_membership_zone"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("service_point", "valid_from", name=op.f("pk_zone_membership")),
    )
    op.create_index("ix_zone_membership_zone", "zone_membership", ["zone"], unique=False)
    op.create_table(
        "meter_test",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("tested_on", sa.Date(), nullable=False),
        sa.Column("accuracy_pct", sa.Numeric(), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"),
                  nullable=False),
        sa.PrimaryKeyConstraint("serial", "tested_on", name=op.f("pk_meter_test")),
    )  # fmt: skip
    op.create_table(
        "unbilled_use",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("volume_m3", sa.Numeric(), nullable=False),
        sa.Column("geometry", Geometry("POINT", srid=4326, spatial_index=False), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"),
                  nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unbilled_use")),
    )  # fmt: skip
    op.create_index("ix_unbilled_use_at", "unbilled_use", ["at"], unique=False)


def downgrade() -> None:
    op.drop_table("unbilled_use")
    op.drop_table("meter_test")
    op.drop_table("zone_membership")
    op.drop_table("former_boundary")
    for column in ("valid_to", "valid_from", "private_pipe_m"):
        op.drop_column("zone", column)
