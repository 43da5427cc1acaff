"""Readings by HTTP, and what could not be trusted: the same pipeline as MQTT, answered item by item."""

import codecs
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from hub.api import raw_messages
from hub.auth import Principal
from hub.errors import BadInput, TooLarge
from hub.metering import decode, lookups, readings
from hub.metering.ledger import Message
from hub.models import Quarantine
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["readings"])
WRITERS = ("admin", "supervisor", "dispatcher", "billing")
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")


async def _bytes(request: Request) -> bytes:
    """The body as it came, up to the limit of a batch. Raises TooLarge."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > decode.MAX_BATCH_BYTES:
            raise TooLarge("A batch may have 10 MB.", remedy="Send it in parts.")
    return bytes(found)


_BATCH_SCHEMA = {
    "type": "object",
    "required": ["readings"],
    "properties": {
        "readings": {
            "type": "array",
            "maxItems": 10000,
            "items": {
                "type": "object",
                "required": ["value"],
                "properties": {
                    "device": {"type": "string", "description": "radio endpoint as registered; or name the meter"},
                    "meter": {"type": "string", "description": "serial, when there is no device"},
                    "register": {"type": "string", "default": "volume"},
                    "value": {"type": ["string", "number"], "description": "the register as it stands"},
                    "unit": {"type": "string", "description": "m3, l, gal, kgal, cf, ccf; default: the registry's"},
                    "measured_at": {"type": "string", "format": "date-time"},
                    "seq": {"type": "integer", "minimum": 0},
                    "flags": {"type": "array", "items": {"type": "string"}},
                },
            },
        }
    },
}


@router.post(
    "/readings",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BATCH_SCHEMA}}}},
)
def post_readings(session: Tx, body: Annotated[bytes, Depends(_bytes)], who: Principal = allow(*WRITERS)) -> Json:
    """Book a batch of readings; sending it again changes nothing.

    Every item has its outcome: `stored`, `duplicate`, `revised`, `unclaimed` (kept until its device is registered) or
    `quarantined` with a reason. A body that is not a batch is refused with 422 and not kept.
    """
    opened = decode.open_message("plain", "", body, max_bytes=decode.MAX_BATCH_BYTES)
    if opened.reason is not None:
        raise BadInput(
            f"The body is not a batch of readings: {opened.detail}.",
            field="body",
            reason=opened.reason,
            remedy='Send {"readings": [{"device", "value", "unit", "measured_at"}]}.',
        )
    batch = readings.receive(session, [Message(who.actor, "api/v1/readings", body, "plain")])
    items = [
        {"index": one.position, "outcome": one.outcome, "reason": one.reason, "detail": one.detail}
        for one in batch.results[0]
    ]
    return Json(
        {
            "stored": batch.count("stored") + batch.count("revised"),
            "duplicates": batch.count("duplicate"),
            "quarantined": batch.count("quarantined"),
            "unclaimed": batch.count("unclaimed"),
            "items": items,
        }
    )


class ReplayReason(BaseModel):
    """Which quarantine entries to read again."""

    reason: str = Field(min_length=1, max_length=100)
    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = Field(None, description="next_cursor of the call before: go on behind what it tried")


@router.get("/quarantine")
def list_quarantine(
    session: Tx,
    who: Principal = allow(*READERS),
    reason: str | None = None,
    device: str | None = None,
    resolved: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What could not be trusted, newest first, with the count of open entries per reason.

    `preview` is the beginning of the message, for those who may read messages.
    """
    after = UUID(_text(decode_cursor(cursor, 1)[0])) if cursor else None
    found = lookups.quarantine(session, reason=reason, device=device, resolved=resolved, after=after, limit=limit + 1)
    shown = found[:limit]
    begins = (
        lookups.previews(session, {entry.raw_id for entry in shown if entry.raw_id is not None})
        if who.role in raw_messages.READERS
        else {}
    )
    return Json(
        {
            "items": [_entry(entry) | {"preview": _preview(begins.get(entry.raw_id or 0))} for entry in shown],
            "next_cursor": encode_cursor(str(found[limit - 1].id)) if len(found) > limit else None,
            "counts": lookups.quarantine_counts(session),
        }
    )


@router.post("/quarantine/{entry_id}/replay")
def replay_quarantine_entry(
    entry_id: UUID, session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher")
) -> Json:
    """Read the message behind an entry again, under today's registry and decoders."""
    entry, batch = lookups.replay_entry(session, entry_id)
    return Json(_entry(entry) | {"stored": batch.count("stored") + batch.count("revised")})


@router.post("/quarantine/replay")
def replay_quarantine_by_reason(
    what: ReplayReason, session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher")
) -> Json:
    """Read the oldest messages quarantined for one reason again; `next_cursor` goes on to those behind them."""
    after = UUID(_text(decode_cursor(what.cursor, 1)[0])) if what.cursor else None
    tried, settled, last = lookups.replay_reason(session, what.reason, limit=what.limit, after=after)
    following = encode_cursor(str(last)) if last else None
    return Json({"tried": tried, "settled": settled, "next_cursor": following})


def _text(value: Any) -> str:
    """A cursor part that must be an id of ours. Raises BadInput."""
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise BadInput("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.") from None


def _preview(begin: bytes | None) -> str | None:
    """The beginning of a message as text where it is text, else its bytes in hexadecimal."""
    if begin is None:
        return None
    try:
        # a character may have been cut in two at the end
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return begin.hex(" ")
    return begin.hex(" ") if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text) else text


def _entry(entry: Quarantine) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "reason": entry.reason,
        "detail": entry.detail.get("text"),
        "device": entry.device,
        "meter": entry.meter,
        "register": entry.register,
        "value": entry.value,
        "measured_at": entry.measured_at,
        "received_at": entry.received_at,
        "source": entry.source,
        "raw_message": entry.raw_id,
        "status": "open" if entry.resolved_at is None else "resolved",
        "resolution": entry.resolution,
        "resolved_at": entry.resolved_at,
    }
