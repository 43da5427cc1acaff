"""Cut lists: which sending of a list put an account on it, and who is missing from a list that was sent again.

Reads facts and orders; writes nothing. Billing sends a list as one event per account, all naming the list. Where the
events tell when the list was sent, that is its sending; otherwise a new sending begins when an account that is on the
list already comes once more. The accounts that a new sending leaves out are found when it has been quiet for a while.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub import accounts
from hub.accounts import Stamp

# Real time without another event of the list after which a sending counts as complete.
QUIET_SECONDS = 5
FIRST = 1

# The open shutoffs of a list, by the sending that last named them.
_MEMBERS = text(
    """
    SELECT o.details -> 'cut_list' ->> 'sending' AS sending,
        min((o.details -> 'cut_list' ->> 'at')::timestamptz) AS since
    FROM work_order o
    WHERE o.purpose = 'shutoff' AND o.source_id = :source_id AND o.details -> 'cut_list' ->> 'id' = :name
      AND o.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
    GROUP BY 1 ORDER BY 1 DESC
    """
)
_IN_DOUBT = text(
    """
    SELECT 1 FROM work_order mine JOIN work_order o ON o.source_id = mine.source_id AND o.purpose = 'shutoff'
      AND o.details -> 'cut_list' ->> 'id' = mine.details -> 'cut_list' ->> 'id'
      AND o.details -> 'cut_list' ->> 'sending' > mine.details -> 'cut_list' ->> 'sending'
      AND o.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
    WHERE mine.account = :number AND mine.service_point = :point AND mine.purpose = 'shutoff'
      AND mine.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
    LIMIT 1
    """
)
_MISSING = text(
    """
    SELECT o.account, o.details -> 'cut_list' ->> 'id' AS name, newer.since
    FROM work_order o, LATERAL (
        SELECT min((n.details -> 'cut_list' ->> 'at')::timestamptz) AS since,
               max((n.details -> 'cut_list' ->> 'kept_at')::timestamptz) AS kept_at
        FROM work_order n
        WHERE n.source_id = o.source_id AND n.purpose = 'shutoff'
          AND n.details -> 'cut_list' ->> 'id' = o.details -> 'cut_list' ->> 'id'
          AND n.details -> 'cut_list' ->> 'sending' > o.details -> 'cut_list' ->> 'sending'
          AND n.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')) newer
    WHERE o.purpose = 'shutoff' AND o.account IS NOT NULL AND o.details -> 'cut_list' ->> 'id' IS NOT NULL
      AND o.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
      AND coalesce(o.cancel_requested ->> 'ends', '') <> 'cancelled'
      AND newer.kept_at < clock_timestamp() - make_interval(secs => :quiet)
      AND NOT EXISTS (SELECT FROM billing_event e WHERE e.status = 'pending' AND e.source_id = o.source_id
                      AND e.type = 'account.delinquent')
    ORDER BY o.account LIMIT :most
    """
)


def place_on_list(
    session: Session, number: str, source_id: UUID, name: str | None, sent_at: datetime | None, stamp: Stamp
) -> dict[str, Any] | None:
    """What the account's wish keeps of its cut list: `{id, sending, at, kept_at}`; None for an event without a list.

    `at` is the event's own time, `kept_at` real time. Sendings compare as texts.
    """
    if name is None:
        return None
    now = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    kept = {"id": name, "at": stamp.at.isoformat(), "kept_at": now.isoformat()}
    if sent_at is not None:
        return kept | {"sending": sent_at.isoformat()}
    sendings = session.execute(_MEMBERS, {"source_id": source_id, "name": name}).all()
    word = accounts.words_of(session, [number])[number].get(accounts.DELINQUENCY)
    listed = (word.value.get("cut_list") or {}) if word else {}
    mine = listed.get("sending") if listed.get("id") == name else None
    newest = max([row.sending for row in sendings] + ([mine] if mine else []), default=_text(FIRST))
    again = mine is not None and mine == newest and word is not None and stamp.newer_than(word.stamp)
    if again and newest.isdigit():
        return kept | {"sending": _text(int(newest) + 1)}
    # An event that is older than the first of the newest sending belongs to the one before.
    begun = next((row.since for row in sendings if row.sending == newest), None)
    late = len(sendings) > 1 and begun is not None and stamp.at < begun
    return kept | {"sending": sendings[1].sending if late else newest}


def _text(sending: int) -> str:
    return f"{sending:08d}"


def in_doubt(session: Session, number: str, point: str) -> bool:
    """Whether the list that asked for this cut is being sent again and has not named the account so far."""
    return session.execute(_IN_DOUBT, {"number": number, "point": point}).first() is not None


def missing(session: Session, *, most: int) -> list[tuple[str, str, datetime]]:
    """Accounts that a list sent again left out: account, list, and when the new sending began."""
    rows = session.execute(_MISSING, {"quiet": QUIET_SECONDS, "most": most})
    return [(row.account, row.name, row.since) for row in rows]
