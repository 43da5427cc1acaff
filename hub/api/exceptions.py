"""What waits for a person, over HTTP: lists with both sides of each matter, and how it was settled."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from hub.api.once import remember, replaying
from hub.api.work_shapes import exception_json
from hub.auth import Principal
from hub.errors import Malformed
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor
from hub.work import exceptions

router = replaying(prefix="/api/v1/exceptions", tags=["work"])
PEOPLE = ("admin", "supervisor", "dispatcher")


class Settlement(BaseModel):
    """What was done about it."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=4000)]


@router.get("", name="list_exceptions")
def list_exceptions(
    session: Tx,
    who: Principal = allow(*PEOPLE),
    status: Literal["open", "all"] = "open",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Exceptions, newest first; those that are settled only with `status=all`."""
    after = None
    if cursor is not None:
        try:
            after = UUID(str(decode_cursor(cursor, 1)[0]))
        except ValueError as error:
            raise Malformed(
                "The cursor is not one of ours.", field="cursor", remedy="Start without a cursor."
            ) from error
    found = exceptions.listed(session, open_only=status == "open", after=after, limit=limit + 1)
    following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"items": [exception_json(one) for one in found[:limit]], "next_cursor": following})


@router.post("/{id}/resolve", name="resolve_exception")
def resolve_exception(session: Tx, id: UUID, body: Settlement, who: Principal = allow(*PEOPLE)) -> Json:
    """Say how a matter was settled."""
    return remember(session, Json(exception_json(exceptions.resolve(session, id, by=who.actor, text=body.text))))
