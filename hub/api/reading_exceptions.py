"""Flagged readings over HTTP: what the validation rules said, and how people settled it."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from hub.api import reading_shapes
from hub.api.network import after_id
from hub.auth import Principal
from hub.metering import exceptions
from hub.web import Config, Json, Tx, allow, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["readings"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")


class Verdict(BaseModel):
    """What a person decides about flagged readings."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["accept", "reject"]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


@router.get("/reading-exceptions")
def list_reading_exceptions(
    session: Tx,
    who: Principal = allow(*READERS),
    rule: str | None = None,
    status: Literal["open", "all"] = "open",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What the validation rules flagged, newest first, with the count of open ones per rule."""
    found = exceptions.listed(session, rule=rule, open_only=status == "open", after=after_id(cursor), limit=limit + 1)
    return Json(
        {
            "items": [exceptions.shown(*row) for row in found[:limit]],
            "next_cursor": encode_cursor(found[limit - 1][0].id) if len(found) > limit else None,
            "counts": exceptions.counts(session),
        }
    )


@router.get("/meters/{serial}/exceptions")
def list_meter_exceptions(
    serial: str,
    session: Tx,
    config: Config,
    who: Principal = allow(*READERS),
    status: Literal["open", "all"] = "open",
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What the validation rules flagged of one meter in [from, to), newest first."""
    found = exceptions.listed(
        session,
        serial=serial,
        open_only=status == "open",
        begins=reading_shapes.moment(from_, "from", config.zone),
        ends=reading_shapes.moment(to, "to", config.zone),
        after=after_id(cursor),
        limit=limit + 1,
    )
    following = encode_cursor(found[limit - 1][0].id) if len(found) > limit else None
    return Json({"items": [exceptions.shown(*row) for row in found[:limit]], "next_cursor": following})


@router.post("/reading-exceptions/{id}/settle")
def settle_reading_exception(
    id: UUID, what: Verdict, session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher", "billing")
) -> Json:
    """Accept or reject everything that one exception flagged, with the reason; the originals are kept."""
    found = exceptions.settle(session, id, verdict=what.action, by=who.actor, reason=what.reason)
    serial, register = exceptions.named(session, found)
    return Json(exceptions.shown(found, serial, register))
