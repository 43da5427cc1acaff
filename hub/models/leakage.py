"""Leaks seen in the inflow of zones, how far each zone was looked at, and what every repair saved."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import TIMESTAMP, CheckConstraint, ForeignKey, Index, Numeric, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Str, Volume, Written


class LeakEvent(Base):
    """A leak as far as flows tell. `kind`: burst, incipient, or over_threshold (a whole zone loses too much).

    `status`: open, closed (the flow fell back), dismissed (a person knew better). Sizes are m³/h with 95 % limits; of a
    closed event the last ones. `facts` hold what a person needs to check it, `order_id` the work it led to. All times
    are business time.
    """

    __tablename__ = "leak_event"
    __table_args__ = (
        Index("ix_leak_event_zone", "zone", "onset_at"),
        Index("ix_leak_event_open", "zone", postgresql_where=text("status = 'open'")),
        Index("ix_leak_event_order", "order_id", postgresql_where=text("order_id IS NOT NULL")),
        CheckConstraint("kind IN ('burst', 'incipient', 'over_threshold')", name="kind"),
        CheckConstraint("status IN ('open', 'closed', 'dismissed')", name="status"),
    )

    id: Mapped[Id]
    zone: Mapped[str] = mapped_column(Text, ForeignKey("zone.code"))
    kind: Mapped[Str]
    status: Mapped[Str] = mapped_column(server_default="open")
    onset_at: Mapped[Instant]
    detected_at: Mapped[Instant]
    grown_at: Mapped[Instant]
    closed_at: Mapped[Instant | None]
    size_m3h: Mapped[Decimal] = mapped_column(Numeric)
    low_m3h: Mapped[Decimal] = mapped_column(Numeric)
    high_m3h: Mapped[Decimal] = mapped_column(Numeric)
    baseline_m3h: Mapped[Decimal | None] = mapped_column(Numeric)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("work_order.id"))
    dismissed: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    written_at: Mapped[Written]


class LeakWatch(Base):
    """How far the inflow of a zone has been looked at for leaks, and what was wrong with its meters meanwhile."""

    __tablename__ = "leak_watch"

    zone: Mapped[str] = mapped_column(Text, ForeignKey("zone.code", ondelete="CASCADE"), primary_key=True)
    seen_until: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))
    known_share: Mapped[float]
    written_at: Mapped[Written]


class LossEntry(Base):
    """What one repair saved, as the inflow of its zone showed it afterwards.

    `drop_m3h` is the fall of the night flow with 95 % limits; `lost_m3` what had run out from the onset until the stop;
    `verdict`: verified, uncertain, not_seen. A provisional entry is written anew while nights are added.
    """

    __tablename__ = "loss_entry"
    __table_args__ = (
        Index("ix_loss_entry_zone", "zone", "stopped_at"),
        CheckConstraint("verdict IN ('verified', 'uncertain', 'not_seen')", name="verdict"),
    )

    order_id: Mapped[UUID] = mapped_column(ForeignKey("work_order.id"), primary_key=True)
    event_id: Mapped[UUID | None] = mapped_column(ForeignKey("leak_event.id"), index=True)
    zone: Mapped[str] = mapped_column(Text, ForeignKey("zone.code"))
    onset_at: Mapped[Instant | None]
    stopped_at: Mapped[Instant]
    before_m3h: Mapped[Volume]
    after_m3h: Mapped[Volume]
    drop_m3h: Mapped[Volume]
    low_m3h: Mapped[Volume]
    high_m3h: Mapped[Volume]
    predicted_m3h: Mapped[Decimal | None] = mapped_column(Numeric)
    found_m3h: Mapped[Decimal | None] = mapped_column(Numeric)
    lost_m3: Mapped[Decimal | None] = mapped_column(Numeric)
    saved_m3_per_day: Mapped[Volume]
    saved_per_day: Mapped[Decimal | None] = mapped_column(Numeric)
    currency: Mapped[str | None] = mapped_column(Text)
    verdict: Mapped[Str]
    provisional: Mapped[bool]
    nights: Mapped[dict[str, Any]] = mapped_column(JSONB)
    written_at: Mapped[Written]
