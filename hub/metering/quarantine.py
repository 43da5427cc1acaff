"""What was put aside: lists of it, reading the messages behind it again, and what people say of it.

Writes `quarantine` and the change log in the caller's transaction; what is read again writes as `readings` does. A
dismissed entry stays, with who dismissed it and why; it can be opened or read again. What arrives later is an entry of
its own, whatever was said of others of its kind.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.errors import BadInput, Conflict, NotFound, storable_text
from hub.metering import devices, readings
from hub.models import Quarantine, RawMessage

DISMISSED = "dismissed"
PREVIEW_BYTES = 200
State = Literal["open", "dismissed", "resolved"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries are meant: of one reason, of one device, none newer than an entry that somebody has seen."""

    reason: str | None = None
    device: str | None = None
    up_to: UUID | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions on `quarantine`."""
        found: list[ColumnElement[bool]] = []
        if self.reason is not None:
            found.append(Quarantine.reason == storable_text(self.reason))
        if self.device is not None:
            found.append(func.lower(Quarantine.device) == storable_text(devices.key(self.device)))
        if self.up_to is not None:
            found.append(Quarantine.id <= self.up_to)
        return found

    def narrowed(self) -> "Chosen":
        """Itself; raises BadInput where it would mean every entry there is."""
        if self.reason is None and self.device is None:
            raise BadInput(
                "It is not said which entries are meant.", field="reason", remedy="Name a reason, a device or both."
            )
        return self


class Counts(NamedTuple):
    """Entries per reason, the open ones and the dismissed ones."""

    open: dict[str, int]
    dismissed: dict[str, int]


def _in_state(state: State) -> ColumnElement[bool]:
    if state == "open":
        return Quarantine.resolved_at.is_(None)
    return Quarantine.resolution == DISMISSED if state == DISMISSED else Quarantine.resolved_at.is_not(None)


def listed(
    session: Session, chosen: Chosen, *, state: State = "open", after: UUID | None = None, limit: int = 100
) -> list[Quarantine]:
    """Entries in `state`, newest first; `resolved` has the dismissed ones among the settled."""
    query = select(Quarantine).where(_in_state(state), *chosen.conditions())
    if after is not None:
        query = query.where(Quarantine.id < after)
    return list(session.scalars(query.order_by(Quarantine.id.desc()).limit(limit)))


def counts(session: Session, device: str | None = None) -> Counts:
    """How many entries there are per reason, of all devices or one."""
    of_device = Chosen(device=device).conditions()
    found = Counts({}, {})
    for state, into in (("open", found.open), (DISMISSED, found.dismissed)):
        condition = _in_state(state)  # type: ignore[arg-type]
        rows = session.execute(
            select(Quarantine.reason, func.count()).where(condition, *of_device).group_by(Quarantine.reason)
        )
        into.update(dict(rows.all()))
    return found


def previews(session: Session, raw_ids: Collection[int]) -> dict[int, bytes]:
    """The first bytes of kept messages, by their ids."""
    rows = session.execute(
        select(RawMessage.id, func.substring(RawMessage.payload, 1, PREVIEW_BYTES)).where(RawMessage.id.in_(raw_ids))
    )
    return {raw_id: bytes(begin) for raw_id, begin in rows}


def replay(session: Session, entry_id: UUID) -> tuple[Quarantine, readings.Batch]:
    """Read the message behind an open or dismissed entry again; a dismissed one that still holds stays dismissed.

    Raises NotFound; Conflict when the entry is settled or its message is not kept.
    """
    entry = _locked(session, entry_id)
    if entry.resolved_at is not None and entry.resolution != DISMISSED:
        raise Conflict(f"The entry is settled already: {entry.resolution}.", field="id", value=str(entry_id))
    batch = readings.replay(session, [] if entry.raw_id is None else [entry.raw_id])
    if not batch.results:
        raise Conflict(
            "The message behind the entry is not kept, so it cannot be read again.",
            field="id",
            remedy="Dismiss the entry, with a reason.",
        )
    session.refresh(entry)
    return entry, batch


def replay_all(
    session: Session, chosen: Chosen, *, limit: int = 1000, after: UUID | None = None
) -> tuple[int, int, UUID | None]:
    """Read the messages behind the oldest open entries again, those after `after` in order of ids.

    (entries tried, entries settled, the last one tried when there may be more). Raises BadInput.
    """
    query = select(Quarantine.id, Quarantine.raw_id).where(
        _in_state("open"), Quarantine.raw_id.is_not(None), *chosen.narrowed().conditions()
    )
    if after is not None:
        query = query.where(Quarantine.id > after)
    rows = session.execute(query.order_by(Quarantine.id).limit(limit).with_for_update()).all()
    readings.replay(session, {raw_id for _, raw_id in rows if raw_id is not None})
    settled = session.scalar(
        select(func.count())
        .select_from(Quarantine)
        .where(Quarantine.id.in_([entry for entry, _ in rows]), Quarantine.resolved_at.is_not(None))
    )
    return len(rows), settled or 0, rows[-1].id if len(rows) == limit else None


def dismiss(session: Session, entry_id: UUID, *, by: str, why: str) -> Quarantine:
    """A person says that nothing is to be done about an entry. Raises NotFound, BadInput; Conflict when settled."""
    note = _said(why)
    entry = _locked(session, entry_id)
    if entry.resolved_at is not None:
        raise Conflict(f"The entry is settled already: {entry.resolution}.", field="id", value=str(entry_id))
    entry.resolved_at, entry.resolution = clock.now(session), DISMISSED
    entry.resolved_by, entry.note = by, note
    session.flush()
    _log(session, "dismissed", str(entry.id), by, {**_about(entry), "why": note})
    return entry


def dismiss_all(session: Session, chosen: Chosen, *, by: str, why: str) -> tuple[int, datetime]:
    """Dismiss the open entries of a reason, a device or both; how many, and the instant they now bear. Raises BadInput.

    With `up_to`, nothing that came after that entry was made: nobody dismisses what they have not seen.
    """
    note, at = _said(why), clock.now(session)
    changed = session.execute(
        update(Quarantine)
        .where(_in_state("open"), *chosen.narrowed().conditions())
        .values(resolved_at=at, resolution=DISMISSED, resolved_by=by, note=note)
        .execution_options(synchronize_session=False)
    )
    count: int = changed.rowcount  # type: ignore[attr-defined]
    if count:
        _log(session, "dismissed", _name(chosen), by, {**_filter(chosen), "entries": count, "why": note})
    return count, at


def reopen(session: Session, entry_id: UUID, *, by: str) -> Quarantine:
    """Take a dismissal back. Raises NotFound, Conflict when the entry is not dismissed."""
    entry = _locked(session, entry_id)
    if entry.resolution != DISMISSED:
        raise Conflict("The entry is not dismissed.", field="id", value=str(entry_id))
    former = {"dismissed_by": entry.resolved_by, "why": entry.note}
    entry.resolved_at = entry.resolution = entry.resolved_by = entry.note = None
    session.flush()
    _log(session, "reopened", str(entry.id), by, {**_about(entry), **former})
    return entry


def reopen_all(session: Session, chosen: Chosen, *, by: str, dismissed_at: datetime | None = None) -> int:
    """Take dismissals of a reason, a device or both back, with `dismissed_at` those of one act. Raises BadInput."""
    conditions = [Quarantine.resolution == DISMISSED, *chosen.narrowed().conditions()]
    if dismissed_at is not None:
        conditions.append(Quarantine.resolved_at == dismissed_at)
    changed = session.execute(
        update(Quarantine)
        .where(*conditions)
        .values(resolved_at=None, resolution=None, resolved_by=None, note=None)
        .execution_options(synchronize_session=False)
    )
    count: int = changed.rowcount  # type: ignore[attr-defined]
    if count:
        _log(session, "reopened", _name(chosen), by, {**_filter(chosen), "entries": count})
    return count


def _locked(session: Session, entry_id: UUID) -> Quarantine:
    entry = session.scalar(
        select(Quarantine).where(Quarantine.id == entry_id).with_for_update().execution_options(populate_existing=True)
    )
    if entry is None:
        raise NotFound("There is no such quarantine entry.", field="id", value=str(entry_id))
    return entry


def _said(why: str) -> str:
    note = storable_text(why).strip()[:4000]
    if not note:
        raise BadInput("It is not said why.", field="why", remedy="Say why nothing is to be done.")
    return note


def _about(entry: Quarantine) -> dict[str, Any]:
    return {"reason": entry.reason, "device": entry.device, "meter": entry.meter, "value": entry.value}


def _filter(chosen: Chosen) -> dict[str, Any]:
    return {"reason": chosen.reason, "device": chosen.device}


def _name(chosen: Chosen) -> str:
    return storable_text(chosen.reason or chosen.device or "")


def _log(session: Session, verb: str, subject: str, by: str, detail: dict[str, Any]) -> None:
    changes.record(
        session,
        actor=by,
        subject_type="quarantine",
        subject_id=subject,
        verb=f"quarantine_{verb}",
        detail={name: value for name, value in detail.items() if value is not None},
    )
