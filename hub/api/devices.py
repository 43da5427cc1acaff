"""The device registry: which radio endpoint reports which meter, what it sent, and who sends without being known."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub.api import reading_shapes
from hub.auth import Principal
from hub.metering import devices, lookups, network, readings, rebooking
from hub.web import Config, Json, Tx, allow, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1/devices", tags=["devices"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
WRITERS = ("admin", "supervisor", "dispatcher")


class NewDevice(BaseModel):
    """A registry entry; what it leaves out is unknown, never assumed."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(min_length=1, max_length=200)
    meter: str = Field(min_length=1, max_length=200)
    register_: str = Field("volume", alias="register", min_length=1, max_length=60)
    adapter: str | None = Field(None, max_length=60)
    decoder: str | None = Field(None, max_length=60)
    config: dict[str, Any] | None = Field(None, description="the decoder's own settings, e.g. a mapping")
    unit: str | None = Field(None, max_length=40)
    multiplier: Decimal | None = Field(None, description="what one count of the register means, in unit")
    register_modulus_m3: Decimal | None = Field(None, description="the volume after which the register restarts")
    time_zone: str | None = Field(None, max_length=60, description="of local times the device sends without an offset")
    revising: bool | None = Field(None, description="a later value for the same instant replaces the earlier one")
    gateway: str | None = Field(None, max_length=200, description="the one publisher that may speak for the device")
    valid_from: AwareDatetime | None = None


@router.get("")
def list_devices(
    session: Tx,
    who: Principal = allow(*READERS),
    meter: str | None = None,
    unclaimed: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """The registry, or with `unclaimed=true` the devices that report without being registered."""
    if unclaimed:
        return Json({"items": lookups.unclaimed(session, limit=limit), "next_cursor": None})
    after = str(decode_cursor(cursor, 1)[0]) if cursor else None
    found = devices.listed(session, after=after, meter=meter, limit=limit + 1)
    more = len(found) > limit
    # all entries of one device stand on the same page
    shown = [one for one in found[:limit] if not more or one.device != found[limit].device] or found[:limit]
    return Json(
        {
            "items": [reading_shapes.entry(one) for one in shown],
            "next_cursor": encode_cursor(shown[-1].device) if more else None,
        }
    )


@router.post("", status_code=201)
def create_device(what: NewDevice, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Register a device, or say what changed about it from `valid_from` on; messages kept until now are booked.

    The `valid_from` of an entry that exists corrects that entry: readings it concerns are booked anew from their
    messages, with what they were kept as revisions. A thousand messages are read at once, the rest by the worker.
    """
    begins = None if what.valid_from is None else reading_shapes.known_instant(what.valid_from, "valid_from")
    fields = what.model_dump(exclude={"register_", "valid_from"})
    made = devices.register(session, by=who.actor, register=what.register_, valid_from=begins, **fields)
    replayed = readings.replay_device(session, made.device)
    again = rebooking.run(session, device=made.device) or 0
    session.refresh(made)
    return Json(
        reading_shapes.entry(made)
        | {"booked": replayed.count("stored"), "messages_read_again": len(replayed.results) + again},
        status_code=201,
    )


@router.get("/{device}")
def get_device(device: str, session: Tx, who: Principal = allow(*READERS)) -> Json:
    """The registry entries of one device, oldest first, what it has shown of itself, and its missing numbers."""
    found = devices.entries_of(session, device)
    return Json(
        {
            "device": devices.key(device),
            "items": [reading_shapes.entry(one) for one in found],
            "state": network.state_of(session, device),
            "gaps": [network.gap_json(gap) for gap in network.gaps(session, kind="device", subject=device)],
            "next_cursor": None,
        }
    )


@router.get("/{device}/readings")
def list_device_readings(
    device: str,
    session: Tx,
    config: Config,
    who: Principal = allow(*READERS),
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Readings a device brought to its meters, newest first."""
    rows = lookups.of_device(
        session,
        device,
        begins=reading_shapes.moment(from_, "from", config.zone),
        ends=reading_shapes.moment(to, "to", config.zone),
        after=reading_shapes.after(cursor),
        limit=limit + 1,
    )
    return Json(reading_shapes.readings_page(rows, limit))


@router.get("/{device}/alarms")
def list_device_alarms(
    device: str,
    session: Tx,
    who: Principal = allow(*READERS),
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """Alarm words a device sent, newest first, with the readings and alone, and the episodes they make."""
    episodes = network.alarms(session, device=device, limit=limit)
    return Json(
        {
            "items": lookups.alarms(session, device, limit=limit),
            "episodes": [network.alarm_json(one) for one in episodes],
            "next_cursor": None,
        }
    )


@router.get("/{device}/raw-messages")
def list_device_raw_messages(
    device: str,
    session: Tx,
    who: Principal = allow("admin", "supervisor", "dispatcher", "analyst"),
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What a device sent, byte for byte, newest first; also of devices nobody registered yet."""
    rows = lookups.raw_messages(session, device, after=reading_shapes.after(cursor), limit=limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    return Json(
        {
            "items": [reading_shapes.raw_message(row) for row in rows[:limit]],
            "next_cursor": encode_cursor(last.received_at.isoformat(), last.id) if last is not None else None,
        }
    )
