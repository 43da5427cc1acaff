"""A dispatcher who never sleeps: gives ready work to the nearest crew with room, and leaves some for the visitor.

A crew that a visitor drives gets one order at a time, the nearest, so that there is always something to drive to.

Speaks `/api/v1` with a dispatcher's token; keeps nothing.
"""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx

from hub.demo.calendar import LOCAL
from hub.demo.crews import IN_HAND, Crew, place_of
from hub.demo.ground import metres

MOST_PER_CREW = 3
LEFT_FOR_VISITOR = timedelta(hours=3)
_HANDS_OFF_ONE_IN = 5


class Dispatcher:
    """`step` looks at all open work once and gives out what it may."""

    def __init__(self, client: httpx.Client, crews: list[Crew]) -> None:
        self.client = client
        self.crews = crews
        self.first_seen: dict[str, datetime] = {}
        self.refused: dict[str, datetime] = {}
        self.given = 0
        self.accounts: dict[str, str | None] = {}  # of orders in crews' hands, by order id

    def orders(self, status: str) -> list[dict[str, Any]]:
        """Every order in a status. Raises httpx.HTTPError."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            parameters = {"status": status} | ({"cursor": cursor} if cursor else {})
            answer = self.client.get("/api/v1/work-orders", params=parameters)
            answer.raise_for_status()
            page = answer.json()
            found += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def for_visitor(self, order: dict[str, Any], now: datetime) -> bool:
        """One order in five is left lying for the visitor for a while; nothing urgent is."""
        seen = self.first_seen.setdefault(order["id"], now)
        digits = int("".join(c for c in order["number"] if c.isdigit())[-4:] or 0)
        return digits % _HANDS_OFF_ONE_IN == 4 and order["type"] != "reconnect" and now - seen < LEFT_FOR_VISITOR

    def step(self, now: datetime) -> int:
        """One look; the number of orders given out. Raises httpx.HTTPError."""
        load = self._load()
        ready = [o for o in self.orders("ready") if now >= self.refused.get(o["id"], now) and not _later(o, now)]
        given = self._to_visitors(ready, load, now)
        for order in ready:
            if self.for_visitor(order, now):
                continue
            crew = self._choose(order, load, now)
            if crew is not None and self._assign(order, crew, now):
                load[crew.id] += 1
                given += 1
        self.given += given
        return given

    def _load(self) -> Counter[str]:
        load: Counter[str] = Counter()
        accounts: dict[str, str | None] = {}
        for status in IN_HAND:
            for order in self.orders(status):
                load[order["crew"]] += 1
                accounts[order["id"]] = order.get("account")
        self.accounts = accounts
        return load

    def _to_visitors(self, ready: list[dict[str, Any]], load: Counter[str], now: datetime) -> int:
        """The nearest order for each crew that a visitor drives and that has none; removes it from `ready`."""
        given = 0
        for crew in self.crews:
            while crew.taken and not load[crew.id] and ready:
                order = min(ready, key=lambda order: metres(crew.position, place_of(order)))
                ready.remove(order)
                if self._assign(order, crew, now):
                    load[crew.id] += 1
                    given += 1
        return given

    def _choose(self, order: dict[str, Any], load: Counter[str], now: datetime) -> Crew | None:
        local = now.astimezone(LOCAL)
        if not 7 <= local.hour < 16 or local.weekday() >= 5:
            return None
        free = [crew for crew in self.crews if not crew.taken and load[crew.id] < MOST_PER_CREW]
        return min(free, key=lambda crew: metres(crew.position, place_of(order)) + 300 * load[crew.id], default=None)

    def _assign(self, order: dict[str, Any], crew: Crew, now: datetime) -> bool:
        answer = self.client.post(
            f"/api/v1/work-orders/{order['id']}/assign",
            json={"crew": crew.id},
            headers={"If-Match": f'"{order["rev"]}"'},
        )
        if answer.is_success:
            return True
        # Somebody was quicker, or the policy says not now: not asked again at once.
        self.refused[order["id"]] = now + timedelta(minutes=20)
        return False


def _later(order: dict[str, Any], now: datetime) -> bool:
    """Whether an order may not begin within the hour: a second visit tomorrow is not given out today."""
    return bool(order["not_before"]) and datetime.fromisoformat(order["not_before"]) > now + timedelta(hours=1)


def dispatch(robot: Dispatcher, now: Callable[[], datetime], stopping: threading.Event, pause_s: float = 1.5) -> None:
    """The thread of the robot until told to stop; without an answer it tries again."""
    while not stopping.wait(pause_s):
        try:
            robot.step(now())
        except (httpx.HTTPError, KeyError, ValueError):
            stopping.wait(2.0)
