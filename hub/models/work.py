"""Field work: orders, what opened them, their charges, exceptions for the dispatcher, receipts of crew commands."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, JsonList, Money, Str, Written

STATES = ("held", "ready", "assigned", "en_route", "on_site", "paused", "completed", "unable", "cancelled", "closed")
OPEN_STATES = ("held", "ready", "assigned", "en_route", "on_site", "paused")
_OPEN = f"status IN ({', '.join(repr(s) for s in OPEN_STATES)})"


class WorkOrder(Base):
    """One piece of field work at a place.

    `type_snapshot` is the work type as it was when the order was opened. `cancel_requested` is null or
    `{reason, since, ends}` with `ends` being `cancelled` or `held`. `reasons` lists why the order is held
    (`{code, text, citation}`), `earliest_at` the earliest lawful time. All times are business time.
    """

    __tablename__ = "work_order"
    __table_args__ = (
        # at most one open order per service point and purpose
        Index("uq_work_order_open_purpose", "service_point", "purpose", unique=True, postgresql_where=text(_OPEN)),
        Index("ix_work_order_open", "status", "priority", "due_by", postgresql_where=text(_OPEN)),
        Index("ix_work_order_account", "account", "opened_at"),
        Index("ix_work_order_service_point", "service_point", "opened_at"),
        Index("ix_work_order_crew", "crew_id", postgresql_where=text(_OPEN)),
        Index("ix_work_order_reference", "source_id", "reference"),
        # the job that opens a shutoff which was wished for while the one before it was being taken back
        Index("ix_work_order_waiting_wish", "account", postgresql_where=text("details ->> 'waiting_wish' IS NOT NULL")),
        # the job that closes what is finished and delivered
        Index(
            "ix_work_order_unclosed",
            "ended_at",
            postgresql_where=text("status IN ('completed', 'unable', 'cancelled')"),
        ),
        CheckConstraint(f"status IN ({', '.join(repr(s) for s in STATES)})", name="status"),
    )

    id: Mapped[Id]
    number: Mapped[Str] = mapped_column(unique=True)
    type: Mapped[Str]
    purpose: Mapped[Str]
    type_snapshot: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[Str]
    rev: Mapped[int] = mapped_column(server_default="1")
    priority: Mapped[int] = mapped_column(server_default="3")
    account: Mapped[str | None] = mapped_column(Text, ForeignKey("account.number"))
    service_point: Mapped[str | None] = mapped_column(Text, ForeignKey("service_point.id"))
    meter: Mapped[str | None] = mapped_column(Text)
    zone: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"), index=True)
    position: Mapped[WKBElement | None] = mapped_column(Geometry("POINT", srid=4326))
    crew_id: Mapped[UUID | None] = mapped_column(ForeignKey("crew.id"))
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("billing_source.id"))
    reference: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    reasons: Mapped[JsonList]
    earliest_at: Mapped[Instant | None]
    cancel_requested: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    not_before: Mapped[Instant | None]
    due_by: Mapped[Instant | None]
    appointment_from: Mapped[Instant | None]
    appointment_to: Mapped[Instant | None]
    amount_due: Mapped[Decimal | None] = mapped_column(Numeric(14, 2))
    currency: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[Instant]
    opened_by: Mapped[Str]
    assigned_at: Mapped[Instant | None]
    acknowledged_at: Mapped[Instant | None]
    ended_at: Mapped[Instant | None]
    # what the crew reported: code, answers, via, device and server time, position, skipped steps
    completion: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    follow_up_of: Mapped[UUID | None] = mapped_column(ForeignKey("work_order.id"))
    created_at: Mapped[Written]


class OrderTrigger(Base):
    """A billing event that opened, joined, rescheduled or withdrew an order."""

    __tablename__ = "order_trigger"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("work_order.id"), primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("billing_event.id"), primary_key=True)
    how: Mapped[Str] = mapped_column(primary_key=True)
    at: Mapped[Written]


class Charge(Base):
    """One immutable invoice line; `reverses` names the line it takes back. `posting` is billing's answer, if any."""

    __tablename__ = "charge"
    __table_args__ = (
        # a line is reversed at most once
        Index("uq_charge_reverses", "reverses", unique=True, postgresql_where=text("reverses IS NOT NULL")),
        Index("ix_charge_created", "created_at"),
    )

    id: Mapped[Id]
    order_id: Mapped[UUID] = mapped_column(ForeignKey("work_order.id"), index=True)
    account: Mapped[str | None] = mapped_column(Text, index=True)
    code: Mapped[Str]
    quantity: Mapped[Decimal] = mapped_column(Numeric)
    amount: Mapped[Money]
    currency: Mapped[Str]
    bill_to: Mapped[Str]
    reverses: Mapped[UUID | None] = mapped_column(ForeignKey("charge.id"))
    at: Mapped[Instant]
    created_at: Mapped[Written]
    posting: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class OrderException(Base):
    """Something a person must look at: field work on a cancelled order, two values for one field, a reconnect in doubt.

    `ours` and `theirs` keep both sides.
    """

    __tablename__ = "order_exception"
    __table_args__ = (Index("ix_order_exception_open", "opened_at", postgresql_where=text("resolved_at IS NULL")),)

    id: Mapped[Id]
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("work_order.id"), index=True)
    account: Mapped[str | None] = mapped_column(Text)
    service_point: Mapped[str | None] = mapped_column(Text)
    kind: Mapped[Str]
    text: Mapped[Str]
    ours: Mapped[dict[str, Any]] = mapped_column(JSONB)
    theirs: Mapped[dict[str, Any]] = mapped_column(JSONB)
    opened_at: Mapped[Instant]
    resolved_at: Mapped[Instant | None]
    resolution: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class MutationReceipt(Base):
    """The answer given to one crew command, kept so that a repeated command gets the same answer."""

    __tablename__ = "mutation_receipt"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    crew_id: Mapped[UUID] = mapped_column(ForeignKey("crew.id"))
    body_hash: Mapped[bytes]
    result: Mapped[dict[str, Any]] = mapped_column(JSONB)
    received_at: Mapped[Written]


class IdempotencyKey(Base):
    """The answer given under an `Idempotency-Key`, written with the effect, so that a repeat gets the same answer.

    `fingerprint` is the SHA-256 of method, route, path parameters and body of the first request.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("ix_idempotency_key_written", "written_at"),)

    principal: Mapped[Str] = mapped_column(primary_key=True)
    route: Mapped[Str] = mapped_column(primary_key=True)
    key: Mapped[Str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB)
    body: Mapped[bytes]
    written_at: Mapped[Written]
