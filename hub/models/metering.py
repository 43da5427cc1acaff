"""Meters, the devices that report them, readings with their raw messages, quarantine, and volumes billed or stored."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Str, Volume, Written


class Meter(Base):
    """One register of a physical meter (a compound meter has two rows, summed): what one unit on its dial means.

    `unit` is m3, l, gal, kgal, cf or ccf; `multiplier` scales the dial; `dials` is the number of digits after which the
    register starts again. `error_pct` is the verified error, positive when the meter over-registers. `id` is the short
    key of readings.
    """

    __tablename__ = "meter"
    __table_args__ = (Index("uq_meter_serial_register", "serial", "register", unique=True),)

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    serial: Mapped[Str]
    register: Mapped[Str] = mapped_column(server_default="volume")
    unit: Mapped[str | None] = mapped_column(Text)
    multiplier: Mapped[Decimal] = mapped_column(Numeric, server_default="1")
    dials: Mapped[int | None]
    error_pct: Mapped[Decimal | None] = mapped_column(Numeric)
    size_mm: Mapped[Decimal | None] = mapped_column(Numeric)
    purpose: Mapped[Str] = mapped_column(server_default="revenue")
    created_at: Mapped[Written]


class MeterTest(Base):
    """A bench test of a meter: what it registered of what passed, over the flows of its customers, in per cent."""

    __tablename__ = "meter_test"

    serial: Mapped[Str] = mapped_column(primary_key=True)
    tested_on: Mapped[date] = mapped_column(primary_key=True)
    accuracy_pct: Mapped[Decimal] = mapped_column(Numeric)
    recorded_at: Mapped[Written]


class MeterInstallation(Base):
    """Where a meter measured, over [installed_at, removed_at): at a service point, or at the edge of a zone.

    A zone meter counts `in` or `out` of `zone`; a transfer meter also names `to_zone`, the zone on its other side.
    """

    __tablename__ = "meter_installation"
    __table_args__ = (
        Index("uq_meter_installation_serial_installed", "serial", "installed_at", unique=True),
        Index("ix_meter_installation_service_point", "service_point"),
        Index("ix_meter_installation_zone", "zone", postgresql_where=text("zone IS NOT NULL")),
        CheckConstraint("(service_point IS NULL) <> (zone IS NULL)", name="place"),
        CheckConstraint("zone IS NULL OR direction IN ('in', 'out')", name="direction"),
    )

    id: Mapped[Id]
    serial: Mapped[Str]
    service_point: Mapped[str | None] = mapped_column(Text, ForeignKey("service_point.id"))
    zone: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"))
    direction: Mapped[str | None] = mapped_column(Text)
    to_zone: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"), index=True)
    installed_at: Mapped[Instant]
    removed_at: Mapped[Instant | None]


class Device(Base):
    """A radio endpoint and how its messages are read, over [valid_from, valid_to). `device` is kept in lower case.

    `revising` marks a source whose later word on the same instant replaces the earlier one. `gateway` binds the device
    to the one publisher that may speak for it; null lets any.
    """

    __tablename__ = "device"
    __table_args__ = (
        Index("uq_device_register_valid_from", "device", "register", "valid_from", unique=True),
        Index("ix_device_meter", "meter"),
    )

    id: Mapped[Id]
    device: Mapped[Str]
    meter: Mapped[Str]
    register: Mapped[Str] = mapped_column(server_default="volume")
    adapter: Mapped[str | None] = mapped_column(Text)
    decoder: Mapped[str | None] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    unit: Mapped[str | None] = mapped_column(Text)
    multiplier: Mapped[Decimal] = mapped_column(Numeric, server_default="1")
    register_modulus_m3: Mapped[Decimal | None] = mapped_column(Numeric)
    time_zone: Mapped[str | None] = mapped_column(Text)
    revising: Mapped[bool] = mapped_column(server_default="false")
    gateway: Mapped[str | None] = mapped_column(Text)
    valid_from: Mapped[Instant]
    valid_to: Mapped[Instant | None]
    created_at: Mapped[Written]


class RegistryChange(Base):
    """One statement that wrote devices or meters (by trigger): what an ingest remembers of them is then forgotten."""

    __tablename__ = "registry_change"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[Written]


class RawMessage(Base):
    """A message as it arrived; everything else derives from it. Partitioned by month of arrival.

    `disposition`: readings, event_only, no_reading, unclaimed, quarantine.
    """

    __tablename__ = "raw_message"
    __table_args__ = (
        Index("ix_raw_message_device", "device", "received_at"),
        Index(
            "ix_raw_message_open",
            "disposition",
            "received_at",
            postgresql_where=text("disposition IN ('unclaimed', 'quarantine')"),
        ),
        {"postgresql_partition_by": "RANGE (received_at)"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), primary_key=True, server_default=func.clock_timestamp()
    )
    source: Mapped[Str]
    topic: Mapped[Str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    adapter: Mapped[str | None] = mapped_column(Text)
    device: Mapped[str | None] = mapped_column(Text)
    retained: Mapped[bool] = mapped_column(server_default="false")
    disposition: Mapped[Str]
    reason: Mapped[str | None] = mapped_column(Text)


class Reading(Base):
    """A register value of a meter at a measured time. Partitioned by month; its key begins with the meter.

    `value_m3` is null when the unit is not known (no unit, no cubic metres). `repeats` counts equal values received
    again. `claimed_at` is what the meter's clock said when it could not be believed; `measured_at` is then the receipt.
    No foreign keys: the table must be able to spread over servers by meter.
    """

    __tablename__ = "reading"
    __table_args__ = (
        Index("ix_reading_claimed", "meter_id", "claimed_at", postgresql_where=text("claimed_at IS NOT NULL")),
        # a balance looks at all of a register's readings from the first suspect one on
        Index("ix_reading_suspect", "meter_id", "measured_at", postgresql_where=text("quality = 'suspect'")),
        {"postgresql_partition_by": "RANGE (measured_at)"},
    )

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    measured_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), primary_key=True)
    value: Mapped[Volume]
    unit: Mapped[str | None] = mapped_column(Text)
    value_m3: Mapped[Decimal | None] = mapped_column(Numeric)
    quality: Mapped[Str] = mapped_column(server_default="good")
    flags: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")
    time_source: Mapped[Str] = mapped_column(server_default="meter")
    claimed_at: Mapped[Instant | None]
    source: Mapped[Str]
    seq: Mapped[int | None] = mapped_column(BigInteger)
    raw_id: Mapped[int | None] = mapped_column(BigInteger)
    received_at: Mapped[Written]
    repeats: Mapped[int] = mapped_column(server_default="0")


class AdapterSession(Base):
    """What a sender said at one beginning that its later messages leave out (a Sparkplug B node's births).

    `session` is its name among those of all networks, `seq` the counter of its newest message, `asked_at` when it was
    asked to begin anew.
    """

    __tablename__ = "adapter_session"

    session: Mapped[Str] = mapped_column(primary_key=True)
    since: Mapped[Instant] = mapped_column(primary_key=True)
    known: Mapped[dict[str, Any]] = mapped_column(JSONB)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    asked_at: Mapped[Instant | None]


class ArchivedMonth(Base):
    """A month that left the database: detached as `leaving`, then in the file `path` with its digest, then dropped."""

    __tablename__ = "archived_month"

    table_name: Mapped[Str] = mapped_column(primary_key=True)
    leaving: Mapped[Str] = mapped_column(primary_key=True)
    month: Mapped[date]
    path: Mapped[str | None] = mapped_column(Text)
    row_count: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text)
    detached_at: Mapped[Written]
    dropped_at: Mapped[Instant | None]


class ConsumptionDue(Base):
    """Registers whose readings changed, each with the first and last instant concerned; written by triggers."""

    __tablename__ = "consumption_due"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    meter_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    lowers: Mapped[list[datetime]] = mapped_column(ARRAY(TIMESTAMP(timezone=True)))
    uppers: Mapped[list[datetime]] = mapped_column(ARRAY(TIMESTAMP(timezone=True)))


class ConsumptionDay(Base):
    """What a register counted over one local day [begins, ends); `covered_s` seconds of it lie between readings.

    `estimated`: from estimated readings. `begins_apart_s`, `ends_apart_s`: how far the register's stand at that edge
    lies from the nearer of the two readings it was interpolated between, 0 where one lies on it.
    """

    __tablename__ = "consumption_day"
    __table_args__ = ({"postgresql_with": {"fillfactor": "80"}},)

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True)
    begins: Mapped[Instant]
    ends: Mapped[Instant]
    volume_m3: Mapped[float] = mapped_column(Double)
    covered_s: Mapped[float] = mapped_column(Double)
    estimated: Mapped[bool]
    begins_apart_s: Mapped[float] = mapped_column(Double)
    ends_apart_s: Mapped[float] = mapped_column(Double)


class ConsumptionHours(Base):
    """What a register counted in each of the 24 hours of one UTC day, null where unknown.

    `covered_s` is null when every hour is covered whole; bit n of `estimated` marks hour n.
    """

    __tablename__ = "consumption_hours"
    __table_args__ = ({"postgresql_with": {"fillfactor": "80"}},)

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    day: Mapped[date] = mapped_column(primary_key=True)
    volumes_m3: Mapped[list[float | None]] = mapped_column(ARRAY(Double))
    covered_s: Mapped[list[float | None] | None] = mapped_column(ARRAY(Double))
    estimated: Mapped[int]


class RegisterFall(Base):
    """A fall of a register and what it was taken for: rollover, backflow, misread, reset."""

    __tablename__ = "register_fall"

    meter_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[Instant] = mapped_column(primary_key=True)
    kind: Mapped[Str]
    before_m3: Mapped[Volume]
    after_m3: Mapped[Volume]


class Quarantine(Base):
    """A reading or message that could not be trusted: kept with its reason until a person replays or dismisses it.

    `resolution`: replayed, superseded (a revised value's former one), dismissed; a dismissed entry has `resolved_by`
    and `note`, who said so and why.
    """

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("ix_quarantine_open", "reason", "received_at", postgresql_where=text("resolved_at IS NULL")),
        Index("ix_quarantine_dismissed", "reason", "id", postgresql_where=text("resolution = 'dismissed'")),
        # lists of one device, whose spelling differs from sender to sender
        Index("ix_quarantine_device", text("lower(device)"), "id"),
        # what a message that is read again had left
        Index("ix_quarantine_raw", "raw_id", postgresql_where=text("raw_id IS NOT NULL")),
    )

    id: Mapped[Id]
    received_at: Mapped[Written]
    raw_id: Mapped[int | None] = mapped_column(BigInteger)
    source: Mapped[Str]
    device: Mapped[str | None] = mapped_column(Text)
    meter: Mapped[str | None] = mapped_column(Text)
    register: Mapped[str | None] = mapped_column(Text)
    measured_at: Mapped[Instant | None]
    value: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[Str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    resolved_at: Mapped[Instant | None]
    resolution: Mapped[str | None] = mapped_column(Text)
    resolved_by: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)


class BilledConsumption(Base):
    """A volume that was billed for a service point over local days [from_day, to_day).

    `replaces` names the bill that this one cancels and rebills; a replaced row has `replaced_by`.
    """

    __tablename__ = "billed_consumption"
    __table_args__ = (
        Index("ix_billed_consumption_service_point", "service_point", "from_day"),
        Index("uq_billed_consumption_event", "event_id", unique=True, postgresql_where=text("event_id IS NOT NULL")),
        CheckConstraint("to_day > from_day", name="period"),
    )

    id: Mapped[Id]
    service_point: Mapped[str] = mapped_column(Text, ForeignKey("service_point.id"))
    meter: Mapped[str | None] = mapped_column(Text)
    register: Mapped[str | None] = mapped_column(Text)
    from_day: Mapped[date]
    to_day: Mapped[date]
    volume: Mapped[Volume]
    unit: Mapped[Str]
    volume_m3: Mapped[Volume]
    estimated: Mapped[bool] = mapped_column(server_default="false")
    bill: Mapped[str | None] = mapped_column(Text)
    replaces: Mapped[str | None] = mapped_column(Text)
    replaced_by: Mapped[UUID | None]
    source: Mapped[Str]
    event_id: Mapped[UUID | None]
    created_at: Mapped[Written]


class TankLevel(Base):
    """The level of a tank at an instant; with its area it gives the change of stored water in a zone."""

    __tablename__ = "tank_level"

    tank: Mapped[Str] = mapped_column(primary_key=True)
    read_at: Mapped[Instant] = mapped_column(primary_key=True)
    level_m: Mapped[Decimal] = mapped_column(Numeric)
    area_m2: Mapped[Decimal | None] = mapped_column(Numeric)
    zone: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"), index=True)


class BalanceRevision(Base):
    """A water balance as it was computed, with every input; a later computation is a new revision."""

    __tablename__ = "balance_revision"
    __table_args__ = (Index("ix_balance_revision_zone_period", "zone", "from_day", "to_day", "revision"),)

    id: Mapped[Id]
    zone: Mapped[str | None] = mapped_column(Text)
    from_day: Mapped[date]
    to_day: Mapped[date]
    revision: Mapped[int]
    inputs: Mapped[dict[str, Any]] = mapped_column(JSONB)
    results: Mapped[dict[str, Any]] = mapped_column(JSONB)
    computed_at: Mapped[Written]
    computed_by: Mapped[Str]
