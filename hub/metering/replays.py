"""Reading kept messages again because an adapter or a decoder has changed, slice after slice.

Each slice writes in one transaction what `readings.replay` does. A booked reading that its own message now tells
differently stays, and the new value is put aside as `value_conflict`, unless the replay corrects: then the reading is
revised with a reason and what it was is kept. What a person edited is never changed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from hub import changes
from hub.db import Database, raw_of
from hub.errors import storable_text
from hub.metering import decode, devices, readings, rebooking
from hub.metering.booking import Row

SLICE = 500
# How many changes a replay tells one by one.
TOLD = 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which messages: of a device, an adapter, with a reason why something was put aside, arrived in [since, until)."""

    device: str | None = None
    adapter: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def words(self) -> dict[str, str]:
        """What was chosen, for the change log."""
        named = {"device": self.device, "adapter": self.adapter, "reason": self.reason}
        times = {"since": self.since, "until": self.until}
        return {name: value for name, value in named.items() if value is not None} | {
            name: at.isoformat() for name, at in times.items() if at is not None
        }

    def parameters(self) -> dict[str, Any]:
        """The values of `_CHOSEN`."""
        device = None if self.device is None else storable_text(devices.key(self.device))
        return {
            "device": device,
            "adapter": self.adapter,
            "reason": None if self.reason is None else storable_text(self.reason),
            "since": self.since,
            "until": self.until,
        }


@dataclass(slots=True)
class Outcome:
    """What reading again did, or would do: readings by what became of them, and quarantine entries settled by it.

    `counts`: stored, duplicate, revised, conflict, quarantined, unclaimed, corrected, removed. `put_aside` counts the
    quarantined ones by reason. `told` are the first changes of booked readings, one line each.
    """

    messages: int = 0
    settled: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    put_aside: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Count `other` in."""
        self.messages += other.messages
        self.settled += other.settled
        self.counts += other.counts
        self.put_aside += other.put_aside
        self.told += other.told[: TOLD - len(self.told)]


# Of a message about several devices only its bytes say which.
_CHOSEN = """
  (%(device)s::text IS NULL OR r.device = %(device)s OR (r.device IS NULL AND
    position(encode(convert_to(%(device)s, 'UTF8'), 'escape') IN lower(encode(r.payload, 'escape'))) > 0))
  AND (%(adapter)s::text IS NULL OR r.adapter = %(adapter)s)
  AND r.received_at >= coalesce(%(since)s::timestamptz, '-infinity')
  AND r.received_at < coalesce(%(until)s::timestamptz, 'infinity')
  AND (%(reason)s::text IS NULL OR r.reason = %(reason)s
    OR EXISTS (SELECT FROM quarantine q WHERE q.raw_id = r.id AND q.reason = %(reason)s))
"""
# In the order of the index on devices, so that a slice is about few meters; messages about several devices come last.
_OF_ONE = f"""
SELECT r.device, r.received_at, r.id FROM raw_message r WHERE r.device IS NOT NULL AND {_CHOSEN}
  AND (r.device, r.received_at, r.id) > (%(at_device)s, %(at)s, %(at_id)s)
ORDER BY r.device, r.received_at, r.id LIMIT %(limit)s
"""  # noqa: S608  (our own text)
_OF_SEVERAL = f"""
SELECT r.device, r.received_at, r.id FROM raw_message r WHERE r.device IS NULL AND {_CHOSEN}
  AND (r.received_at, r.id) > (%(at)s, %(at_id)s) ORDER BY r.received_at, r.id LIMIT %(limit)s
"""  # noqa: S608  (our own text)


def run(
    database: Database,
    chosen: Chosen,
    *,
    by: str,
    correct: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Read the chosen messages again, `SLICE` in a transaction; run it again to go on after it was stopped.

    `correct` says why booked readings that their message now tells differently are revised; without it they stay. With
    `dry_run` every slice is undone: the outcome is what would happen.
    """
    outcome = Outcome()
    with database.raw() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        found = connection.execute(
            f"SELECT count(*) FROM raw_message r WHERE {_CHOSEN}",  # noqa: S608  (our own text)
            chosen.parameters(),
        ).fetchone()
    total = found[0] if found else 0
    for several in (False, True):
        place: tuple[Any, ...] = ("", datetime.fromisoformat("1900-01-01T00:00:00Z"), 0)
        while place:
            part, place = _slice(database, chosen, several, place, by, correct, dry_run)
            outcome.add(part)
            if progress:
                progress(outcome.messages, max(total, outcome.messages))
    return outcome


class _Undone(Exception):
    """Ends the transaction of a dry run."""


def _slice(
    database: Database,
    chosen: Chosen,
    several: bool,
    place: tuple[Any, ...],
    by: str,
    correct: str | None,
    dry_run: bool,
) -> tuple[Outcome, tuple[Any, ...]]:
    """One slice behind `place`; what it did, and where the next one begins (empty when there is none)."""
    outcome, rows = Outcome(), []
    with suppress(_Undone), database.transaction() as session:
        connection = raw_of(session)
        connection.execute("SET LOCAL statement_timeout = 0")
        behind = {"at_device": place[0], "at": place[1], "at_id": place[2], "limit": SLICE}
        rows = connection.execute(_OF_SEVERAL if several else _OF_ONE, chosen.parameters() | behind).fetchall()
        if rows:
            outcome = _read_again(session, rows, by, correct)
            if not dry_run:
                _log(session, chosen, outcome, by, correct)
        if dry_run:
            raise _Undone
    return outcome, tuple(rows[-1]) if len(rows) == SLICE else ()


def _read_again(session: Session, messages: Sequence[Any], by: str, correct: str | None) -> Outcome:
    ids = [raw_id for _, _, raw_id in messages]
    outcome = Outcome(messages=len(ids))
    connection = raw_of(session)
    open_entries = "SELECT id FROM quarantine WHERE raw_id = ANY(%s) AND resolved_at IS NULL"
    before = {row[0] for row in connection.execute(open_entries, [ids])}
    if correct is not None:
        _correct(session, messages, ids, outcome, by, correct)
    batch = readings.replay(session, ids)
    after = {row[0] for row in connection.execute(open_entries, [ids])}
    outcome.settled = len(before - after)
    for one in (result for results in batch.results for result in results):
        conflict = one.reason == "value_conflict"
        outcome.counts["conflict" if conflict else one.outcome] += 1
        if one.outcome == "quarantined" and not conflict:
            outcome.put_aside[one.reason or ""] += 1
    # what was corrected is found as it now stands
    outcome.counts["duplicate"] -= outcome.counts["corrected"]
    return outcome


def _correct(
    session: Session, messages: Sequence[Any], ids: Sequence[int], outcome: Outcome, by: str, reason: str
) -> None:
    judged = readings.judged_again(session, ids)
    standing = _standing(session, messages, ids, judged)
    changed, removed = rebooking.revise(session, judged, standing, judged=judged, by=by, reason=reason)
    outcome.counts["corrected"], outcome.counts["removed"] = len(changed), len(removed)
    for row in changed[:TOLD]:
        value, unit, _ = standing[row.meter_id, row.measured_at]
        outcome.told.append(
            f"{row.meter} {row.register} {row.measured_at.isoformat()}: {value} {unit or ''} becomes"
            f" {row.value} {row.unit or ''}".rstrip()
        )
    for meter_id, at in removed[: TOLD - len(outcome.told)]:
        value, unit, _ = standing[meter_id, at]
        outcome.told.append(f"register {meter_id} {at.isoformat()}: {value} {unit or ''} goes".rstrip())


def _standing(
    session: Session, messages: Sequence[Any], ids: Sequence[int], judged: Sequence[Row]
) -> dict[tuple[int, datetime], tuple[Any, ...]]:
    """Readings that came with these messages and that nobody edited, by key, as (value, unit, value_m3)."""
    named = {device for device, _, _ in messages if device}
    named |= {devices.key(row.device) for row in judged if row.device}
    first, last = min(at for _, at, _ in messages), max(at for _, at, _ in messages)
    found = raw_of(session).execute(
        "SELECT r.meter_id, r.measured_at, r.value, r.unit, r.value_m3 FROM reading r WHERE r.meter_id IN"
        " (SELECT m.id FROM device d JOIN meter m ON m.serial = d.meter WHERE d.device = ANY(%s)"
        " UNION SELECT unnest(%s::int4[])) AND r.measured_at >= %s AND r.measured_at < %s AND r.raw_id = ANY(%s)"
        " AND NOT r.flags @> ARRAY['edited']",
        [
            list(named),
            list({row.meter_id for row in judged}),
            first - decode.OLDEST - timedelta(days=1),
            last + timedelta(days=1),
            list(ids),
        ],
    )
    return {(meter_id, at): tuple(rest) for meter_id, at, *rest in found}


def _log(session: Session, chosen: Chosen, outcome: Outcome, by: str, correct: str | None) -> None:
    """A line per slice that changed anything."""
    done = {name: outcome.counts[name] for name in ("stored", "revised", "corrected", "removed")}
    if any(done.values()) or outcome.settled:
        changes.record(
            session,
            actor=by,
            subject_type="readings",
            subject_id="replay",
            verb="messages_read_again",
            detail={**chosen.words(), "messages": outcome.messages, **done, "settled": outcome.settled}
            | ({"reason": correct} if correct else {}),
        )
