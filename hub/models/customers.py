"""Customers as billing tells them: accounts, where they live when, and every fact of an account by itself."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Str, Written


class Account(Base):
    """A customer's account at one billing system; the row whose lock orders everything about the account.

    `seq_seen` is the highest consecutive number of the account without a gap below it (from the first one seen on),
    `seq_highest` the highest seen at all: different values mean that an event is missing.
    """

    __tablename__ = "account"
    __table_args__ = (
        Index("ix_account_name_search", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )

    number: Mapped[Str] = mapped_column(primary_key=True)
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("billing_source.id"))
    status: Mapped[Str] = mapped_column(server_default="active")
    name: Mapped[str | None] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    language: Mapped[str | None] = mapped_column(Text)
    seq_seen: Mapped[int | None] = mapped_column(BigInteger)
    seq_highest: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[Written]


class Occupancy(Base):
    """An account at a service point over local days [since, until)."""

    __tablename__ = "occupancy"
    __table_args__ = (
        Index("uq_occupancy_account_service_point_since", "account", "service_point", "since", unique=True),
        Index("ix_occupancy_service_point", "service_point"),
        CheckConstraint("until IS NULL OR until >= since", name="order"),
    )

    id: Mapped[Id]
    account: Mapped[str] = mapped_column(Text, ForeignKey("account.number"))
    service_point: Mapped[str] = mapped_column(Text, ForeignKey("service_point.id"))
    since: Mapped[date]
    until: Mapped[date | None]
    billing_zone: Mapped[str | None] = mapped_column(Text)


class AccountFact(Base):
    """The newest word of billing on one fact of an account.

    `fact` is `debt`, `hold:<kind>`, `notice:<channel>`, `occupancy:<service point>`, `request:<reference>`, …; a later
    word supersedes only the same fact. `seq` orders words that carry one, `at` those that do not.
    """

    __tablename__ = "account_fact"

    account: Mapped[str] = mapped_column(Text, ForeignKey("account.number"), primary_key=True)
    fact: Mapped[Str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSONB)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[Instant]
    event_id: Mapped[UUID | None]
    recorded_at: Mapped[Written]
