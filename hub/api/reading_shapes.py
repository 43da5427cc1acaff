"""How readings, registry entries and kept messages look in JSON, and the time parameters of their lists."""

import base64
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from hub.errors import BadInput, Malformed, NotFound
from hub.metering import lookups, revisions
from hub.metering.consumption import STEPS, Event, Step, Used
from hub.models import Device
from hub.web import decode_cursor, encode_cursor


def reading(row: Any) -> dict[str, Any]:
    """One reading; register values are decimal strings."""
    return {
        "meter": row.serial,
        "register": row.register,
        "measured_at": row.measured_at,
        "value": row.value,
        "unit": row.unit,
        "value_m3": row.value_m3,
        "quality": row.quality,
        "flags": row.flags,
        "time_source": row.time_source,
        "claimed_at": row.claimed_at,
        "clock_offset_s": round(((row.claimed_at or row.measured_at) - row.received_at).total_seconds(), 3),
        "source": row.source,
        "seq": row.seq,
        "repeats": row.repeats,
        "raw_message": row.raw_id,
        "received_at": row.received_at,
    }


def readings_page(rows: Any, limit: int) -> dict[str, Any]:
    """A page of readings, newest first; `rows` has one more than `limit` when there is a next page."""
    return {
        "items": [reading(row) for row in rows[:limit]],
        "next_cursor": encode_cursor(rows[limit - 1].measured_at.isoformat(), rows[limit - 1].meter_id)
        if len(rows) > limit
        else None,
    }


def after(cursor: str | None) -> tuple[datetime, int] | None:
    """The (instant, id) a page begins after. Raises Malformed."""
    if cursor is None:
        return None
    at, number = decode_cursor(cursor, 2)
    try:
        found = datetime.fromisoformat(at)
        if found.tzinfo is not None and type(number) is int and abs(number) < 2**62:
            return found, number
    except (TypeError, ValueError):
        pass
    raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")


def entry(device: Device) -> dict[str, Any]:
    """One registry entry."""
    return {
        "id": str(device.id),
        "device": device.device,
        "meter": device.meter,
        "register": device.register,
        "adapter": device.adapter,
        "decoder": device.decoder,
        "config": device.config,
        "unit": device.unit,
        "multiplier": device.multiplier,
        "register_modulus_m3": device.register_modulus_m3,
        "time_zone": device.time_zone,
        "revising": device.revising,
        "gateway": device.gateway,
        "valid_from": device.valid_from,
        "valid_to": device.valid_to,
    }


def raw_message(row: Any) -> dict[str, Any]:
    """One kept message: its text when it is text, and its bytes in base64."""
    payload = bytes(row.payload)
    try:
        shown: str | None = payload.decode("utf-8")
    except UnicodeDecodeError:
        shown = None
    return {
        "id": row.id,
        "received_at": row.received_at,
        "source": row.source,
        "topic": row.topic,
        "adapter": row.adapter,
        "retained": row.retained,
        "disposition": row.disposition,
        "reason": row.reason,
        "payload": shown,
        "payload_base64": base64.b64encode(payload).decode(),
    }


def with_revisions(session: Session, serial: str, register: str, at: datetime) -> dict[str, Any]:
    """One reading with its revisions, oldest first. Raises NotFound."""
    found = next((row for row in lookups.at(session, serial, at) if row.register == register), None)
    before = revisions.of(session, serial, register, at)
    if found is None and not before:
        raise NotFound("There is no reading of that instant.", field="measured_at", value=at.isoformat())
    return {
        "reading": None if found is None else reading(found),
        "revisions": [
            {
                "revision": one.revision,
                "value": one.value,
                "unit": one.unit,
                "value_m3": one.value_m3,
                "quality": one.quality,
                "flags": one.flags,
                "source": one.source,
                "raw_message": one.raw_id,
                "replaced_at": one.replaced_at,
                "replaced_by": one.by,
                "reason": one.reason,
            }
            for one in before
        ],
    }


def known_instant(value: datetime, name: str) -> datetime:
    """An instant of the calendar the hub works with, in UTC. Raises BadInput."""
    try:
        found = value.astimezone(UTC)
    except OverflowError:
        found = None
    if found is None or not 1900 <= found.year < 2200:
        raise BadInput(f"{name} lies outside the calendar.", field=name, remedy="Write e.g. 2026-05-04T06:00:00Z.")
    return found


def moment(value: str | None, name: str, zone: ZoneInfo) -> datetime | None:
    """A local day (its first instant) or an RFC 3339 time, in UTC. Raises BadInput."""
    if value is None:
        return None
    try:
        if len(value) == 10:
            day = date.fromisoformat(value)
            found = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        else:
            # a "+" that was not escaped in the address arrives as a space
            found = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
            found = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
        if 1900 <= found.year < 2200:
            return found
    except (ValueError, OverflowError):
        pass
    raise BadInput(f"{name} is neither a day nor a time.", field=name, value=value[:60], remedy="Write 2026-05-04.")


def period(begins: str, ends: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants of [from, to) as a question gives them, each as of `moment`. Raises BadInput."""
    first, last = moment(begins, "from", zone), moment(ends, "to", zone)
    assert first is not None and last is not None
    if last <= first:
        raise BadInput(
            "The time must end after it begins.", field="to", value=ends[:60], remedy="`to` is not included."
        )
    return first, last


def consumption(
    used: Sequence[Used], events: Sequence[Event], step: str, begins: datetime, ends: datetime
) -> dict[str, Any]:
    """Consumption by steps, volumes in m³; null and `missing` where no two readings embrace the time."""
    known = [one.volume_m3 for one in used if one.volume_m3 is not None]
    return {
        "step": step,
        "from": begins,
        "to": ends,
        "total_m3": round(float(sum(known)), 6) if known else None,
        "items": [
            {
                "from": one.begins,
                "to": one.ends,
                "volume_m3": None if one.volume_m3 is None else round(float(one.volume_m3), 6),
                "coverage": round(one.coverage, 4),
                "estimated": one.estimated,
                "missing": one.missing,
            }
            for one in used
        ],
        "events": [
            {"at": one.at, "kind": one.kind, "before_m3": float(one.before_m3), "after_m3": float(one.after_m3)}
            for one in events
        ],
        "next_cursor": None,
    }


def step_named(step: str) -> Step:
    """The step of that name. Raises BadInput."""
    for known in STEPS:
        if step == known:
            return known
    raise BadInput(f"There is no step {step[:40]!r}.", field="step", remedy="Use hour, day or month.")
