"""Work orders over HTTP: lists, one order with its timeline, every verb of a dispatcher.

Each request is one transaction; the rules are in `hub.work`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.api.once import remember, replaying
from hub.api.work_shapes import may_see, order_json
from hub.auth import Principal
from hub.errors import BadInput, CurbstopError, Forbidden, Malformed, NotFound, storable_text
from hub.models import WorkOrder
from hub.web import Json, Revision, Tx, allow, decode_cursor, encode_cursor, etag
from hub.work import crews, orders, search
from hub.work.lifecycle import OPEN, State
from hub.work.search import Filters

router = replaying(prefix="/api/v1/work-orders", tags=["work"])

READERS = ("admin", "supervisor", "dispatcher", "crew", "billing", "analyst")
DISPATCHERS = ("admin", "supervisor", "dispatcher")
# administrators do not do field work, not even on paper
FIELD_CLERKS = ("supervisor", "dispatcher")
# holds that protect a customer: a dispatcher does not end them, and nobody ends his own
PROTECTED = frozenset({"medical", "dispute", "court", "bankruptcy", "claim_medical", "claim_dispute", "claim_tenant"})
Text = Annotated[str, Field(max_length=4000)]


def _this_century(value: datetime) -> datetime:
    if not 2000 <= value.year < 2200:
        raise ValueError("a time of this century is expected")
    return value


Time = Annotated[AwareDatetime, AfterValidator(_this_century)]
Key = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Window(_Body):
    """A time window [from, to)."""

    from_: Time = Field(alias="from")
    to: Time

    @model_validator(mode="after")
    def _forward(self) -> "Window":
        if self.to <= self.from_:
            raise ValueError("to must be after from")
        return self


def _lon_lat(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"lon", "lat"}:
        return (value["lon"], value["lat"])
    return value


Lon = Annotated[float, Field(ge=-180, le=180)]
Lat = Annotated[float, Field(ge=-90, le=90)]
Place = Annotated[tuple[Lon, Lat], BeforeValidator(_lon_lat)]


class NewOrder(_Body):
    """An order opened by hand: a type and a place (service point, account, meter, position or zone)."""

    type: Key
    account: Key | None = None
    service_point: Key | None = None
    meter: Key | None = None
    position: Place | None = None
    zone: Key | None = None
    reference: Key | None = None
    not_before: Time | None = None
    due_by: Time | None = None
    appointment: Window | None = None
    amount_due: Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=2)] | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    priority: Annotated[int, Field(ge=1, le=5)] | None = None
    note: Text | None = None


class CrewChoice(_Body):
    """Which crew, by id or name."""

    crew: Key = Field(validation_alias=AliasChoices("crew", "crew_id"))


class HoldReason(_Body):
    """Why an order waits."""

    code: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")] = "by_hand"
    text: Annotated[str, Field(min_length=1, max_length=400)]
    citation: Annotated[str, Field(max_length=400)] | None = None


def _as_reason(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class HoldBody(_Body):
    """A hold: `reasons`, or a `reason` in words (with a `code`), and until when."""

    reason: Annotated[str, Field(min_length=1, max_length=400)] | None = None
    code: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")] | None = None
    reasons: list[Annotated[HoldReason, BeforeValidator(_as_reason)]] = Field(default_factory=list, max_length=20)
    earliest_at: Time | None = Field(None, validation_alias=AliasChoices("earliest_at", "until"))


class Reason(_Body):
    """Why, in words."""

    reason: Text = ""


class NoteBody(_Body):
    """A remark for the timeline."""

    text: Text = Field(validation_alias=AliasChoices("text", "note"))


class CompleteBody(_Body):
    """A completion on a crew's behalf: how it was told, when it was done, and the answers to the type's form."""

    via: Literal["radio", "paper"] = "radio"
    at: Time | None = Field(None, validation_alias=AliasChoices("at", "observed_at"))
    answers: dict[str, Any]
    position: dict[str, float | None] | None = None


class UnableBody(_Body):
    """Why a crew could not do it."""

    via: Literal["radio", "paper"] = "radio"
    at: Time | None = Field(None, validation_alias=AliasChoices("at", "observed_at"))
    code: Key = Field(validation_alias=AliasChoices("code", AliasPath("answers", "code")))
    remark: Text | None = Field(None, validation_alias=AliasChoices("remark", AliasPath("answers", "remark")))
    answers: dict[str, Any] | None = None


class BulkItem(_Body):
    """One order of a bulk command, with the revision that was seen."""

    id: Key
    rev: int


class BulkAssign(_Body):
    """Many orders for one crew."""

    crew: Key = Field(validation_alias=AliasChoices("crew", "crew_id"))
    items: list[BulkItem] = Field(min_length=1, max_length=1000, validation_alias=AliasChoices("items", "orders"))


@router.get("", name="list_work_orders")
def list_work_orders(
    session: Tx,
    who: Principal = allow(*READERS),
    status: str | None = None,
    type: str | None = None,
    zone: str | None = None,
    crew: str | None = None,
    account: str | None = None,
    service_point: str | None = None,
    reference: str | None = None,
    bbox: str | None = None,
    q: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Orders, newest first. `status`, `type` and `zone` take several values with commas; status also `open`."""
    filters = Filters(
        status=_statuses(status),
        type=_several(type),
        zone=_several(zone),
        crew=_one(crew),
        account=_one(account),
        service_point=_one(service_point),
        reference=_one(reference),
        bbox=_box(bbox),
        q=_one(q),
        after=_after(cursor),
        own_crew=who.crew_id if who.role == "crew" else None,
        source_id=who.source_id if who.role == "billing" else None,
    )
    found = search.find(session, filters, limit=limit + 1)
    now = clock.now(session)
    page = found[:limit]
    following = encode_cursor(page[-1].order.id) if len(found) > limit else None
    items = [order_json(one, who) for one in page if may_see(one, who, now)]
    return Json({"items": items, "next_cursor": following})


@router.post("", status_code=201, name="open_work_order")
def open_work_order(session: Tx, body: NewOrder, who: Principal = allow(*DISPATCHERS, "billing")) -> Json:
    """Open an order by hand: 201, or 200 when it joined one that is open for the same place and purpose."""
    opened = orders.open_order(
        session,
        type=body.type,
        by=who.actor,
        account=_one(body.account),
        service_point=_one(body.service_point),
        meter=_one(body.meter),
        position=body.position,
        zone=_one(body.zone),
        source_id=who.source_id,
        reference=_one(body.reference),
        not_before=body.not_before,
        due_by=body.due_by,
        appointment=(body.appointment.from_, body.appointment.to) if body.appointment else None,
        amount_due=body.amount_due,
        currency=body.currency,
        priority=body.priority,
        note=body.note,
    )
    return _answer(session, opened.order, who, status=201 if opened.how == "opened" else 200, how=opened.how)


@router.post("/bulk-assign", name="bulk_assign_work_orders")
def bulk_assign(session: Tx, body: BulkAssign, who: Principal = allow(*DISPATCHERS)) -> Json:
    """Give many orders to one crew. Each item answers for itself: `applied`, or `refused` and why."""
    crew = crews.get(session, body.crew)
    named: dict[str, UUID | CurbstopError] = {}
    for item in body.items:
        try:
            known_as: UUID | CurbstopError = search.id_of(session, item.id)
        except CurbstopError as error:
            known_as = error
        if item.id in named or (isinstance(known_as, UUID) and known_as in named.values()):
            raise BadInput(
                "An order is named twice.", field="items", value=item.id[:80], remedy="Name every order once."
            )
        named[item.id] = known_as
    wanted = [(known, item.rev) for item in body.items if isinstance(known := named[item.id], UUID)]
    results = {r.order_id: r for r in orders.bulk_assign(session, wanted, crew_id=crew.id, by=who.actor)}
    items = []
    for item in body.items:
        known = named[item.id]
        result = None if isinstance(known, CurbstopError) else results[known]
        refusal = known if isinstance(known, CurbstopError) else result.error if result else None
        order = result.order if result else None
        items.append(
            {
                "id": str(order.id) if order else item.id,
                "number": order.number if order else None,
                "result": "refused" if refusal else "applied",
                "status": order.status if order else None,
                "rev": order.rev if order else None,
                "problem": refusal.problem() if refusal else None,
            }
        )
    return remember(session, Json({"items": items, "applied": sum(i["result"] == "applied" for i in items)}))


@router.get("/{id}", name="get_work_order")
def get_work_order(session: Tx, id: str, who: Principal = allow(*READERS)) -> Json:
    """One order, by its id or number, with its timeline."""
    return _answer(session, search.id_of(session, id), who)


@router.post("/{id}/assign", name="assign_work_order")
def assign(session: Tx, id: str, rev: Revision, body: CrewChoice, who: Principal = allow(*DISPATCHERS)) -> Json:
    """Give a ready order to a crew."""
    crew = crews.get(session, body.crew)
    order = orders.assign(session, search.id_of(session, id), crew_id=crew.id, by=who.actor, rev=rev)
    return _answer(session, order, who)


@router.post("/{id}/unassign", name="unassign_work_order")
def unassign(session: Tx, id: str, rev: Revision, who: Principal = allow(*DISPATCHERS)) -> Json:
    """Take an order from a crew that has not left."""
    return _answer(session, orders.unassign(session, search.id_of(session, id), by=who.actor, rev=rev), who)


@router.post("/{id}/hold", name="hold_work_order")
def hold(session: Tx, id: str, rev: Revision, body: HoldBody, who: Principal = allow(*DISPATCHERS)) -> Json:
    """Make an order wait, with a reason; a crew on the road is asked back."""
    reasons = [r.model_dump() for r in body.reasons]
    if body.reason:
        reasons.append({"code": body.code or "by_hand", "text": body.reason, "citation": None})
    until = body.earliest_at.isoformat() if body.earliest_at else None
    for reason in reasons:
        reason |= {"by": who.actor, "until": until}
    order = orders.hold(
        session, search.id_of(session, id), by=who.actor, reasons=reasons, earliest_at=body.earliest_at, rev=rev
    )
    return _answer(session, order, who)


@router.post("/{id}/release", name="release_work_order")
def release(
    session: Tx, id: str, rev: Revision, body: Reason | None = None, who: Principal = allow(*DISPATCHERS)
) -> Json:
    """End a hold. One that protects the customer needs a supervisor who did not place it."""
    order_id = search.id_of(session, id)
    _may_release(orders.lock(session, order_id, rev=rev), who)
    order = orders.release(session, order_id, by=who.actor, rev=rev, note=body.reason if body else None)
    return _answer(session, order, who)


@router.post("/{id}/cancel", name="cancel_work_order")
def cancel(
    session: Tx, id: str, rev: Revision, body: Reason | None = None, who: Principal = allow(*DISPATCHERS)
) -> Json:
    """End an order that is no longer wanted; a crew on the road is asked back first."""
    reason = (body.reason if body else "") or "cancelled by hand"
    return _answer(
        session, orders.cancel(session, search.id_of(session, id), by=who.actor, reason=reason, rev=rev), who
    )


@router.post("/{id}/told", name="confirm_told_by_radio")
def told(session: Tx, id: str, rev: Revision, who: Principal = allow(*DISPATCHERS)) -> Json:
    """The crew was told over the radio that the order was taken back."""
    return _answer(
        session, orders.confirm_told_by_radio(session, search.id_of(session, id), by=who.actor, rev=rev), who
    )


@router.post("/{id}/reopen", name="reopen_work_order")
def reopen(
    session: Tx, id: str, rev: Revision, body: Reason | None = None, who: Principal = allow(*DISPATCHERS)
) -> Json:
    """Take a finished order back; 201 with a linked follow-up order when billing was told of its end already."""
    order_id = search.id_of(session, id)
    reason = (body.reason if body else "") or "reopened by hand"
    order = orders.reopen(session, order_id, by=who.actor, reason=reason, rev=rev)
    return _answer(session, order, who, status=200 if order.id == order_id else 201)


@router.post("/{id}/note", name="note_work_order")
def note(session: Tx, id: str, body: NoteBody, who: Principal = allow(*DISPATCHERS)) -> Json:
    """Add a remark to the timeline."""
    return _answer(session, orders.note(session, search.id_of(session, id), by=who.actor, text=body.text), who)


@router.post("/{id}/complete", name="complete_work_order")
def complete(session: Tx, id: str, rev: Revision, body: CompleteBody, who: Principal = allow(*FIELD_CLERKS)) -> Json:
    """Record on a crew's behalf that the work is done."""
    order = orders.complete(
        session,
        search.id_of(session, id),
        by=who.actor,
        answers=body.answers,
        at=body.at,
        via=body.via,
        position=body.position,
        rev=rev,
    )
    return _answer(session, order, who)


@router.post("/{id}/unable", name="unable_work_order")
def unable(session: Tx, id: str, rev: Revision, body: UnableBody, who: Principal = allow(*FIELD_CLERKS)) -> Json:
    """Record on a crew's behalf that the work could not be done."""
    order = orders.unable(
        session,
        search.id_of(session, id),
        by=who.actor,
        code=body.code,
        at=body.at,
        via=body.via,
        remark=body.remark,
        rev=rev,
    )
    return _answer(session, order, who)


def _answer(session: Session, order: WorkOrder | UUID, who: Principal, *, status: int = 200, **more: Any) -> Json:
    session.flush()
    found = search.get(session, order if isinstance(order, UUID) else order.id)
    if not may_see(found, who, clock.now(session)):
        raise NotFound("There is no such work order.", field="id", value=found.order.number)
    document = order_json(
        found,
        who,
        timeline=changes.timeline(session, found.order.id),
        exceptions=search.exceptions_of(session, found.order.id),
    )
    headers = {"ETag": etag(found.order.rev)}
    if status == 201:
        headers["Location"] = f"/api/v1/work-orders/{found.order.id}"
    return remember(session, Json({**document, **more}, status_code=status, headers=headers))


def _may_release(order: WorkOrder, who: Principal) -> None:
    """Raises Forbidden when a hold protects the customer and `who` may not end it alone."""
    for reason in order.reasons:
        if order.status != State.HELD or str(reason.get("code", "")).removeprefix("hold_") not in PROTECTED:
            continue
        if who.role != "supervisor":
            raise Forbidden(
                f"{order.number} is held to protect the customer ({reason['code']}).",
                remedy="Ask a supervisor to release it.",
            )
        if reason.get("by") == who.actor:
            raise Forbidden("You placed this hold yourself.", remedy="Another supervisor has to release it.")


def _one(value: str | None) -> str | None:
    return storable_text(value).strip() or None if value is not None else None


def _several(value: str | None) -> tuple[str, ...]:
    return tuple(part for part in (p.strip() for p in storable_text(value or "").split(",")) if part)[:100]


def _statuses(value: str | None) -> tuple[str, ...]:
    asked: list[str] = []
    for part in _several(value):
        if part == "open":
            asked += [str(s) for s in OPEN]
        elif part in [str(s) for s in State]:
            asked.append(part)
        else:
            known = ", ".join(["open", *(str(s) for s in State)])
            raise BadInput(f"{part[:40]!r} is no status.", field="status", value=part[:40], remedy=f"Use {known}.")
    return tuple(asked)


def _box(value: str | None) -> tuple[float, float, float, float] | None:
    if value is None or not value.strip():
        return None
    try:
        west, south, east, north = (float(part) for part in value.split(","))
    except ValueError:
        west = south = east = north = float("nan")
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise BadInput(
            "The box is not west,south,east,north in degrees.",
            field="bbox",
            value=value[:80],
            remedy="e.g. 8.1,46.2,8.4,46.5",
        )
    return west, south, east, north


def _after(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    (part,) = decode_cursor(cursor, 1)
    try:
        return UUID(part)
    except (ValueError, AttributeError, TypeError) as error:
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.") from error
