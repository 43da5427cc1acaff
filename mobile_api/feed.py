"""The crew's change feed: everything since a cursor, each order once, in the state it has now.

Writes only when the crew last synced, in the caller's transaction. The cursor is (epoch, transaction id, position in
the change log). Only changes of transactions older than every running one are read, so one that commits late is never
passed over. A device without a cursor gets the orders it may see now; from then on it follows the log.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.errors import Gone, Malformed
from hub.web import decode_cursor, encode_cursor
from mobile_api import orders

_EPOCH = text(
    """
    SELECT (SELECT system_identifier FROM pg_control_system())::text || '-'
        || (SELECT timeline_id FROM pg_control_checkpoint())::text || '-' || (SELECT id FROM hub_epoch)::text
    """
)
_HORIZON = text(
    """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS settled,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ahead
    """
)
_CHANGES = text(
    """
    SELECT xid::text::bigint AS xid, cursor, order_id FROM change
    WHERE crew_id = :crew AND order_id IS NOT NULL AND xid < CAST(:settled AS text)::xid8
      AND (xid, cursor) > (CAST(:xid AS text)::xid8, :cursor)
    ORDER BY xid, cursor
    LIMIT :most
    """
)
# What was committed before the oldest writer began is in the answer; what that writer does is not.
_SYNCED = text(
    """
    UPDATE crew SET last_sync_at = greatest(last_sync_at, least(now(), (
        SELECT min(xact_start) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid())))
    WHERE id = :crew
    """
)


class CursorExpired(Gone):
    """The cursor is of another history of the database (a restore): load everything anew, keep what is not yet sent."""

    kind, title = "cursor-expired", "The device must load everything anew"


@dataclass(frozen=True)
class _Position:
    """After which change a page begins; `order` is set while the first load is still running."""

    xid: int
    cursor: int
    order: UUID | None


def read(session: Session, crew_id: UUID, cursor: str | None, limit: int) -> dict[str, Any]:
    """One page: `{epoch, cursor, has_more, changes}`. Raises Malformed for a broken cursor, CursorExpired for one
    of another history of the database.
    """
    epoch: str = session.execute(_EPOCH).scalar_one()
    horizon = session.execute(_HORIZON).one()
    start = _Position(horizon.settled, -1, UUID(int=0))
    position = _decode(cursor, epoch, horizon.ahead) if cursor else start
    if position.order is not None:
        changes, following, more = _first_load(session, crew_id, position, limit)
    else:
        changes, following, more = _since(session, crew_id, position, horizon.settled, limit)
    if not more:
        session.execute(_SYNCED, {"crew": crew_id})
    packed = encode_cursor(epoch, following.xid, following.cursor, following.order)
    return {"epoch": epoch, "cursor": packed, "has_more": more, "changes": changes}


def _first_load(
    session: Session, crew_id: UUID, position: _Position, limit: int
) -> tuple[list[dict[str, Any]], _Position, bool]:
    """The orders as they are; the log is followed from where it stood when the load began."""
    found = orders.page_of_crew(session, crew_id, position.order, limit + 1)
    page, more = found[:limit], len(found) > limit
    last = page[-1]["id"] if more else None
    return [_upsert(order) for order in page], _Position(position.xid, position.cursor, last), more


def _since(
    session: Session, crew_id: UUID, position: _Position, settled: int, limit: int
) -> tuple[list[dict[str, Any]], _Position, bool]:
    rows = session.execute(
        _CHANGES,
        {"crew": crew_id, "settled": settled, "xid": position.xid, "cursor": position.cursor, "most": limit + 1},
    ).all()
    page, more = rows[:limit], len(rows) > limit
    if not page:
        return [], position, False
    touched = list(dict.fromkeys(row.order_id for row in page))
    seen = orders.visible(session, crew_id, touched)
    gone = orders.reason_gone(session, crew_id, [id_ for id_ in touched if seen.get(id_) is None])
    changes = []
    for id_ in touched:
        order = seen.get(id_)
        changes.append(_upsert(order) if order is not None else _remove(id_, *gone[id_]))
    return changes, _Position(page[-1].xid, page[-1].cursor, None), more


def _upsert(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "work_order",
        "id": order["id"],
        "rev": order["rev"],
        "op": "upsert",
        "reason": None,
        "data": order,
    }


def _remove(order_id: UUID, reason: str, rev: int | None) -> dict[str, Any]:
    return {"type": "work_order", "id": order_id, "rev": rev, "op": "remove", "reason": reason, "data": None}


def _decode(cursor: str, epoch: str, ahead: int) -> _Position:
    of_epoch, xid, number, order = decode_cursor(cursor, 4)
    if of_epoch != epoch:
        raise CursorExpired(
            "The cursor is from before a restore of the hub.",
            remedy="Ask without a cursor; what the device has not sent yet stays valid.",
        )
    whole = all(isinstance(n, int) and not isinstance(n, bool) and -1 <= n < 1 << 63 for n in (xid, number))
    try:
        position = _Position(xid, number, None if order is None else UUID(order))
    except (ValueError, AttributeError, TypeError):
        whole = False
    if not whole or xid < 0:
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Ask without a cursor.")
    if xid > ahead:
        raise CursorExpired("The cursor is ahead of the hub.", remedy="Ask without a cursor.")
    return position
