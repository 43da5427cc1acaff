"""initial schema"""

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry
from sqlalchemy.dialects import postgresql

from hub.models.messages import Xid8

revision = "20261123_initial"
down_revision = None
branch_labels = None
depends_on = None

# Business time: see hub/clock.py. now() is the start of the transaction, so one transaction sees one instant.
BUSINESS_NOW = """
CREATE FUNCTION business_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT business_at + (now() - real_at) * rate::float8 FROM clock), now())
$$
"""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("CREATE SEQUENCE work_order_number")
    op.create_table(
        "balance_revision",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("results", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "computed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("computed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_balance_revision")),
    )
    op.create_index(
        "ix_balance_revision_zone_period", "balance_revision", ["zone", "from_day", "to_day", "revision"], unique=False
    )
    op.create_table(
        "billing_source",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("secrets", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("balance_url", sa.Text(), nullable=True),
        sa.Column("heard_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("parked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_source")),
        sa.UniqueConstraint("name", name=op.f("uq_billing_source_name")),
    )
    op.create_table(
        "change",
        sa.Column("cursor", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "written_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("crew_id", sa.Uuid(), nullable=True),
        sa.Column("rev", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_change")),
    )
    op.create_index(
        "ix_change_crew",
        "change",
        ["crew_id", "xid", "cursor"],
        unique=False,
        postgresql_where=sa.text("crew_id IS NOT NULL"),
    )
    op.create_index(
        "ix_change_order",
        "change",
        ["order_id", "cursor"],
        unique=False,
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_index("ix_change_subject", "change", ["subject_type", "subject_id", "cursor"], unique=False)
    op.create_index("ix_change_xid", "change", ["xid", "cursor"], unique=False)
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("real_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("business_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("rate", sa.Numeric(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_clock_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock")),
    )
    op.create_table(
        "crew",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("skills", postgresql.ARRAY(sa.TEXT()), server_default="{}", nullable=False),
        sa.Column("members", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("shifts", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("last_sync_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("position", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_crew")),
        sa.UniqueConstraint("name", name=op.f("uq_crew_name")),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("register", sa.Text(), server_default="volume", nullable=False),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("decoder", sa.Text(), nullable=True),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("multiplier", sa.Numeric(), server_default="1", nullable=False),
        sa.Column("register_modulus_m3", sa.Numeric(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("revising", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("valid_from", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("valid_to", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
    )
    op.create_index("ix_device_meter", "device", ["meter"], unique=False)
    op.create_index("uq_device_register_valid_from", "device", ["device", "register", "valid_from"], unique=True)
    op.create_table(
        "hub_epoch",
        sa.Column("only", sa.Integer(), server_default="1", nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("only", name=op.f("pk_hub_epoch")),
    )
    op.create_table(
        "job_run",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("scheduled_for", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("leased_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("notes", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("job", "scheduled_for", name=op.f("pk_job_run")),
    )
    op.create_index(
        "ix_job_run_open", "job_run", ["leased_until"], unique=False, postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_geospatial_table(
        "main",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("diameter_mm", sa.Numeric(), nullable=True),
        sa.Column("material", sa.Text(), nullable=True),
        sa.Column("installed_on", sa.Date(), nullable=True),
        sa.Column(
            "geometry",
            Geometry(
                geometry_type="MULTILINESTRING",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeomFromEWKT",
                name="geometry",
                nullable=False,
            ),
            nullable=False,
        ),
        sa.Column(
            "changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_main")),
    )
    op.create_geospatial_index(
        "idx_main_geometry", "main", ["geometry"], unique=False, postgresql_using="gist", postgresql_ops={}
    )
    op.create_table(
        "meter",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("register", sa.Text(), server_default="volume", nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("multiplier", sa.Numeric(), server_default="1", nullable=False),
        sa.Column("dials", sa.Integer(), nullable=True),
        sa.Column("error_pct", sa.Numeric(), nullable=True),
        sa.Column("size_mm", sa.Numeric(), nullable=True),
        sa.Column("purpose", sa.Text(), server_default="revenue", nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter")),
    )
    op.create_index("uq_meter_serial_register", "meter", ["serial", "register"], unique=True)
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "received_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("raw_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("register", sa.Text(), nullable=True),
        sa.Column("measured_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index("ix_quarantine_device", "quarantine", ["device", "received_at"], unique=False)
    op.create_index(
        "ix_quarantine_open",
        "quarantine",
        ["reason", "received_at"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "raw_message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "received_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("retained", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("disposition", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", "received_at", name=op.f("pk_raw_message")),
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index("ix_raw_message_device", "raw_message", ["device", "received_at"], unique=False)
    op.create_index(
        "ix_raw_message_open",
        "raw_message",
        ["disposition", "received_at"],
        unique=False,
        postgresql_where=sa.text("disposition IN ('unclaimed', 'quarantine')"),
    )
    op.create_table(
        "reading",
        sa.Column("meter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("measured_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("value_m3", sa.Numeric(), nullable=True),
        sa.Column("quality", sa.Text(), server_default="good", nullable=False),
        sa.Column("flags", postgresql.ARRAY(sa.TEXT()), server_default="{}", nullable=False),
        sa.Column("time_source", sa.Text(), server_default="meter", nullable=False),
        sa.Column("claimed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("raw_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "received_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("repeats", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "measured_at", name=op.f("pk_reading")),
        postgresql_partition_by="RANGE (measured_at)",
    )
    op.create_index(
        "ix_reading_claimed",
        "reading",
        ["meter_id", "claimed_at"],
        unique=False,
        postgresql_where=sa.text("claimed_at IS NOT NULL"),
    )
    op.create_table(
        "sign_in_attempt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_attempt")),
    )
    op.create_index("ix_sign_in_attempt_address_at", "sign_in_attempt", ["address", "at"], unique=False)
    op.create_index("ix_sign_in_attempt_email_at", "sign_in_attempt", ["email", "at"], unique=False)
    op.create_table(
        "user_account",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("disabled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('admin', 'supervisor', 'dispatcher', 'crew', 'billing', 'analyst')",
            name=op.f("ck_user_account_role"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("email", name=op.f("uq_user_account_email")),
    )
    op.create_geospatial_table(
        "zone",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("pressure_m", sa.Numeric(), nullable=True),
        sa.Column(
            "geometry",
            Geometry(
                geometry_type="MULTIPOLYGON",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeomFromEWKT",
                name="geometry",
                nullable=False,
            ),
            nullable=False,
        ),
        sa.Column(
            "changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["parent"], ["zone.code"], name=op.f("fk_zone_parent")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_zone")),
    )
    op.create_geospatial_index(
        "idx_zone_geometry", "zone", ["geometry"], unique=False, postgresql_using="gist", postgresql_ops={}
    )
    op.create_table(
        "account",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("seq_seen", sa.BigInteger(), nullable=True),
        sa.Column("seq_highest", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["source_id"], ["billing_source.id"], name=op.f("fk_account_source_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_account")),
    )
    op.create_index(
        "ix_account_name_search",
        "account",
        ["name"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("crew_id", sa.Uuid(), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('admin', 'supervisor', 'dispatcher', 'crew', 'billing', 'analyst')",
            name=op.f("ck_api_token_role"),
        ),
        sa.ForeignKeyConstraint(["crew_id"], ["crew.id"], name=op.f("fk_api_token_crew_id")),
        sa.ForeignKeyConstraint(["source_id"], ["billing_source.id"], name=op.f("fk_api_token_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    op.create_table(
        "billing_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("received_seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "received_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("outcome", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("processed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'applied', 'superseded', 'joined', 'parked')", name=op.f("ck_billing_event_status")
        ),
        sa.ForeignKeyConstraint(["source_id"], ["billing_source.id"], name=op.f("fk_billing_event_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_event")),
    )
    op.create_index("ix_billing_event_account", "billing_event", ["account", "received_seq"], unique=False)
    op.create_index(
        "ix_billing_event_pending",
        "billing_event",
        ["next_attempt_at", "received_seq"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index("ix_billing_event_status", "billing_event", ["status", "received_seq"], unique=False)
    op.create_index("uq_billing_event_source_webhook", "billing_event", ["source_id", "webhook_id"], unique=True)
    op.create_table(
        "idempotency_key",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "written_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("principal", "route", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index("ix_idempotency_key_written", "idempotency_key", ["written_at"], unique=False)
    op.create_table(
        "mutation_receipt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("crew_id", sa.Uuid(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "received_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["crew_id"], ["crew.id"], name=op.f("fk_mutation_receipt_crew_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mutation_receipt")),
    )
    op.create_geospatial_table(
        "service_point",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("premise_class", sa.Text(), nullable=True),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("occupancy", sa.Text(), nullable=True),
        sa.Column("access", sa.Text(), nullable=True),
        sa.Column("hazard", sa.Text(), nullable=True),
        sa.Column("meter_place", sa.Text(), nullable=True),
        sa.Column("valve_place", sa.Text(), nullable=True),
        sa.Column("critical", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column(
            "geometry",
            Geometry(
                geometry_type="POINT",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeomFromEWKT",
                name="geometry",
                nullable=False,
            ),
            nullable=False,
        ),
        sa.Column(
            "changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_service_point_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_point")),
    )
    op.create_geospatial_index(
        "idx_service_point_geometry",
        "service_point",
        ["geometry"],
        unique=False,
        postgresql_using="gist",
        postgresql_ops={},
    )
    op.create_index(
        "ix_service_point_address_search",
        "service_point",
        ["address"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"address": "gin_trgm_ops"},
    )
    op.create_index(op.f("ix_service_point_zone"), "service_point", ["zone"], unique=False)
    op.create_table(
        "tank_level",
        sa.Column("tank", sa.Text(), nullable=False),
        sa.Column("read_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("level_m", sa.Numeric(), nullable=False),
        sa.Column("area_m2", sa.Numeric(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_tank_level_zone")),
        sa.PrimaryKeyConstraint("tank", "read_at", name=op.f("pk_tank_level")),
    )
    op.create_index(op.f("ix_tank_level_zone"), "tank_level", ["zone"], unique=False)
    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("csrf_token", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_web_session_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_session")),
    )
    op.create_index(op.f("ix_web_session_user_id"), "web_session", ["user_id"], unique=False)
    op.create_table(
        "account_fact",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column(
            "recorded_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["account"], ["account.number"], name=op.f("fk_account_fact_account")),
        sa.PrimaryKeyConstraint("account", "fact", name=op.f("pk_account_fact")),
    )
    op.create_table(
        "billed_consumption",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_point", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("register", sa.Text(), nullable=True),
        sa.Column("from_day", sa.Date(), nullable=False),
        sa.Column("to_day", sa.Date(), nullable=False),
        sa.Column("volume", sa.Numeric(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("volume_m3", sa.Numeric(), nullable=False),
        sa.Column("estimated", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("bill", sa.Text(), nullable=True),
        sa.Column("replaces", sa.Text(), nullable=True),
        sa.Column("replaced_by", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("to_day > from_day", name=op.f("ck_billed_consumption_period")),
        sa.ForeignKeyConstraint(
            ["service_point"], ["service_point.id"], name=op.f("fk_billed_consumption_service_point")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billed_consumption")),
    )
    op.create_index(
        "ix_billed_consumption_service_point", "billed_consumption", ["service_point", "from_day"], unique=False
    )
    op.create_index(
        "uq_billed_consumption_event",
        "billed_consumption",
        ["event_id"],
        unique=True,
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    op.create_table(
        "meter_installation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("service_point", sa.Text(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("to_zone", sa.Text(), nullable=True),
        sa.Column("installed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("removed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("zone IS NULL OR direction IN ('in', 'out')", name=op.f("ck_meter_installation_direction")),
        sa.CheckConstraint("(service_point IS NULL) <> (zone IS NULL)", name=op.f("ck_meter_installation_place")),
        sa.ForeignKeyConstraint(
            ["service_point"], ["service_point.id"], name=op.f("fk_meter_installation_service_point")
        ),
        sa.ForeignKeyConstraint(["to_zone"], ["zone.code"], name=op.f("fk_meter_installation_to_zone")),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_meter_installation_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter_installation")),
    )
    op.create_index("ix_meter_installation_service_point", "meter_installation", ["service_point"], unique=False)
    op.create_index(op.f("ix_meter_installation_to_zone"), "meter_installation", ["to_zone"], unique=False)
    op.create_index(
        "ix_meter_installation_zone",
        "meter_installation",
        ["zone"],
        unique=False,
        postgresql_where=sa.text("zone IS NOT NULL"),
    )
    op.create_index(
        "uq_meter_installation_serial_installed", "meter_installation", ["serial", "installed_at"], unique=True
    )
    op.create_table(
        "occupancy",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("service_point", sa.Text(), nullable=False),
        sa.Column("since", sa.Date(), nullable=False),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("billing_zone", sa.Text(), nullable=True),
        sa.CheckConstraint("until IS NULL OR until >= since", name=op.f("ck_occupancy_order")),
        sa.ForeignKeyConstraint(["account"], ["account.number"], name=op.f("fk_occupancy_account")),
        sa.ForeignKeyConstraint(["service_point"], ["service_point.id"], name=op.f("fk_occupancy_service_point")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occupancy")),
    )
    op.create_index("ix_occupancy_service_point", "occupancy", ["service_point"], unique=False)
    op.create_index(
        "uq_occupancy_account_service_point_since", "occupancy", ["account", "service_point", "since"], unique=True
    )
    op.create_table(
        "place_fact",
        sa.Column("service_point", sa.Text(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(fact = 'valve' AND state IN ('open', 'closed', 'restricted', 'unknown')) OR (fact = 'meter' AND state IN ('in_place', 'removed', 'none', 'unknown')) OR (fact = 'lock' AND state IN ('on', 'off', 'unknown'))",
            name=op.f("ck_place_fact_state"),
        ),
        sa.ForeignKeyConstraint(
            ["service_point"], ["service_point.id"], name=op.f("fk_place_fact_service_point"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("service_point", "fact", name=op.f("pk_place_fact")),
    )
    op.create_geospatial_table(
        "work_order",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("type_snapshot", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("rev", sa.Integer(), server_default="1", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="3", nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("service_point", sa.Text(), nullable=True),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column(
            "position",
            Geometry(
                geometry_type="POINT",
                srid=4326,
                dimension=2,
                spatial_index=False,
                from_text="ST_GeomFromEWKT",
                name="geometry",
            ),
            nullable=True,
        ),
        sa.Column("crew_id", sa.Uuid(), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("earliest_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_requested", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("not_before", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("due_by", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("appointment_from", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("appointment_to", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("amount_due", sa.Numeric(precision=14, scale=2), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("assigned_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("completion", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("follow_up_of", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused', 'completed', 'unable', 'cancelled', 'closed')",
            name=op.f("ck_work_order_status"),
        ),
        sa.ForeignKeyConstraint(["account"], ["account.number"], name=op.f("fk_work_order_account")),
        sa.ForeignKeyConstraint(["crew_id"], ["crew.id"], name=op.f("fk_work_order_crew_id")),
        sa.ForeignKeyConstraint(["follow_up_of"], ["work_order.id"], name=op.f("fk_work_order_follow_up_of")),
        sa.ForeignKeyConstraint(["service_point"], ["service_point.id"], name=op.f("fk_work_order_service_point")),
        sa.ForeignKeyConstraint(["source_id"], ["billing_source.id"], name=op.f("fk_work_order_source_id")),
        sa.ForeignKeyConstraint(["zone"], ["zone.code"], name=op.f("fk_work_order_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_order")),
        sa.UniqueConstraint("number", name=op.f("uq_work_order_number")),
    )
    op.create_geospatial_index(
        "idx_work_order_position", "work_order", ["position"], unique=False, postgresql_using="gist", postgresql_ops={}
    )
    op.create_index("ix_work_order_account", "work_order", ["account", "opened_at"], unique=False)
    op.create_index(
        "ix_work_order_crew",
        "work_order",
        ["crew_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')"),
    )
    op.create_index(
        "ix_work_order_open",
        "work_order",
        ["status", "priority", "due_by"],
        unique=False,
        postgresql_where=sa.text("status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')"),
    )
    op.create_index("ix_work_order_reference", "work_order", ["source_id", "reference"], unique=False)
    op.create_index("ix_work_order_service_point", "work_order", ["service_point", "opened_at"], unique=False)
    op.create_index(
        "ix_work_order_unclosed",
        "work_order",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('completed', 'unable', 'cancelled')"),
    )
    op.create_index(op.f("ix_work_order_zone"), "work_order", ["zone"], unique=False)
    op.create_index(
        "uq_work_order_open_purpose",
        "work_order",
        ["service_point", "purpose"],
        unique=True,
        postgresql_where=sa.text("status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')"),
    )
    op.create_table(
        "charge",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("bill_to", sa.Text(), nullable=False),
        sa.Column("reverses", sa.Uuid(), nullable=True),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("posting", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_charge_order_id")),
        sa.ForeignKeyConstraint(["reverses"], ["charge.id"], name=op.f("fk_charge_reverses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charge")),
    )
    op.create_index(op.f("ix_charge_account"), "charge", ["account"], unique=False)
    op.create_index("ix_charge_created", "charge", ["created_at"], unique=False)
    op.create_index(op.f("ix_charge_order_id"), "charge", ["order_id"], unique=False)
    op.create_index(
        "uq_charge_reverses", "charge", ["reverses"], unique=True, postgresql_where=sa.text("reverses IS NOT NULL")
    )
    op.create_table(
        "order_exception",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("service_point", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("ours", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("theirs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolution", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_order_exception_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_exception")),
    )
    op.create_index(
        "ix_order_exception_open",
        "order_exception",
        ["opened_at"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index(op.f("ix_order_exception_order_id"), "order_exception", ["order_id"], unique=False)
    op.create_table(
        "order_trigger",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["billing_event.id"], name=op.f("fk_order_trigger_event_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_order_trigger_order_id")),
        sa.PrimaryKeyConstraint("order_id", "event_id", "how", name=op.f("pk_order_trigger")),
    )
    op.create_table(
        "outbound_message",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("leased_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("delivered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'parked')", name=op.f("ck_outbound_message_status")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_outbound_message_order_id")),
        sa.ForeignKeyConstraint(["source_id"], ["billing_source.id"], name=op.f("fk_outbound_message_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbound_message")),
    )
    op.create_index(
        "ix_outbound_message_due",
        "outbound_message",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index("ix_outbound_message_order", "outbound_message", ["order_id", "seq"], unique=False)
    op.create_index("ix_outbound_message_source_at", "outbound_message", ["source_id", "at"], unique=False)
    op.create_index(
        "ix_outbound_message_undelivered",
        "outbound_message",
        ["source_id", "order_id", "seq"],
        unique=False,
        postgresql_where=sa.text("status <> 'delivered'"),
    )
    op.create_index("uq_outbound_message_seq", "outbound_message", ["seq"], unique=True)
    op.create_table(
        "delivery_attempt",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["outbound_message.id"], name=op.f("fk_delivery_attempt_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_id", "attempt", name=op.f("pk_delivery_attempt")),
    )
    op.execute(BUSINESS_NOW)
    op.execute("INSERT INTO hub_epoch DEFAULT VALUES")


def downgrade() -> None:
    raise NotImplementedError("the first schema has nothing before it; restore a backup instead")
