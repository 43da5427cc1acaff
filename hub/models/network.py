"""The network and its places: zones, mains, service points, and what a place is like."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, Text
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Instant, Str, Volume, Written


class Zone(Base):
    """A district metered area: a polygon over which water is balanced. `parent` names the zone it is part of.

    Boundary, parent, pressure and private pipes hold over local days [valid_from, valid_to); null: always. What held
    before is in `FormerBoundary`.
    `private_pipe_m` is the mean length of pipe between the kerb and the meter.
    """

    __tablename__ = "zone"

    code: Mapped[Str] = mapped_column(primary_key=True)
    name: Mapped[Str]
    parent: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"))
    pressure_m: Mapped[Decimal | None] = mapped_column(Numeric)
    private_pipe_m: Mapped[Decimal | None] = mapped_column(Numeric)
    valid_from: Mapped[date | None]
    valid_to: Mapped[date | None]
    geometry: Mapped[WKBElement] = mapped_column(Geometry("MULTIPOLYGON", srid=4326))
    changed_at: Mapped[Written]


class FormerBoundary(Base):
    """A boundary a zone had over local days [valid_from, valid_to), before the present one; null: from the first.

    With the parent, the pressure and the private pipes it had then.
    """

    __tablename__ = "former_boundary"
    __table_args__ = (CheckConstraint("valid_from IS NULL OR valid_to > valid_from", name="order"),)

    zone: Mapped[str] = mapped_column(Text, ForeignKey("zone.code", ondelete="CASCADE"), primary_key=True)
    valid_to: Mapped[date] = mapped_column(primary_key=True)
    valid_from: Mapped[date | None]
    parent: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code", ondelete="SET NULL"))
    pressure_m: Mapped[Decimal | None] = mapped_column(Numeric)
    private_pipe_m: Mapped[Decimal | None] = mapped_column(Numeric)
    geometry: Mapped[WKBElement] = mapped_column(Geometry("MULTIPOLYGON", srid=4326, spatial_index=False))


class ZoneMembership(Base):
    """In which zone a place lay when, derived from the boundaries; kept only for places that changed their zone.

    Any other place lies in `service_point.zone` and always has.
    """

    __tablename__ = "zone_membership"

    service_point: Mapped[str] = mapped_column(
        Text, ForeignKey("service_point.id", ondelete="CASCADE"), primary_key=True
    )
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    valid_to: Mapped[date]
    zone: Mapped[str] = mapped_column(Text, ForeignKey("zone.code", ondelete="CASCADE"), index=True)


class Main(Base):
    """A pipe of the distribution network."""

    __tablename__ = "main"

    id: Mapped[Str] = mapped_column(primary_key=True)
    diameter_mm: Mapped[Decimal | None] = mapped_column(Numeric)
    material: Mapped[str | None] = mapped_column(Text)
    installed_on: Mapped[date | None]
    geometry: Mapped[WKBElement] = mapped_column(Geometry("MULTILINESTRING", srid=4326))
    changed_at: Mapped[Written]


class ServicePoint(Base):
    """A place where water is delivered. `zone` follows from the geometry whenever zones or points are imported."""

    __tablename__ = "service_point"
    __table_args__ = (
        Index(
            "ix_service_point_address_search",
            "address",
            postgresql_using="gin",
            postgresql_ops={"address": "gin_trgm_ops"},
        ),
    )

    id: Mapped[Str] = mapped_column(primary_key=True)
    address: Mapped[Str]
    premise_class: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int | None]
    occupancy: Mapped[str | None] = mapped_column(Text)
    access: Mapped[str | None] = mapped_column(Text)
    hazard: Mapped[str | None] = mapped_column(Text)
    meter_place: Mapped[str | None] = mapped_column(Text)
    valve_place: Mapped[str | None] = mapped_column(Text)
    critical: Mapped[bool] = mapped_column(server_default="false")
    zone: Mapped[str | None] = mapped_column(Text, ForeignKey("zone.code"), index=True)
    geometry: Mapped[WKBElement] = mapped_column(Geometry("POINT", srid=4326))
    changed_at: Mapped[Written]


class PlaceFact(Base):
    """One of the three facts about a place: `valve`, `meter` or `lock`, with since when, by which order, and why.

    `reason` is one of nonpayment, customer_wish, vacant, leak, unsafe, unknown; `account` says whose nonpayment.
    A fact without a row is `unknown`.
    """

    __tablename__ = "place_fact"
    __table_args__ = (
        CheckConstraint(
            "(fact = 'valve' AND state IN ('open', 'closed', 'restricted', 'unknown'))"
            " OR (fact = 'meter' AND state IN ('in_place', 'removed', 'none', 'unknown'))"
            " OR (fact = 'lock' AND state IN ('on', 'off', 'unknown'))",
            name="state",
        ),
    )

    service_point: Mapped[str] = mapped_column(
        Text, ForeignKey("service_point.id", ondelete="CASCADE"), primary_key=True
    )
    fact: Mapped[Str] = mapped_column(primary_key=True)
    state: Mapped[Str]
    since: Mapped[Instant]
    order_id: Mapped[UUID | None]
    reason: Mapped[str | None] = mapped_column(Text)
    account: Mapped[str | None] = mapped_column(Text)


class UnbilledUse(Base):
    """Authorised water that no meter saw and nobody is billed for: flushing, fire fighting, filling a main."""

    __tablename__ = "unbilled_use"

    id: Mapped[Str] = mapped_column(primary_key=True)
    at: Mapped[Instant] = mapped_column(index=True)
    purpose: Mapped[Str]
    volume_m3: Mapped[Volume]
    geometry: Mapped[WKBElement] = mapped_column(Geometry("POINT", srid=4326, spatial_index=False))
    recorded_at: Mapped[Written]
