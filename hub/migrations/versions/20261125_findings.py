"""findings that a person dismissed"""

from alembic import op

revision = "20261125_findings"
down_revision = "20261125_registry_change"
branch_labels = None
depends_on = None

BEFORE = "'noticed', 'notified', 'waiting', 'incident', 'opened', 'joined', 'settled'"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_finding_state"), "finding")
    op.create_check_constraint(op.f("ck_finding_state"), "finding", f"state IN ({BEFORE}, 'dismissed')")


def downgrade() -> None:
    op.execute("UPDATE finding SET state = 'settled' WHERE state = 'dismissed'")
    op.drop_constraint(op.f("ck_finding_state"), "finding")
    op.create_check_constraint(op.f("ck_finding_state"), "finding", f"state IN ({BEFORE})")
