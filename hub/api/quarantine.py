"""What could not be trusted, over HTTP: listed, read again, dismissed with a reason, opened again."""

import codecs
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub.api import raw_messages, reading_shapes
from hub.api.network import after_id
from hub.auth import Principal
from hub.metering import quarantine
from hub.metering.quarantine import Chosen, State
from hub.models import Quarantine
from hub.web import Json, Tx, allow, encode_cursor

router = APIRouter(prefix="/api/v1/quarantine", tags=["readings"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
WRITERS = ("admin", "supervisor", "dispatcher")


class Entries(BaseModel):
    """Which entries are meant: all of a reason, of a device, or both."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, min_length=1, max_length=100, description="why they were put aside")
    device: str | None = Field(None, min_length=1, max_length=200)


class Replay(Entries):
    """Entries whose messages are read again."""

    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = Field(None, description="next_cursor of the call before: go on behind what it tried")


class Why(BaseModel):
    """Why nothing is to be done about an entry."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[str, Field(min_length=1, max_length=4000)]


class Dismissal(Entries):
    """Entries about which nothing is to be done, and why."""

    why: Annotated[str, Field(min_length=1, max_length=4000)]
    up_to: UUID | None = Field(None, description="the newest entry that was seen: what came after it stays open")


class Reopening(Entries):
    """Dismissed entries that are open again."""

    dismissed_at: AwareDatetime | None = Field(None, description="only those of the one dismissal that answered so")


@router.get("")
def list_quarantine(
    session: Tx,
    who: Principal = allow(*READERS),
    reason: str | None = None,
    device: str | None = None,
    state: State = "open",
    resolved: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What could not be trusted, newest first, with counts per reason: `counts` of the open entries, `dismissed`.

    `state` is `open`, `dismissed`, or `resolved` for everything that is settled (`resolved=true` says the same).
    `preview` is the beginning of the message, for those who may read messages.
    """
    found = quarantine.listed(
        session,
        Chosen(reason, device),
        state="resolved" if resolved and state == "open" else state,
        after=after_id(cursor),
        limit=limit + 1,
    )
    shown = found[:limit]
    begins = (
        quarantine.previews(session, {entry.raw_id for entry in shown if entry.raw_id is not None})
        if who.role in raw_messages.READERS
        else {}
    )
    counts = quarantine.counts(session, device)
    return Json(
        {
            "items": [_entry(entry) | {"preview": _preview(begins.get(entry.raw_id or 0))} for entry in shown],
            "next_cursor": encode_cursor(str(found[limit - 1].id)) if len(found) > limit else None,
            "counts": counts.open,
            "dismissed": counts.dismissed,
        }
    )


@router.post("/replay")
def replay_quarantine_by_reason(what: Replay, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Read the oldest messages quarantined for a reason or of a device again; `next_cursor` goes on behind them."""
    tried, settled, last = quarantine.replay_all(
        session, Chosen(what.reason, what.device), limit=what.limit, after=after_id(what.cursor)
    )
    return Json({"tried": tried, "settled": settled, "next_cursor": encode_cursor(str(last)) if last else None})


@router.post("/dismiss")
def dismiss_quarantine(what: Dismissal, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Say that nothing is to be done about the open entries of a reason or a device; they stay, with who and why.

    What arrives later is an entry of its own. `POST /api/v1/quarantine/reopen` with `dismissed_at` takes it back.
    """
    count, at = quarantine.dismiss_all(
        session, Chosen(what.reason, what.device, what.up_to), by=who.actor, why=what.why
    )
    return Json({"dismissed": count, "dismissed_at": at})


@router.post("/reopen")
def reopen_quarantine(what: Reopening, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Take the dismissal of entries of a reason or a device back."""
    at = None if what.dismissed_at is None else reading_shapes.known_instant(what.dismissed_at, "dismissed_at")
    chosen = Chosen(what.reason, what.device)
    return Json({"reopened": quarantine.reopen_all(session, chosen, by=who.actor, dismissed_at=at)})


@router.post("/{entry_id}/replay")
def replay_quarantine_entry(entry_id: UUID, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Read the message behind an entry, open or dismissed, again, under today's registry and decoders."""
    entry, batch = quarantine.replay(session, entry_id)
    return Json(_entry(entry) | {"stored": batch.count("stored") + batch.count("revised")})


@router.post("/{entry_id}/dismiss")
def dismiss_quarantine_entry(entry_id: UUID, what: Why, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Say that nothing is to be done about an entry; it stays, with who said so and why."""
    return Json(_entry(quarantine.dismiss(session, entry_id, by=who.actor, why=what.why)))


@router.post("/{entry_id}/reopen")
def reopen_quarantine_entry(entry_id: UUID, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Take the dismissal of an entry back."""
    return Json(_entry(quarantine.reopen(session, entry_id, by=who.actor)))


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
        "resolved_by": entry.resolved_by,
        "note": entry.note,
    }
