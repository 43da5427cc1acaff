"""The town's crews: each works through the crew API as a phone would, with travel, no-access visits and dead spots.

A crew keeps what its phone keeps: the orders it was given, its cursor, and the commands it could not send yet.
Nothing here knows the hub but by `/mobile/v1`. A crew that a visitor took over does nothing by itself.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import uuid_utils

from hub.demo.calendar import LOCAL, utc_text
from hub.demo.fieldwork import Place, Visit, answers_for, visit
from hub.demo.ground import metres

DEPOT = (33.0255, 34.6868)
SYNC_EVERY = timedelta(minutes=2)
SPEED_M_PER_MINUTE = 280.0
SHIFT = (timedelta(hours=7, minutes=30), timedelta(hours=16, minutes=30))
IN_HAND = ("assigned", "en_route", "on_site", "paused")
_PRIORITY_METRES = 400.0  # how far a crew drives out of its way for one step of priority


class Phone:
    """The crew API as a device uses it: pull changes, push commands, keep what could not be sent."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.cursor: str | None = None
        self.orders: dict[str, dict[str, Any]] = {}
        self.unsent: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self._sequence = 0
        self._last_command: dict[str, str] = {}

    def command(
        self,
        kind: str,
        target: str,
        at: datetime,
        position: tuple[float, float],
        answers: dict[str, Any] | None = None,
    ) -> None:
        """Write down a command; it leaves at the next `push`."""
        self._sequence += 1
        order = self.orders.get(target, {})
        entry: dict[str, Any] = {
            "id": str(uuid_utils.uuid7()),
            "device_seq": self._sequence,
            "type": kind,
            "target": target,
            "base_rev": order.get("rev"),
            "observed_at": utc_text(at),
            "position": {"lon": position[0], "lat": position[1], "accuracy_m": 6},
            "app": {"name": "ltown-crew", "version": "1"},
        }
        earlier = self._last_command.get(target)
        if earlier and any(waiting["id"] == earlier for waiting in self.unsent):
            entry["depends_on"] = [earlier]
        if answers is not None:
            entry["answers"] = answers
        self._last_command[target] = entry["id"]
        self.unsent.append(entry)

    def push(self) -> None:
        """Send what waits, in order. Raises httpx.HTTPError; what was not answered stays."""
        while self.unsent:
            batch = self.unsent[:100]
            answer = self.client.post("/mobile/v1/sync/mutations", json={"commands": batch})
            answer.raise_for_status()
            results = {item["id"]: item for item in answer.json()["results"]}
            waiting = []
            for entry in batch:
                result = results.get(entry["id"], {"status": "deferred"})
                problem = result.get("problem") or {}
                unmet = str(problem.get("type", "")).endswith("dependency-failed")
                if result["status"] == "deferred" and not unmet:
                    waiting.append(entry)
                    continue
                if result["status"] in ("rejected", "conflict"):
                    self.problems.append(f"{entry['type']}: {problem.get('detail') or result['status']}")
                if result.get("rev") is not None and entry["target"] in self.orders:
                    self.orders[entry["target"]]["rev"] = result["rev"]
            self.unsent = waiting + self.unsent[len(batch) :]
            if waiting:
                return

    def pull(self) -> None:
        """Take over what changed. Raises httpx.HTTPError."""
        more = True
        while more:
            parameters = {"cursor": self.cursor} if self.cursor else {}
            answer = self.client.get("/mobile/v1/sync/changes", params=parameters)
            if answer.status_code == 410:
                self.cursor, self.orders = None, {}
                continue
            answer.raise_for_status()
            page = answer.json()
            for change in page["changes"]:
                if change["type"] != "work_order":
                    continue
                if change["op"] == "upsert":
                    self.orders[change["id"]] = change["data"]
                else:
                    self.orders.pop(change["id"], None)
            self.cursor, more = page["cursor"], page["has_more"]


@dataclass
class Crew:
    """One truck. `step` moves it to business time `now`; all else follows from what its phone knows."""

    id: str
    name: str
    phone: Phone
    place: Place
    position: tuple[float, float] = DEPOT
    taken: bool = False
    current: str | None = None
    phase: str = "idle"  # idle, driving, working
    until: datetime | None = None
    offline_until: datetime | None = None
    next_sync: datetime | None = None
    next_dead_spot: datetime | None = None
    done: int = 0
    recalled: int = 0
    told: list[tuple[datetime, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    dice: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.dice.seed(self.name)

    # --- what a page may show -------------------------------------------------------------------------------------

    def order(self) -> dict[str, Any] | None:
        """The order in hand."""
        return self.phone.orders.get(self.current or "")

    def waiting(self) -> list[dict[str, Any]]:
        """Orders given and not begun, in the order in which the crew would take them."""
        return sorted(
            (o for o in self.phone.orders.values() if o["status"] in IN_HAND and o["id"] != self.current),
            key=self._cost,
        )

    def online(self, now: datetime) -> bool:
        """Whether there is reception."""
        return self.offline_until is None or now >= self.offline_until

    def say(self, now: datetime, text: str) -> None:
        """A line of the crew's log, newest first."""
        self.told.insert(0, (now, text))
        del self.told[30:]

    # --- a step ---------------------------------------------------------------------------------------------------

    def step(self, now: datetime) -> None:
        """Synchronise when due and reachable, then go on with the work."""
        with self.lock:
            self._dead_spots(now)
            if self.online(now) and (self.next_sync is None or now >= self.next_sync):
                self.synchronise(now)
            if self.taken:
                return
            if self.current is not None and self._recalled(now):
                return
            if self.phase == "idle":
                self._begin(now)
            elif self.until is not None and now >= self.until:
                self._arrive(now) if self.phase == "driving" else self._finish(now)

    def synchronise(self, now: datetime) -> bool:
        """Push, then pull. False without an answer; the next try is soon."""
        try:
            self.phone.push()
            self.phone.pull()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.say(now, f"no answer from the hub ({type(error).__name__})")
            self.next_sync = now + SYNC_EVERY / 2
            return False
        self.next_sync = now + SYNC_EVERY
        for problem in self.phone.problems:
            self.say(now, problem)
        self.phone.problems.clear()
        for order in self.phone.orders.values():
            if order["status"] in IN_HAND and order.get("acknowledged_at") is None and not order.get("_acknowledged"):
                order["_acknowledged"] = True
                self.phone.command("acknowledge", order["id"], now, self.position)
        return True

    def _dead_spots(self, now: datetime) -> None:
        if self.next_dead_spot is None:
            self.next_dead_spot = now + timedelta(minutes=self.dice.uniform(45, 150))
        if now >= self.next_dead_spot and not self.taken and self.phase != "idle":
            self.offline_until = now + timedelta(minutes=self.dice.uniform(10, 35))
            self.next_dead_spot = self.offline_until + timedelta(minutes=self.dice.uniform(60, 180))
            self.say(now, "out of reception")

    def _recalled(self, now: datetime) -> bool:
        """Whether the order in hand was called back or taken away; then the crew turns to the next."""
        order = self.order()
        if order is None or order["status"] not in IN_HAND:
            self.say(now, "the order was taken back")
            self.recalled += order is None
            self._drop()
            return True
        if order["cancel_requested"]:
            self.say(now, f"{order['number']} called back: turning round")
            self.recalled += 1
            self.act("cancel_acknowledge", now)
            self._drop()
            return True
        return False

    def _drop(self) -> None:
        self.current, self.phase, self.until = None, "idle", None

    def _cost(self, order: dict[str, Any]) -> float:
        started = -1e6 if order["status"] in ("en_route", "on_site", "paused") else 0.0
        return started + metres(self.position, place_of(order)) + _PRIORITY_METRES * float(order.get("priority") or 3)

    def _begin(self, now: datetime) -> None:
        local = now.astimezone(LOCAL)
        since_midnight = timedelta(hours=local.hour, minutes=local.minute)
        if local.weekday() >= 5 or not SHIFT[0] <= since_midnight < SHIFT[1]:
            return
        ready = [o for o in self.waiting() if not o["cancel_requested"] and _may_begin(o, now)]
        if ready:
            self.current = ready[0]["id"]
            if ready[0]["status"] == "assigned":
                self.act("start_travel", now)
            distance = metres(self.position, place_of(ready[0]))
            self.phase = "driving"
            self.until = now + timedelta(minutes=2 + distance * 1.3 / SPEED_M_PER_MINUTE)
            self.say(now, f"driving to {ready[0]['address'] or 'the place'} ({ready[0]['number']})")

    def _arrive(self, now: datetime) -> None:
        order = self.order()
        assert order is not None
        self.position = place_of(order)
        if order["status"] not in ("on_site", "paused"):
            self.act("arrive", now)
        minutes = float(order["work_type"].get("duration_minutes") or 20) * self.dice.uniform(0.5, 1.1)
        self.phase, self.until = "working", now + timedelta(minutes=minutes)
        self.say(now, f"at {order['address'] or 'the place'} ({order['number']})")

    def _finish(self, now: datetime) -> None:
        order = self.order()
        assert order is not None
        self.report(visit(order, self.place, now), now)

    # --- what a visitor or the simulation lets the crew do ----------------------------------------------------------

    def act(self, kind: str, now: datetime, answers: dict[str, Any] | None = None) -> None:
        """A step of the order in hand: noted on the phone, sent at once when there is reception."""
        assert self.current is not None
        self.phone.command(kind, self.current, now, self.position, answers)
        if self.online(now):
            self.next_sync = now

    def report(self, ended: Visit, now: datetime) -> None:
        """Close the order in hand as `ended` says."""
        order = self.order()
        assert order is not None
        self.position = ended.position or self.position
        self.act("complete" if ended.done else "unable", now, ended.answers)
        self.say(now, f"{order['number']}: {str(ended.answers['code']).replace('_', ' ')}")
        order["status"] = "completed" if ended.done else "unable"
        if ended.done:
            self.place.left(order.get("meter"), ended.answers.get("valve_after"), now)
            self.place.dug(order, str(ended.answers["code"]), now)
        self.done += 1
        self._drop()

    def take(self, order_id: str, now: datetime) -> None:
        """The visitor picks an order and sets out."""
        order = self.phone.orders[order_id]
        self.current, self.phase, self.until = order_id, "driving", None
        self.act("start_travel", now)
        self.say(now, f"you drive to {order['address'] or 'the place'} ({order['number']})")

    def arrived(self, now: datetime) -> None:
        """The visitor has arrived."""
        order = self.order()
        if order is not None:
            self.position = place_of(order)
            self.act("arrive", now)
            self.phase = "working"

    def answers(self, code: str, now: datetime) -> dict[str, Any]:
        """The form filled in for the result `code`, as the place looks now."""
        order = self.order()
        return answers_for(order, code, self.place, now) if order else {}


def _may_begin(order: dict[str, Any], now: datetime) -> bool:
    if order["not_before"] and datetime.fromisoformat(order["not_before"]) > now:
        return False
    appointment = order.get("appointment")
    return not appointment or datetime.fromisoformat(appointment["from"]) <= now


def place_of(order: dict[str, Any]) -> tuple[float, float]:
    """Where an order is; the depot when nobody knows."""
    at = order.get("position")
    if not at:
        return DEPOT
    return (at["lon"], at["lat"]) if isinstance(at, dict) else (at[0], at[1])


def work(crews: list[Crew], now: Callable[[], datetime], stopping: threading.Event, pause_s: float = 0.25) -> None:
    """The thread that moves all crews until told to stop. A fault of one crew never stops the others."""
    while not stopping.wait(pause_s):
        for crew in crews:
            try:
                crew.step(now())
            except (KeyError, ValueError, TypeError, AssertionError) as error:
                crew.say(now(), f"lost the thread: {error!r}")
                with crew.lock:
                    crew._drop()
