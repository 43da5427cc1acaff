"""A meter exchange as billing hears of it, told by a person or by a crew's report.

Writes what `hub.metering.exchanges` writes, an outbound message, and an exception where a report cannot be booked.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from hub import outbox
from hub.errors import CurbstopError
from hub.metering import exchanges
from hub.metering.exchanges import NewMeter
from hub.models import MeterInstallation, WorkOrder
from hub.work import effects, places, steps
from hub.work.effects import Report


def exchange(
    session: Session,
    old: str,
    new: NewMeter,
    *,
    at: datetime,
    by: str,
    final: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    device: str | None = None,
    order: WorkOrder | None = None,
) -> MeterInstallation:
    """Exchange a meter and owe billing `meter.exchanged` with both reads. Raises what the exchange raises."""
    made = exchanges.exchange(session, old, new, at=at, by=by, final=final, start=start, device=device)
    reads = [
        {"meter": serial, "register": read.get("register") or "volume", "value": str(read["value"]), "kind": kind}
        | {"unit": read.get("unit"), "read_at": at}
        for serial, read, kind in ((old, final, "final"), (made.serial, start, "start"))
        if read is not None
    ]
    data = {"old_meter": old, "new_meter": made.serial, "reads": reads, "at": at}
    if order is not None:
        steps.owe(session, order, "meter.exchanged", **data)
        return made
    account = places.account_at(session, made.service_point) if made.service_point else None
    outbox.put(
        session,
        type="meter.exchanged",
        data=data | {"account": account, "service_point": made.service_point},
        account=account,
    )
    return made


def of_report(session: Session, order: WorkOrder, report: Report) -> None:
    """Book the exchange that a crew reports. One that cannot be booked is a fact all the same: a person is told why."""
    answers = report.answers
    old = answers.get("meter_serial") or order.meter or ""
    multiplier = answers.get("new_multiplier")
    new = NewMeter(
        answers["new_serial"],
        unit=answers["new_unit"],
        multiplier=None if multiplier is None else Decimal(multiplier),
        dials=answers.get("new_dials"),
    )
    try:
        with session.begin_nested():
            exchange(
                session,
                old,
                new,
                at=report.at,
                by=report.by,
                final=answers.get("reading"),
                start={"value": answers["start_read"], "unit": answers["new_unit"] if multiplier is None else None},
                device=answers.get("endpoint") or None,
                order=order,
            )
    except CurbstopError as error:
        text = (
            f"{order.number} exchanged {old or 'a meter'} for {new.serial}, which could not be booked: {error.detail}"
        )
        effects.put_before_dispatcher(session, order, "exchange_not_booked", text, report)
