"""What crews tell beside the life cycle: a reading in between, work they found, where they are.

Writes readings, exceptions, orders, the crew's position, change log and outbound messages in the caller's transaction.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.db import new_id
from hub.errors import BadInput, Forbidden, NotFound, storable, storable_text
from hub.models import Crew, Meter, OrderException, ServicePoint, WorkOrder
from hub.work import catalogue, dispatching, forms, opening, places, register_reads, steps

_READING = Draft202012Validator(forms.READING)


def reading(
    session: Session,
    order_id: UUID | None,
    *,
    by: str,
    crew_id: UUID,
    reading: Any,
    meter_serial: str | None = None,
    at: datetime | None = None,
) -> WorkOrder | None:
    """Book a register value that a crew took during `order_id`, or of any meter it stood before.

    Billing hears of it when it belongs to an order. Raises NotFound for an order the crew never had or an unknown
    meter, BadInput for a reading that is none.
    """
    problem = next(iter(_READING.iter_errors(reading)), None)
    if problem is not None:
        raise BadInput(
            "That is no reading.",
            field="answers.reading",
            remedy='Send {"value": "1234.5", "unit": "m3", "how": "visual"}.',
        )
    kept = storable(reading) | {"value": format(forms.decimal_of(reading["value"], "answers.reading.value"), "f")}
    now = clock.now(session)
    happened = min(at or now, now)
    serial = storable_text(meter_serial) if meter_serial else None
    if order_id is None:
        if serial is None or session.scalar(select(Meter.id).where(Meter.serial == serial).limit(1)) is None:
            raise NotFound("There is no such meter.", field="answers.meter_serial", value=serial)
        register_reads.capture(session, meter=serial, reading=kept, at=happened, kind="check", source=by)
        return None
    order = steps.lock(session, order_id)
    if not dispatching.had_by(session, order, crew_id):
        raise NotFound("There is no such work order.", field="target", value=str(order_id))
    place = order.service_point
    meter = serial or order.meter or (places.meter_at(session, place) if place else None)
    read = register_reads.capture(
        session, meter=meter, reading=kept, at=happened, kind="check", source=f"order:{order.number}"
    )
    steps.log(session, order, by=by, verb="read", detail=read, crew_id=crew_id)
    steps.owe(session, order, "reading.captured", at=happened, **read)
    return order


def report(
    session: Session,
    *,
    by: str,
    crew_id: UUID,
    text: str,
    work_type: str | None = None,
    service_point: str | None = None,
    position: dict[str, Any] | None = None,
    at: datetime | None = None,
) -> WorkOrder | None:
    """Work that a crew found: with a `work_type` it is opened, without one a dispatcher decides; the order, if any.

    Raises BadInput for an empty report or one without a place, Forbidden for work that only billing may ask for,
    NotFound for an unknown type or place.
    """
    said = storable_text(text).strip()[:4000]
    if not said:
        raise BadInput("The report is empty.", field="answers.text", remedy="Say what was found.")
    where = (float(position["lon"]), float(position["lat"])) if position else None
    if service_point is None and where is None:
        raise BadInput("The report names no place.", field="answers.service_point", remedy="Send it or a position.")
    if work_type is not None:
        if catalogue.work_type(work_type).gate is not None:
            raise Forbidden("A crew cannot ask for this work.", field="answers.work_type", value=work_type)
        opened = opening.open_order(
            session,
            type=work_type,
            by=by,
            service_point=service_point,
            position=None if service_point else where,
            note=said,
        )
        return opened.order
    now = clock.now(session)
    made = new_id()
    told = {"text": said, "position": position, "at": min(at or now, now).isoformat(), "by": by}
    session.add(
        OrderException(
            id=made,
            service_point=service_point if service_point is None else _known_point(session, service_point),
            kind="crew_report",
            text=said,
            ours={},
            theirs=storable(told),
            opened_at=now,
        )
    )
    session.flush()
    changes.record(
        session, actor=by, subject_type="exception", subject_id=str(made), verb="reported", detail=told, crew_id=crew_id
    )
    return None


def position(session: Session, *, crew_id: UUID, position: dict[str, Any], at: datetime | None = None) -> bool:
    """Where the crew is; only the newest position is kept. False when a later one is known already."""
    now = clock.now(session)
    happened = min(at or now, now)
    newer = text("(position IS NULL OR (position->>'at')::timestamptz <= :at)").bindparams(at=happened)
    moved = session.execute(
        update(Crew)
        .where(Crew.id == crew_id, newer)
        .values(position={**position, "at": happened.isoformat()})
        .returning(Crew.id)
    )
    return moved.first() is not None


def _known_point(session: Session, service_point: str) -> str:
    wanted = storable_text(service_point)
    if session.scalar(select(ServicePoint.id).where(ServicePoint.id == wanted)) is None:
        raise NotFound("There is no such service point.", field="answers.service_point", value=wanted)
    return wanted
