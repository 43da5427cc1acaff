"""What billing answers or states that opens no work: charges posted or rejected, volumes billed, cancelled references.

Writes charges' postings, exceptions and billed volumes in the caller's transaction.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from adapters.contracts import ChargeAnswer, ConsumptionBilled
from hub.billing.arrivals import Arrival, Outcome, Park
from hub.db import new_id
from hub.metering import units
from hub.models import BilledConsumption, BillingEvent, Charge, OrderException


def charge_answered(session: Session, arrival: Arrival, data: ChargeAnswer) -> Outcome:
    """Keep what billing did with one of our invoice lines; a rejected line is put before a person."""
    try:
        charge_id = UUID(data.charge)
    except ValueError:
        raise Park("charge_unknown", f"{data.charge} is no charge of ours.") from None
    charge = session.get(Charge, charge_id, with_for_update={"key_share": True})
    if charge is None:
        raise Park("charge_unknown", f"There is no charge {charge_id}.", {"charge": str(charge_id)})
    known = charge.posting
    if known is not None and datetime.fromisoformat(known["at"]) >= arrival.event.at:
        return Outcome("superseded", "A later answer on this charge is known.")
    state = "posted" if data.posted else "rejected"
    charge.posting = {
        "state": state,
        "at": arrival.event.at.isoformat(),
        "invoice": data.invoice,
        "reason": data.reason,
    }
    session.flush()
    if not data.posted:
        text = f"Billing rejected the charge {charge.code} of {charge.amount} {charge.currency}."
        session.execute(
            insert(OrderException).values(
                id=new_id(),
                order_id=charge.order_id,
                account=charge.account,
                kind="charge_rejected",
                text=text,
                ours={"charge": str(charge.id), "code": charge.code, "amount": str(charge.amount)},
                theirs={"reason": data.reason},
                opened_at=arrival.now,
            )
        )
    return Outcome("applied", detail={"charge": str(charge_id), "state": state})


def keep_billed(
    session: Session, data: ConsumptionBilled, first: date, last: date, *, source: str, event_id: UUID, at: datetime
) -> bool:
    """Store a billed volume over local days [first, last); False when it is known already or a later one is.

    Two messages about the same bill, meter and period are one volume, and the later message counts. A bill that
    cancels and rebills takes the place of the one it names, whichever arrives first.
    Raises Park for a period or unit that means nothing.
    """
    if last <= first:
        raise Park("bad_value", f"The billed period from {first} to {last} is empty.")
    volume_m3 = units.to_m3(data.volume, data.unit)
    if volume_m3 is None:
        raise Park("bad_value", f"{data.unit} is no unit of volume that is known here.")
    same = (
        (BilledConsumption.service_point == data.service_point)
        & (BilledConsumption.from_day == first)
        & (BilledConsumption.to_day == last)
        & BilledConsumption.meter.is_not_distinct_from(data.meter)
        & BilledConsumption.register.is_not_distinct_from(data.register)
        & BilledConsumption.bill.is_not_distinct_from(data.bill)
    )
    earlier = session.execute(
        select(BilledConsumption.id, BillingEvent.at, BilledConsumption.replaced_by)
        .outerjoin(BillingEvent, BillingEvent.id == BilledConsumption.event_id)
        .where(same)
    ).all()
    if any(row.at is not None and row.at >= at for row in earlier):
        return False
    made = new_id()
    session.execute(
        insert(BilledConsumption).values(
            id=made,
            service_point=data.service_point,
            meter=data.meter,
            register=data.register,
            from_day=first,
            to_day=last,
            volume=data.volume,
            unit=data.unit,
            volume_m3=volume_m3,
            estimated=data.estimated,
            bill=data.bill,
            replaces=data.replaces,
            source=source,
            event_id=event_id,
        )
    )
    table = BilledConsumption
    here = table.service_point == data.service_point
    others = table.replaced_by.is_(None) & (table.id != made)
    session.execute(update(table).where(same, others).values(replaced_by=made))
    if data.replaces is not None:
        session.execute(update(table).where(here, table.bill == data.replaces, others).values(replaced_by=made))
    if data.bill is not None:
        # Where the rebill was here first, what it replaces counts for nothing from the start.
        heir = session.scalar(select(table.id).where(here, table.replaces == data.bill, table.id != made).limit(1))
        if heir is not None:
            session.execute(update(table).where(table.id == made).values(replaced_by=heir))
    return True


def cancelled_without_account(session: Session, source_id: UUID, reference: str, at: datetime) -> bool:
    """Whether a cancellation of `reference` that names no account came before the request of instant `at`."""
    found = select(BillingEvent.id).where(
        BillingEvent.source_id == source_id,
        BillingEvent.type == "service.cancelled",
        BillingEvent.account.is_(None),
        BillingEvent.status == "applied",
        BillingEvent.outcome["reference"].astext == reference,
        BillingEvent.at >= at,
    )
    return session.scalar(found.limit(1)) is not None
