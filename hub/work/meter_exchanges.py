"""A meter exchange as billing hears of it. Writes what `hub.metering.exchanges` writes and an outbound message."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hub import outbox
from hub.metering import exchanges
from hub.metering.exchanges import NewMeter
from hub.models import MeterInstallation, WorkOrder
from hub.work import places, steps


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
