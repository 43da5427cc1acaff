"""What a crew finds and does at a place: which result, which answers. The physical side of the simulated town.

Pure and deterministic per order: the same visit to the same place ends the same way.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.demo.calendar import hours_since_start
from hub.demo.consumption import Meters
from hub.demo.valves import Valves

NO_ACCESS_SHARE = 0.11
_NO_ACCESS = ("locked_gate", "dog", "blocked", "nobody_home", "cannot_locate")
# How often each result comes up, by type of work; what a type does not list is never chosen.
_RESULTS: dict[str, dict[str, float]] = {
    "shutoff": {
        "cut_and_locked": 70,
        "cut": 14,
        "paid_at_door": 6,
        "medical_claimed": 4,
        "dispute_claimed": 3,
        "already_off": 1,
    },
    "reconnect": {"restored": 94, "left_off_unsafe": 3, "left_off_flow": 3},
    "move_in": {"on": 92, "read_only": 8},
    "move_out": {"read_turned_off": 60, "read_left_on": 37, "still_occupied": 3},
    "leak_investigation": {"customer_side": 40, "utility_side": 35, "none_found": 25},
}
_VALVES: dict[str, tuple[str, str]] = {
    "cut": ("open", "closed"),
    "cut_and_locked": ("open", "closed"),
    "already_off": ("closed", "closed"),
    "restored": ("closed", "open"),
    "on": ("closed", "open"),
    "read_turned_off": ("open", "closed"),
    "read_left_on": ("open", "open"),
}


@dataclass(frozen=True)
class Visit:
    """How a visit ends: done with `answers` (their `code` says how), or `unable` for the reason `code`."""

    done: bool
    answers: dict[str, Any]


class Place:
    """What can be seen at the town's meters: registers by serial, and what billing doubted."""

    def __init__(self, meters: Meters, doubted: dict[str, float], valves: Valves | None = None) -> None:
        self._meters = meters
        self._valves = valves
        self._customers = {customer.serial: customer for customer in meters.town.customers}
        self._doubted = doubted

    def register(self, serial: str | None, at: datetime) -> float | None:
        """What the meter shows in m³, None for a meter that is not the town's."""
        customer = self._customers.get(serial or "")
        return None if customer is None else self._meters.register_of(customer, hours_since_start(at))

    def left(self, serial: str | None, valve: str | None, at: datetime) -> None:
        """A crew left the valve so: a closed one lets no water through."""
        if self._valves is not None and serial in self._customers and valve in ("closed", "open"):
            self._valves.turn(str(serial), valve == "closed", hours_since_start(at))

    def doubted(self, serial: str | None) -> float | None:
        """The value billing could not believe."""
        return self._doubted.get(serial or "")


def visit(order: dict[str, Any], place: Place, at: datetime, *, blocked: bool | None = None) -> Visit:
    """How the visit to `order` ends at `at`. `blocked` forces or forbids that nobody can get in."""
    dice = random.Random(f"{order['id']}")
    described = order["work_type"]
    reasons = [u["code"] for u in described["unable_codes"] if u["code"] in _NO_ACCESS]
    if blocked if blocked is not None else reasons and dice.random() < NO_ACCESS_SHARE:
        return Visit(False, {"code": dice.choice(reasons), "remark": "Came back another way, no luck."})
    codes = [c["code"] for c in described["completion_codes"]]
    return Visit(True, answers_for(order, _result(order, codes, place, at, dice), place, at))


def _result(order: dict[str, Any], codes: list[str], place: Place, at: datetime, dice: random.Random) -> str:
    if order["type"] == "reread":
        shown, doubted = place.register(order["meter"], at), place.doubted(order["meter"])
        wrong = shown is not None and doubted is not None and abs(doubted - shown) > 40
        wanted = "corrected" if wrong else "confirmed"
        if wanted in codes:
            return wanted
    weights = {code: weight for code, weight in _RESULTS.get(order["type"], {}).items() if code in codes}
    return dice.choices(list(weights), list(weights.values()))[0] if weights else codes[0]


def answers_for(order: dict[str, Any], code: str, place: Place, at: datetime) -> dict[str, Any]:
    """Everything the form asks for the result `code`: what the type requires, and what a careful crew adds."""
    schema = order["work_type"]["form"]
    answers: dict[str, Any] = {"code": code}
    if order.get("meter"):
        answers["meter_serial"] = order["meter"]
    shown = place.register(order.get("meter"), at)
    if shown is not None and not code.endswith(("_claimed", "_at_door")):
        answers["reading"] = {"value": f"{shown:.3f}", "unit": "m3", "how": "visual"}
    if code in _VALVES:
        answers["valve_before"], answers["valve_after"] = _VALVES[code]
    for name in schema["properties"]:
        if name not in answers and (name in _required(schema, code) or name in _FIELDS):
            answers[name] = _filled(name, schema["properties"][name], order)
    return {name: value for name, value in answers.items() if name in schema["properties"]}


def _required(schema: dict[str, Any], code: str) -> set[str]:
    found = set(schema.get("required", ()))
    for rule in schema.get("allOf", ()):
        if rule["if"]["properties"]["code"]["const"] == code:
            found |= set(rule["then"]["required"])
    return found


_FIELDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "final_contact": lambda order: "nobody_answered",
    "lock_number": lambda order: f"L{order['number'][-4:]}",
    "meter_condition": lambda order: "good",
    "adult_present": lambda order: True,
}


def _filled(name: str, shape: dict[str, Any], order: dict[str, Any]) -> Any:
    """A plausible answer for a field: the story's own, else the first that fits its declaration."""
    if name in _FIELDS:
        value = _FIELDS[name](order)
        if "enum" not in shape or value in shape["enum"]:
            return value
    if "enum" in shape:
        return shape["enum"][0]
    kinds: dict[str, Any] = {"boolean": True, "integer": 1, "object": {"value": "0", "unit": "m3"}}
    if "anyOf" in shape:
        return "1"
    return kinds.get(shape.get("type", ""), "as found")
