"""The metering network over HTTP: alarms, missing sequence numbers, gateways."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from hub.auth import Principal
from hub.errors import Malformed
from hub.metering import network
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["metering network"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
WRITERS = ("admin", "supervisor", "dispatcher")


class Reason(BaseModel):
    """Why somebody does this."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=1000)]


def after_id(cursor: str | None) -> UUID | None:
    """The id a page begins after. Raises Malformed."""
    if cursor is None:
        return None
    try:
        return UUID(str(decode_cursor(cursor, 1)[0]))
    except ValueError as error:
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.") from error


@router.get("/alarms")
def list_alarms(
    session: Tx,
    who: Principal = allow(*READERS),
    state: Literal["active", "cleared", "latched", "historic"] | None = None,
    type: str | None = None,
    device: str | None = None,
    meter: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """Alarms of devices and those derived from readings, as episodes, newest first."""
    found = network.alarms(
        session, state=state, type=type, device=device, meter=meter, after=after_id(cursor), limit=limit + 1
    )
    following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"items": [network.alarm_json(one) for one in found[:limit]], "next_cursor": following})


@router.post("/alarms/{id}/clear")
def clear_alarm(id: UUID, what: Reason, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """End an alarm by hand, with the reason; a later message with its word begins a new one."""
    return Json(network.alarm_json(network.clear_alarm(session, id, by=who.actor, reason=what.reason)))


@router.get("/gaps")
def list_gaps(
    session: Tx,
    who: Principal = allow(*READERS),
    kind: Literal["device", "gateway"] | None = None,
    subject: str | None = None,
    status: Literal["open", "all"] = "open",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """Sequence numbers that devices and gateways counted and the hub never received, newest first."""
    found = network.gaps(
        session, kind=kind, subject=subject, open_only=status == "open", after=after_id(cursor), limit=limit + 1
    )
    following = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"items": [network.gap_json(one) for one in found[:limit]], "next_cursor": following})


@router.post("/gaps/{id}/resend", status_code=202)
def ask_for_resend(id: UUID, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Ask the gateway over MQTT to send the missing messages again; what arrives closes the gap."""
    return Json(network.gap_json(network.ask_again(session, id, by=who.actor)), status_code=202)


@router.get("/gateways")
def list_gateways(
    session: Tx,
    who: Principal = allow(*READERS),
    silent_hours: Annotated[int, Query(ge=1, le=24 * 365)] = 24,
) -> Json:
    """Who publishes messages, when each was heard last, and how many of its devices are silent."""
    return Json({"items": network.gateways(session, silent_hours=silent_hours), "next_cursor": None})
