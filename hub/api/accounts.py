"""An account over HTTP: what billing told of it, where it lives, its work, and what happens when."""

from decimal import Decimal
from typing import Any

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import accounts
from hub.accounts import AccountFacts
from hub.api import place_shapes
from hub.auth import Principal
from hub.errors import NotFound, storable_text
from hub.models import Account, BillingSource, Occupancy, ServicePoint
from hub.web import Json, Tx, allow
from hub.work import policy, search

router = APIRouter(prefix="/api/v1/accounts", tags=["customers"])


@router.get("/{number:path}", name="get_account")
def get_account(
    session: Tx, number: str, who: Principal = allow("admin", "supervisor", "dispatcher", "billing", "analyst")
) -> Json:
    """The account as the caller's role may see it."""
    number = storable_text(number)
    row = session.execute(
        select(Account, BillingSource.name)
        .outerjoin(BillingSource, BillingSource.id == Account.source_id)
        .where(Account.number == number)
    ).one_or_none()
    if row is None or (who.source_id is not None and row[0].source_id != who.source_id):
        raise NotFound("There is no such account.", field="account", value=number[:80])
    account, source = row
    facts = accounts.facts(session, number)
    assert facts is not None
    shown: dict[str, Any] = {
        "account": number,
        "status": account.status,
        "source": source,
        "places": _places(session, number, who),
        "facts": _facts(facts, who),
        **place_shapes.orders(session, who, account=number),
    }
    if who.role in place_shapes.CONTACT_READERS:
        contact = {name: getattr(account, name) for name in ("name", "phone", "email", "language")}
        shown |= {"customer": contact, "events": place_shapes.events(session, number, who.source_id)}
        shown["cut"] = _cut(session, number, shown["places"])
    return Json(shown)


def _places(session: Session, number: str, who: Principal) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Occupancy.service_point, ServicePoint.address, Occupancy.since, Occupancy.until)
        .join(ServicePoint, ServicePoint.id == Occupancy.service_point)
        .where(Occupancy.account == number)
        .order_by(Occupancy.since.desc(), Occupancy.service_point)
    )
    return [
        {
            "service_point": point,
            "since": since.isoformat(),
            "until": until.isoformat() if until else None,
            **({"address": address} if who.role in place_shapes.CONTACT_READERS else {}),
        }
        for point, address, since, until in rows
    ]


def _facts(facts: AccountFacts, who: Principal) -> dict[str, Any]:
    """Money to the cent only for those who work with it; others get the range it lies in."""
    past_due: Decimal | str | None = facts.past_due
    if who.role not in place_shapes.EXACT_MONEY and facts.past_due is not None:
        past_due = search.band(facts.past_due) if facts.past_due > 0 else "nothing"
    return {
        "past_due": past_due,
        "currency": facts.currency,
        "as_of": facts.as_of,
        "due_since": facts.due_since.isoformat() if facts.due_since else None,
        "stage": facts.stage if facts.live else None,
        "holds": [{"hold": hold.kind, "until": hold.until} for hold in facts.holds],
        "notices": [{"channel": notice.channel, "sent_at": notice.sent_at} for notice in facts.notices],
        "missing_seq": facts.missing,
        "parked_events": facts.parked,
        "waiting_events": facts.waiting,
        "source_heard_at": facts.heard_at,
    }


def _cut(session: Session, number: str, places: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the shutoff policy says of this account now, where it lives."""
    here = next((place["service_point"] for place in places if place["until"] is None), None)
    if here is None:
        return None
    decision = policy.may_cut(session, account=number, service_point=here, stage="assignment")
    return {
        "allowed": decision.allowed,
        "reasons": [{"code": r.code, "text": r.text, "citation": r.citation} for r in decision.reasons],
        "earliest_at": decision.earliest_at,
        "policy": policy.pack_name(),
    }
