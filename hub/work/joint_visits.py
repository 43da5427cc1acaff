"""One visit for several requests: a move-out and a move-in at one place are one order with one read.

Writes charges, change log and outbound messages in the caller's transaction.
"""

from typing import Any

from sqlalchemy.orm import Session

from hub.models import WorkOrder
from hub.work import effects, steps, withdrawal
from hub.work.catalogue import Completion, WorkType, of_snapshot
from hub.work.effects import Report


def complete(
    session: Session, order: WorkOrder, completion: Completion, report: Report, reads: list[dict[str, Any]]
) -> None:
    """One visit served several requests: each account gets its own completion, its own read and its own lines."""
    for request in order.details.get("joined", []):
        work_type = of_snapshot(request["type_snapshot"])
        code = _code_for(work_type, completion, report)
        about = withdrawal.request_data(request)
        if code is None:
            left_open = f"{request['type']} of {request['account']}"
            text = f"{order.number} ended as {completion.title.lower()}, which leaves {left_open} open."
            effects.put_before_dispatcher(session, order, "joined_request_open", text, report)
            continue
        mine = work_type.completion_of(code)
        kind = mine.read_kind if mine and mine.read_kind else "check"
        theirs = [{**read, "kind": kind} for read in reads]
        steps.owe(
            session, order, "work_order.completed", code=code, reads=theirs, at=report.at, via=report.via, **about
        )
        effects.tell_reads(session, order, theirs, **about)
        if mine and mine.service == "on":
            steps.owe(session, order, "service.restored", code=code, valve="open", at=report.at, **about)
        effects.charge(session, order, work_type, report, code=code, about=about)


# How the end of one half of a change of occupants reads for the other half, by whether the water is on afterwards.
_OTHER_HALF = {
    "move_in": {True: "on", False: "read_only"},
    "move_out": {True: "read_left_on", False: "read_turned_off"},
}


def _code_for(work_type: WorkType, completion: Completion, report: Report) -> str | None:
    """The completion code of a joined request, or None when the visit did not do its work."""
    if not completion.needs_reading or "reading" not in report.answers:
        return None
    if work_type.completion_of(report.code) is not None:
        return report.code
    water_on = (report.answers.get("valve_after") or completion.valve or "open") == "open"
    return _OTHER_HALF.get(work_type.type, {}).get(water_on)


def unable(session: Session, order: WorkOrder, *, code: str, then: str) -> None:
    """Tell billing of every request that had joined an order that could not be done."""
    for request in order.details.get("joined", []):
        steps.owe(session, order, "work_order.unable", code=code, then=then, **withdrawal.request_data(request))
