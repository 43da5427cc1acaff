"""The shapes of the crew API, for the published description and for checking what devices send."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel


class ChangeItem(BaseModel):
    """One thing the device must store or remove."""

    type: Literal["work_order"]
    id: UUID
    rev: int | None
    op: Literal["upsert", "remove"]
    reason: Literal["deleted", "unassigned", "out_of_scope"] | None
    data: dict[str, Any] | None


class ChangePage(BaseModel):
    """A page of changes; ask again with `cursor` at once while `has_more`."""

    epoch: str
    cursor: str
    has_more: bool
    changes: list[ChangeItem]
