"""What a committed batch leaves for others to look into: who spoke, with which counter, alarm words and clock.

Writes one row of `arrival` per batch, in the pipeline's transaction, so that the hot path pays for one insert;
`hub.metering.watching` folds the rows into what follows from them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import orjson
from sqlalchemy.orm import Session

from adapters.contracts import Envelope, MeterReading
from hub.db import raw_of
from hub.errors import storable
from hub.metering import alarms, decode, devices
from hub.metering.booking import Row
from hub.metering.ledger import Message


class Heard(Protocol):
    """A message that went through the pipeline."""

    message: Message
    received_at: datetime
    adapter: str | None
    envelopes: list[Envelope]
    alarms: list[MeterReading]
    rows: list[Row]


def publisher(message: Message) -> str:
    """Who published a message: the head of its topic (`curbstop/v1/gw7`, `application/3`), else the door it came by."""
    if not message.source.startswith("mqtt:"):
        return message.source
    levels = message.topic.split("/")
    own = levels[:2] == ["curbstop", "v1"]
    return "/".join(levels[: 3 if own else 2] if len(levels) > 2 else levels[:1])


def note(session: Session, heard: Iterable[Heard]) -> None:
    """Leave one row about a batch of messages."""
    sightings: list[dict[str, Any]] = []
    gateways: dict[str, dict[str, Any]] = {}
    meters: dict[int, datetime] = {}
    for one in heard:
        name = publisher(one.message)
        known = gateways.setdefault(name, {"at": one.received_at, "seqs": []})
        known["at"] = max(known["at"], one.received_at)
        for envelope in one.envelopes:
            if envelope.device is None and envelope.counter is not None:
                known["seqs"].append(envelope.counter)
        for row in one.rows:
            before = meters.get(row.meter_id)
            if before is None or row.measured_at < before:
                meters[row.meter_id] = row.measured_at
        sightings += [{"publisher": name, "received": one.received_at} | found for found in _sightings(one)]
    leave(session, meters, sightings, gateways)


def leave(
    session: Session,
    meters: Mapping[int, datetime],
    sightings: Sequence[Mapping[str, Any]] = (),
    gateways: Mapping[str, Any] | None = None,
) -> None:
    """Leave word that `meters` (register id → first measured time) have new readings, and who was heard."""
    if not meters and not sightings and not gateways:
        return
    body = {"meters": list(meters.items()), "sightings": sightings, "gateways": gateways or {}}
    try:
        packed = orjson.dumps(body)
    except TypeError:
        # a lone surrogate in a name; only a stranger's message has one
        packed = orjson.dumps(storable(body))
    raw_of(session).execute("INSERT INTO arrival (body) VALUES (%b)", [packed])


def _sightings(one: Heard) -> Iterable[dict[str, Any]]:
    """One entry per device of a message."""
    found: dict[str, dict[str, Any]] = {}
    for envelope in one.envelopes:
        if envelope.device:
            entry = found.setdefault(devices.key(envelope.device), {})
            if envelope.counter is not None:
                entry["counter"] = envelope.counter
    newest: dict[str, Row] = {}
    for row in one.rows:
        if row.device is None:
            continue
        device = devices.key(row.device)
        if row.seq is not None:
            found.setdefault(device, {}).setdefault("seqs", []).append((row.seq, row.measured_at))
        best = newest.get(device)
        if best is None or _rank(row) > _rank(best):
            newest[device] = row
    for device, row in newest.items():
        flags = row.flags.split("\x1f") if row.flags else []
        historic = decode.HISTORIC in flags
        entry = found.setdefault(device, {})
        entry |= {"read": row.measured_at, "historic": historic, "words": alarms.words_of(flags)}
        if row.claimed_at is not None or (row.time_source != "receipt" and not historic):
            claimed = row.claimed_at or row.measured_at
            entry |= {"source": row.time_source, "offset": (claimed - one.received_at).total_seconds()}
    for alarm in one.alarms:
        if alarm.device is not None:
            entry = found.setdefault(devices.key(alarm.device), {})
            entry.setdefault("events", []).append(
                (alarm.measured_at or one.received_at, alarms.words_of(alarm.flags), decode.HISTORIC in alarm.flags)
            )
    for device, entry in found.items():
        yield {"device": device, "raw": one.message.raw_id, "adapter": one.adapter} | entry


def _rank(row: Row) -> tuple[bool, datetime]:
    """Current values before stored ones, the newest first."""
    return decode.HISTORIC not in row.flags, row.measured_at
