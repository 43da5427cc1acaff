"""Changing a reading that stands: by a person with a reason, or because the registry was corrected. Nothing is lost.

Writes `reading`, `reading_revision` (the reading as it was), `reading_exception`, `meter_review` and the change log in
the caller's transaction. A reading that a person edited carries the flag `edited`; no message changes it afterwards.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from adapters import units
from adapters.contracts import VOLUME
from hub import changes, clock
from hub.db import raw_of
from hub.errors import BadInput, NotFound, storable_text
from hub.metering import devices, partitions, watching
from hub.models import Meter, Reading, ReadingRevision

EDITED = "edited"
Action = Literal["accept", "replace", "estimate", "reject"]
Key = tuple[int, datetime]


class _Edit(NamedTuple):
    """A reading as it will stand."""

    value: Decimal
    unit: str | None
    value_m3: Decimal | None
    quality: str


def keep(session: Session, keys: Collection[Key], *, by: str, reason: str) -> None:
    """Keep these readings as they stand now, as their next revision."""
    if keys:
        raw_of(session).execute(
            "INSERT INTO reading_revision (meter_id, measured_at, revision, value, unit, value_m3, quality, flags,"
            " source, raw_id, by, reason, replaced_at)"
            " SELECT r.meter_id, r.measured_at, 1 + (SELECT count(*) FROM reading_revision v WHERE"
            " v.meter_id = r.meter_id AND v.measured_at = r.measured_at), r.value, r.unit, r.value_m3, r.quality,"
            " r.flags, r.source, r.raw_id, %s, %s, business_now() FROM reading r"
            " JOIN unnest(%b::int4[], %b::timestamptz[]) u(m, at) ON r.meter_id = u.m AND r.measured_at = u.at",
            [by, storable_text(reason), *_columns(keys)],
        )


def remove(session: Session, keys: Collection[Key], *, by: str, reason: str) -> None:
    """Take readings out of the record of a meter they do not belong to; their revisions stay."""
    if keys:
        keep(session, keys, by=by, reason=reason)
        raw_of(session).execute(
            "DELETE FROM reading r USING unnest(%b::int4[], %b::timestamptz[]) u(m, at)"
            " WHERE r.meter_id = u.m AND r.measured_at = u.at",
            _columns(keys),
        )
        review(session, keys)


def review(session: Session, keys: Collection[Key]) -> None:
    """Have the meters of changed readings looked at again."""
    since: dict[int, datetime] = {}
    for meter_id, at in keys:
        since[meter_id] = min(at, since.get(meter_id, at))
    watching.queue_review(session, since)


def of(session: Session, serial: str, register: str, at: datetime) -> Sequence[ReadingRevision]:
    """What a reading was before it was changed, oldest first; empty when it never was. Raises NotFound."""
    meter = register_of(session, serial, register)
    return session.scalars(
        select(ReadingRevision)
        .where(ReadingRevision.meter_id == meter.id, ReadingRevision.measured_at == at)
        .order_by(ReadingRevision.revision)
    ).all()


def register_of(session: Session, serial: str, register: str) -> Meter:
    """One register of a meter. Raises NotFound."""
    found = session.scalar(select(Meter).where(Meter.serial == serial, Meter.register == register))
    if found is None:
        raise NotFound(f"Meter {serial[:80]!r} has no register {register[:60]!r}.", field="serial", value=serial[:80])
    return found


def edit(
    session: Session,
    serial: str,
    at: datetime,
    *,
    action: Action,
    by: str,
    reason: str,
    register: str = VOLUME,
    value: Decimal | str | None = None,
    unit: str | None = None,
) -> Reading:
    """Settle a reading by hand; what it was stays as a revision, and what was flagged about it is settled too.

    `accept`: it is right as it is. `replace`: `value` (in `unit`, default: the meter's dial) is right. `estimate`: the
    same as an estimate, and without a value the line between its neighbours; it may be of an instant without a reading.
    `reject`: it counts for nothing. Raises NotFound, BadInput.
    """
    reason = storable_text(reason).strip()[:1000]
    if not reason:
        raise BadInput("It is not said why.", field="reason", remedy="Say why the reading is changed.")
    if (value is not None) and action in ("accept", "reject"):
        raise BadInput(f"To {action} a reading takes no value.", field="value", remedy="Use replace or estimate.")
    if at > clock.now(session) + timedelta(minutes=15):
        raise BadInput("That instant is still to come.", field="measured_at", value=at.isoformat())
    meter = register_of(session, serial, register)
    standing = session.get(Reading, (meter.id, at), with_for_update=True, populate_existing=True)
    if standing is None and action != "estimate":
        raise NotFound(
            "There is no reading of that instant.", field="measured_at", value=at.isoformat(), remedy="Estimate one."
        )
    new = _edited(session, meter, standing, at, action, value, unit)
    if standing is None:
        partitions.ensure(raw_of(session), "reading", [partitions.month_of(at)])
        standing = Reading(meter_id=meter.id, measured_at=at, source=by, time_source="headend", flags=[])
        standing.received_at = clock.now(session)
        session.add(standing)
    else:
        keep(session, [(meter.id, at)], by=by, reason=reason)
    standing.value, standing.unit, standing.value_m3, standing.quality = new
    flags = [flag for flag in standing.flags if not flag.startswith("vee:") and flag != EDITED]
    standing.flags = [*flags, EDITED]
    session.flush()
    _settle(session, meter.id, at, by=by, action=action, reason=reason)
    review(session, [(meter.id, at)])
    changes.record(
        session,
        actor=by,
        subject_type="meter",
        subject_id=serial,
        verb="reading_edited",
        detail={"register": register, "measured_at": at.isoformat(), "action": action, "reason": reason}
        | {"value": str(standing.value), "unit": standing.unit},
    )
    return standing


def _edited(
    session: Session,
    meter: Meter,
    standing: Reading | None,
    at: datetime,
    action: Action,
    value: Decimal | str | None,
    unit: str | None,
) -> _Edit:
    if standing is not None and action in ("accept", "reject"):
        quality = "good" if action == "accept" else "invalid"
        return _Edit(standing.value, standing.unit, standing.value_m3, quality)
    quality = "estimated" if action == "estimate" else "good"
    if value is None:
        if action == "replace":
            raise BadInput("The right value is not given.", field="value", remedy="Send the register as it stood.")
        between = _between(session, meter.id, at)
        return _Edit(between, "m3", between, quality)
    number = _number(value)
    stated = devices.check_unit(unit)
    volume = units.to_m3(number, stated) if stated else units.to_m3(number, meter.unit, meter.multiplier)
    return _Edit(number, stated or meter.unit, volume, quality)


def _number(value: Decimal | str) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -12 or not 0 <= number < Decimal(10) ** 15:
        raise BadInput("The value is no register of a meter.", field="value", value=str(value)[:60])
    return number


def _between(session: Session, meter_id: int, at: datetime) -> Decimal:
    """The register at `at` on the line between the believed readings around it, in m³. Raises BadInput without both."""
    rows = session.execute(
        text(
            "(SELECT measured_at, value_m3 FROM reading WHERE meter_id = :m AND measured_at < :at"
            "  AND quality IN ('good', 'estimated') AND value_m3 IS NOT NULL ORDER BY measured_at DESC LIMIT 1)"
            " UNION ALL (SELECT measured_at, value_m3 FROM reading WHERE meter_id = :m AND measured_at > :at"
            "  AND quality IN ('good', 'estimated') AND value_m3 IS NOT NULL ORDER BY measured_at LIMIT 1)"
        ),
        {"m": meter_id, "at": at},
    ).all()
    if len(rows) < 2:
        raise BadInput(
            "There is no believed reading on both sides to estimate from.",
            field="value",
            remedy="Send a value with the estimate.",
        )
    (before_at, before), (after_at, after) = rows
    share = Decimal((at - before_at) / (after_at - before_at))
    volume: Decimal = before + (after - before) * share
    return round(volume, 6)


def _settle(session: Session, meter_id: int, at: datetime, *, by: str, action: str, reason: str) -> None:
    """What was flagged about this one reading is settled with it."""
    session.execute(
        text(
            "UPDATE reading_exception SET resolved_at = business_now(),"
            " resolution = jsonb_build_object('by', cast(:by AS text), 'action', cast(:action AS text),"
            " 'reason', cast(:reason AS text))"
            " WHERE meter_id = :meter AND measured_at = :at AND resolved_at IS NULL"
        ),
        {"by": by, "action": action, "reason": reason, "meter": meter_id, "at": at},
    )


def _columns(keys: Collection[Key]) -> list[list[Any]]:
    return [list(column) for column in zip(*sorted(keys), strict=True)]
