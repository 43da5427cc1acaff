"""What a committed batch leaves for others to look into: who spoke, with which counter, alarm words and clock.

Writes one row of `arrival` per batch, in the pipeline's transaction, so that the hot path pays for one insert;
`hub.metering.watching` folds the rows into what follows from them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import orjson
from sqlalchemy.orm import Session

from adapters.contracts import Envelope, MeterReading
from hub.db import raw_of
from hub.errors import storable
from hub.metering import alarms, decode, devices
from hub.metering.booking import Row
from hub.metering.ledger import Message

# What people read from a dial comes from no gateway.
BY_HAND = ("order:", "exchange:")
# A list, not an object: there are thousands in a row, and their bytes are what the hot path pays for.
Sighting = list[Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Heard(Protocol):
    """A message that went through the pipeline."""

    message: Message
    received_at: datetime
    adapter: str | None
    envelopes: list[Envelope]
    alarms: list[MeterReading]
    rows: list[Row]


@lru_cache(maxsize=65_536)
def publisher(source: str, topic: str) -> str:
    """Who published a message: the head of its topic (`curbstop/v1/gw7`, `application/3`), else the door it came by."""
    if not source.startswith("mqtt:"):
        return source
    levels = topic.split("/")
    own = levels[:2] == ["curbstop", "v1"]
    return "/".join(levels[: 3 if own else 2] if len(levels) > 2 else levels[:1])


def note(session: Session, heard: Iterable[Heard]) -> None:
    """Leave one row about a batch of messages."""
    sightings: list[Sighting] = []
    gateways: dict[str, list[Any]] = {}
    meters: dict[int, datetime] = {}
    for one in heard:
        for row in one.rows:
            before = meters.get(row.meter_id)
            if before is None or row.measured_at < before:
                meters[row.meter_id] = row.measured_at
        if one.message.source.startswith(BY_HAND):
            continue
        name = publisher(one.message.source, one.message.topic)
        known = gateways.get(name)
        if known is None:
            known = gateways[name] = [one.received_at, []]
        elif one.received_at > known[0]:
            known[0] = one.received_at
        for envelope in one.envelopes:
            if envelope.device is None and envelope.counter is not None:
                known[1].append(envelope.counter)
        _sight(sightings, one, name)
    _leave(session, meters, sightings, gateways)


def _leave(
    session: Session, meters: Mapping[int, datetime], sightings: list[Sighting], gateways: Mapping[str, list[Any]]
) -> None:
    if not meters and not sightings and not gateways:
        return
    body = {
        "meters": [(meter_id, micros(at)) for meter_id, at in meters.items()],
        "sightings": sightings,
        "gateways": [(name, micros(at), seqs) for name, (at, seqs) in gateways.items()],
    }
    try:
        packed = orjson.dumps(body)
    except TypeError:
        # a lone surrogate in a name; only a stranger's message has one
        packed = orjson.dumps(storable(body))
    raw_of(session).execute("INSERT INTO arrival (body) VALUES (%b)", [packed])


def micros(at: datetime) -> int:
    """Microseconds since 1970: a third of the bytes of a date in words, and quicker written."""
    return round(at.timestamp() * 1_000_000)


def instant(value: int) -> datetime:
    """The reverse of `micros`."""
    return _EPOCH + timedelta(microseconds=value)


def _sight(sightings: list[Sighting], one: Heard, name: str) -> None:
    """One entry per device of a message."""
    rows, envelopes = one.rows, one.envelopes
    if len(rows) == 1 and len(envelopes) == 1 and not one.alarms and rows[0].device is not None:
        # the usual message: one reading of one device, named by the network or by our own gateway
        device, named = devices.key(rows[0].device), envelopes[0].device
        if named is None or devices.key(named) == device:
            sightings.append(_told(one, name, device, None if named is None else envelopes[0].counter, rows, None))
            return
    counters = {devices.key(e.device): e.counter for e in one.envelopes if e.device}
    mine: dict[str, list[Row]] = {}
    for row in rows:
        if row.device is not None:
            mine.setdefault(devices.key(row.device), []).append(row)
    events: dict[str, list[tuple[int, tuple[str, ...], bool]]] = {}
    for alarm in one.alarms:
        if alarm.device is not None:
            at = micros(alarm.measured_at or one.received_at)
            word = (at, alarms.words_of(alarm.flags), decode.HISTORIC in alarm.flags)
            events.setdefault(devices.key(alarm.device), []).append(word)
    for device in {**mine, **counters, **events}:
        sightings.append(_told(one, name, device, counters.get(device), mine.get(device, []), events.get(device)))


def _told(one: Heard, name: str, device: str, counter: int | None, rows: list[Row], events: Any) -> Sighting:
    told: Sighting = [device, name, micros(one.received_at), one.message.raw_id, one.adapter, counter, events]
    if not rows:
        return told
    newest = rows[0] if len(rows) == 1 else max(rows, key=_rank)
    flags = newest.flags.split("\x1f") if newest.flags else ()
    words = alarms.words_of(flags) if flags else ()
    claimed = None if newest.claimed_at is None else micros(newest.claimed_at)
    told += [micros(newest.measured_at), decode.HISTORIC in flags, words, newest.time_source]
    told += [claimed, [(row.seq, micros(row.measured_at)) for row in rows if row.seq is not None]]
    return told


def opened(told: Sighting) -> dict[str, Any]:
    """One entry as `watching` reads it; `offset` (seconds) where the device's own time was told."""
    device, name, received, raw_id, adapter, counter, events, *newest = told
    found = {"device": device, "publisher": name, "received": instant(received), "raw": raw_id, "adapter": adapter}
    found["seqs"] = []
    found["events"] = [(instant(at), tuple(words), historic) for at, words, historic in events or ()]
    if counter is not None:
        found["counter"] = counter
    if newest:
        read, historic, words, source, claimed, seqs = newest
        found |= {"read": instant(read), "historic": historic, "words": tuple(words)}
        found["seqs"] = [(seq, instant(at)) for seq, at in seqs]
        if claimed is not None or (source != "receipt" and not historic):
            found |= {"source": source, "offset": ((claimed or read) - received) / 1_000_000}
    return found


def _rank(row: Row) -> tuple[bool, datetime]:
    """Current values before stored ones, the newest first."""
    return decode.HISTORIC not in row.flags, row.measured_at
