"""The set-based statements under `readings`: raw messages in, readings in, repeats counted, conflicts put aside.

Writes `raw_message`, `reading` and `quarantine` in the caller's transaction, by plain psycopg: this is the hot path.
Many rows travel by COPY, few as binary arrays (`unnest`); readings are written in the order of their key, so that
writers who meet wait for each other and never deadlock.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from hub.db import new_id, raw_of
from hub.errors import storable_text
from hub.metering.booking import Row

# How long a broker may take to deliver again what we already committed.
_REDELIVERY = timedelta(days=1)


@dataclass(slots=True)
class Message:
    """What arrived, untouched.

    `source` says through which door (`mqtt:curbstop`, `token:head-end`, `import`). `received` is the arrival on this
    process's monotonic clock, None for "now". `redelivered` marks what the broker says it may have delivered before. A
    kept message that is read again has its `raw_id` and `received_at` (business time).
    """

    source: str
    topic: str
    payload: bytes
    adapter: str | None
    received: float | None = None
    retained: bool = False
    redelivered: bool = False
    raw_id: int | None = None
    received_at: datetime | None = None


class Raw(NamedTuple):
    """One row of `raw_message`, without its id."""

    received_at: datetime
    source: str
    topic: str
    payload: bytes
    adapter: str | None
    device: str | None
    retained: bool
    disposition: str
    reason: str | None


# Rows are copied here and moved on in one statement; what it holds is gone with the transaction.
_STAGING = """
CREATE TEMP TABLE IF NOT EXISTS staged_reading (
    position int4, meter_id int4, measured_at timestamptz, value numeric, unit text, value_m3 numeric, quality text,
    flags text, time_source text, claimed_at timestamptz, source text, seq int8, raw_id int8, received_at timestamptz
) ON COMMIT DELETE ROWS
"""
_STAGED_TYPES = ("int4", "int4", "timestamptz", "numeric", "text", "numeric", "text", "text", "text", "timestamptz",
                 "text", "int8", "int8", "timestamptz")  # fmt: skip
# In the order of the key, so that two writers who meet wait for each other and never deadlock.
_STORE_STAGED = """
WITH stored AS (
    INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, quality, flags, time_source, claimed_at, source,
        seq, raw_id, received_at)
    SELECT meter_id, measured_at, value, unit, value_m3, quality, string_to_array(flags, E'\\x1f'), time_source,
           claimed_at, source, seq, raw_id, received_at
    FROM staged_reading WHERE position >= %(first)s ORDER BY meter_id, measured_at
    ON CONFLICT (meter_id, measured_at) DO NOTHING RETURNING meter_id, measured_at
)
SELECT position - %(first)s FROM staged_reading LEFT JOIN stored USING (meter_id, measured_at)
WHERE position >= %(first)s AND stored.meter_id IS NULL
"""
_RAW_TYPES = ("int8", "timestamptz", "text", "text", "bytea", "text", "text", "bool", "text", "text")


class Aside(NamedTuple):
    """One row of `quarantine`, without its id."""

    raw_id: int
    received_at: datetime
    source: str
    device: str | None
    register: str | None
    measured_at: datetime | None
    value: str | None
    reason: str
    detail: str


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def keep(session: Session, rows: Sequence[Raw]) -> list[int]:
    """Store raw messages; their ids, in order. The partitions must exist."""
    connection = raw_of(session)
    found = connection.execute(
        "SELECT nextval('raw_message_id_seq') FROM generate_series(1, %s)", [len(rows)]
    ).fetchall()
    ids = [row[0] for row in found]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY raw_message (id, received_at, source, topic, payload, adapter, device, retained, disposition, reason)"
            " FROM STDIN BINARY"
        ) as copy,
    ):
        copy.set_types(_RAW_TYPES)
        for raw_id, row in zip(ids, rows, strict=True):
            copy.write_row((raw_id, *row))
    return ids


def already_kept(session: Session, keys: Sequence[tuple[str | None, str, bytes]], *, before: datetime) -> list[bool]:
    """For each (device, topic, payload): whether the same bytes were kept from the same topic within a day."""
    # two joins, because only a plain equality and a plain IS NULL can use the index on (device, received_at)
    found = raw_of(session).execute(
        "WITH u AS MATERIALIZED (SELECT * FROM unnest(%(devices)b::text[], %(topics)b::text[], %(payloads)b::bytea[])"
        " WITH ORDINALITY u(device, topic, payload, position))"
        " SELECT u.position FROM u JOIN raw_message r ON r.device = u.device AND r.topic = u.topic"
        " AND r.payload = u.payload WHERE r.received_at > %(since)s"
        " UNION SELECT u.position FROM u JOIN raw_message r ON r.topic = u.topic AND r.payload = u.payload"
        " WHERE u.device IS NULL AND r.device IS NULL AND r.received_at > %(since)s",
        {
            "devices": [device for device, _, _ in keys],
            "topics": [storable_text(topic) for _, topic, _ in keys],
            "payloads": [payload for _, _, payload in keys],
            "since": before - _REDELIVERY,
        },
    )
    known = {row[0] for row in found}
    return [position in known for position in range(1, len(keys) + 1)]


def book(
    session: Session,
    rows: Sequence[Row],
    *,
    raw_ids: Sequence[int | None],
    sources: Sequence[str],
    received: Sequence[datetime],
    count_repeats: bool,
) -> list[tuple[str, str | None]]:
    """Store readings; per row `stored`, `duplicate`, `revised`, or `value_conflict` with what stands instead.

    The key is (meter register, measured_at). The same value again is counted. Another value never replaces the first,
    unless its device is marked as revising; the former value is then kept as a resolved quarantine entry.
    """
    if not rows:
        return []
    verdicts: list[tuple[str, str | None]] = [("stored", None)] * len(rows)
    standing = _standing_claims(session, rows)
    first: dict[tuple[int, datetime], int] = {}
    later: list[int] = []
    for position, row in enumerate(rows):
        if row.claimed_at is not None and (row.meter_id, row.claimed_at, row.value) in standing:
            verdicts[position] = ("duplicate", None)
            continue
        if row.claimed_at is not None:
            standing.add((row.meter_id, row.claimed_at, row.value))
        if first.setdefault((row.meter_id, row.measured_at), position) != position:
            later.append(position)
    met = _insert(session, rows, [*first.values()], raw_ids, sources, received) + later
    if met:
        _compare(session, rows, met, verdicts, raw_ids, sources, count_repeats)
    return verdicts


def _standing_claims(session: Session, rows: Sequence[Row]) -> set[tuple[int, datetime, Decimal]]:
    """Readings with a disbelieved clock that are booked already: their key is the claim, not the arrival."""
    claims = [(row.meter_id, row.claimed_at) for row in rows if row.claimed_at is not None]
    if not claims:
        return set()
    found = raw_of(session).execute(
        "SELECT r.meter_id, r.claimed_at, r.value FROM unnest(%b::int4[], %b::timestamptz[]) u(m, at)"
        " JOIN reading r ON r.meter_id = u.m AND r.claimed_at = u.at",
        _columns(claims),
    )
    return {(meter_id, at, value) for meter_id, at, value in found}


def _insert(
    session: Session,
    rows: Sequence[Row],
    chosen: Sequence[int],
    raw_ids: Sequence[int | None],
    sources: Sequence[str],
    received: Sequence[datetime],
) -> list[int]:
    """Store the rows at `chosen` positions whose key is free; the positions whose key is taken."""
    if not chosen:
        return []
    connection = raw_of(session)
    # the numbers go on: what the transaction staged before still lies there
    staged = session.info.get("staged", 0)
    session.info["staged"] = staged + len(rows)
    connection.execute(_STAGING)
    with connection.cursor() as cursor, cursor.copy("COPY staged_reading FROM STDIN BINARY") as copy:
        copy.set_types(_STAGED_TYPES)
        for position in chosen:
            row = rows[position]
            copy.write_row((
                staged + position, row.meter_id, row.measured_at, row.value, row.unit, row.value_m3, row.quality,
                row.flags, row.time_source, row.claimed_at, sources[position], row.seq, raw_ids[position],
                received[position],
            ))  # fmt: skip
    return [position for (position,) in connection.execute(_STORE_STAGED, {"first": staged})]


def _compare(
    session: Session,
    rows: Sequence[Row],
    met: Sequence[int],
    verdicts: list[tuple[str, str | None]],
    raw_ids: Sequence[int | None],
    sources: Sequence[str],
    count_repeats: bool,
) -> None:
    """Settle rows whose key is taken: repeat, revision or conflict."""
    connection = raw_of(session)
    keys = sorted({(rows[position].meter_id, rows[position].measured_at) for position in met})
    # locked in key order, so that two writers settling the same readings agree who is first
    found = connection.execute(
        "SELECT r.meter_id, r.measured_at, r.value, r.unit, r.value_m3, r.raw_id, r.source,"
        " r.flags @> ARRAY['edited'] FROM reading r"
        " JOIN unnest(%b::int4[], %b::timestamptz[]) u(m, at) ON r.meter_id = u.m AND r.measured_at = u.at"
        " ORDER BY 1, 2 FOR NO KEY UPDATE OF r",
        _columns(keys),
    )
    standing = {(meter_id, at): tuple(rest) for meter_id, at, *rest in found}
    repeats: dict[tuple[int, datetime], int] = {}
    for position in met:
        row = rows[position]
        key = (row.meter_id, row.measured_at)
        value, unit, volume, raw_id, source, edited = standing[key]
        same = row.value_m3 == volume if row.value_m3 is not None and volume is not None else row.value == value
        if edited and raw_ids[position] == raw_id:
            # the message that a person corrected, read again
            verdicts[position] = ("duplicate", None)
        elif same and not (volume is None and row.value_m3 is not None):
            verdicts[position] = ("duplicate", None)
            if raw_ids[position] != raw_id:
                repeats[key] = repeats.get(key, 0) + 1
        elif not edited and (same or row.revising):
            _revise(session, row, raw_ids[position], sources[position], former=(value, unit, raw_id, source))
            standing[key] = (row.value, row.unit, row.value_m3, raw_ids[position], sources[position], False)
            verdicts[position] = ("revised", None)
        else:
            verdicts[position] = ("value_conflict", f"{value} {unit or ''} stands for that instant".replace("  ", " "))
    if repeats and count_repeats:
        connection.execute(
            "UPDATE reading r SET repeats = r.repeats + u.n"
            " FROM unnest(%b::int4[], %b::timestamptz[], %b::int4[]) u(m, at, n)"
            " WHERE r.meter_id = u.m AND r.measured_at = u.at",
            _columns([(meter_id, at, count) for (meter_id, at), count in sorted(repeats.items())]),
        )


def _revise(session: Session, row: Row, raw_id: int | None, source: str, *, former: tuple[Any, ...]) -> None:
    """A later word replaces the standing value (a revising source, or a unit learnt since); the former is kept."""
    value, unit, former_raw, former_source = former
    connection = raw_of(session)
    connection.execute(
        "UPDATE reading SET value = %s, unit = %s, value_m3 = %s, quality = %s, flags = string_to_array(%s, E'\\x1f'),"
        " raw_id = %s, source = %s WHERE meter_id = %s AND measured_at = %s",
        [row.value, row.unit, row.value_m3, row.quality, row.flags, raw_id, source, row.meter_id, row.measured_at],
    )
    connection.execute(
        "INSERT INTO quarantine (id, raw_id, source, device, meter, register, measured_at, value, reason, detail,"
        " resolved_at, resolution)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'revised', %s, business_now(), 'superseded')",
        [
            new_id(),
            former_raw,
            former_source,
            row.device,
            row.meter,
            row.register,
            row.measured_at,
            str(value),
            Jsonb({"unit": unit}),
        ],
    )


def put_aside(session: Session, found: Sequence[Aside], *, settle: Collection[int]) -> None:
    """Write quarantine entries; for the raw messages of `settle`, resolve the open ones that are no longer true."""
    connection = raw_of(session)
    rows = [
        one._replace(
            device=_short(one.device),
            register=_short(one.register),
            value=_short(one.value),
            detail=storable_text(one.detail),
        )
        for one in found
    ]
    if settle:
        still = {(one.raw_id, one.device, one.register, one.value) for one in rows}
        kept = connection.execute(
            "SELECT id, reason, resolution IS NOT NULL, raw_id, device, register, value FROM quarantine"
            " WHERE raw_id = ANY(%s) AND (resolved_at IS NULL OR resolution = 'dismissed')",
            [list(settle)],
        ).fetchall()
        settled = [row[0] for row in kept if tuple(row[3:]) not in still]
        connection.execute(
            "UPDATE quarantine SET resolved_at = business_now(), resolution = 'replayed', resolved_by = NULL,"
            " note = NULL WHERE id = ANY(%s)",
            [settled],
        )
        # what a person dismissed stays dismissed, unless it is now put aside for another reason
        standing = {(*row[3:], row[1] if row[2] else None) for row in kept}
        rows = [
            one
            for one in rows
            if not standing & {(one.raw_id, one.device, one.register, one.value, why) for why in (None, one.reason)}
        ]
    if not rows:
        return
    connection.execute(
        "INSERT INTO quarantine (id, raw_id, received_at, source, device, register, measured_at, value, reason, detail,"
        " meter) SELECT u.id, u.raw, u.rec, u.s, u.d, u.r, u.at, u.v, u.why, jsonb_build_object('text', u.t),"
        " (SELECT e.meter FROM device e WHERE e.device = lower(u.d) ORDER BY e.valid_from DESC LIMIT 1)"
        " FROM unnest(%b::uuid[], %b::int8[], %b::timestamptz[], %b::text[], %b::text[], %b::text[], %b::timestamptz[],"
        " %b::text[], %b::text[], %b::text[]) u(id, raw, rec, s, d, r, at, v, why, t)",
        [[new_id() for _ in rows], *_columns(rows)],
    )


def _short(value: str | None) -> str | None:
    return None if value is None else storable_text(value)[:200]


def kept_messages(session: Session, raw_ids: Collection[int]) -> list[Message]:
    """Kept messages by id, oldest first, ready to be read again."""
    found = raw_of(session).execute(
        "SELECT source, topic, payload, adapter, retained, id, received_at FROM raw_message WHERE id = ANY(%s)"
        " ORDER BY received_at, id",
        [list(raw_ids)],
    )
    return [
        Message(source, topic, bytes(payload), adapter, retained=retained, raw_id=raw_id, received_at=at)
        for source, topic, payload, adapter, retained, raw_id, at in found
    ]


def rewrite_dispositions(session: Session, rows: Sequence[tuple[int, datetime, str, str | None, str | None]]) -> None:
    """Set disposition, reason and device of kept messages: (id, received_at, disposition, reason, device)."""
    if rows:
        raw_of(session).execute(
            "UPDATE raw_message r SET disposition = u.d, reason = u.why, device = u.dev FROM"
            " unnest(%b::int8[], %b::timestamptz[], %b::text[], %b::text[], %b::text[]) u(id, at, d, why, dev)"
            " WHERE r.id = u.id AND r.received_at = u.at",
            _columns(rows),
        )


def unclaimed_ids(session: Session, identities: Sequence[str], limit: int) -> list[int]:
    """Ids of the oldest unclaimed messages about any of these devices.

    Messages about several devices are searched by text.
    """
    found = raw_of(session).execute(
        "SELECT id FROM raw_message WHERE disposition = 'unclaimed' AND (device = ANY(%(devices)s) OR (device IS NULL"
        " AND EXISTS (SELECT FROM unnest(%(devices)s::text[]) d WHERE position(encode(convert_to(d, 'UTF8'), 'escape')"
        " IN lower(encode(payload, 'escape'))) > 0))) ORDER BY received_at LIMIT %(limit)s",
        {"devices": list(identities), "limit": limit},
    )
    return [row[0] for row in found]


def claimed_ids(session: Session, limit: int) -> list[int]:
    """Ids of unclaimed messages whose one device has a registry entry by now."""
    found = raw_of(session).execute(
        "SELECT r.id FROM raw_message r WHERE r.disposition = 'unclaimed' AND EXISTS (SELECT FROM device d"
        " JOIN meter m ON m.serial = d.meter AND m.register = d.register WHERE d.device = r.device)"
        " ORDER BY r.received_at LIMIT %s",
        [limit],
    )
    return [row[0] for row in found]
