"""Validation of what was read lately: flags on readings, exceptions for people, and the alarm of continuous flow.

Takes registers from `meter_review` and writes `reading` (flags `vee:<rule>`, quality), `reading_exception` and `alarm`
in the caller's transaction. Everything is loaded and written for all registers of a review at once; the rules
themselves are pure. A reading that a person settled is never flagged again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from hub.db import new_id, raw_of
from hub.metering import validation_stands, watching
from hub.metering.booking import SIDE_REGISTERS
from hub.metering.devices import MeterRegister
from hub.metering.validation_rules import ContinuousFlow, Rules, rules
from hub.metering.validation_stands import At, Case
from hub.metering.validation_walk import RECENT, Flag, Stand, walk

# How many readings of one register a review goes through; what lies beyond waits for the next.
MOST_READINGS = 3000
# A condition that a person settled is not told again for so long.
QUIET = timedelta(days=30)
_WALK = ("unit_jump", "register_fall", "spike", "estimate_reversal")
_LASTING = ("high", "low", "zero", "stuck", "use_while_off", "compound")


class _Read(NamedTuple):
    """A reading as the walk finds it."""

    at: datetime
    volume: Decimal
    quality: str
    flags: list[str]


class _Register(NamedTuple):
    """A register under review."""

    meter_id: int
    serial: str
    register: str
    since: datetime
    modulus: Decimal | None
    size_mm: Decimal | None


def review(session: Session, zone: ZoneInfo, *, limit: int = 100) -> int:
    """Review the registers that have waited longest, up to `limit`; how many there were. Days are those of `zone`."""
    found = _take(session, limit)
    if found:
        in_force = rules()
        _review_readings(session, found, in_force)
        _review_use(session, found, in_force, zone)
    return len(found)


def _take(session: Session, limit: int) -> list[_Register]:
    connection = raw_of(session)
    taken = connection.execute(
        "DELETE FROM meter_review WHERE meter_id IN (SELECT meter_id FROM meter_review ORDER BY queued_at LIMIT %s"
        " FOR UPDATE SKIP LOCKED) RETURNING meter_id, since",
        [limit],
    ).fetchall()
    rows = connection.execute(
        "SELECT m.id, m.serial, m.register, u.since, m.unit, m.multiplier, m.dials, m.size_mm,"
        " (SELECT d.register_modulus_m3 FROM device d WHERE d.meter = m.serial AND d.register = m.register"
        "  AND d.register_modulus_m3 IS NOT NULL ORDER BY d.valid_from DESC LIMIT 1)"
        " FROM unnest(%b::int4[], %b::timestamptz[]) u(id, since) JOIN meter m ON m.id = u.id"
        " WHERE NOT m.register = ANY(%s) ORDER BY m.id",
        [[row[0] for row in taken], [row[1] for row in taken], list(SIDE_REGISTERS)],
    )
    return [
        _Register(
            meter_id,
            serial,
            register,
            since,
            modulus if modulus is not None else MeterRegister(meter_id, unit, multiplier, dials).modulus_m3(),
            size,
        )
        for meter_id, serial, register, since, unit, multiplier, dials, size, modulus in rows
    ]


# ------------------------------------------------------------------------------------------------- reading by reading


def _review_readings(session: Session, found: Sequence[_Register], in_force: Rules) -> None:
    reads = _reads(session, found)
    updates: list[tuple[int, datetime, str, str]] = []
    flags: list[tuple[int, Flag]] = []
    more: dict[int, datetime] = {}
    for register in found:
        mine = reads.get(register.meter_id, [])
        if len(mine) >= MOST_READINGS:
            more[register.meter_id] = mine[-1].at
        stands = [Stand(r.at, r.volume, _estimated(r), "edited" in r.flags) for r in mine]
        said = walk(stands, in_force, modulus=register.modulus, size_mm=register.size_mm)
        # what lies before is context: it was judged with more before it
        fresh = [flag for flag in said if flag.last >= register.since]
        updates += _changes(register, mine, fresh)
        flags += [(register.meter_id, flag) for flag in fresh]
    _write_flags(session, updates)
    _write_walked(session, flags, found, [rule.name for rule in in_force.of(*_WALK)])
    watching.queue_review(session, more)


def _estimated(read: _Read) -> bool:
    """Whether it is an estimate, also where a rule has made it suspect meanwhile."""
    return read.quality == "estimated" or "q:estimated" in read.flags or "vee:estimate_reversal" in read.flags


def _reads(session: Session, found: Sequence[_Register]) -> dict[int, list[_Read]]:
    """What the walk goes through: the last believed readings before `since`, and everything from there on."""
    rows = raw_of(session).execute(
        "SELECT u.id, r.measured_at, r.value_m3, r.quality, r.flags"
        " FROM unnest(%b::int4[], %b::timestamptz[]) u(id, since)"
        " CROSS JOIN LATERAL (SELECT coalesce(min(b.measured_at), u.since) AS at FROM (SELECT measured_at FROM reading"
        "   WHERE meter_id = u.id AND measured_at < u.since AND quality IN ('good', 'estimated')"
        "   AND value_m3 IS NOT NULL ORDER BY measured_at DESC LIMIT %s) b) f"
        " CROSS JOIN LATERAL (SELECT measured_at, value_m3, quality, flags FROM reading WHERE meter_id = u.id"
        "   AND measured_at >= f.at AND value_m3 IS NOT NULL AND (quality IN ('good', 'estimated')"
        "   OR (quality = 'suspect' AND array_to_string(flags, ' ') LIKE '%%vee:%%'))"
        "   ORDER BY measured_at LIMIT %s) r ORDER BY 1, 2",
        [[one.meter_id for one in found], [one.since for one in found], RECENT, MOST_READINGS],
    )
    reads: dict[int, list[_Read]] = {}
    for meter_id, *rest in rows:
        reads.setdefault(meter_id, []).append(_Read(*rest))
    return reads


def _changes(register: _Register, reads: Iterable[_Read], said: Iterable[Flag]) -> list[tuple[int, datetime, str, str]]:
    """Readings whose flags or quality are to be others: (register, instant, quality, flags)."""
    marks: dict[datetime, list[Flag]] = {}
    for flag in said:
        for at in flag.touched:
            marks.setdefault(at, []).append(flag)
    changed = []
    for read in reads:
        if "edited" in read.flags:
            continue
        mine = marks.get(read.at, [])
        if not mine and read.at < register.since:
            continue
        flags = [word for word in read.flags if not word.startswith("vee:")] + sorted(f"vee:{f.rule}" for f in mine)
        quality = "suspect" if any(f.keep_out for f in mine) else "estimated" if _estimated(read) else "good"
        if flags != read.flags or quality != read.quality:
            changed.append((register.meter_id, read.at, quality, "\x1f".join(flags)))
    return changed


def _write_flags(session: Session, updates: Sequence[tuple[int, datetime, str, str]]) -> None:
    if updates:
        raw_of(session).execute(
            "UPDATE reading r SET quality = u.q, flags = string_to_array(u.f, E'\\x1f')"
            " FROM unnest(%b::int4[], %b::timestamptz[], %b::text[], %b::text[]) u(m, at, q, f)"
            " WHERE r.meter_id = u.m AND r.measured_at = u.at",
            _columns(updates),
        )


def _write_walked(
    session: Session, flags: Sequence[tuple[int, Flag]], found: Sequence[_Register], names: Sequence[str]
) -> None:
    """Keep what was flagged, and settle what no longer is."""
    connection = raw_of(session)
    rows = [
        (new_id(), meter_id, flag.rule, flag.kind, flag.first, flag.last, Jsonb(flag.detail), not flag.for_a_person)
        for meter_id, flag in flags
    ]
    if rows:
        connection.execute(
            "INSERT INTO reading_exception AS e (id, meter_id, rule, kind, measured_at, last_at, detail, found_at,"
            " resolved_at, resolution) SELECT i, m, r, k, f, l, d, business_now(), CASE WHEN s THEN business_now() END,"
            ' CASE WHEN s THEN \'{"by": "hub", "action": "classified"}\'::jsonb END'
            " FROM unnest(%b::uuid[], %b::int4[], %b::text[], %b::text[], %b::timestamptz[], %b::timestamptz[],"
            " %b::jsonb[], %b::bool[]) u(i, m, r, k, f, l, d, s)"
            " ON CONFLICT (meter_id, rule, measured_at) DO UPDATE SET last_at = excluded.last_at, kind = excluded.kind,"
            " detail = excluded.detail WHERE e.resolved_at IS NULL",
            _columns(rows),
        )
    connection.execute(
        "UPDATE reading_exception e SET resolved_at = business_now(),"
        ' resolution = \'{"by": "hub", "action": "no longer so"}\''
        " FROM unnest(%b::int4[], %b::timestamptz[]) u(m, since) WHERE e.meter_id = u.m AND e.last_at >= u.since"
        " AND e.resolved_at IS NULL AND e.rule = ANY(%s) AND NOT EXISTS (SELECT FROM"
        " unnest(%b::int4[], %b::text[], %b::timestamptz[]) n(m, rule, at) WHERE n.m = e.meter_id"
        " AND n.rule = e.rule AND n.at = e.measured_at)",
        [
            *([one.meter_id for one in found], [one.since for one in found], list(names)),
            *([meter_id for meter_id, _ in flags], [f.rule for _, f in flags], [f.first for _, f in flags]),
        ],
    )


# --------------------------------------------------------------------------------------------------- use of the meter


def _review_use(session: Session, found: Sequence[_Register], in_force: Rules, zone: ZoneInfo) -> None:
    # the registers of a compound meter are judged together
    cases = _cases(session, sorted({one.serial for one in found}), zone)
    stands = _stands(session, cases, in_force)
    said = [one for case in cases for one in validation_stands.judged(case, stands.get(case.meter_id, {}), in_force)]
    by_serial: dict[str, list[Case]] = {}
    for case in cases:
        by_serial.setdefault(case.serial, []).append(case)
    for rule in in_force.of("compound"):
        for together in by_serial.values():
            said += validation_stands.compound(together, {c.meter_id: stands.get(c.meter_id, {}) for c in cases}, rule)
    _write_lasting(session, [case.meter_id for case in cases], said, in_force)
    for flow in in_force.of("continuous_flow"):
        _follow_flow(session, cases, flow)


def _cases(session: Session, serials: Sequence[str], zone: ZoneInfo) -> list[Case]:
    """All counting registers of the meters with what is known of their places, those with a believed reading."""
    rows = raw_of(session).execute(
        "SELECT m.id, m.serial, m.register, n.measured_at, n.value_m3,"
        " (i.service_point IS NULL OR o.account IS NOT NULL OR lived.first IS NULL), coalesce(v.state, 'unknown'),"
        " CASE WHEN v.state = 'closed' THEN v.since WHEN i.service_point IS NOT NULL AND o.account IS NULL AND"
        "  lived.until IS NOT NULL THEN lived.until::timestamp AT TIME ZONE %(zone)s END,"
        " p.premise_class, i.service_point"
        " FROM meter m CROSS JOIN LATERAL (SELECT measured_at, value_m3 FROM reading WHERE meter_id = m.id"
        "  AND quality IN ('good', 'estimated') AND value_m3 IS NOT NULL ORDER BY measured_at DESC LIMIT 1) n"
        " LEFT JOIN LATERAL (SELECT service_point FROM meter_installation WHERE serial = m.serial"
        "  AND installed_at <= n.measured_at AND (removed_at IS NULL OR removed_at > n.measured_at)"
        "  ORDER BY installed_at DESC LIMIT 1) i ON true"
        " LEFT JOIN service_point p ON p.id = i.service_point"
        " LEFT JOIN place_fact v ON v.service_point = i.service_point AND v.fact = 'valve'"
        " LEFT JOIN LATERAL (SELECT q.account FROM occupancy q JOIN account a ON a.number = q.account"
        "  WHERE q.service_point = i.service_point AND a.status = 'active'"
        "  AND q.since <= (n.measured_at AT TIME ZONE %(zone)s)::date"
        "  AND (q.until IS NULL OR q.until > (n.measured_at AT TIME ZONE %(zone)s)::date) LIMIT 1) o ON true"
        " LEFT JOIN LATERAL (SELECT min(since) AS first, max(until) AS until FROM occupancy q"
        "  WHERE q.service_point = i.service_point) lived ON true"
        " WHERE m.serial = ANY(%(serials)s) AND NOT m.register = ANY(%(side)s) ORDER BY m.id",
        {"zone": zone.key, "serials": list(serials), "side": list(SIDE_REGISTERS)},
    )
    return [
        Case(meter_id, serial, register, At(at, volume), occupied, valve, off_since, premise, point)
        for meter_id, serial, register, at, volume, occupied, valve, off_since, premise, point in rows
    ]


def _stands(session: Session, cases: Sequence[Case], in_force: Rules) -> dict[int, dict[datetime, At]]:
    """Where the registers stood at the instants that the rules ask for: one index look-up each, in one statement."""
    asked = [(case.meter_id, at) for case in cases for at in sorted(validation_stands.wanted(case, in_force))]
    if not asked:
        return {}
    rows = raw_of(session).execute(
        "SELECT u.id, u.at, s.measured_at, s.value_m3 FROM unnest(%b::int4[], %b::timestamptz[]) u(id, at)"
        " CROSS JOIN LATERAL (SELECT measured_at, value_m3 FROM reading WHERE meter_id = u.id AND measured_at <= u.at"
        " AND quality IN ('good', 'estimated') AND value_m3 IS NOT NULL ORDER BY measured_at DESC LIMIT 1) s",
        _columns(asked),
    )
    found: dict[int, dict[datetime, At]] = {}
    for meter_id, wanted, at, volume in rows:
        found.setdefault(meter_id, {})[wanted] = At(at, volume)
    return found


def _write_lasting(
    session: Session, meter_ids: Sequence[int], said: Sequence[validation_stands.Finding], in_force: Rules
) -> None:
    """One exception per register and condition while it lasts; settled by itself when it is over."""
    connection = raw_of(session)
    rows = [(new_id(), one.meter_id, one.rule, one.at, Jsonb(one.detail)) for one in said]
    if rows:
        connection.execute(
            "WITH said AS (SELECT * FROM unnest(%b::uuid[], %b::int4[], %b::text[], %b::timestamptz[], %b::jsonb[])"
            " u(i, m, r, at, d)), going_on AS (UPDATE reading_exception e SET last_at = greatest(e.last_at, s.at),"
            " detail = s.d FROM said s WHERE e.meter_id = s.m AND e.rule = s.r AND e.resolved_at IS NULL"
            " RETURNING e.meter_id, e.rule)"
            " INSERT INTO reading_exception (id, meter_id, rule, kind, measured_at, last_at, detail, found_at)"
            " SELECT s.i, s.m, s.r, s.r, s.at, s.at, s.d, business_now() FROM said s"
            " WHERE NOT EXISTS (SELECT FROM going_on g WHERE g.meter_id = s.m AND g.rule = s.r)"
            " AND NOT EXISTS (SELECT FROM reading_exception e WHERE e.meter_id = s.m AND e.rule = s.r"
            "  AND e.resolution ->> 'by' <> 'hub' AND e.resolved_at > business_now() - %s)"
            " ON CONFLICT DO NOTHING",
            [*_columns(rows), QUIET],
        )
        _mark(session, said)
    connection.execute(
        "UPDATE reading_exception e SET resolved_at = business_now(),"
        ' resolution = \'{"by": "hub", "action": "no longer so"}\''
        " WHERE e.meter_id = ANY(%b::int4[]) AND e.resolved_at IS NULL AND e.rule = ANY(%s)"
        " AND NOT EXISTS (SELECT FROM unnest(%b::int4[], %b::text[]) n(m, rule) WHERE n.m = e.meter_id"
        " AND n.rule = e.rule)",
        [
            *(list(meter_ids), [rule.name for rule in in_force.of(*_LASTING)]),
            *([one.meter_id for one in said], [one.rule for one in said]),
        ],
    )


def _mark(session: Session, said: Sequence[validation_stands.Finding]) -> None:
    """The newest reading carries the rule that says something about it."""
    raw_of(session).execute(
        "UPDATE reading r SET flags = r.flags || u.f FROM unnest(%b::int4[], %b::timestamptz[], %b::text[]) u(m, at, f)"
        " WHERE r.meter_id = u.m AND r.measured_at = u.at AND NOT r.flags @> ARRAY[u.f]"
        " AND NOT r.flags @> ARRAY['edited']",
        [[one.meter_id for one in said], [one.at for one in said], [f"vee:{one.rule}" for one in said]],
    )


# ------------------------------------------------------------------------------------------------------ continuous flow


def _follow_flow(session: Session, cases: Sequence[Case], rule: ContinuousFlow) -> None:
    """The derived alarm: it begins when every hour of the day had flow, and ends when one had none."""
    newest = {case.serial: case.newest.at for case in cases if not validation_stands.exempt(case, rule)}
    flows = _smallest_hours(session, [case for case in cases if case.serial in newest], rule.hours)
    running = {serial: flow for serial, flow in flows.items() if flow >= rule.at_least_m3h}
    stopped = [serial for serial in flows if serial not in running]
    connection = raw_of(session)
    hours = timedelta(hours=rule.hours)
    rows = [
        (new_id(), serial, newest[serial] - hours, newest[serial], Jsonb(_flow_shown(flow, rule.hours)))
        for serial, flow in running.items()
    ]
    if rows:
        connection.execute(
            "INSERT INTO alarm AS a (id, meter, type, state, form, since, last_seen, text, detail)"
            " SELECT i, m, 'continuous_flow', 'active', 'derived', s, l, 'flow in every hour', d"
            " FROM unnest(%b::uuid[], %b::text[], %b::timestamptz[], %b::timestamptz[], %b::jsonb[]) u(i, m, s, l, d)"
            " ON CONFLICT (coalesce(device, ''), coalesce(meter, ''), type, (state = 'historic'))"
            " WHERE ended_at IS NULL DO UPDATE SET last_seen = greatest(a.last_seen, excluded.last_seen),"
            " detail = a.detail || excluded.detail",
            _columns(rows),
        )
    connection.execute(
        "UPDATE alarm SET state = 'cleared', ended_at = greatest(u.at, last_seen)"
        " FROM unnest(%b::text[], %b::timestamptz[]) u(m, at) WHERE meter = u.m AND device IS NULL"
        " AND type = 'continuous_flow' AND ended_at IS NULL AND u.at > last_seen",
        [stopped, [newest[serial] for serial in stopped]],
    )


def _flow_shown(flow: Decimal, hours: int) -> dict[str, Any]:
    return {"smallest_hour_m3h": f"{flow:.6f}", "hours": hours}


def _smallest_hours(session: Session, cases: Sequence[Case], hours: int) -> dict[str, Decimal]:
    """The least hourly use (m³/h) of each meter, where all hours are known: that of the register that ran most."""
    rows = raw_of(session).execute(
        "SELECT u.m, r.measured_at, r.value_m3 FROM unnest(%b::int4[], %b::timestamptz[]) u(m, at)"
        " JOIN reading r ON r.meter_id = u.m AND r.measured_at <= u.at"
        " AND r.measured_at >= u.at - make_interval(hours => %s + 1)"
        " WHERE r.quality IN ('good', 'estimated') AND r.value_m3 IS NOT NULL ORDER BY 1, 2",
        [[case.meter_id for case in cases], [case.newest.at for case in cases], hours],
    )
    points: dict[int, list[At]] = {}
    for meter_id, at, volume in rows:
        points.setdefault(meter_id, []).append(At(at, volume))
    flows: dict[str, Decimal] = {}
    for case in cases:
        flow = validation_stands.smallest_hour(points.get(case.meter_id, []), hours)
        if flow is not None:
            flows[case.serial] = max(flow, flows.get(case.serial, flow))
    return flows


def _columns(rows: Sequence[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
