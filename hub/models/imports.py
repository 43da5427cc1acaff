"""Files brought in: how far each import is and what became of it, with every bad row of a refused one."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from hub.db import Base
from hub.models.columns import Id, Instant, Str, Written


class ImportRun(Base):
    """One import of one file, from its start on.

    `state`: waiting, running, done, refused (bad rows, in `ImportFault`), failed (`detail` says why). Of a process that
    was killed the row stays waiting or running while `beat_at`, in real time, grows old. `phase` is what is being done
    to rows (read, checked, staged, written), `done` of `total` of them.
    """

    __tablename__ = "import_run"
    __table_args__ = (CheckConstraint("state IN ('waiting', 'running', 'done', 'refused', 'failed')", name="state"),)

    id: Mapped[Id]
    kind: Mapped[Str]
    file: Mapped[Str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    by: Mapped[Str]
    state: Mapped[Str]
    phase: Mapped[str | None] = mapped_column(Text)
    done: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int] = mapped_column(server_default="0")
    started_at: Mapped[Instant]
    finished_at: Mapped[Instant | None]
    beat_at: Mapped[Written]
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    faults: Mapped[int] = mapped_column(server_default="0")
    detail: Mapped[str | None] = mapped_column(Text)


class ImportFault(Base):
    """Why a row of a refused file cannot be taken; `row` is null where the file as a whole is at fault."""

    __tablename__ = "import_fault"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("import_run.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    row: Mapped[int | None]
    column: Mapped[str | None] = mapped_column(Text)
    value: Mapped[str | None] = mapped_column(Text)
    problem: Mapped[Str]
    remedy: Mapped[Str]
