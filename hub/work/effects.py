"""What a report from the field changes beside the order: reading, place, charges, what a dispatcher must look at.

Writes readings, place facts, charges, exceptions, change log and outbound messages in the caller's transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from hub.models import WorkOrder
from hub.work import charges, invoicing, places, register_reads, steps
from hub.work.catalogue import Completion, WorkType
from hub.work.policy import fee_caps


@dataclass(frozen=True)
class Report:
    """What somebody reports of an order, and how it came.

    `at` is when it happened as far as it can be believed (never after now), `claimed_at` what the device says.
    """

    by: str
    code: str
    answers: dict[str, Any]
    at: datetime
    now: datetime
    claimed_at: datetime | None
    via: str
    crew_id: UUID | None
    position: dict[str, Any] | None
    offline: bool
    rev: int

    def record(self, **more: Any) -> dict[str, Any]:
        """The report as an order keeps it."""
        return {
            "code": self.code,
            "answers": self.answers,
            "via": self.via,
            "by": self.by,
            "crew": str(self.crew_id) if self.crew_id else None,
            "at": self.at.isoformat(),
            "received_at": self.now.isoformat(),
            "device_at": self.claimed_at.isoformat() if self.claimed_at else None,
            "position": self.position,
            "offline": self.offline,
            "rev_seen": self.rev,
            **more,
        }


def put_before_dispatcher(session: Session, order: WorkOrder, kind: str, text: str, report: Report) -> None:
    """Keep an exception and put it on the timeline."""
    ours = {"status": order.status, "rev": order.rev}
    steps.except_for_dispatcher(session, order, kind=kind, text=text, ours=ours, theirs=report.record(), at=report.now)
    steps.log(session, order, by="hub", verb="exception", detail={"kind": kind, "text": text})


def book_reads(session: Session, order: WorkOrder, completion: Completion, report: Report) -> list[dict[str, Any]]:
    """The reading that came with the report, booked through the same pipeline as every other."""
    reading = report.answers.get("reading")
    meter = report.answers.get("meter_serial") or order.meter
    if order.meter and meter != order.meter:
        text = f"{order.number} names meter {order.meter}, the crew saw {meter}."
        put_before_dispatcher(session, order, "serial_mismatch", text, report)
    if reading is None:
        return []
    kind = completion.read_kind or "check"
    return [
        register_reads.capture(
            session, meter=meter, reading=reading, at=report.at, kind=kind, source=f"order:{order.number}"
        )
    ]


def tell_reads(session: Session, order: WorkOrder, reads: list[dict[str, Any]], **about: Any) -> None:
    """Owe billing one message for each reading."""
    for read in reads:
        steps.owe(session, order, "reading.captured", **{"at": read["read_at"], **read, **about})


def change_place(session: Session, order: WorkOrder, completion: Completion, report: Report) -> None:
    """Place facts after the report, and what billing hears of them."""
    if order.service_point is not None:
        found = {
            "valve": report.answers.get("valve_after") or completion.valve,
            "meter": completion.meter,
            "lock": completion.lock,
        }
        for fact, state in found.items():
            if state is None:
                continue
            # what was opened by this report is open whatever the code's reason for closing would have been
            why = completion.why if state in ("closed", "restricted", "on") else None
            places.note(
                session,
                order.service_point,
                cast(places.Fact, fact),
                state,
                since=report.at,
                order_id=order.id,
                reason=why,
                account=order.account if why == "nonpayment" else None,
            )
    if completion.service in ("off", "restricted"):
        valve = "restricted" if completion.service == "restricted" else "closed"
        steps.owe(
            session, order, "service.disconnected", code=report.code, valve=valve, why=completion.why, at=report.at
        )
    elif completion.service == "on":
        steps.owe(session, order, "service.restored", code=report.code, valve="open", at=report.at)
    if completion.leak:
        answers = {name: value for name, value in report.answers.items() if name not in ("code", "remark", "reading")}
        steps.owe(session, order, "leak.confirmed", code=report.code, side=completion.leak, found=answers, at=report.at)
    if completion.tamper:
        steps.owe(
            session,
            order,
            "tamper.found",
            code=report.code,
            evidence={"remark": report.answers.get("remark")},
            at=report.at,
        )


def charge(
    session: Session,
    order: WorkOrder,
    work_type: WorkType,
    report: Report,
    *,
    code: str | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Keep and owe the invoice lines of the report under the tariff of `work_type`.

    `code` (default: the reported one) and `about` (its account, reference, type) are those of a request that the
    order served beside its own.
    """
    free = bool(order.details.get("free"))
    caps = _caps(session, work_type, order, report)
    lines = charges.lines(work_type, code or report.code, report.answers, caps=caps, free=free)
    invoicing.store(session, order, lines, at=report.at, about={"account": order.account, **(about or {})})


def _caps(session: Session, work_type: WorkType, order: WorkOrder, report: Report) -> Mapping[str, Decimal]:
    if not any(line.cap for line in work_type.tariff):
        return {}
    return fee_caps(session, account=order.account, service_point=order.service_point, at=report.at)
