"""Consumption rolled up by day and hour, and a list of what readings have changed since."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_rollups"
down_revision = "20261125_leaks"
branch_labels = None
depends_on = None

# One row per statement that changed believed readings: per register the first and the last instant.
NOTE_READINGS = """
CREATE FUNCTION note_reading_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO consumption_due (meter_ids, lowers, uppers)
        SELECT array_agg(meter_id), array_agg(lower), array_agg(upper) FROM (
            SELECT meter_id, min(measured_at) AS lower, max(measured_at) AS upper FROM new_rows
            WHERE value_m3 IS NOT NULL AND quality IN ('good', 'estimated') GROUP BY meter_id) x
        HAVING count(*) > 0;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO consumption_due (meter_ids, lowers, uppers)
        SELECT array_agg(meter_id), array_agg(lower), array_agg(upper) FROM (
            SELECT meter_id, min(measured_at) AS lower, max(measured_at) AS upper FROM old_rows
            WHERE value_m3 IS NOT NULL AND quality IN ('good', 'estimated') GROUP BY meter_id) x
        HAVING count(*) > 0;
    ELSE
        INSERT INTO consumption_due (meter_ids, lowers, uppers)
        SELECT array_agg(meter_id), array_agg(lower), array_agg(upper) FROM (
            SELECT meter_id, min(measured_at) AS lower, max(measured_at) AS upper
            FROM old_rows o FULL JOIN new_rows n USING (meter_id, measured_at)
            WHERE (o.value_m3, o.quality) IS DISTINCT FROM (n.value_m3, n.quality) GROUP BY meter_id) x
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$
"""
# What a register's fall means hangs on where it starts again.
NOTE_MODULUS = """
CREATE FUNCTION note_modulus_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'meter' THEN
        INSERT INTO consumption_due (meter_ids, lowers, uppers) VALUES (ARRAY[NEW.id], '{-infinity}', '{infinity}');
    ELSE
        INSERT INTO consumption_due (meter_ids, lowers, uppers)
        SELECT ARRAY[id], '{-infinity}', '{infinity}' FROM meter
        WHERE (serial, register) IN ((NEW.meter, NEW.register), (OLD.meter, OLD.register));
    END IF;
    RETURN NULL;
END $$
"""
TRIGGERS = """
CREATE TRIGGER note_inserted AFTER INSERT ON reading REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_reading_change();
CREATE TRIGGER note_updated AFTER UPDATE ON reading REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_reading_change();
CREATE TRIGGER note_deleted AFTER DELETE ON reading REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_reading_change();
CREATE TRIGGER note_modulus AFTER UPDATE OF dials, unit, multiplier ON meter FOR EACH ROW
    WHEN ((OLD.dials, OLD.unit, OLD.multiplier) IS DISTINCT FROM (NEW.dials, NEW.unit, NEW.multiplier))
    EXECUTE FUNCTION note_modulus_change();
CREATE TRIGGER note_modulus_updated AFTER UPDATE ON device FOR EACH ROW
    WHEN ((OLD.register_modulus_m3, OLD.meter, OLD.register, OLD.valid_from) IS DISTINCT FROM
          (NEW.register_modulus_m3, NEW.meter, NEW.register, NEW.valid_from)
          AND (OLD.register_modulus_m3 IS NOT NULL OR NEW.register_modulus_m3 IS NOT NULL))
    EXECUTE FUNCTION note_modulus_change();
CREATE TRIGGER note_modulus_inserted AFTER INSERT ON device FOR EACH ROW
    WHEN (NEW.register_modulus_m3 IS NOT NULL) EXECUTE FUNCTION note_modulus_change();
CREATE TRIGGER note_modulus_deleted AFTER DELETE ON device FOR EACH ROW
    WHEN (OLD.register_modulus_m3 IS NOT NULL) EXECUTE FUNCTION note_modulus_change()
"""
ALL_THERE_IS = """
INSERT INTO consumption_due (meter_ids, lowers, uppers)
SELECT array_agg(id), array_agg('-infinity'::timestamptz), array_agg('infinity'::timestamptz) FROM meter GROUP BY id / 200
"""


def upgrade() -> None:
    op.create_table(
        "consumption_due",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("meter_ids", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("lowers", postgresql.ARRAY(sa.TIMESTAMP(timezone=True)), nullable=False),
        sa.Column("uppers", postgresql.ARRAY(sa.TIMESTAMP(timezone=True)), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consumption_due")),
    )
    op.create_table(
        "consumption_day",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("begins", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ends", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("volume_m3", sa.Double(), nullable=False),
        sa.Column("covered_s", sa.Double(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("begins_apart_s", sa.Double(), nullable=False),
        sa.Column("ends_apart_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "day", name=op.f("pk_consumption_day")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "consumption_hours",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("volumes_m3", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("covered_s", postgresql.ARRAY(sa.Double()), nullable=True),
        sa.Column("estimated", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "day", name=op.f("pk_consumption_hours")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "register_fall",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("before_m3", sa.Numeric(), nullable=False),
        sa.Column("after_m3", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "at", name=op.f("pk_register_fall")),
    )
    for statement in (NOTE_READINGS, NOTE_MODULUS, *TRIGGERS.split(";\n"), ALL_THERE_IS):
        op.execute(statement)


def downgrade() -> None:
    for name in ("note_inserted", "note_updated", "note_deleted"):
        op.execute(f"DROP TRIGGER {name} ON reading")
    op.execute("DROP TRIGGER note_modulus ON meter")
    for name in ("note_modulus_updated", "note_modulus_inserted", "note_modulus_deleted"):
        op.execute(f"DROP TRIGGER {name} ON device")
    op.execute("DROP FUNCTION note_reading_change()")
    op.execute("DROP FUNCTION note_modulus_change()")
    for table in ("register_fall", "consumption_hours", "consumption_day", "consumption_due"):
        op.drop_table(table)
