"""Kept messages over HTTP: their bytes, and how they are read, step by step."""

from typing import Annotated

from fastapi import APIRouter, Path

from hub.api import reading_shapes
from hub.auth import Principal
from hub.metering import lookups
from hub.web import Json, Tx, allow

router = APIRouter(prefix="/api/v1/raw-messages", tags=["readings"])
READERS = ("admin", "supervisor", "dispatcher", "analyst")
# A batch over HTTP may hold thousands of values; the first ones show how the message is read.
SHOWN_VALUES = 200


@router.get("/{id}")
def get_raw_message(id: Annotated[int, Path(ge=0, lt=2**63)], session: Tx, who: Principal = allow(*READERS)) -> Json:
    """One message as it arrived, and what it becomes under today's registry: `decoded` has steps, values and reason.

    Nothing is booked by looking. At most the first 200 values and steps are listed; `values` counts them all.
    """
    found = lookups.raw_message(session, id)
    decoded = lookups.decoded(session, found)
    return Json(
        reading_shapes.raw_message(found)
        | {
            "device": found.device,
            "decoded": decoded
            | {
                "values": len(decoded["readings"]),
                "steps": decoded["steps"][:SHOWN_VALUES],
                "readings": decoded["readings"][:SHOWN_VALUES],
            },
        }
    )
