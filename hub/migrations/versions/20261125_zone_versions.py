"""Former boundaries keep what else held of their zone: the zone it was part of, its pressure, its private pipes."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_zone_versions"
down_revision = "20261125_import_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("former_boundary", sa.Column("parent", sa.Text(), nullable=True))
    op.add_column("former_boundary", sa.Column("pressure_m", sa.Numeric(), nullable=True))
    op.add_column("former_boundary", sa.Column("private_pipe_m", sa.Numeric(), nullable=True))
    op.create_foreign_key(
        op.f("fk_former_boundary_parent"), "former_boundary", "zone", ["parent"], ["code"], ondelete="SET NULL"
    )
    op.execute(
        "UPDATE former_boundary f SET parent = z.parent, pressure_m = z.pressure_m, private_pipe_m = z.private_pipe_m"
        " FROM zone z WHERE z.code = f.zone"
    )


def downgrade() -> None:
    for column in ("private_pipe_m", "pressure_m", "parent"):
        op.drop_column("former_boundary", column)
