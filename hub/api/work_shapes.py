"""How a work order looks from outside, by role: everybody sees what the work needs, and no more. Writes nothing."""

import re
from datetime import datetime, timedelta
from typing import Any

from hub.auth import Principal
from hub.models import Charge, OrderException
from hub.work import search
from hub.work.lifecycle import IN_HAND
from hub.work.search import Found
from hub.work.withdrawal import unconfirmed

CREW_KEEPS = timedelta(hours=48)
_MONEY_WORDS = frozenset({"amount", "amount_due", "past_due", "balance", "to_restore", "paid"})
_PERSON_WORDS = frozenset({"customer", "name", "phone", "remark", "text", "note", "crew", "reason", "position", "by"})
_PLACE_WORDS = frozenset({"position"})
_STREET_NUMBER = re.compile(r"\b\d+[A-Za-z]?\b[ ,]*")

Json = dict[str, Any]


def order_json(
    found: Found,
    who: Principal,
    *,
    timeline: list[Json] | None = None,
    exceptions: list[OrderException] | None = None,
) -> Json:
    """The order as `who` may see it; `timeline` and `exceptions` only where one order is shown."""
    if who.role == "crew":
        return _for_crew(found, timeline)
    full = _full(found)
    if timeline is not None:
        full["timeline"] = timeline
    if exceptions is not None:
        full["exceptions"] = [exception_json(e) for e in exceptions]
    return {"billing": _for_billing, "analyst": _for_analyst, "dispatcher": _for_dispatcher}.get(who.role, dict)(full)


def charge_json(charge: Charge) -> Json:
    """One invoice line."""
    return {
        "charge": str(charge.id),
        "work_order": str(charge.order_id),
        "account": charge.account,
        "code": charge.code,
        "quantity": charge.quantity,
        "amount": charge.amount,
        "currency": charge.currency,
        "bill_to": charge.bill_to,
        "reverses": str(charge.reverses) if charge.reverses else None,
        "at": charge.at,
        "posting": charge.posting,
    }


def exception_json(exception: OrderException) -> Json:
    """Something a person has to look at, with both sides."""
    return {
        "id": str(exception.id),
        "work_order": str(exception.order_id) if exception.order_id else None,
        "account": exception.account,
        "service_point": exception.service_point,
        "kind": exception.kind,
        "text": exception.text,
        "ours": exception.ours,
        "theirs": exception.theirs,
        "opened_at": exception.opened_at,
        "resolved_at": exception.resolved_at,
        "resolution": exception.resolution,
    }


def _full(found: Found) -> Json:
    order = found.order
    calling = unconfirmed(order, found.crew_synced_at)
    return {
        "id": str(order.id),
        "number": order.number,
        "type": order.type,
        "title": order.type_snapshot.get("title"),
        "purpose": order.purpose,
        "status": order.status,
        "rev": order.rev,
        "priority": order.priority,
        "account": order.account,
        "customer": found.customer,
        "phone": found.phone,
        "service_point": order.service_point,
        "address": found.address,
        "position": None if found.lon is None else [found.lon, found.lat],
        "meter": order.meter,
        "zone": order.zone,
        "crew": str(order.crew_id) if order.crew_id else None,
        "crew_name": found.crew_name if order.crew_id or calling else None,
        # while a crew may still believe that it has the order, somebody may have to call it
        "crew_phone": found.crew_phone if calling else None,
        "reference": order.reference,
        "reasons": order.reasons,
        "earliest_at": order.earliest_at,
        "cancel_requested": order.cancel_requested,
        "withdrawal": {**order.details["withdrawal"], "confirmed": not calling}
        if "withdrawal" in order.details
        else None,
        "not_before": order.not_before,
        "due_by": order.due_by,
        "appointment": _appointment(order.appointment_from, order.appointment_to),
        "amount_due": order.amount_due,
        "currency": order.currency or order.type_snapshot.get("currency"),
        "note": order.note,
        "free": bool(order.details.get("free")),
        "joined": [_joined(request) for request in order.details.get("joined", [])],
        "opened_at": order.opened_at,
        "opened_by": order.opened_by,
        "assigned_at": order.assigned_at,
        "acknowledged_at": order.acknowledged_at,
        "ended_at": order.ended_at,
        "completion": order.completion,
        "follow_up_of": str(order.follow_up_of) if order.follow_up_of else None,
        "permits": [],
        "charges": [charge_json(charge) for charge in found.charges],
    }


def _joined(request: Json) -> Json:
    return {name: request.get(name) for name in ("type", "account", "reference")}


def _appointment(begins: datetime | None, ends: datetime | None) -> Json | None:
    return None if begins is None and ends is None else {"from": begins, "to": ends}


def _for_dispatcher(full: Json) -> Json:
    amount = full.pop("amount_due")
    full["balance_band"] = None if amount is None else search.band(amount)
    return {**full, "timeline": _without(full["timeline"], _MONEY_WORDS)} if "timeline" in full else full


def _for_billing(full: Json) -> Json:
    for name in ("crew", "crew_name", "crew_phone", "withdrawal"):
        full[name] = None
    full.pop("exceptions", None)
    full["completion"] = _without(full["completion"], _PLACE_WORDS | {"crew", "by"})
    if "timeline" in full:
        full["timeline"] = [_faceless(line, _PLACE_WORDS | {"crew", "by"}) for line in full["timeline"]]
    return full


def _for_analyst(full: Json) -> Json:
    for name in ("customer", "phone", "crew", "crew_name", "crew_phone", "withdrawal", "note", "position", "opened_by"):
        full[name] = None
    full.pop("exceptions", None)
    full["address"] = _STREET_NUMBER.sub("", full["address"]).strip() if full["address"] else None
    for name in ("completion", "cancel_requested", "reasons"):
        full[name] = _without(full[name], _PERSON_WORDS)
    if "timeline" in full:
        full["timeline"] = [_faceless(line, _PERSON_WORDS) for line in full["timeline"]]
    return full


def _for_crew(found: Found, timeline: list[Json] | None) -> Json:
    """Only what the work at the place needs; of the account its last four characters."""
    full = _full(found)
    kept = (
        "id", "number", "type", "title", "status", "rev", "priority", "service_point", "address", "position", "meter",
        "zone", "crew", "reasons", "earliest_at", "cancel_requested", "not_before", "due_by", "appointment", "note",
        "permits", "assigned_at", "acknowledged_at",
    )  # fmt: skip
    shown = {name: full[name] for name in kept}
    shown["account"] = full["account"][-4:] if full["account"] else None
    shown |= {
        "access": found.access,
        "hazard": found.hazard,
        "valve_place": found.valve_place,
        "meter_place": found.meter_place,
    }
    shown |= {"reference": None, "charges": []}
    needs_contact = found.order.type_snapshot.get("needs_contact") or full["appointment"]
    if needs_contact and found.order.status in IN_HAND:
        shown |= {"customer": found.customer, "phone": found.phone}
    if timeline is not None:
        shown["timeline"] = [_faceless(line, _MONEY_WORDS) for line in timeline]
    return shown


def _faceless(line: Json, words: frozenset[str] | set[str]) -> Json:
    """A line of the timeline without the name of the person or crew behind it."""
    return {**line, "actor": str(line["actor"]).partition(":")[0], "detail": _without(line["detail"], words)}


def _without(value: Any, words: frozenset[str] | set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(entry, words) for name, entry in value.items() if name not in words}
    if isinstance(value, list):
        return [_without(entry, words) for entry in value]
    return value


def may_see(found: Found, who: Principal, now: datetime) -> bool:
    """Whether `who` may know of the order: crews their own, at most 48 hours after it ended; a billing system (a token
    bound to its source) what it asked for itself; a billing clerk, who answers callers, every order."""
    order = found.order
    if who.role == "crew":
        mine = who.crew_id is not None and order.crew_id == who.crew_id
        return mine and (order.ended_at is None or now - order.ended_at <= CREW_KEEPS)
    if who.role == "billing":
        return who.source_id in (None, order.source_id)
    return True
