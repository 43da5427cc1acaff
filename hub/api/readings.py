"""Readings by HTTP: the same pipeline as MQTT, answered item by item."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from hub.auth import Principal
from hub.errors import BadInput, TooLarge
from hub.metering import decode, readings
from hub.metering.ledger import Message
from hub.web import Json, Tx, allow

router = APIRouter(prefix="/api/v1", tags=["readings"])
WRITERS = ("admin", "supervisor", "dispatcher", "billing")


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
