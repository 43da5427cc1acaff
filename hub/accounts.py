"""What billing told us of each account, fact by fact, and the account's lock.

Writes accounts, their facts and occupancies in the caller's transaction. A *word* is what one message said of one fact;
only a newer word of the same fact supersedes it, so messages may arrive in any order: newer means a higher `seq` where
both words carry one, else a later `at`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hub.errors import storable, storable_text
from hub.models import Account, AccountFact, BillingEvent, BillingSource, Occupancy

# Facts: `debt` (what must be paid to stop a cut), `due` (since when), `delinquency` (billing's wish and its cut list),
# `settled` (the last word that ended a delinquency), `restored` (the last word that entitles to water again),
# `reversal` (the last payment taken back), `hold:<kind>`, `notice:<channel>:<time>`, `moved_in:<service point>`,
# `moved_out:<service point>`, `request:<reference>`.
DEBT, DUE, DELINQUENCY, SETTLED, RESTORED, REVERSAL = "debt", "due", "delinquency", "settled", "restored", "reversal"
HOLD, NOTICE, MOVED_IN, MOVED_OUT, REQUEST = "hold:", "notice:", "moved_in:", "moved_out:", "request:"


@dataclass(frozen=True)
class Stamp:
    """Where a word stands among the words of its account."""

    at: datetime
    seq: int | None = None
    event_id: UUID | None = None

    def newer_than(self, other: "Stamp | None") -> bool:
        """Whether this word supersedes `other`; a tie does not."""
        if other is None:
            return True
        if self.seq is not None and other.seq is not None:
            return self.seq > other.seq
        return self.at > other.at


@dataclass(frozen=True)
class Word:
    """The newest word on one fact."""

    value: dict[str, Any]
    stamp: Stamp


@dataclass(frozen=True)
class Hold:
    """Something that protects the account from a cut, until lifted or up to `until`."""

    kind: str
    until: datetime | None


@dataclass(frozen=True)
class Notice:
    """A disconnection notice that went out."""

    channel: str
    sent_at: datetime


@dataclass(frozen=True)
class AccountFacts:
    """Everything billing said of an account that a cut or a reconnect depends on. None: billing never said.

    `past_due` is what must still be paid to stop a cut; `as_of` when that was true. `live` tells that the newest
    delinquency was not settled since. `parked` and `waiting` count events of the account without effect so far.
    `missing` is the first sequence number that never arrived. `heard_at` is the last sign of life of its source, be it
    an event of another account.
    """

    number: str
    source_id: UUID | None
    status: str
    past_due: Decimal | None
    currency: str | None
    as_of: datetime | None
    due_since: date | None
    live: bool
    stage: str | None
    holds: tuple[Hold, ...]
    notices: tuple[Notice, ...]
    attested_by: str | None
    missing: int | None
    parked: int
    waiting: int
    heard_at: datetime | None
    words: dict[str, Word]

    @property
    def gap(self) -> bool:
        """Whether an event of the account is known to be missing."""
        return self.missing is not None

    def word(self, fact: str) -> Word | None:
        """The newest word on `fact`."""
        return self.words.get(fact)


def lock(session: Session, number: str) -> bool:
    """Take the account's row lock until the transaction ends; False when there is no such account."""
    statement = select(Account.number).where(Account.number == number).with_for_update(key_share=True)
    return session.scalar(statement) is not None


def known(session: Session, number: str) -> bool:
    """Whether billing or an import ever named this account."""
    return session.scalar(select(Account.number).where(Account.number == number)) is not None


def introduce(session: Session, number: str, *, source_id: UUID | None) -> None:
    """Make the account known, and its source if nobody claimed it yet; then it is locked."""
    session.execute(insert(Account).values(number=number, source_id=source_id).on_conflict_do_nothing())
    lock(session, number)
    if source_id is not None:
        mine = (Account.number == number) & Account.source_id.is_(None)
        session.execute(update(Account).where(mine).values(source_id=source_id))


def set_contact(session: Session, number: str, **contact: str | None) -> None:
    """Replace those of name, phone, email, language that are given."""
    values = {name: storable_text(value) for name, value in contact.items() if value is not None}
    if values:
        session.execute(update(Account).where(Account.number == number).values(values))


def record_fact(session: Session, number: str, fact: str, value: dict[str, Any], stamp: Stamp) -> bool:
    """Keep a word on a fact, unless a newer one is known; whether it was kept.

    Amounts in `value` are decimal strings, instants ISO 8601 texts.
    """
    new = insert(AccountFact).values(
        account=number, fact=fact, value=storable(value), seq=stamp.seq, at=stamp.at, event_id=stamp.event_id
    )
    newer = case(
        (and_(AccountFact.seq.is_not(None), new.excluded.seq.is_not(None)), new.excluded.seq > AccountFact.seq),
        else_=new.excluded.at > AccountFact.at,
    )
    kept = new.on_conflict_do_update(
        index_elements=[AccountFact.account, AccountFact.fact],
        set_={
            "value": new.excluded.value,
            "seq": new.excluded.seq,
            "at": new.excluded.at,
            "event_id": new.excluded.event_id,
            "recorded_at": func.clock_timestamp(),
        },
        where=newer,
    )
    return session.execute(kept.returning(AccountFact.fact)).first() is not None


def record_debt(
    session: Session, number: str, *, past_due: Decimal, stamp: Stamp, currency: str | None = None, **more: Any
) -> bool:
    """Keep what must still be paid to stop a cut. Of two words of the same instant the lower amount stands."""
    value = {"past_due": str(past_due), "currency": currency, **more}
    if record_fact(session, number, DEBT, value, stamp):
        return True
    word = words_of(session, [number])[number].get(DEBT)
    if word and stamp.seq is None and word.stamp.at == stamp.at and past_due < Decimal(word.value["past_due"]):
        mine = (AccountFact.account == number) & (AccountFact.fact == DEBT)
        session.execute(update(AccountFact).where(mine).values(value=storable(value), event_id=stamp.event_id))
        return True
    return False


def record_hold(
    session: Session, number: str, kind: str, *, stamp: Stamp, placed: bool, until: datetime | None = None
) -> bool:
    """Keep that a hold was placed (up to `until`) or lifted."""
    value = {"placed": placed, "until": until.isoformat() if until else None}
    return record_fact(session, number, HOLD + kind, value, stamp)


def record_balance(
    session: Session,
    number: str,
    *,
    past_due: Decimal,
    as_of: datetime,
    due_since: date | None = None,
    holds: Iterable[str] | None = None,
    currency: str | None = None,
) -> bool:
    """Keep a balance that billing stated outside its events (ageing file, balance query); whether it was news.

    `holds`, when given, is the whole list: those of it are placed, all others lifted.
    """
    lock(session, number)
    stamp = Stamp(as_of)
    kept = record_debt(session, number, past_due=past_due, stamp=stamp, currency=currency)
    if due_since is not None:
        record_fact(session, number, DUE, {"due_since": due_since.isoformat()}, stamp)
    if past_due <= 0:
        for fact in (SETTLED, RESTORED):
            record_fact(session, number, fact, {"why": "nothing past due"}, stamp)
    if holds is not None:
        wanted = {storable_text(kind.strip()) for kind in holds if kind.strip()}
        active = {fact.removeprefix(HOLD) for fact in words_of(session, [number])[number] if fact.startswith(HOLD)}
        for kind in sorted(wanted | active):
            record_hold(session, number, kind, stamp=stamp, placed=kind in wanted)
    return kept


def words_of(session: Session, numbers: Iterable[str]) -> dict[str, dict[str, Word]]:
    """The newest word on every fact, of many accounts in one query."""
    found: dict[str, dict[str, Word]] = {number: {} for number in numbers}
    rows = session.execute(
        select(
            AccountFact.account,
            AccountFact.fact,
            AccountFact.value,
            AccountFact.at,
            AccountFact.seq,
            AccountFact.event_id,
        ).where(AccountFact.account.in_(found))
    )
    for account, fact, value, at, seq, event_id in rows:
        found[account][fact] = Word(value, Stamp(at, seq, event_id))
    return found


def facts(session: Session, number: str) -> AccountFacts | None:
    """What is known of the account; None when it is not known at all."""
    row = session.execute(
        select(
            Account.source_id,
            Account.status,
            Account.seq_seen,
            Account.seq_highest,
            BillingSource.heard_at,
            BillingSource.as_of,
        )
        .outerjoin(BillingSource, BillingSource.id == Account.source_id)
        .where(Account.number == number)
    ).one_or_none()
    if row is None:
        return None
    words = words_of(session, [number])[number]
    debt, delinquency, due, settled = (words.get(fact) for fact in (DEBT, DELINQUENCY, DUE, SETTLED))
    ended = settled.stamp if settled else None
    live = delinquency is not None and delinquency.stamp.newer_than(ended)
    parked, waiting = _open_events(session, number, row.source_id)
    as_of = [at for at in (debt.stamp.at if debt else None, row.as_of) if at is not None]
    behind = row.seq_highest is not None and row.seq_seen is not None and row.seq_highest > row.seq_seen
    return AccountFacts(
        number=number,
        source_id=row.source_id,
        status=row.status,
        past_due=Decimal(debt.value["past_due"]) if debt else None,
        currency=debt.value.get("currency") if debt else None,
        as_of=max(as_of) if debt else None,
        due_since=date.fromisoformat(due.value["due_since"]) if due else None,
        live=live,
        stage=delinquency.value["stage"] if delinquency else None,
        holds=_holds(words),
        notices=_notices(words, ended),
        attested_by=delinquency.value.get("attested_by") if delinquency and live else None,
        missing=row.seq_seen + 1 if behind else None,
        parked=parked,
        waiting=waiting,
        heard_at=max([at for at in (row.heard_at, *as_of) if at is not None], default=None),
        words=words,
    )


def _holds(words: dict[str, Word]) -> tuple[Hold, ...]:
    placed = [(fact.removeprefix(HOLD), w.value) for fact, w in sorted(words.items()) if fact.startswith(HOLD)]
    return tuple(
        Hold(kind, datetime.fromisoformat(value["until"]) if value.get("until") else None)
        for kind, value in placed
        if value["placed"]
    )


def _notices(words: dict[str, Word], ended: Stamp | None) -> tuple[Notice, ...]:
    """The notices of this delinquency: one that went out before the last was settled announces nothing any more."""
    sent = (
        Notice(w.value["channel"], datetime.fromisoformat(w.value["sent_at"]))
        for fact, w in words.items()
        if fact.startswith(NOTICE)
    )
    return tuple(
        sorted((n for n in sent if ended is None or n.sent_at > ended.at), key=lambda n: (n.sent_at, n.channel))
    )


def _open_events(session: Session, number: str, source_id: UUID | None) -> tuple[int, int]:
    """How many events of the account are parked, and how many wait to be processed.

    An event that asked for a type of work this hub does not have was understood, and is no doubt about the account.
    """
    mine = BillingEvent.source_id == source_id if source_id is not None else BillingEvent.source_id.is_not(None)
    row = session.execute(
        select(
            func.count().filter(
                BillingEvent.status == "parked",
                BillingEvent.outcome["code"].astext.is_distinct_from("work_type_missing"),
            ),
            func.count().filter(BillingEvent.status == "pending"),
        ).where(BillingEvent.account == number, mine, BillingEvent.status.in_(("parked", "pending")))
    ).one()
    return row[0], row[1]


def note_seq(session: Session, number: str, seq: int) -> None:
    """Count a sequence number of the account as arrived. The caller holds the account's lock.

    The lowest number ever seen is the base; a number missing above it is a gap until it arrives.
    """
    row = session.execute(select(Account.seq_seen, Account.seq_highest).where(Account.number == number)).one()
    if row.seq_seen is None or (row.seq_seen == row.seq_highest and seq == row.seq_seen + 1):
        seen = highest = seq
    else:
        numbers: set[int | None] = set(
            session.scalars(
                select(BillingEvent.seq)
                .join(Account, Account.number == BillingEvent.account)
                .where(
                    BillingEvent.account == number,
                    BillingEvent.seq.is_not(None),
                    or_(Account.source_id.is_(None), BillingEvent.source_id == Account.source_id),
                )
            )
        )
        arrived = {n for n in numbers if n is not None} | {seq}
        seen, highest = min(arrived), max(arrived)
        while seen + 1 in arrived:
            seen += 1
    session.execute(update(Account).where(Account.number == number).values(seq_seen=seen, seq_highest=highest))


def move_in(session: Session, number: str, service_point: str, since: date, stamp: Stamp) -> bool:
    """Keep that the account begins at a place on a local day; False when a newer word on that is known."""
    kept = record_fact(session, number, MOVED_IN + service_point, {"day": since.isoformat()}, stamp)
    if kept:
        _write_occupancy(session, number, service_point)
    return kept


def move_out(session: Session, number: str, service_point: str, until: date, stamp: Stamp) -> bool:
    """Keep that the account ends at a place on a local day (its last day is the one before); False as in `move_in`."""
    kept = record_fact(session, number, MOVED_OUT + service_point, {"day": until.isoformat()}, stamp)
    if kept:
        _write_occupancy(session, number, service_point)
    return kept


def _write_occupancy(session: Session, number: str, service_point: str) -> None:
    """Bring the occupancy up to the words on it: [moved in, moved out), open when it was entered again since."""
    words = words_of(session, [number])[number]
    came, left = words.get(MOVED_IN + service_point), words.get(MOVED_OUT + service_point)
    mine = (Occupancy.account == number) & (Occupancy.service_point == service_point)
    latest = session.execute(
        select(Occupancy.id, Occupancy.since, Occupancy.until).where(mine).order_by(Occupancy.since.desc()).limit(1)
    ).one_or_none()
    since = date.fromisoformat(came.value["day"]) if came else latest.since if latest else None
    if since is None:
        # a move-out before its move-in: the word is kept and ends the occupancy as soon as that begins
        _set_status(session, number)
        return
    gone = left is not None and (came is None or left.stamp.newer_than(came.stamp))
    until = max(date.fromisoformat(left.value["day"]), since) if left and gone else None
    again = latest is not None and latest.until is not None and since >= latest.until and not gone
    if latest is None or again:
        row = insert(Occupancy).values(account=number, service_point=service_point, since=since, until=until)
        session.execute(
            row.on_conflict_do_update(index_elements=["account", "service_point", "since"], set_={"until": until})
        )
    else:
        session.execute(update(Occupancy).where(Occupancy.id == latest.id).values(since=since, until=until))
    _set_status(session, number)


def _set_status(session: Session, number: str) -> None:
    """An account is closed when it has lived somewhere and every stay has an end."""
    ends = session.scalars(select(Occupancy.until).where(Occupancy.account == number)).all()
    status = "closed" if ends and all(end is not None for end in ends) else "active"
    session.execute(update(Account).where(Account.number == number).values(status=status))


def lives_at(session: Session, number: str, service_point: str, day: date) -> bool:
    """Whether the account lives at a place on a local day."""
    mine = (Occupancy.account == number) & (Occupancy.service_point == service_point)
    return session.scalar(select(Occupancy.id).where(mine, *_on(day)).limit(1)) is not None


def successor_at(session: Session, number: str, service_point: str, day: date) -> str | None:
    """Another account that lives at the place on `day` and came after this one did."""
    came = (
        select(func.max(Occupancy.since))
        .where(Occupancy.account == number, Occupancy.service_point == service_point, Occupancy.since <= day)
        .scalar_subquery()
    )
    return session.scalar(
        select(Occupancy.account)
        .where(
            Occupancy.service_point == service_point,
            Occupancy.account != number,
            *_on(day),
            or_(came.is_(None), Occupancy.since > came),
        )
        .order_by(Occupancy.since.desc())
        .limit(1)
    )


def places_of(session: Session, number: str, day: date) -> list[str]:
    """Where the account lives on a local day, the latest first."""
    rows = (
        select(Occupancy.service_point).where(Occupancy.account == number, *_on(day)).order_by(Occupancy.since.desc())
    )
    return list(session.scalars(rows))


def last_place(session: Session, number: str) -> str | None:
    """Where the account moved in last, whether it lives there still or not."""
    mine = select(Occupancy.service_point).where(Occupancy.account == number)
    return session.scalar(mine.order_by(Occupancy.since.desc(), Occupancy.service_point).limit(1))


def _on(day: date) -> tuple[Any, Any]:
    return Occupancy.since <= day, or_(Occupancy.until.is_(None), Occupancy.until > day)
