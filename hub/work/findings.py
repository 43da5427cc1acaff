"""Facts of metering on their way to work: noticed, told to the customer, opened, joined, capped, or over by themselves.

Writes `finding`, orders, exceptions, outbound messages and the change log in the caller's transaction. `notice` looks
at all facts at once; `open_due` then opens what is due, each in a transaction of the caller's, so that no round holds
many places at once.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from hub import changes, clock, outbox
from hub.db import new_id, raw_of
from hub.errors import BadInput, Conflict, CurbstopError, NotFound, storable_text
from hub.models import Finding, OrderException
from hub.work import opening, opening_rules, steps
from hub.work.opening_rules import EXCEPTION

# Candidates of each kind of fact: (subject, since, evidence). Parameters are those of the rule.
_ALARMS = """
    SELECT meter AS subject, min(since) AS since, jsonb_build_object('alarms', jsonb_agg(jsonb_build_object(
        'id', id, 'type', type, 'device', device, 'since', since, 'last_seen', last_seen, 'text', text,
        'raw_message', raw_id) || detail ORDER BY since)) AS evidence
    FROM alarm WHERE state = 'active' AND ended_at IS NULL AND meter IS NOT NULL AND type = ANY(%(types)s)
    AND last_seen > business_now() - make_interval(days => %(heard_within_days)s) GROUP BY meter
"""
_EXCEPTIONS = """
    SELECT m.serial AS subject, min(e.measured_at) AS since, jsonb_build_object('exceptions', jsonb_agg(
        jsonb_build_object('id', e.id, 'rule', e.rule, 'kind', e.kind, 'register', m.register, 'measured_at',
        e.measured_at) || e.detail ORDER BY e.measured_at)) AS evidence
    FROM reading_exception e JOIN meter m ON m.id = e.meter_id
    WHERE e.resolved_at IS NULL AND e.rule = ANY(%(rules)s) GROUP BY m.serial
"""
_QUARANTINE = """
    SELECT q.meter AS subject, min(q.received_at) AS since, jsonb_build_object('quarantine', count(*),
        'reason', min(q.reason), 'device', min(q.device), 'detail', min(q.detail ->> 'text')) AS evidence
    FROM quarantine q WHERE q.resolved_at IS NULL AND q.reason = ANY(%(reasons)s) AND q.meter IS NOT NULL
    GROUP BY q.meter
"""
# A meter is silent when all its devices are; those of a gateway with an incident are not asked about.
_SILENCE = """
    SELECT d.meter AS subject, max(coalesce(s.read_at, s.heard_at)) AS since, jsonb_build_object('devices',
        jsonb_agg(DISTINCT d.device), 'last_read_at', max(s.read_at), 'last_heard_at', max(s.heard_at),
        'gateway', min(s.publisher)) AS evidence
    FROM device d JOIN device_state s ON s.device = d.device WHERE d.valid_to IS NULL
    AND EXISTS (SELECT FROM meter_installation i WHERE i.serial = d.meter AND i.removed_at IS NULL
        AND i.service_point IS NOT NULL)
    GROUP BY d.meter
    HAVING max(coalesce(s.read_at, s.heard_at)) < business_now() - make_interval(days => %(silent_days)s)
    AND NOT bool_or(EXISTS (SELECT FROM finding f WHERE f.state = 'incident' AND f.subject = s.publisher))
"""
# An incident begins at the rule's share and is over below half of it, so that it does not flicker.
_GATEWAYS = """
    SELECT s.publisher AS subject, max(s.heard_at) AS since, jsonb_build_object('devices', count(*),
        'silent', count(*) FILTER (WHERE s.heard_at < business_now() - make_interval(hours => %(silent_hours)s)),
        'last_heard_at', max(s.heard_at)) AS evidence
    FROM device_state s WHERE s.publisher IS NOT NULL
    AND EXISTS (SELECT FROM device d WHERE d.device = s.device AND d.valid_to IS NULL)
    GROUP BY s.publisher
    HAVING count(*) FILTER (WHERE s.heard_at < business_now() - make_interval(hours => %(silent_hours)s))
        >= greatest(%(devices)s, count(*) * %(share)s::numeric * CASE WHEN EXISTS (SELECT FROM finding f
            WHERE f.rule = %(rule)s AND f.subject = s.publisher AND f.state = 'incident') THEN 0.5 ELSE 1 END)
"""

_CANDIDATES = {
    "alarm": _ALARMS,
    "reading_exception": _EXCEPTIONS,
    "quarantine": _QUARANTINE,
    "missing_reads": _SILENCE,
}


def notice(session: Session) -> None:
    """Bring the findings up to date with the facts, and tell customers first where a rule says so."""
    in_force = opening_rules.rules()
    for gateway in in_force.gateways:
        _look(session, gateway, _GATEWAYS, "incident")
    for rule in in_force.openings:
        _look(session, rule, _CANDIDATES[rule.facts], "noticed")
        if rule.notify_days is not None:
            _notify(session, rule)
    enabled = [rule.name for rule in in_force.rule if rule.enabled]
    session.execute(
        text(
            "UPDATE finding SET state = 'settled', settled_at = business_now()"
            " WHERE state <> 'settled' AND NOT rule = ANY(:rules)"
        ),
        {"rules": enabled},
    )


def _look(session: Session, rule: Any, candidates: str, state: str) -> None:
    """Notice what is new, refresh the evidence of what goes on, and settle what is over."""
    connection = raw_of(session)
    seen = connection.execute(candidates, rule.model_dump() | {"rule": rule.name}).fetchall()
    subjects = [row[0] for row in seen]
    connection.execute(
        "UPDATE finding SET state = 'settled', settled_at = business_now()"
        " WHERE rule = %s AND state <> 'settled' AND NOT subject = ANY(%s)",
        [rule.name, subjects],
    )
    connection.execute(
        "INSERT INTO finding AS f (id, rule, subject, service_point, account, state, since, evidence, noticed_at)"
        " SELECT seen.id, %s, seen.subject, i.service_point, o.account, %s, seen.since, seen.evidence, business_now()"
        " FROM unnest(%b::uuid[], %b::text[], %b::timestamptz[], %b::jsonb[]) seen(id, subject, since, evidence)"
        " LEFT JOIN LATERAL (SELECT service_point FROM meter_installation WHERE serial = seen.subject"
        "  AND removed_at IS NULL ORDER BY installed_at DESC LIMIT 1) i ON true"
        " LEFT JOIN LATERAL (SELECT account FROM occupancy WHERE service_point = i.service_point AND until IS NULL"
        "  ORDER BY since DESC, account LIMIT 1) o ON true"
        " ON CONFLICT (rule, subject) WHERE state <> 'settled' DO UPDATE SET evidence = excluded.evidence,"
        " service_point = excluded.service_point, account = excluded.account"
        " WHERE f.state IN ('noticed', 'notified', 'waiting', 'incident') AND f.evidence <> excluded.evidence",
        [
            *(rule.name, state, [new_id() for _ in seen], subjects),
            *([row[1] for row in seen], [Jsonb(row[2]) for row in seen]),
        ],
    )


def _notify(session: Session, rule: Any) -> None:
    """Tell billing, which tells the customer, of what has lasted long enough; a crew goes only if it lasts on."""
    now = clock.now(session)
    due = session.scalars(
        select(Finding)
        .where(
            Finding.rule == rule.name,
            Finding.state == "noticed",
            Finding.account.is_not(None),
            Finding.since <= now - timedelta(days=rule.after_days),
        )
        .order_by(Finding.since)
        .with_for_update(skip_locked=True)
        .limit(1000)
    ).all()
    for finding in due:
        finding.state, finding.notified_at = "notified", now
        outbox.put(
            session,
            type="leak.suspected",
            account=finding.account,
            data={
                "service_point": finding.service_point,
                "meter": finding.subject,
                "rule": rule.name,
                "since": finding.since,
                "evidence": finding.evidence,
                "visit_after": now + timedelta(days=rule.notify_days),
            },
        )
    session.flush()


def due(session: Session, zone: ZoneInfo) -> list[UUID]:
    """Findings to be opened now, oldest facts first, within each rule's cap of the day of `zone`; the others wait."""
    now = clock.now(session)
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    wanted: list[UUID] = []
    for rule in opening_rules.rules().openings:
        rows = raw_of(session).execute(
            "SELECT id FROM finding WHERE rule = %(rule)s AND (state = 'waiting'"
            " OR (state = 'noticed' AND since <= %(now)s - make_interval(days => %(after)s)"
            "  AND (%(notify)s::int IS NULL OR account IS NULL))"
            " OR (state = 'notified' AND notified_at <= %(now)s - make_interval(days => coalesce(%(notify)s::int, 0))))"
            " ORDER BY since, id",
            {"rule": rule.name, "now": now, "after": rule.after_days, "notify": rule.notify_days},
        )
        ready = [row[0] for row in rows]
        opened = session.scalar(
            text("SELECT count(*) FROM finding WHERE rule = :rule AND opened_at >= :midnight"),
            {"rule": rule.name, "midnight": midnight},
        )
        room = max(0, rule.daily_cap - (opened or 0))
        wanted += ready[:room]
        if ready[room:]:
            session.execute(
                text("UPDATE finding SET state = 'waiting' WHERE id = ANY(:ids) AND state <> 'waiting'"),
                {"ids": ready[room:]},
            )
    return wanted


def open_due(session: Session, finding_id: UUID) -> Finding | None:
    """Open or join the work of one finding, evidence on its timeline; None when somebody else was faster.

    Where the work cannot be opened (no place, another account's order on the road) a person is told instead.
    """
    finding = session.get(Finding, finding_id, with_for_update={"skip_locked": True}, populate_existing=True)
    if finding is None or finding.state not in ("noticed", "notified", "waiting"):
        return None
    rule = next((one for one in opening_rules.rules().openings if one.name == finding.rule), None)
    if rule is None:
        return None
    finding.opened_at = clock.now(session)
    if rule.opens == EXCEPTION or finding.service_point is None:
        _tell(session, finding)
    else:
        try:
            with session.begin_nested():
                _open(session, finding, rule.opens)
        except CurbstopError as error:
            finding.evidence = {**finding.evidence, "not_opened": error.detail}
            _tell(session, finding)
    session.flush()
    return finding


def _open(session: Session, finding: Finding, kind: str) -> None:
    made = opening.open_order(
        session,
        type=kind,
        by="hub",
        account=finding.account,
        service_point=finding.service_point,
        meter=finding.subject,
        note=sentence(finding),
        details={"rule": finding.rule, "evidence": finding.evidence},
    )
    finding.state = "joined" if made.how == "joined" else "opened"
    finding.order_id = made.order.id
    steps.log(
        session,
        made.order,
        by="hub",
        verb="evidence",
        detail={"rule": finding.rule, "text": sentence(finding), "evidence": finding.evidence},
    )


def _tell(session: Session, finding: Finding) -> None:
    """Put the finding before the dispatcher."""
    finding.state = "opened"
    session.execute(
        insert(OrderException).values(
            id=new_id(),
            account=finding.account,
            service_point=finding.service_point,
            kind=finding.rule,
            text=sentence(finding),
            ours={"meter": finding.subject},
            theirs=finding.evidence,
            opened_at=finding.opened_at,
        )
    )


def sentence(finding: Finding) -> str:
    """The finding in words."""
    what = {
        "leak": "Water seems to run all the time",
        "burst": "The meter reports a burst",
        "tamper_alarm": "The meter reports tampering",
        "use_on_inactive": "Water is used where it should be off",
        "missing_reads": "No reading arrives",
        "low_battery": "The battery of the radio is low",
        "stopped_meter": "The register stands still",
        "unexplained_drop": "The register fell and nothing explains it",
        "unit_jump": "The register seems to count in another unit",
        "new_serial": "The radio names another meter than the registry",
        "backflow": "The meter reports water running backwards",
    }.get(finding.rule, finding.rule.replace("_", " ").capitalize())
    return f"{what}: meter {finding.subject}, since {finding.since:%Y-%m-%d %H:%M} UTC."


def listed(
    session: Session,
    *,
    rule: str | None = None,
    state: str | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Finding]:
    """Findings, newest first; settled ones only when asked for."""
    query = select(Finding).order_by(Finding.id.desc()).limit(limit)
    query = query.where(Finding.state == state) if state else query.where(Finding.state != "settled")
    if rule is not None:
        query = query.where(Finding.rule == rule)
    if after is not None:
        query = query.where(Finding.id < after)
    return list(session.scalars(query))


def counts(session: Session) -> dict[str, dict[str, int]]:
    """How many findings of each rule are in each state, but settled ones."""
    found: dict[str, dict[str, int]] = {}
    rows = session.execute(
        text("SELECT rule, state, count(*) FROM finding WHERE state <> 'settled' GROUP BY 1, 2 ORDER BY 1, 2")
    )
    for rule, state, count in rows:
        found.setdefault(rule, {})[state] = count
    return found


def dismiss(session: Session, finding_id: UUID, *, by: str, reason: str) -> Finding:
    """A person says that a finding needs no work; it opens nothing while the fact lasts.

    Raises NotFound, BadInput, Conflict when it led to something already.
    """
    reason = storable_text(reason).strip()[:1000]
    if not reason:
        raise BadInput("It is not said why.", field="reason", remedy="Say why nothing is to be done.")
    finding = session.get(Finding, finding_id, with_for_update=True, populate_existing=True)
    if finding is None:
        raise NotFound("There is no such finding.", field="id", value=str(finding_id))
    if finding.state not in ("noticed", "notified", "waiting", "incident"):
        raise Conflict(f"The finding is {finding.state} already.", field="id", value=str(finding_id))
    finding.state = "dismissed"
    finding.evidence = {**finding.evidence, "dismissed_by": by, "reason": reason}
    session.flush()
    changes.record(
        session,
        actor=by,
        subject_type="finding",
        subject_id=str(finding.id),
        verb="finding_dismissed",
        detail={"rule": finding.rule, "subject": finding.subject, "reason": reason},
    )
    return finding
