"""Facts of metering on their way to work, over HTTP: what was noticed, told, capped, opened or dismissed."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from hub.api.network import Reason, after_id
from hub.auth import Principal
from hub.models import Finding
from hub.web import Json, Tx, allow, encode_cursor
from hub.work import findings

router = APIRouter(prefix="/api/v1/findings", tags=["work"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
State = Literal["noticed", "notified", "waiting", "incident", "opened", "joined", "dismissed", "settled"]


@router.get("")
def list_findings(
    session: Tx,
    who: Principal = allow(*READERS),
    rule: str | None = None,
    state: State | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """What the rules made of alarms, exceptions and silence, newest first, with counts per rule and state.

    `waiting` are those over the day's cap; settled ones are listed with `state=settled` only.
    """
    found = findings.listed(session, rule=rule, state=state, after=after_id(cursor), limit=limit + 1)
    return Json(
        {
            "items": [_shown(one) for one in found[:limit]],
            "next_cursor": encode_cursor(found[limit - 1].id) if len(found) > limit else None,
            "counts": findings.counts(session),
        }
    )


@router.post("/{id}/dismiss")
def dismiss_finding(
    id: UUID, what: Reason, session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher")
) -> Json:
    """Say that a finding needs no work; it opens nothing while the fact lasts."""
    return Json(_shown(findings.dismiss(session, id, by=who.actor, reason=what.reason)))


def _shown(one: Finding) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "rule": one.rule,
        "subject": one.subject,
        "service_point": one.service_point,
        "account": one.account,
        "state": one.state,
        "text": findings.sentence(one),
        "since": one.since,
        "evidence": one.evidence,
        "noticed_at": one.noticed_at,
        "notified_at": one.notified_at,
        "opened_at": one.opened_at,
        "settled_at": one.settled_at,
        "work_order": str(one.order_id) if one.order_id else None,
    }
