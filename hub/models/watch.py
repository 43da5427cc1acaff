"""What devices show of themselves, and what became of the truth of readings: alarms, gaps, exceptions, revisions."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Str, Written

ALARM_STATES = ("active", "cleared", "latched", "historic")


class Arrival(Base):
    """One committed batch of the pipeline that nobody looked into yet: who spoke, which meters have new readings.

    `body` is JSON (see `hub.metering.arrivals`). A row is deleted by whoever folds it into what follows from it, so a
    late commit is never passed over.
    """

    __tablename__ = "arrival"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[Written]


class DeviceState(Base):
    """What a device has shown of itself: when it spoke and through whom, its counter, how far its clock is off.

    `offsets_s` are the last differences (device's time − arrival, in seconds) of its newest values; `status_at` is the
    time of the newest value whose alarm words were believed, `event_at` that of the newest bare alarm message.
    """

    __tablename__ = "device_state"
    __table_args__ = (Index("ix_device_state_publisher", "publisher", "heard_at"),)

    device: Mapped[Str] = mapped_column(primary_key=True)
    publisher: Mapped[str | None] = mapped_column(Text)
    heard_at: Mapped[Instant]
    read_at: Mapped[Instant | None]
    seq: Mapped[int | None] = mapped_column(BigInteger)
    seq_at: Mapped[Instant | None]
    time_source: Mapped[str | None] = mapped_column(Text)
    offsets_s: Mapped[list[float]] = mapped_column(ARRAY(DOUBLE_PRECISION), server_default="{}")
    status_at: Mapped[Instant | None]
    event_at: Mapped[Instant | None]


class GatewayState(Base):
    """Whoever publishes messages (a gateway, a network server's application): when it spoke last, its own counter."""

    __tablename__ = "gateway_state"

    gateway: Mapped[Str] = mapped_column(primary_key=True)
    heard_at: Mapped[Instant]
    seq: Mapped[int | None] = mapped_column(BigInteger)
    seq_at: Mapped[Instant | None]


class SequenceGap(Base):
    """Numbers [first_missing, last_missing] that a device or gateway counted and the hub never received.

    `ask_at` is when the gateway is asked to send them (again); null where it cannot be, or was asked often enough.
    """

    __tablename__ = "sequence_gap"
    __table_args__ = (
        Index("ix_sequence_gap_open", "kind", "subject", "first_missing", postgresql_where=text("closed_at IS NULL")),
        Index("ix_sequence_gap_ask", "ask_at", postgresql_where=text("closed_at IS NULL AND ask_at IS NOT NULL")),
        CheckConstraint("kind IN ('device', 'gateway')", name="kind"),
        CheckConstraint("last_missing >= first_missing", name="order"),
    )

    id: Mapped[Id]
    kind: Mapped[Str]
    subject: Mapped[Str]
    gateway: Mapped[str | None] = mapped_column(Text)
    first_missing: Mapped[int] = mapped_column(BigInteger)
    last_missing: Mapped[int] = mapped_column(BigInteger)
    after_at: Mapped[Instant | None]
    before_at: Mapped[Instant | None]
    found_at: Mapped[Instant]
    ask_at: Mapped[Instant | None]
    asked_at: Mapped[Instant | None]
    asks: Mapped[int] = mapped_column(server_default="0")
    closed_at: Mapped[Instant | None]


class Alarm(Base):
    """One episode of an alarm of a device, or one the hub derived from a meter's readings (then `device` is null).

    `state` is active, cleared, latched (the device repeats it for weeks) or historic (it tells of the past). While
    `ended_at` is null the episode goes on. `text` is the device's own word.
    """

    __tablename__ = "alarm"
    __table_args__ = (
        Index(
            "uq_alarm_ongoing",
            text("coalesce(device, '')"),
            text("coalesce(meter, '')"),
            "type",
            text("(state = 'historic')"),
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_alarm_device", "device", "last_seen"),
        Index("ix_alarm_meter", "meter", "last_seen"),
        Index("ix_alarm_active", "type", "since", postgresql_where=text("state = 'active'")),
        CheckConstraint(f"state IN ({', '.join(repr(s) for s in ALARM_STATES)})", name="state"),
    )

    id: Mapped[Id]
    device: Mapped[str | None] = mapped_column(Text)
    meter: Mapped[str | None] = mapped_column(Text)
    type: Mapped[Str]
    state: Mapped[Str]
    form: Mapped[Str]
    since: Mapped[Instant]
    last_seen: Mapped[Instant]
    ended_at: Mapped[Instant | None]
    text: Mapped[Str]
    raw_id: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[Written]


class MeterReview(Base):
    """A register with readings since `since` that the validation rules have not looked at yet."""

    __tablename__ = "meter_review"
    __table_args__ = (Index("ix_meter_review_queued", "queued_at"),)

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    since: Mapped[Instant]
    queued_at: Mapped[Written]


class ReadingException(Base):
    """A reading that a validation rule flagged, until a person (or, where the rule says so, the hub) settles it."""

    __tablename__ = "reading_exception"
    __table_args__ = (
        Index("uq_reading_exception", "meter_id", "rule", "measured_at", unique=True),
        Index("ix_reading_exception_open", "rule", "found_at", postgresql_where=text("resolved_at IS NULL")),
    )

    id: Mapped[Id]
    meter_id: Mapped[int]
    rule: Mapped[Str]
    kind: Mapped[Str]
    measured_at: Mapped[Instant]
    last_at: Mapped[Instant]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    found_at: Mapped[Instant]
    resolved_at: Mapped[Instant | None]
    resolution: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class ReadingRevision(Base):
    """A reading as it stood before somebody or something changed it; `revision` 1 is the original."""

    __tablename__ = "reading_revision"

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    measured_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[Decimal] = mapped_column(Numeric)
    unit: Mapped[str | None] = mapped_column(Text)
    value_m3: Mapped[Decimal | None] = mapped_column(Numeric)
    quality: Mapped[Str]
    flags: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    source: Mapped[Str]
    raw_id: Mapped[int | None] = mapped_column(BigInteger)
    by: Mapped[Str]
    reason: Mapped[Str]
    replaced_at: Mapped[Instant]


class Rebooking(Base):
    """A stretch of a device's messages to be read again, because its registry entry was corrected or its meter changed.

    `after_id` is the last message that was read again; the row is deleted when there is none left.
    """

    __tablename__ = "rebooking"

    id: Mapped[Id]
    device: Mapped[Str]
    begins: Mapped[Instant]
    ends: Mapped[Instant | None]
    reason: Mapped[Str]
    by: Mapped[Str]
    after_id: Mapped[int] = mapped_column(BigInteger, server_default="0")
    queued_at: Mapped[Written]


class Finding(Base):
    """A metering fact that a rule turns into work: where it stands between being noticed and being settled.

    `subject` is a meter's serial, or a gateway. `state`: noticed (waits for the rule's delay), notified (the customer
    was told first), waiting (over the day's cap), incident (one matter, no orders), opened, joined, dismissed (by a
    person, while the fact lasts), settled.
    """

    __tablename__ = "finding"
    __table_args__ = (
        Index("uq_finding_ongoing", "rule", "subject", unique=True, postgresql_where=text("state <> 'settled'")),
        Index("ix_finding_order", "order_id", postgresql_where=text("order_id IS NOT NULL")),
        CheckConstraint(
            "state IN ('noticed', 'notified', 'waiting', 'incident', 'opened', 'joined', 'settled', 'dismissed')",
            name="state",
        ),
    )

    id: Mapped[Id]
    rule: Mapped[Str]
    subject: Mapped[Str]
    service_point: Mapped[str | None] = mapped_column(Text)
    account: Mapped[str | None] = mapped_column(Text)
    state: Mapped[Str]
    since: Mapped[Instant]
    evidence: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    noticed_at: Mapped[Instant]
    notified_at: Mapped[Instant | None]
    opened_at: Mapped[Instant | None]
    settled_at: Mapped[Instant | None]
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("work_order.id"))
