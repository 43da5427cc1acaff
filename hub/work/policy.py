"""May this water be turned off for nonpayment now, and if not: why, and when at the earliest?

`decide` is pure; `may_cut` gathers its facts and reads only. Every fact that is missing or stale is a no. Reasons that
time alone removes give the earliest lawful time; one that needs another word of billing, or a person, gives none.
A shell names the pack and the time zone once with `use`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import accounts, clock
from hub.accounts import AccountFacts, Hold, Notice
from hub.models import ServicePoint
from hub.work import cut_lists, policy_packs
from hub.work.policy_packs import (
    WEEKDAYS,
    BalanceAge,
    DaysPastDue,
    Holds,
    Holidays,
    Hours,
    MinimumDebt,
    NoticeSent,
    Pack,
    Premise,
    Rule,
)

# Days ahead in which an opening is looked for before the answer is "never".
HORIZON_DAYS = 400


class Never:
    """What no passing of time removes."""

    def __repr__(self) -> str:
        return "NEVER"


NEVER = Never()
Until = datetime | Never


@dataclass(frozen=True)
class Reason:
    """Why not: a stable word, a sentence, and the rule it comes from."""

    code: str
    text: str
    citation: str | None = None


@dataclass(frozen=True)
class Decision:
    """Whether the cut may happen; if not, every reason, and the earliest lawful time (None: not by waiting)."""

    allowed: bool
    reasons: tuple[Reason, ...]
    earliest_at: datetime | None


@dataclass(frozen=True)
class CutFacts:
    """What is known about an account at a place when a cut is judged. None: not known.

    `requested`: billing wants the cut and has not been satisfied since. `successor`: an account that moved in later.
    `waiting`: events that arrived and have no effect yet. `silent_since`: the source's last sign of life, when that
    is too long ago. `list_in_doubt`: the cut list is being sent again and has not named the account so far.
    """

    account: str | None
    lives_there: bool = False
    successor: str | None = None
    requested: bool = False
    past_due: Decimal | None = None
    due_since: date | None = None
    as_of: datetime | None = None
    notices: tuple[Notice, ...] = ()
    attested_by: str | None = None
    holds: tuple[Hold, ...] = ()
    premise_class: str | None = None
    critical: bool | None = None
    missing: int | None = None
    parked: int = 0
    waiting: int = 0
    source_known: bool = True
    silent_since: datetime | None = None
    list_in_doubt: bool = False


@dataclass(frozen=True)
class _Block:
    reason: Reason
    until: Until


@dataclass(frozen=True)
class _InForce:
    pack: Pack
    zone: ZoneInfo
    silence: timedelta


_in_force: _InForce | None = None


def use(
    name: str = "default",
    folder: Path | None = None,
    *,
    zone: ZoneInfo | None = None,
    silence_hours: Decimal | int = 24,
) -> None:
    """Judge by this pack, in this time zone, from now on in this process; a source silent for so long is stale.

    Raises ConfigurationError when a pack has mistakes.
    """
    global _in_force
    pack = policy_packs.load(name, folder)
    _in_force = _InForce(pack, zone or ZoneInfo("UTC"), timedelta(hours=float(silence_hours)))


def _current() -> _InForce:
    if _in_force is None:
        use()
    assert _in_force is not None
    return _in_force


def zone() -> ZoneInfo:
    """The time zone in which days and hours are judged."""
    return _current().zone


def pack_name() -> str:
    """The pack in force."""
    return _current().pack.name


Stage = Literal["creation", "assignment", "start", "completion"]


def may_cut(
    session: Session,
    *,
    account: str | None,
    service_point: str | None,
    at: datetime | None = None,
    stage: str = "creation",
) -> Decision:
    """Whether the water of `account` at `service_point` may be turned off at `at` (default: now, business time).

    At creation, events of the account that still wait in the inbox do not count: each is judged when it is processed.
    """
    force = _current()
    now = clock.now(session)
    facts = gather(session, account, service_point, at or now, now, count_waiting=stage != "creation")
    return decide(facts, force.pack, at or now, force.zone)


def gather(
    session: Session,
    account: str | None,
    service_point: str | None,
    at: datetime,
    now: datetime,
    *,
    count_waiting: bool = True,
) -> CutFacts:
    """The facts that a cut depends on."""
    force = _current()
    known = accounts.facts(session, account) if account is not None else None
    place = session.execute(
        select(ServicePoint.premise_class, ServicePoint.critical).where(ServicePoint.id == service_point)
    ).one_or_none()
    premise_class = place.premise_class if place else None
    critical = place.critical if place else None
    if known is None or account is None or service_point is None:
        return CutFacts(account=account, premise_class=premise_class, critical=critical)
    today = at.astimezone(force.zone).date()
    silent = known.heard_at is not None and now - known.heard_at > force.silence
    return CutFacts(
        account=account,
        lives_there=accounts.lives_at(session, account, service_point, today),
        successor=accounts.successor_at(session, account, service_point, today),
        requested=wants_cut(known),
        past_due=known.past_due,
        due_since=known.due_since,
        as_of=known.as_of,
        notices=known.notices,
        attested_by=known.attested_by,
        holds=known.holds,
        premise_class=premise_class,
        critical=critical,
        missing=known.missing,
        parked=known.parked,
        waiting=known.waiting if count_waiting else 0,
        source_known=known.heard_at is not None,
        silent_since=known.heard_at if silent else None,
        list_in_doubt=count_waiting and cut_lists.in_doubt(session, account, service_point),
    )


def wants_cut(known: AccountFacts) -> bool:
    """Whether billing's newest word is that this account is to be cut."""
    return known.live and known.stage == "cut" and known.past_due is not None and known.past_due > 0


OWN_REASONS = frozenset(
    {
        "account_unknown", "not_resident", "place_taken", "balance_unknown", "nothing_past_due",
        "not_requested", "event_missing", "event_parked", "event_waiting", "cut_list_resent", "source_silent",
        "due_date_unknown", "not_due_long_enough", "debt_too_small", "notice_missing", "notice_too_recent",
        "outside_hours", "holiday", "balance_stale", "place_unknown", "place_critical", "premise_protected",
    }
)  # fmt: skip
HOLD_REASON = "hold_"


def is_own_reason(code: str) -> bool:
    """Whether a reason on an order is the policy's, and so goes when the policy no longer says it."""
    return code in OWN_REASONS or code.startswith(HOLD_REASON)


def fee_caps(session: Session, *, account: str | None, service_point: str | None, at: datetime) -> dict[str, Decimal]:
    """The highest amounts of fees at `at` by name, as the pack in force has them."""
    force = _current()
    premise_class = session.scalar(select(ServicePoint.premise_class).where(ServicePoint.id == service_point))
    day = at.astimezone(force.zone).date()
    caps: dict[str, Decimal] = {}
    for cap in force.pack.fee_cap:
        if cap.holds_for(day, premise_class):
            caps[cap.name] = min(cap.amount, caps.get(cap.name, cap.amount))
    return caps


def decide(facts: CutFacts, pack: Pack, at: datetime, zone: ZoneInfo) -> Decision:
    """Judge `facts` at `at` (aware) by what always holds and by the rules of `pack` in force on that local day."""
    blocks = [*_always(facts), *_by_rules(facts, pack, at, zone)]
    if not blocks:
        return Decision(True, (), at)
    return Decision(False, tuple(block.reason for block in blocks), _earliest(blocks, facts, pack, at, zone))


def _earliest(blocks: list[_Block], facts: CutFacts, pack: Pack, at: datetime, zone: ZoneInfo) -> datetime | None:
    """The first instant at which time has removed every block; None when it never does within the horizon.

    Removing one block may run into the next (the hours begin on a holiday), so the rules are asked again there. What
    depends on the age of a fact is asked only once: until then billing has spoken again, or the cut is refused then.
    """
    moment, horizon = at, at + timedelta(days=HORIZON_DAYS)
    while blocks:
        later = [block.until for block in blocks]
        if any(isinstance(until, Never) for until in later):
            return None
        moment = max(until for until in later if isinstance(until, datetime)).astimezone(UTC)
        if moment > horizon:
            return None
        blocks = list(_by_rules(facts, pack, moment, zone, ageing=False))
    return moment


def _always(facts: CutFacts) -> list[_Block]:
    """What no pack may switch off."""
    blocks: list[_Block] = []

    def deny(code: str, text: str) -> None:
        blocks.append(_Block(Reason(code, text), NEVER))

    if facts.account is None or not facts.source_known:
        deny("account_unknown", "No billing system has told anything about an account here.")
        return blocks
    if not facts.lives_there:
        deny("not_resident", f"Account {facts.account} does not live at this place.")
    if facts.successor is not None:
        deny("place_taken", f"Account {facts.successor} has taken the place.")
    if facts.past_due is None:
        deny("balance_unknown", "Billing has not told what is past due.")
    elif facts.past_due <= 0:
        deny("nothing_past_due", "Nothing is past due.")
    elif not facts.requested:
        deny("not_requested", "Billing does not ask for a cut, or has been satisfied since it did.")
    if facts.missing is not None:
        deny("event_missing", f"Event {facts.missing} of the account has not arrived.")
    if facts.parked:
        deny("event_parked", f"{facts.parked} event(s) of the account could not be understood or applied.")
    if facts.waiting:
        deny("event_waiting", f"{facts.waiting} event(s) of the account are still to be processed.")
    if facts.list_in_doubt:
        deny("cut_list_resent", "The cut list is being sent again and has not named the account so far.")
    if facts.silent_since is not None:
        deny("source_silent", f"The billing system has not been heard since {facts.silent_since:%Y-%m-%d %H:%M} UTC.")
    return blocks


def _by_rules(facts: CutFacts, pack: Pack, at: datetime, zone: ZoneInfo, *, ageing: bool = True) -> list[_Block]:
    local = at.astimezone(zone)
    rules = pack.rules(local.date(), facts.premise_class)
    closed = _ClosedDays([rule for rule in rules if isinstance(rule, Holidays)])
    blocks: list[_Block] = []
    for rule in rules:
        blocks += _by_rule(rule, facts, local, zone, closed, ageing)
    return blocks


def _by_rule(
    rule: Rule, facts: CutFacts, local: datetime, zone: ZoneInfo, closed: "_ClosedDays", ageing: bool
) -> list[_Block]:
    match rule:
        case DaysPastDue():
            found = _days_past_due(rule, facts, local, zone)
        case MinimumDebt():
            found = _minimum(rule, facts)
        case NoticeSent():
            found = _notice(rule, facts, local, zone, closed)
        case Hours():
            found = _hours(rule, local, zone)
        case Holidays():
            found = _holiday(rule, local, zone)
        case Holds():
            return _holds(rule, facts, local)
        case BalanceAge():
            found = _balance_age(rule, facts, local) if ageing else None
        case Premise():
            found = _premise(rule, facts)
    return [found] if found else []


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return policy_packs.opening(day, time.min, zone)


def _days_past_due(rule: DaysPastDue, facts: CutFacts, local: datetime, zone: ZoneInfo) -> _Block | None:
    if facts.due_since is None:
        return _Block(Reason("due_date_unknown", "Billing has not told since when it is due.", rule.citation), NEVER)
    days = (local.date() - facts.due_since).days
    if days >= rule.days:
        return None
    text = f"Due for {days} days; {rule.days} are needed."
    first = _midnight(facts.due_since + timedelta(days=rule.days), zone)
    return _Block(Reason("not_due_long_enough", text, rule.citation), first)


def _minimum(rule: MinimumDebt, facts: CutFacts) -> _Block | None:
    if facts.past_due is not None and facts.past_due > rule.more_than:
        return None
    return _Block(Reason("debt_too_small", f"Not more than {rule.more_than} is past due.", rule.citation), NEVER)


def _notice(rule: NoticeSent, facts: CutFacts, local: datetime, zone: ZoneInfo, closed: "_ClosedDays") -> _Block | None:
    """One notice must be old enough and still valid. A billing system may vouch for all notices of a cut list."""
    if facts.attested_by is not None:
        return None
    begins: list[date] = []
    for notice in facts.notices:
        if rule.channels is not None and notice.channel not in rule.channels:
            continue
        sent = notice.sent_at.astimezone(zone).date()
        first = closed.after(sent, rule.days_before) if rule.business_days else sent + timedelta(days=rule.days_before)
        last = sent + timedelta(days=rule.valid_days) if rule.valid_days is not None else date.max
        if first <= local.date() <= last:
            return None
        if first > local.date() and first <= last:
            begins.append(first)
    if not begins:
        text = "No disconnection notice that is still valid is known."
        return _Block(Reason("notice_missing", text, rule.citation), NEVER)
    kind = "business days" if rule.business_days else "days"
    text = f"The notice must be {rule.days_before} {kind} old."
    return _Block(Reason("notice_too_recent", text, rule.citation), _midnight(min(begins), zone))


def _hours(rule: Hours, local: datetime, zone: ZoneInfo) -> _Block | None:
    """The next opening: later today, or on the next of the weekdays."""
    open_days = {WEEKDAYS.index(name) for name in rule.weekdays}
    today = local.date()
    # Wall-clock time decides, so a day of a clock change has the same office hours as any other.
    if today.weekday() in open_days and rule.begin <= local.time() < rule.end:
        return None
    day = today if local.time() < rule.begin else today + timedelta(days=1)
    while day.weekday() not in open_days:
        day += timedelta(days=1)
    days = ", ".join(name.capitalize() for name in rule.weekdays)
    text = f"Only {days} from {rule.begin:%H:%M} to {rule.end:%H:%M}."
    return _Block(Reason("outside_hours", text, rule.citation), policy_packs.opening(day, rule.begin, zone))


def _holiday(rule: Holidays, local: datetime, zone: ZoneInfo) -> _Block | None:
    today, tomorrow = local.date(), local.date() + timedelta(days=1)
    name = rule.on(today)
    if name is not None:
        text = f"Today is a holiday: {name}."
    elif rule.eves and (name := rule.on(tomorrow)) is not None:
        text = f"Tomorrow is a holiday: {name}."
    else:
        return None
    return _Block(Reason("holiday", text, rule.citation), _midnight(tomorrow, zone))


def _holds(rule: Holds, facts: CutFacts, local: datetime) -> list[_Block]:
    blocks = []
    for hold in facts.holds:
        if hold.until is not None and hold.until <= local:
            continue
        until: Until = NEVER if hold.until is None else hold.until
        if hold.kind in rule.known:
            reason = Reason(f"hold_{hold.kind}", f"A hold is in force: {hold.kind.replace('_', ' ')}.", rule.citation)
        else:
            reason = Reason("hold_unknown", f"A hold of a kind the policy does not know: {hold.kind}.", rule.citation)
        blocks.append(_Block(reason, until))
    return blocks


def _balance_age(rule: BalanceAge, facts: CutFacts, local: datetime) -> _Block | None:
    if facts.as_of is not None and local - facts.as_of <= timedelta(hours=rule.hours):
        return None
    told = "never told" if facts.as_of is None else f"of {facts.as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"The balance is {told}; it may be {rule.hours} hours old at most."
    return _Block(Reason("balance_stale", text, rule.citation), NEVER)


def _premise(rule: Premise, facts: CutFacts) -> _Block | None:
    if facts.critical is None:
        return _Block(Reason("place_unknown", "Nothing is known about the place.", rule.citation), NEVER)
    if facts.critical:
        return _Block(Reason("place_critical", "The place is marked critical.", rule.citation), NEVER)
    if facts.premise_class in rule.never:
        text = f"A {str(facts.premise_class).replace('_', ' ')} is never cut."
        return _Block(Reason("premise_protected", text, rule.citation), NEVER)
    return None


class _ClosedDays:
    """Which days are no business days: weekends and the holidays of the rules in force."""

    def __init__(self, rules: list[Holidays]) -> None:
        self.rules = rules

    def after(self, day: date, business_days: int) -> date:
        """The day that lies so many business days after `day`."""
        while business_days > 0:
            day += timedelta(days=1)
            if day.weekday() < 5 and all(rule.on(day) is None for rule in self.rules):
                business_days -= 1
        return day
