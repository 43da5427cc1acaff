"""What a crew finds and does at a place: which result, which answers. The physical side of the simulated town.

Pure and deterministic per order: the same visit to the same place ends the same way.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.demo.calendar import hours_since_start, utc_text
from hub.demo.consumption import Meters
from hub.demo.ground import Ground
from hub.demo.hydraulics import Leak
from hub.demo.valves import Valves

NO_ACCESS_SHARE = 0.11
_IN_THE_STREET = ("leak_survey", "leak_repair", "flushing")
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
    "tamper": {"false_alarm": 70, "bypass": 20, "self_restored": 10},
    "no_read": {"reprogrammed": 45, "battery": 45, "wire_cut": 5, "pit_flooded": 5},
}
# What a crew finds in the ground is the simulation's: the result with a leak there, and without.
_BY_LEAK = {
    "leak_survey": ("found", "none_found"),
    "leak_repair": ("repaired", "none_found"),
    "leak_investigation": ("utility_side", "none_found"),
}
_VALVES: dict[str, tuple[str, str]] = {
    "cut": ("open", "closed"),
    "cut_and_locked": ("open", "closed"),
    "already_off": ("closed", "closed"),
    "restored": ("closed", "open"),
    "on": ("closed", "open"),
    "read_turned_off": ("open", "closed"),
    "read_left_on": ("open", "open"),
    "self_restored": ("open", "open"),
}


@dataclass(frozen=True)
class Visit:
    """How a visit ends: done with `answers` (their `code` says how), or `unable` for the reason `code`.

    `position`: where the crew stands at the end when that is not where the order was, longitude and latitude.
    """

    done: bool
    answers: dict[str, Any]
    position: tuple[float, float] | None = None


class Place:
    """What can be seen and heard in the town: registers by serial, what billing doubted, leaks in the ground."""

    def __init__(
        self, meters: Meters, doubted: dict[str, float], valves: Valves | None = None, ground: Ground | None = None
    ) -> None:
        self._meters = meters
        self.ground = ground
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

    def leak(self, order: dict[str, Any], at: datetime) -> Leak | None:
        """The leak that work on `order` comes upon: anywhere in its zone when that is surveyed, else near its place."""
        if self.ground is None:
            return None
        spot = order.get("position")
        if spot is None or order["type"] == "leak_survey":
            return self.ground.largest(order.get("zone"), at)
        return self.ground.near((spot["lon"], spot["lat"]), at)

    def pinpointed(self, order: dict[str, Any], code: str, at: datetime) -> tuple[float, float] | None:
        """Where a crew stands that reports a leak found; None for any other result."""
        leak = self.leak(order, at) if code == "found" else None
        return self.ground.position(leak) if leak is not None and self.ground is not None else None

    def dug(self, order: dict[str, Any], code: str, at: datetime) -> None:
        """A crew has ended work on `order` with the result `code`: a leak that it repaired runs no more."""
        leak = self.leak(order, at) if code in ("repaired", "temporary") else None
        if leak is not None and self.ground is not None:
            self.ground.stop(leak, at)


def visit(order: dict[str, Any], place: Place, at: datetime, *, blocked: bool | None = None) -> Visit:
    """How the visit to `order` ends at `at`. `blocked` forces or forbids that nobody can get in."""
    dice = random.Random(f"{order['id']}")
    described = order["work_type"]
    behind_doors = order["type"] not in _IN_THE_STREET
    reasons = [u["code"] for u in described["unable_codes"] if u["code"] in _NO_ACCESS and behind_doors]
    if reasons and (blocked if blocked is not None else dice.random() < NO_ACCESS_SHARE):
        return Visit(False, {"code": dice.choice(reasons), "remark": "Came back another way, no luck."})
    codes = [c["code"] for c in described["completion_codes"]]
    code = _result(order, codes, place, at, dice)
    return Visit(True, answers_for(order, code, place, at), place.pinpointed(order, code, at))


def _result(order: dict[str, Any], codes: list[str], place: Place, at: datetime, dice: random.Random) -> str:
    if order["type"] == "reread":
        shown, doubted = place.register(order["meter"], at), place.doubted(order["meter"])
        wrong = shown is not None and doubted is not None and abs(doubted - shown) > 40
        wanted = "corrected" if wrong else "confirmed"
        if wanted in codes:
            return wanted
    if order["type"] in _BY_LEAK:
        found, nothing = _BY_LEAK[order["type"]]
        return found if place.leak(order, at) is not None else nothing
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
    answers |= _of_leak(order, code, place, at)
    required = _required(schema, code)
    for name in schema["properties"]:
        if name not in answers and (name in required or name in _ALWAYS):
            answers[name] = _filled(name, schema["properties"][name], order, at)
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
    "surveyed_km": lambda order: "3.2",
    "locate_ticket": lambda order: f"LOC-{order['number'][-6:]}",
    "volume_m3": lambda order: "12.0",
    "moves_with_taps_closed": lambda order: False,
    "seal": lambda order: "broken",
    "evidence": lambda order: "Seal broken, photographed.",
    "new_serial": lambda order: f"LTX{order['number'][-6:]}",
    "start_read": lambda order: "0",
}
# What a crew writes down whatever the result.
_ALWAYS = ("final_contact", "lock_number", "meter_condition", "adult_present")


def _of_leak(order: dict[str, Any], code: str, place: Place, at: datetime) -> dict[str, Any]:
    """What a crew measures and writes down of the leak that it found or stopped."""
    leak = place.leak(order, at)
    if leak is None or place.ground is None or code not in ("found", "repaired", "temporary", "utility_side"):
        return {}
    return {
        "main": leak.pipe,
        "method": "correlator",
        "located_at": utc_text(at),
        "found_at": f"on main {leak.pipe}",
        "acoustic": "on_main",
        "pipe": "main",
        "cause": "corrosion" if leak.kind == "incipient" else "ground_movement",
        "flow_m3_h": f"{place.ground.flow(leak, at):.1f}",
        "locate_valid_from": utc_text(at - timedelta(hours=4)),
        "stopped_at": utc_text(at),
    }


def _filled(name: str, shape: dict[str, Any], order: dict[str, Any], at: datetime) -> Any:
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
    if shape.get("format") == "date-time":
        return utc_text(at)
    return kinds.get(shape.get("type", ""), "as found")
