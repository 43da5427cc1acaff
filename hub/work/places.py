"""What a place is like: service valve, meter and lock as three separate facts, each with since when and why.

Writes place facts in the caller's transaction; whoever calls has locked the place. A report about an earlier moment
never overwrites what was found later.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hub.models import MeterInstallation, Occupancy, PlaceFact

Fact = Literal["valve", "meter", "lock"]
FACTS: tuple[Fact, ...] = ("valve", "meter", "lock")


@dataclass(frozen=True)
class PlaceState:
    """One fact of a place as it is known.

    `reason` says why a valve is closed: nonpayment, customer_wish, vacant, leak, unsafe or unknown; only the first is
    ended by paying, and `account` is the one whose nonpayment it was.
    """

    state: str
    since: datetime | None = None
    order_id: UUID | None = None
    reason: str | None = None
    account: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For an order's record and for API answers."""
        return {
            **asdict(self),
            "since": self.since.isoformat() if self.since else None,
            "order_id": str(self.order_id) if self.order_id else None,
        }

    @classmethod
    def of_json(cls, kept: dict[str, Any]) -> "PlaceState":
        """The reverse of `as_json`."""
        since, order_id = kept["since"], kept["order_id"]
        return cls(
            kept["state"],
            datetime.fromisoformat(since) if since else None,
            UUID(order_id) if order_id else None,
            kept["reason"],
            kept["account"],
        )


UNKNOWN = PlaceState("unknown")


def facts(session: Session, service_point: str) -> dict[str, PlaceState]:
    """Valve, meter and lock of a place; what nobody told is `unknown`."""
    return facts_of(session, [service_point])[service_point]


def facts_of(session: Session, points: Collection[str]) -> dict[str, dict[str, PlaceState]]:
    """`facts` of many places in one query."""
    found: dict[str, dict[str, PlaceState]] = {point: dict.fromkeys(FACTS, UNKNOWN) for point in points}
    rows = session.execute(
        select(
            PlaceFact.service_point,
            PlaceFact.fact,
            PlaceFact.state,
            PlaceFact.since,
            PlaceFact.order_id,
            PlaceFact.reason,
            PlaceFact.account,
        ).where(PlaceFact.service_point.in_(found))
    )
    for point, fact, state, since, order_id, reason, account in rows:
        found[point][fact] = PlaceState(state, since, order_id, reason, account)
    return found


def note(
    session: Session,
    service_point: str,
    fact: Fact,
    state: str,
    *,
    since: datetime,
    order_id: UUID | None = None,
    reason: str | None = None,
    account: str | None = None,
) -> bool:
    """Keep that `fact` is `state` since `since`; False when something later is known already.

    A valve or lock that is in use again has no reason. A state that was known before keeps its reason and account
    unless a new reason comes with it: finding a closed valve closed does not change why it is.
    """
    known = facts(session, service_point)[fact]
    if known.since is not None and known.since > since:
        return False
    off = (fact == "valve" and state in ("closed", "restricted")) or (fact == "lock" and state == "on")
    if off and reason is None:
        same = known.state == state
        reason, account = (known.reason, known.account) if same else ("unknown", None)
    elif not off:
        reason, account = None, None
    values = {"state": state, "since": since, "order_id": order_id, "reason": reason, "account": account}
    statement = insert(PlaceFact).values(service_point=service_point, fact=fact, **values)
    session.execute(
        statement.on_conflict_do_update(index_elements=[PlaceFact.service_point, PlaceFact.fact], set_=values)
    )
    return True


def take_back(session: Session, service_point: str, order_id: UUID, before: dict[str, dict[str, Any]]) -> None:
    """Put facts back to what they were `before` an order (fact → `PlaceState.as_json`), where it was the last word."""
    known = facts(session, service_point)
    for fact, kept in before.items():
        if known[fact].order_id != order_id:
            continue
        earlier = PlaceState.of_json(kept)
        mine = (PlaceFact.service_point == service_point) & (PlaceFact.fact == fact)
        session.execute(delete(PlaceFact).where(mine))
        if earlier.since is not None:
            session.execute(insert(PlaceFact).values(service_point=service_point, fact=fact, **asdict(earlier)))


def meter_at(session: Session, service_point: str) -> str | None:
    """The serial number of the meter in place, the newest one where several are."""
    return session.scalar(
        select(MeterInstallation.serial)
        .where(MeterInstallation.service_point == service_point, MeterInstallation.removed_at.is_(None))
        .order_by(MeterInstallation.installed_at.desc(), MeterInstallation.serial)
        .limit(1)
    )


def point_of_meter(session: Session, serial: str) -> str | None:
    """The service point where a meter is in place."""
    return session.scalar(
        select(MeterInstallation.service_point)
        .where(MeterInstallation.serial == serial, MeterInstallation.removed_at.is_(None))
        .order_by(MeterInstallation.installed_at.desc())
        .limit(1)
    )


def account_at(session: Session, service_point: str) -> str | None:
    """The account that lives at a place now, the latest to move in."""
    return session.scalar(
        select(Occupancy.account)
        .where(Occupancy.service_point == service_point, Occupancy.until.is_(None))
        .order_by(Occupancy.since.desc(), Occupancy.account)
        .limit(1)
    )


def point_of_account(session: Session, number: str) -> str | None:
    """Where an account lives now, the latest place it moved to."""
    return session.scalar(
        select(Occupancy.service_point)
        .where(Occupancy.account == number, Occupancy.until.is_(None))
        .order_by(Occupancy.since.desc(), Occupancy.service_point)
        .limit(1)
    )
