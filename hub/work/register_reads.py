"""The reading that a crew takes with its eyes: booked through the pipeline of all readings, told to billing.

Writes what `hub.metering.readings.receive` writes, in the caller's transaction.
"""

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.metering.ledger import Message
from hub.metering.readings import receive
from hub.models import Meter

VOLUME = "volume"


def capture(
    session: Session, *, meter: str | None, reading: dict[str, Any], at: datetime, kind: str, source: str
) -> dict[str, Any]:
    """Book `reading` (`{value, unit, how, register}`) of `meter` at `at`; what billing is told of it.

    A reading that cannot be booked (no meter known, another value at the same instant) is still told: it is a fact.
    """
    register = reading.get("register") or VOLUME
    unit = reading.get("unit") or _unit(session, meter, register)
    if meter is not None:
        item = {
            "meter": meter,
            "register": register,
            "value": reading["value"],
            "measured_at": at.astimezone(UTC).isoformat(),
        }
        if unit is not None:
            item["unit"] = unit
        receive(session, [Message(source, f"order/{kind}", orjson.dumps({"readings": [item]}), "plain")], live=False)
    return {
        "meter": meter,
        "register": register,
        "value": reading["value"],
        "unit": unit,
        "read_at": at,
        "kind": kind,
        "how": reading.get("how"),
    }


def _unit(session: Session, meter: str | None, register: str) -> str | None:
    return session.scalar(select(Meter.unit).where(Meter.serial == meter, Meter.register == register))
