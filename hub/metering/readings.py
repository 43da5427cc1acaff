"""The one pipeline from messages to readings: keep what arrived, book what can be trusted, put aside what cannot.

Writes `raw_message`, `reading`, `quarantine`, `arrival` (and partitions, side registers, a change-log line for a
publisher that speaks for another's device) in the caller's transaction. A broker or client is answered only after that
commits.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.orm import Session

from adapters.contracts import DeviceConfig, Envelope, MeterReading, Refused
from hub import changes
from hub.db import raw_of
from hub.errors import storable_text
from hub.metering import arrivals, booking, decode, devices, ledger, partitions, sessions
from hub.metering.booking import Registry, Row
from hub.metering.known import Known
from hub.metering.ledger import Message

# What may become of a message, from what counts most; and a device of which nothing is known.
_WORDS = ("readings", "unclaimed", "quarantine", "ambiguous", "event_only", "no_reading")
_UNKNOWN = DeviceConfig()

Kind = Literal["stored", "duplicate", "revised", "quarantined", "unclaimed"]


@dataclass(slots=True)
class Result:
    """What became of one reading: `position` in its message, what happened, and why."""

    position: int
    outcome: Kind
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class Batch:
    """What became of a batch. `results` has one list per message; `repeats` counts messages already kept before.

    `asks` are messages (topic, payload) that ask senders to begin anew, to be published after the commit.
    """

    results: list[list[Result]] = field(default_factory=list)
    dispositions: list[str] = field(default_factory=list)
    repeats: int = 0
    asks: list[tuple[str, bytes]] = field(default_factory=list)

    def count(self, outcome: Kind) -> int:
        """How many readings ended so."""
        return sum(result.outcome == outcome for results in self.results for result in results)


@dataclass(slots=True)
class _Opened:
    """One message on its way through the pipeline."""

    message: Message
    index: int
    received_at: datetime
    adapter: str | None = None
    envelopes: list[Envelope] = field(default_factory=list)
    readings: list[MeterReading] = field(default_factory=list)
    alarms: list[MeterReading] = field(default_factory=list)
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    disposition: str = "no_reading"
    reason: str | None = None
    detail: str | None = None
    devices: set[str] = field(default_factory=set)
    unclaimed: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    skipped: bool = False

    @property
    def gateway(self) -> str | None:
        """Who published it: the third level of our own topics, which the broker's access list ties to the user."""
        parts = self.message.topic.split("/")
        return parts[2] if len(parts) == 4 and parts[:2] == ["curbstop", "v1"] else None


def receive(session: Session, messages: Sequence[Message], *, live: bool = True, known: Known | None = None) -> Batch:
    """Keep and book a batch of messages; nothing a stranger sends makes it raise.

    `live` readings are held against the time of their arrival; imports (`live=False`) may be of any past date. `known`
    is what the caller remembers of the registry from batch to batch.
    """
    known = known or Known()
    opened = _arrivals(session, messages, known)
    senders = _decode(session, opened, known, live=True)
    registry = _registry(session, opened, known)
    for one in opened:
        _judge(one, registry, live)
    _forget_repeats(session, opened)
    kept = [one for one in opened if not one.skipped]
    _keep_raw(session, kept)
    sessions.save(raw_of(session), senders)
    batch = Batch(results=[[] for _ in messages], dispositions=["repeated"] * len(messages))
    batch.asks = list(senders.asks.values())
    _book(session, kept, batch, replay=False)
    for one in opened:
        if not one.skipped:
            batch.dispositions[one.index] = one.disposition
        batch.repeats += one.skipped
    return batch


def replay(session: Session, raw_ids: Collection[int]) -> Batch:
    """Read kept messages again under today's registry and decoders; booked readings stay as they are.

    Quarantine entries of these messages whose reading is now booked are resolved as `replayed`.
    """
    messages = ledger.kept_messages(session, raw_ids)
    known = Known()
    opened = _arrivals(session, messages, known)
    _decode(session, opened, known)
    registry = _registry(session, opened, known)
    for one in opened:
        _judge(one, registry, live=True)
    batch = Batch(results=[[] for _ in messages], dispositions=[one.disposition for one in opened])
    _book(session, opened, batch, replay=True)
    ledger.rewrite_dispositions(
        session,
        [(one.message.raw_id or 0, one.received_at, one.disposition, one.reason, _sole_device(one)) for one in opened],
    )
    return batch


def judged_again(session: Session, raw_ids: Collection[int]) -> list[Row]:
    """What kept messages say under today's registry and decoders. Books nothing."""
    known = Known()
    opened = _arrivals(session, ledger.kept_messages(session, raw_ids), known)
    _decode(session, opened, known)
    registry = _registry(session, opened, known)
    for one in opened:
        # what people wrote down may be of any past date
        _judge(one, registry, live=not one.message.source.startswith(arrivals.BY_HAND))
    return [row for one in opened for row in one.rows]


def replay_device(session: Session, device: str, *, limit: int = 5000) -> Batch:
    """Book the messages that were kept while `device` was not registered; `replay_claimed` does what lies beyond."""
    return replay(session, ledger.unclaimed_ids(session, [devices.key(device)], limit))


def replay_claimed(session: Session, *, limit: int = 2000) -> int:
    """Book kept messages of devices that were registered since, whoever registered them. Returns how many were read."""
    ids = ledger.claimed_ids(session, limit)
    if ids:
        replay(session, ids)
    return len(ids)


def alarms_of(session: Session, raw_ids: Collection[int]) -> list[dict[str, Any]]:
    """The alarms in kept messages: `{at, alarms, raw_message}`; `at` is the arrival where the device gave no time."""
    known = Known()
    opened = _arrivals(session, ledger.kept_messages(session, raw_ids), known)
    _decode(session, opened, known)
    return [
        {"at": alarm.measured_at or one.received_at, "alarms": list(alarm.flags), "raw_message": one.message.raw_id}
        for one in opened
        for alarm in one.alarms
    ]


def keep_unread(session: Session, message: Message, reason: str) -> None:
    """Keep a message without reading it, with a quarantine entry of that reason."""
    one = _Opened(
        message, 0, _arrivals(session, [message], Known())[0].received_at, disposition="quarantine", reason=reason
    )
    _keep_raw(session, [one])
    ledger.put_aside(session, [_aside(one, Refused(reason, "kept unread"))], settle=())


# The third says how far the registry has come: no two of its states look the same (clean-up leaves the newest row).
_NOW = (
    "SELECT business_now(), coalesce((SELECT rate FROM clock), 1)::float8,"
    " (SELECT (count(*), min(id), max(id))::text FROM registry_change)"
)


def _arrivals(session: Session, messages: Sequence[Message], known: Known) -> list[_Opened]:
    """Each message with its arrival in business time: now, less the real time it waited, at the clock's rate."""
    found = raw_of(session).execute(_NOW).fetchone()
    assert found is not None
    now, rate, state = found
    known.as_of(state)
    here = time.monotonic()
    opened = []
    waiting: float | None = None
    at = now
    for index, message in enumerate(messages):
        if message.received is not None and message.received != waiting:
            # hundreds come with one read from the socket
            waiting = message.received
            at = now - timedelta(seconds=(here - waiting) * rate)
        arrived = message.received_at or (now if message.received is None else at)
        opened.append(_Opened(message, index, arrived))
    return opened


def _decode(session: Session, opened: Sequence[_Opened], known: Known, *, live: bool = False) -> sessions.Sessions:
    """Open every message, then decode its envelopes with what registry and memory say of their devices and senders.

    Only `live` messages, in order of arrival, teach the memory anything.
    """
    wanted: set[str] = set()
    for one in opened:
        limit = decode.MAX_MQTT_BYTES if one.message.source.startswith("mqtt:") else decode.MAX_BATCH_BYTES
        found = decode.open_message(one.message.adapter, one.message.topic, one.message.payload, max_bytes=limit)
        one.adapter, one.envelopes = found.adapter, found.envelopes
        if found.reason is not None:
            one.disposition, one.reason, one.detail = "quarantine", found.reason, found.detail
        for envelope in found.envelopes:
            wanted.update(devices.key(name) for name in (envelope.device, *envelope.aliases) if name)
    profiles = known.profiles(raw_of(session), wanted)
    senders = sessions.load(raw_of(session), (envelope for one in opened for envelope in one.envelopes), live=live)
    for one in opened:
        if one.reason is None:
            _decode_one(one, profiles, senders)
    return senders


def _decode_one(one: _Opened, known: dict[str, list[devices.Profile]], senders: sessions.Sessions) -> None:
    """What the message's envelopes hold; the disposition is that of the envelope with the most to say."""
    best = len(_WORDS)
    for envelope in one.envelopes:
        identity = devices.key(envelope.device) if envelope.device else None
        if identity is not None and envelope.aliases and identity not in known:
            # some networks name a device twice: the registry may know it by the other name
            envelope.device = next((name for name in envelope.aliases if devices.key(name) in known), envelope.device)
            identity = devices.key(envelope.device or "")
        entries: Sequence[devices.Profile] = ()
        if identity is not None:
            one.devices.add(identity)
            entries = known.get(identity, ())
        at = envelope.time or one.received_at
        config = next((entry.decoding for entry in entries if entry.covers(at)), _UNKNOWN)
        if envelope.session is not None:
            envelope.remembered = senders.of(envelope, one.received_at)
        _, decoded = decode.decode_envelope(envelope, config)
        if envelope.session is not None:
            senders.note(envelope, decoded, one.received_at, redelivered=one.message.redelivered)
        base = len(one.readings)
        decoded.readings = decode.dated(decoded.readings, one.received_at)
        decoded.readings, crowded = booking.of_channels(decoded, entries, at)
        one.refused += [(base + position, bad) for position, bad in crowded]
        if decoded.disposition == "readings" and not decoded.readings:
            decoded.disposition = "quarantine" if crowded else "no_reading"
            decoded.reason = crowded[0][1].reason if crowded else "other_channel"
        for reading in decoded.readings:
            if booking.is_alarm(reading):
                one.alarms.append(reading)
                continue
            one.readings.append(reading)
            if reading.device:
                one.devices.add(devices.key(reading.device))
        one.refused += [(base if bad.position is None else bad.position, bad) for bad in decoded.refused]
        word: str = decoded.disposition
        if word == "quarantine" and envelope.device and not entries:
            # nobody said how to read it: that is a device to claim, not a broken message
            word = "unclaimed"
        if (rank := _WORDS.index(word)) < best:
            best = rank
            one.disposition, one.reason, one.detail = word, decoded.reason, decoded.detail
    if one.disposition == "ambiguous":
        one.disposition, one.reason = "quarantine", one.reason or "ambiguous"


def _registry(session: Session, opened: Sequence[_Opened], known: Known) -> Registry:
    connection = raw_of(session)
    readings = [reading for one in opened for reading in one.readings]
    identities = {devices.key(reading.device) for reading in readings if reading.device}
    profiles = known.profiles(connection, identities)
    serials = {entry.meter for name in identities for entry in profiles.get(name, ())}
    serials |= {reading.meter for reading in readings if reading.meter}
    registry = known.registry(connection, serials)
    missing = booking.missing_registers(readings, registry)
    if missing:
        known.add(devices.add_registers(connection, missing))
    return registry


def _judge(one: _Opened, registry: Registry, live: bool) -> None:
    refused_positions = {position for position, _ in one.refused}
    position = 0
    for reading in one.readings:
        while position in refused_positions:
            position += 1
        verdict = booking.judge(
            reading,
            registry=registry,
            received_at=one.received_at,
            gateway=one.gateway,
            retained=one.message.retained,
            live=live,
        )
        if verdict is None:
            one.unclaimed.append(position)
        elif isinstance(verdict, Refused):
            one.refused.append((position, verdict))
        else:
            verdict.message, verdict.position = one.index, position
            one.rows.append(verdict)
        position += 1
    if one.unclaimed:
        one.disposition, one.reason = "unclaimed", "unregistered_device"
    elif one.disposition == "readings" and not one.rows:
        one.disposition, one.reason = "quarantine", one.refused[0][1].reason


def _sole_device(one: _Opened) -> str | None:
    """The one device a message is about; messages about several are found by their bytes."""
    return next(iter(one.devices)) if len(one.devices) == 1 else None


def _forget_repeats(session: Session, opened: list[_Opened]) -> None:
    """Skip what the broker delivers again although it was committed: same topic, same bytes, within a day."""
    doubtful = [one for one in opened if one.message.redelivered or one.message.retained]
    if doubtful:
        keys = [(_sole_device(one), one.message.topic, one.message.payload) for one in doubtful]
        for one, known in zip(
            doubtful, ledger.already_kept(session, keys, before=doubtful[0].received_at), strict=True
        ):
            one.skipped = known


def _keep_raw(session: Session, opened: Sequence[_Opened]) -> None:
    if not opened:
        return
    partitions.ensure(raw_of(session), "raw_message", partitions.months_of([one.received_at for one in opened]))
    ids = ledger.keep(
        session,
        [
            ledger.Raw(
                one.received_at,
                one.message.source,
                storable_text(one.message.topic),
                one.message.payload,
                one.adapter,
                _sole_device(one),
                one.message.retained,
                one.disposition,
                one.reason,
            )
            for one in opened
        ],
    )
    for one, raw_id in zip(opened, ids, strict=True):
        one.message.raw_id = raw_id


def _book(session: Session, opened: Sequence[_Opened], batch: Batch, *, replay: bool) -> None:
    """Store the rows of all messages, then put aside what was refused, with one result per reading."""
    by_index = {one.index: one for one in opened}
    rows = [row for one in opened for row in one.rows]
    partitions.ensure(raw_of(session), "reading", partitions.months_of([row.measured_at for row in rows]))
    verdicts = ledger.book(
        session,
        rows,
        raw_ids=[by_index[row.message].message.raw_id for row in rows],
        sources=[by_index[row.message].message.source for row in rows],
        received=[by_index[row.message].received_at for row in rows],
        count_repeats=not replay,
    )
    for row, (outcome, detail) in zip(rows, verdicts, strict=True):
        if outcome == "value_conflict":
            bad = Refused(
                "value_conflict", detail or "", row.device or row.meter, row.register, row.measured_at, str(row.value)
            )
            by_index[row.message].refused.append((row.position, bad))
        else:
            batch.results[row.message].append(Result(row.position, outcome))  # type: ignore[arg-type]
    aside: list[ledger.Aside] = []
    for one in opened:
        if one.disposition == "quarantine" and not one.refused:
            aside.append(_aside(one, Refused(one.reason or "unreadable", one.detail or "", _sole_device(one))))
        for position, bad in one.refused:
            batch.results[one.index].append(Result(position, "quarantined", bad.reason, bad.detail))
            aside.append(_aside(one, bad))
        unregistered = "no device or meter of that name is registered; the message is kept"
        batch.results[one.index] += [Result(p, "unclaimed", "unregistered_device", unregistered) for p in one.unclaimed]
        batch.results[one.index].sort(key=lambda result: result.position)
    ledger.put_aside(session, aside, settle={one.message.raw_id or 0 for one in opened} if replay else set())
    arrivals.note(session, opened)
    _report_impostors(session, opened)


def _aside(one: _Opened, bad: Refused) -> "ledger.Aside":
    return ledger.Aside(
        one.message.raw_id or 0,
        one.received_at,
        one.message.source,
        bad.device,
        bad.register,
        bad.measured_at,
        bad.value,
        bad.reason,
        bad.detail,
    )


def _report_impostors(session: Session, opened: Iterable[_Opened]) -> None:
    """A publisher that speaks for another's device is a security event, once per batch and device."""
    seen = {
        (one.gateway or "", bad.device or "")
        for one in opened
        for _, bad in one.refused
        if bad.reason == "wrong_gateway"
    }
    for gateway, device in sorted(seen):
        changes.record(
            session,
            actor=f"gateway:{gateway}",
            subject_type="device",
            subject_id=devices.key(device),
            verb="impersonated",
            detail={"gateway": gateway},
        )
