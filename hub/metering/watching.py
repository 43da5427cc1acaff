"""Folds what batches left behind into device states, sequence gaps, alarms and the list of meters to be reviewed.

Writes `device_state`, `gateway_state`, `sequence_gap`, `alarm` and `meter_review`, and removes `arrival` rows, in the
caller's transaction. One worker at a time does it; every statement is over all devices of the batches at once.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub import clock
from hub.db import new_id, raw_of
from hub.errors import storable
from hub.metering import alarms, arrivals
from hub.metering.alarms import Episode, Said
from hub.metering.sequences import GRACE, Counter, Gap, can_ask

# An advisory lock of this number lets one worker fold at a time; the others have nothing to add.
_LOCK = 0x63757263
_EVER = datetime(1, 1, 1, tzinfo=UTC)
# How many of a device's clock offsets are kept; their median is its typical one.
_OFFSETS = 15


def fold(session: Session, *, batches: int = 50) -> int:
    """Fold the oldest `batches` that wait; how many there were. 0 also while another worker folds."""
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
        return 0
    rows = (
        raw_of(session)
        .execute(
            "WITH taken AS (DELETE FROM arrival WHERE id IN (SELECT id FROM arrival ORDER BY id LIMIT %s)"
            " RETURNING id, body) SELECT body FROM taken ORDER BY id",
            [batches],
        )
        .fetchall()
    )
    bodies = [storable(orjson.loads(row[0])) for row in rows]
    if bodies:
        _queue_reviews(session, bodies)
        _fold_gateways(session, bodies)
        _fold_devices(session, [arrivals.opened(told) for body in bodies for told in body["sightings"]])
    return len(bodies)


def queue_review(session: Session, meters: Mapping[int, datetime]) -> None:
    """Have the validation rules look at registers (id → since when) again."""
    if meters:
        raw_of(session).execute(
            "INSERT INTO meter_review AS r (meter_id, since)"
            " SELECT * FROM unnest(%b::int4[], %b::timestamptz[]) u(m, since) ORDER BY 1"
            " ON CONFLICT (meter_id) DO UPDATE SET since = least(r.since, excluded.since)",
            [list(meters), list(meters.values())],
        )


def _queue_reviews(session: Session, bodies: Iterable[Mapping[str, Any]]) -> None:
    since: dict[int, datetime] = {}
    for body in bodies:
        for meter_id, at in body["meters"]:
            when = arrivals.instant(at)
            since[meter_id] = min(when, since.get(meter_id, when))
    queue_review(session, since)


def _fold_gateways(session: Session, bodies: Iterable[Mapping[str, Any]]) -> None:
    heard: dict[str, datetime] = {}
    numbers: dict[str, list[tuple[int, datetime]]] = {}
    for body in bodies:
        for name, last, seqs in body["gateways"]:
            at = arrivals.instant(last)
            heard[name] = max(at, heard.get(name, at))
            numbers.setdefault(name, []).extend((seq, at) for seq in seqs)
    if not heard:
        return
    known = raw_of(session).execute(
        "SELECT gateway, seq, seq_at FROM gateway_state WHERE gateway = ANY(%s)", [list(heard)]
    )
    counters = {name: Counter(seq, at) for name, seq, at in known}
    for name in heard:
        counters.setdefault(name, Counter())
    _count(session, "gateway", counters, numbers, dict.fromkeys(heard))
    rows = [(name, at, counters[name].last, counters[name].at) for name, at in sorted(heard.items())]
    raw_of(session).execute(
        "INSERT INTO gateway_state AS g (gateway, heard_at, seq, seq_at)"
        " SELECT * FROM unnest(%b::text[], %b::timestamptz[], %b::int8[], %b::timestamptz[])"
        " ON CONFLICT (gateway) DO UPDATE SET heard_at = greatest(g.heard_at, excluded.heard_at), seq = excluded.seq,"
        " seq_at = excluded.seq_at",
        _columns(rows),
    )


def _count(
    session: Session,
    kind: str,
    counters: Mapping[str, Counter],
    numbers: Mapping[str, list[tuple[int, datetime]]],
    gateways: Mapping[str, str | None],
) -> None:
    """Take the numbers that arrived into the counters, and store how their gaps changed."""
    wanted = [name for name, found in numbers.items() if found]
    if not wanted:
        return
    for gap_id, name, first, last, after_at, before_at in raw_of(session).execute(
        "SELECT id, subject, first_missing, last_missing, after_at, before_at FROM sequence_gap"
        " WHERE kind = %s AND subject = ANY(%s) AND closed_at IS NULL ORDER BY first_missing",
        [kind, wanted],
    ):
        counters[name].gaps.append(Gap(first, last, after_at, before_at, id=gap_id))
    changed: list[tuple[str, Gap]] = []
    for name in wanted:
        for number, at in sorted(numbers[name], key=lambda found: (found[1], found[0])):
            counters[name].take(number, at)
        changed += [(name, gap) for gap in counters[name].gaps if gap.changed and (gap.id or not gap.closed)]
    if not changed:
        return
    now = clock.now(session)
    rows = [
        (
            *(gap.id or new_id(), kind, name, gateways.get(name), gap.first, gap.last, gap.after_at, gap.before_at),
            *(now, now + GRACE if can_ask(gateways.get(name) or name) else None, now if gap.closed else None),
        )
        for name, gap in changed
    ]
    raw_of(session).execute(
        "INSERT INTO sequence_gap (id, kind, subject, gateway, first_missing, last_missing, after_at, before_at,"
        " found_at, ask_at, closed_at) SELECT * FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[],"
        " %b::int8[], %b::int8[], %b::timestamptz[], %b::timestamptz[], %b::timestamptz[], %b::timestamptz[],"
        " %b::timestamptz[])"
        " ON CONFLICT (id) DO UPDATE SET first_missing = excluded.first_missing, last_missing = excluded.last_missing,"
        " closed_at = excluded.closed_at",
        _columns(rows),
    )


def _fold_devices(session: Session, sightings: list[dict[str, Any]]) -> None:
    if not sightings:
        return
    by_device: dict[str, list[dict[str, Any]]] = {}
    for one in sightings:
        by_device.setdefault(one["device"], []).append(one)
    states = _states(session, by_device)
    counters = {name: Counter(state["seq"], state["seq_at"]) for name, state in states.items()}
    numbers = {name: _numbers(found) for name, found in by_device.items()}
    for name, found in by_device.items():
        _see(states[name], found)
    _count(session, "device", counters, numbers, {name: state["publisher"] for name, state in states.items()})
    _follow_alarms(session, by_device, states)
    _store_states(session, states, counters)


_STATE = ("publisher", "heard_at", "read_at", "seq", "seq_at", "time_source", "offsets_s", "status_at", "event_at")


def _states(session: Session, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    states: dict[str, dict[str, Any]] = {
        name: dict.fromkeys(_STATE) | {"heard_at": _EVER, "offsets_s": []} for name in names
    }
    rows = raw_of(session).execute(
        f"SELECT device, {', '.join(_STATE)} FROM device_state WHERE device = ANY(%s)",  # noqa: S608  (our own names)
        [list(states)],
    )
    for name, *values in rows:
        states[name] = dict(zip(_STATE, values, strict=True))
    return states


def _numbers(found: Iterable[Mapping[str, Any]]) -> list[tuple[int, datetime]]:
    """The numbers a device gave: those of its readings, else those of its network."""
    own = [number for one in found for number in one["seqs"]]
    return own or [(one["counter"], one["received"]) for one in found if "counter" in one]


def _see(state: dict[str, Any], found: Iterable[Mapping[str, Any]]) -> None:
    """When and through whom a device spoke, what its newest reading is, how far its clock is off."""
    for one in sorted(found, key=lambda sighting: sighting["received"]):
        if one["received"] >= state["heard_at"]:
            state["heard_at"], state["publisher"] = one["received"], one["publisher"]
        if "read" in one:
            state["read_at"] = max(one["read"], state["read_at"] or one["read"])
        if "offset" in one:
            state["time_source"] = one["source"]
            state["offsets_s"] = [*state["offsets_s"], float(one["offset"])][-_OFFSETS:]


def _store_states(session: Session, states: Mapping[str, Mapping[str, Any]], counters: Mapping[str, Counter]) -> None:
    rows = []
    for name, state in sorted(states.items()):
        values = dict(state) | {"seq": counters[name].last, "seq_at": counters[name].at}
        # arrays travel as text: an array of arrays could not be ragged
        values["offsets_s"] = "{" + ",".join(repr(offset) for offset in state["offsets_s"]) + "}"
        rows.append((name, *(values[column] for column in _STATE)))
    raw_of(session).execute(
        "INSERT INTO device_state (device, publisher, heard_at, read_at, seq, seq_at, time_source, offsets_s,"  # noqa: S608
        " status_at, event_at) SELECT d, p, h, r, s, sa, ts, o::float8[], st, ev FROM unnest(%b::text[], %b::text[],"
        " %b::timestamptz[], %b::timestamptz[], %b::int8[], %b::timestamptz[], %b::text[], %b::text[],"
        " %b::timestamptz[], %b::timestamptz[]) u(d, p, h, r, s, sa, ts, o, st, ev)"
        f" ON CONFLICT (device) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _STATE)}",
        _columns(rows),
    )


def _said(found: Iterable[Mapping[str, Any]], latching: Mapping[str, frozenset[str]]) -> list[Said]:
    said = []
    for one in found:
        latched = latching[one["device"]] | alarms.LATCHING.get(one["adapter"] or "", set())
        if "read" in one:
            said.append(Said(one["read"], "reading", one["words"], one["historic"], latched, one["raw"]))
        for at, words, historic in one["events"]:
            said.append(Said(at, "event", words, historic, latched, one["raw"]))
    return alarms.merged(said)


def _follow_alarms(
    session: Session, by_device: Mapping[str, list[dict[str, Any]]], states: Mapping[str, dict[str, Any]]
) -> None:
    latching = _latching(session, by_device)
    said = {name: _said(found, latching) for name, found in by_device.items()}
    episodes = _episodes(session, said)
    stored: list[tuple[str, Episode]] = []
    for name, words in said.items():
        known = episodes.get(name, [])
        for one in words:
            column = "status_at" if one.form == "reading" else "event_at"
            alarms.follow(known, one, states[name][column])
            if not one.historic:
                states[name][column] = max(one.at, states[name][column] or one.at)
        stored += [(name, episode) for episode in known if episode.changed]
    _store_alarms(session, stored)


def _latching(session: Session, names: Iterable[str]) -> dict[str, frozenset[str]]:
    """The alarm types that the registry says a device repeats long after the event (`config.latching`)."""
    found: dict[str, frozenset[str]] = dict.fromkeys(names, frozenset())
    rows = raw_of(session).execute(
        "SELECT device, config -> 'latching' FROM device WHERE device = ANY(%s) AND valid_to IS NULL"
        " AND jsonb_typeof(config -> 'latching') = 'array'",
        [list(found)],
    )
    for name, types in rows:
        found[name] |= {str(one) for one in types}
    return found


def _episodes(session: Session, said: Mapping[str, list[Said]]) -> dict[str, list[Episode]]:
    """The episodes of these devices that go on, or end no earlier than the oldest thing said."""
    oldest = {name: min(one.at for one in words) for name, words in said.items() if words}
    found: dict[str, list[Episode]] = {name: [] for name in said}
    rows = raw_of(session).execute(
        "SELECT a.device, a.type, a.state, a.form, a.since, a.last_seen, a.ended_at, a.text, a.raw_id, a.id"
        " FROM unnest(%b::text[], %b::timestamptz[]) u(device, since) JOIN alarm a ON a.device = u.device"
        " WHERE a.ended_at IS NULL OR a.last_seen >= u.since ORDER BY a.since",
        [list(oldest), list(oldest.values())],
    )
    for name, *values in rows:
        found[name].append(Episode(*values))
    return found


def _store_alarms(session: Session, stored: list[tuple[str, Episode]]) -> None:
    if not stored:
        return
    rows = [
        (
            *(one.id or new_id(), name, one.type, one.state, one.form, one.since, one.last_seen, one.ended_at),
            *(one.text, one.raw_id),
        )
        for name, one in stored
    ]
    raw_of(session).execute(
        "INSERT INTO alarm (id, device, type, state, form, since, last_seen, ended_at, text, raw_id, meter)"
        " SELECT u.id, u.d, u.t, u.st, u.f, u.s, u.l, u.e, u.w, u.raw, (SELECT e.meter FROM device e"
        " WHERE e.device = u.d AND e.valid_from <= u.s AND (e.valid_to IS NULL OR e.valid_to > u.s)"
        " ORDER BY e.valid_from DESC, e.register LIMIT 1)"
        " FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::timestamptz[],"
        " %b::timestamptz[], %b::timestamptz[], %b::text[], %b::int8[]) u(id, d, t, st, f, s, l, e, w, raw)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, last_seen = excluded.last_seen,"
        " ended_at = excluded.ended_at",
        _columns(rows),
    )


def _columns(rows: list[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
