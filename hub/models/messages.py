"""What billing told us (inbox), what we owe billing (outbound messages), the one change log, and job ticks."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Numeric, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from hub.db import Base
from hub.models.columns import Id, Instant, JsonList, Str, Written


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, as an integer."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


# Alembic's comparison of schema and models reads the type back by this name.
ischema_names["xid8"] = Xid8


class BusinessClock(Base):
    """At most one row: business time as an offset and a rate against real time (see `hub.clock`)."""

    __tablename__ = "clock"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    real_at: Mapped[Instant]
    business_at: Mapped[Instant]
    rate: Mapped[Decimal] = mapped_column(Numeric)


class BillingSource(Base):
    """A billing system: how its messages are signed and understood, and where ours go.

    `secrets` lists the signing secrets in force, newest first (two during a rotation). `parked_at` is set when the
    endpoint asked us to stop (410) or has failed for days: messages accumulate, none is dropped.
    """

    __tablename__ = "billing_source"

    id: Mapped[Id]
    name: Mapped[Str] = mapped_column(unique=True)
    adapter: Mapped[Str]
    secrets: Mapped[list[str]] = mapped_column(JSONB)
    endpoint: Mapped[str | None] = mapped_column(Text)
    balance_url: Mapped[str | None] = mapped_column(Text)
    heard_at: Mapped[Instant | None]
    as_of: Mapped[Instant | None]
    parked_at: Mapped[Instant | None]
    created_at: Mapped[Written]


class BillingEvent(Base):
    """One message of a billing system, verbatim, kept for ever, with its one outcome.

    `status`: pending, applied, superseded, joined, parked. `body` holds the raw bytes; `type`, `account` and `seq` are
    read from it for ordering and lists.
    """

    __tablename__ = "billing_event"
    __table_args__ = (
        Index("uq_billing_event_source_webhook", "source_id", "webhook_id", unique=True),
        # the worker's question: what is due, oldest first
        Index(
            "ix_billing_event_pending", "next_attempt_at", "received_seq", postgresql_where=text("status = 'pending'")
        ),
        # ordering within an account, gaps, and the account page
        Index("ix_billing_event_account", "account", "received_seq"),
        Index("ix_billing_event_status", "status", "received_seq"),
        CheckConstraint("status IN ('pending', 'applied', 'superseded', 'joined', 'parked')", name="status"),
    )

    id: Mapped[Id]
    received_seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    source_id: Mapped[UUID] = mapped_column(ForeignKey("billing_source.id"))
    webhook_id: Mapped[Str]
    body: Mapped[bytes]
    body_hash: Mapped[bytes]
    type: Mapped[str | None] = mapped_column(Text)
    account: Mapped[str | None] = mapped_column(Text)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[Instant | None]
    received_at: Mapped[Written]
    status: Mapped[Str] = mapped_column(server_default="pending")
    reason: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[Written]
    processed_at: Mapped[Instant | None]


class OutboundMessage(Base):
    """What we owe a billing system: one row per destination, written in the transaction that made it true.

    `seq` orders messages of one (destination, order) and is the cursor of the catch-up feed. `attempt` is the fence: a
    sender that finds another number than its own has lost its lease; it only grows, while `tries` starts anew when
    the message is replayed. `at` is business time, everything else real time. `status`: pending, delivered, parked.
    """

    __tablename__ = "outbound_message"
    __table_args__ = (
        Index("uq_outbound_message_seq", "seq", unique=True),
        Index("ix_outbound_message_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        # FIFO: the oldest undelivered message of each (destination, order)
        Index(
            "ix_outbound_message_undelivered",
            "source_id",
            "order_id",
            "seq",
            postgresql_where=text("status <> 'delivered'"),
        ),
        Index("ix_outbound_message_order", "order_id", "seq"),
        # a day's count and sum for one billing system
        Index("ix_outbound_message_source_at", "source_id", "at"),
        CheckConstraint("status IN ('pending', 'delivered', 'parked')", name="status"),
    )

    id: Mapped[Id]
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    xid: Mapped[int] = mapped_column(Xid8, server_default=func.pg_current_xact_id())
    source_id: Mapped[UUID] = mapped_column(ForeignKey("billing_source.id"))
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("work_order.id"))
    type: Mapped[Str]
    at: Mapped[Instant]
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[Str] = mapped_column(server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    tries: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[Written]
    leased_until: Mapped[Instant | None]
    created_at: Mapped[Written]
    delivered_at: Mapped[Instant | None]
    reason: Mapped[str | None] = mapped_column(Text)


class DeliveryAttempt(Base):
    """One try to deliver an outbound message and what came of it."""

    __tablename__ = "delivery_attempt"

    message_id: Mapped[UUID] = mapped_column(ForeignKey("outbound_message.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[Written]
    status_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    took_ms: Mapped[int | None]


class Change(Base):
    """One line of the change log: timeline, audit, crew feed and event stream are views of it.

    `cursor` rises with insertion, not with commit: a reader takes only rows whose `xid` is older than every running
    transaction and orders by (xid, cursor), so that a late commit is never skipped. `crew_id` is the crew whose feed
    the change belongs to (the one that had the order before or has it after).
    """

    __tablename__ = "change"
    __table_args__ = (
        Index("ix_change_xid", "xid", "cursor"),
        Index("ix_change_subject", "subject_type", "subject_id", "cursor"),
        Index("ix_change_crew", "crew_id", "xid", "cursor", postgresql_where=text("crew_id IS NOT NULL")),
        Index("ix_change_order", "order_id", "cursor", postgresql_where=text("order_id IS NOT NULL")),
    )

    cursor: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    xid: Mapped[int] = mapped_column(Xid8, server_default=func.pg_current_xact_id())
    at: Mapped[Instant]
    written_at: Mapped[Written]
    actor: Mapped[Str]
    subject_type: Mapped[Str]
    subject_id: Mapped[Str]
    verb: Mapped[Str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    order_id: Mapped[UUID | None]
    crew_id: Mapped[UUID | None]
    rev: Mapped[int | None]


class HubEpoch(Base):
    """One row; renewed by a restore, so that cursors handed out before it are refused."""

    __tablename__ = "hub_epoch"

    only: Mapped[int] = mapped_column(primary_key=True, server_default="1")
    id: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    since: Mapped[Written]


class JobRun(Base):
    """One tick of one job; the key makes any number of schedulers insert it once."""

    __tablename__ = "job_run"
    __table_args__ = (Index("ix_job_run_open", "leased_until", postgresql_where=text("finished_at IS NULL")),)

    job: Mapped[Str] = mapped_column(primary_key=True)
    scheduled_for: Mapped[Instant] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(server_default="0")
    leased_until: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]
    error: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[JsonList]


class DailyRun(Base):
    """On which local day of business time a job that is done once a day was done last."""

    __tablename__ = "daily_run"

    job: Mapped[Str] = mapped_column(primary_key=True)
    day: Mapped[date]
