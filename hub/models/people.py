"""People and programs that use the hub: users, their sessions, API tokens, crews."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Json, JsonList, Str, Written

ROLES = ("admin", "supervisor", "dispatcher", "crew", "billing", "analyst")
_ROLE_CHECK = f"role IN ({', '.join(repr(r) for r in ROLES)})"


class User(Base):
    """A person who signs in to the console. The e-mail address is kept in lower case."""

    __tablename__ = "user_account"
    __table_args__ = (CheckConstraint(_ROLE_CHECK, name="role"),)

    id: Mapped[Id]
    email: Mapped[Str] = mapped_column(unique=True)
    name: Mapped[Str]
    role: Mapped[Str]
    password_hash: Mapped[Str]
    created_at: Mapped[Written]
    disabled_at: Mapped[Instant | None]


class WebSession(Base):
    """A console session; the cookie holds the token, the row only its SHA-256."""

    __tablename__ = "web_session"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[Str]
    created_at: Mapped[Written]
    expires_at: Mapped[Instant]


class SignInAttempt(Base):
    """One failed sign-in, for the limits per account and per address."""

    __tablename__ = "sign_in_attempt"
    __table_args__ = (
        Index("ix_sign_in_attempt_email_at", "email", "at"),
        Index("ix_sign_in_attempt_address_at", "address", "at"),
    )

    id: Mapped[Id]
    at: Mapped[Written]
    email: Mapped[Str]
    address: Mapped[Str]


class Crew(Base):
    """People who drive out together. `last_sync_at` (real time) is when one of their devices last asked for changes."""

    __tablename__ = "crew"

    id: Mapped[Id]
    name: Mapped[Str] = mapped_column(unique=True)
    phone: Mapped[Str | None]
    skills: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")
    members: Mapped[JsonList]
    shifts: Mapped[JsonList]
    active: Mapped[bool] = mapped_column(server_default="true")
    last_sync_at: Mapped[Instant | None]
    position: Mapped[Json | None]
    created_at: Mapped[Written]


class ApiToken(Base):
    """A program's key: shown once, kept as SHA-256. A crew token acts for one crew, a billing token for one source."""

    __tablename__ = "api_token"
    __table_args__ = (CheckConstraint(_ROLE_CHECK, name="role"),)

    id: Mapped[Id]
    name: Mapped[Str]
    role: Mapped[Str]
    prefix: Mapped[Str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    crew_id: Mapped[UUID | None] = mapped_column(ForeignKey("crew.id"))
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("billing_source.id"))
    created_at: Mapped[Written]
    expires_at: Mapped[Instant | None]
    revoked_at: Mapped[Instant | None]
