"""Crews work as a phone would: in order, once, called back at once, and with everything kept while out of reception."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.demo import calendar
from hub.demo.calendar import utc_text
from hub.demo.consumption import Meters
from hub.demo.crews import SYNC_EVERY, Crew, Phone
from hub.demo.dispatcher import LEFT_FOR_VISITOR, MOST_PER_CREW, Dispatcher
from hub.demo.fieldwork import Place, Visit, answers_for, visit
from hub.demo.ground import metres
from hub.demo.town import Town

MORNING = calendar.STORY + timedelta(hours=1)
FORM = {
    "type": "object",
    "properties": {
        "code": {"oneOf": [{"const": "cut_and_locked"}, {"const": "paid_at_door"}]},
        "reading": {"type": "object"},
        "meter_serial": {"type": "string"},
        "valve_before": {"enum": ["open", "closed"]},
        "valve_after": {"enum": ["open", "closed"]},
        "final_contact": {"enum": ["spoke", "nobody_answered"]},
        "photo_taken": {"type": "boolean"},
    },
    "required": ["code"],
    "allOf": [{"if": {"properties": {"code": {"const": "cut_and_locked"}}}, "then": {"required": ["photo_taken"]}}],
}


def order(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": str(UUID(int=number)),
        "number": f"WO-2026-{number:06d}",
        "type": "shutoff",
        "status": "assigned",
        "rev": 3,
        "priority": 3,
        "account_ends_with": "0007",
        "address": f"{number} Bay Lane",
        "meter": None,
        "meter_place": "pit",
        "hazard": None,
        "position": {"lon": 33.02 + number / 1000, "lat": 34.687},
        "cancel_requested": None,
        "not_before": None,
        "appointment": None,
        "acknowledged_at": None,
        "work_type": {
            "type": "shutoff",
            "title": "Shutoff",
            "duration_minutes": 20,
            "form": FORM,
            "completion_codes": [{"code": "cut_and_locked", "title": "Off"}],
            "unable_codes": [{"code": "locked_gate", "title": "Gate"}],
        },
    } | more


@dataclass
class HubStandIn:
    """The two routes of the crew API; `changes` is handed out at the next pull."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    answer: dict[str, str] = field(default_factory=dict)
    reachable: bool = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.reachable:
            raise httpx.ConnectError("away")
        if request.url.path.endswith("/changes"):
            found, self.changes = self.changes, []
            return httpx.Response(200, json={"epoch": "e", "cursor": "c", "has_more": False, "changes": found})
        commands = json.loads(request.content)["commands"]
        self.commands += commands
        results = [
            {
                "id": c["id"],
                "status": self.answer.get(c["type"], "applied"),
                "rev": (c["base_rev"] or 0) + 1,
                "problem": None,
            }
            for c in commands
        ]
        return httpx.Response(200, json={"results": results})

    def give(self, data: dict[str, Any], op: str = "upsert") -> None:
        self.changes.append(
            {"type": "work_order", "id": data["id"], "rev": data["rev"], "op": op, "reason": None, "data": data}
        )

    def told(self) -> list[str]:
        return [command["type"] for command in self.commands]


@pytest.fixture
def hub() -> HubStandIn:
    return HubStandIn()


@pytest.fixture
def place(hamlet_meters: Meters) -> Place:
    return Place(hamlet_meters, {})


@pytest.fixture
def crew(hub: HubStandIn, place: Place) -> Crew:
    client = httpx.Client(transport=httpx.MockTransport(hub), base_url="http://hub")
    return Crew("c1", "North", Phone(client), place, next_dead_spot=calendar.END)


def run(crew: Crew, start: datetime, minutes: float, until: Callable[[], bool] = lambda: False) -> datetime:
    now = start
    while now < start + timedelta(minutes=minutes) and not until():
        crew.step(now)
        now += timedelta(seconds=30)
    return now


def test_a_visit_from_acknowledgement_to_completion(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    run(crew, MORNING, 60)
    assert hub.told()[:3] == ["acknowledge", "start_travel", "arrive"]
    assert hub.told()[3] in ("complete", "unable") and len(hub.told()) == 4
    assert [c["device_seq"] for c in hub.commands] == [1, 2, 3, 4]
    assert len({c["id"] for c in hub.commands}) == 4
    times = [c["observed_at"] for c in hub.commands]
    assert times == sorted(times) and times[0] != times[3], "travel and work take time"
    assert crew.done == 1 and crew.current is None


def test_a_crew_called_back_on_the_road_turns_round(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    now = run(crew, MORNING, 30, until=lambda: "start_travel" in hub.told())
    hub.give(order(rev=5, status="en_route", cancel_requested={"reason": "paid"}))
    run(crew, now, 10)
    assert hub.told()[-1] == "cancel_acknowledge"
    assert "complete" not in hub.told() and crew.recalled == 1


def test_an_order_taken_away_is_dropped(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    now = run(crew, MORNING, 30, until=lambda: "start_travel" in hub.told())
    hub.give(order(), op="remove")
    run(crew, now, 60)
    assert hub.told()[-1] == "start_travel" and crew.current is None


def test_without_reception_work_goes_on_and_is_told_later(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    now = run(crew, MORNING, 30, until=lambda: "start_travel" in hub.told())
    crew.offline_until = now + timedelta(hours=2)
    hub.give(order(), op="remove")
    now = run(crew, now, 110)
    assert hub.told()[-1] == "start_travel" and crew.done == 1
    run(crew, now, 30)
    assert hub.told()[-2] == "arrive" and hub.told()[-1] in ("complete", "unable")
    assert hub.commands[-1]["observed_at"] < utc_text(crew.offline_until)
    assert hub.commands[-1]["depends_on"] == [hub.commands[-2]["id"]]


def test_what_was_not_answered_is_sent_again_under_the_same_id(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    now = run(crew, MORNING, 30, until=lambda: "start_travel" in hub.told())
    hub.reachable = False
    now = run(crew, now, 90)
    kept = [c["id"] for c in crew.phone.unsent]
    hub.reachable = True
    run(crew, now, 10)
    assert kept and [c["id"] for c in hub.commands[-len(kept) :]] == kept


def test_a_deferred_command_stays_on_the_phone(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order())
    hub.answer = {"start_travel": "deferred"}
    now = run(crew, MORNING, 30, until=lambda: "start_travel" in hub.told())
    assert [c["type"] for c in crew.phone.unsent][:1] == ["start_travel"]
    hub.answer = {}
    run(crew, now, 5)
    assert crew.phone.unsent == []


def test_a_crew_the_visitor_drives_does_nothing_by_itself(crew: Crew, hub: HubStandIn) -> None:
    crew.taken = True
    hub.give(order())
    now = run(crew, MORNING, 120)
    assert hub.told() == ["acknowledge"]
    crew.take(order()["id"], now)
    crew.arrived(now + timedelta(minutes=9))
    crew.report(Visit(True, {"code": "cut_and_locked"}), now + timedelta(minutes=20))
    crew.synchronise(now + timedelta(minutes=21))
    assert hub.told() == ["acknowledge", "start_travel", "arrive", "complete"]


@pytest.mark.parametrize(
    "at",
    [
        calendar.STORY - timedelta(hours=1),
        calendar.STORY + timedelta(hours=12),
        calendar.STORY + timedelta(days=5, hours=2),
    ],
)
def test_nobody_drives_off_outside_working_hours(crew: Crew, hub: HubStandIn, at: datetime) -> None:
    hub.give(order())
    run(crew, at, 20)
    assert "start_travel" not in hub.told()


def test_an_order_waits_for_its_time(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order(not_before=utc_text(MORNING + timedelta(hours=1))))
    now = run(crew, MORNING, 55)
    assert hub.told() == ["acknowledge"]
    run(crew, now, 20)
    assert "start_travel" in hub.told()


def test_the_nearer_order_first_unless_another_is_urgent(crew: Crew, hub: HubStandIn) -> None:
    hub.give(order(9))
    hub.give(order(6))
    run(crew, MORNING, 5, until=lambda: crew.current is not None)
    assert crew.current == order(6)["id"]


def test_every_phone_synchronises_within_its_interval(crew: Crew, hub: HubStandIn) -> None:
    crew.step(MORNING)
    hub.give(order())
    run(crew, MORNING, SYNC_EVERY.total_seconds() / 60 + 1)
    assert order()["id"] in crew.phone.orders


# --- what is found at the door ---------------------------------------------------------------------------------------


def test_answers_fit_the_form(hamlet: Town, place: Place) -> None:
    serial = hamlet.customers[0].serial
    answers = answers_for(order(meter=serial), "cut_and_locked", place, MORNING)
    assert set(answers) <= set(FORM["properties"])  # type: ignore[arg-type]
    assert answers["photo_taken"] is True
    assert (answers["valve_before"], answers["valve_after"]) == ("open", "closed")
    shown = place.register(serial, MORNING)
    assert answers["reading"]["value"] == f"{shown:.3f}"


def test_a_doubted_reading_that_was_wrong_is_corrected(hamlet: Town, hamlet_meters: Meters) -> None:
    serial = hamlet.customers[0].serial
    shown = Place(hamlet_meters, {}).register(serial, MORNING)
    assert shown is not None
    kind = {
        **order()["work_type"],
        "completion_codes": [{"code": "confirmed"}, {"code": "corrected"}],
        "unable_codes": [],
    }
    reread = order(type="reread", meter=serial, work_type=kind)
    for doubted, code in ((shown + 90, "corrected"), (shown + 1, "confirmed")):
        assert visit(reread, Place(hamlet_meters, {serial: doubted}), MORNING).answers["code"] == code


def test_no_access_is_reported_with_a_reason_the_type_knows(place: Place) -> None:
    ended = visit(order(), place, MORNING, blocked=True)
    assert not ended.done and ended.answers["code"] == "locked_gate"


# --- the dispatcher --------------------------------------------------------------------------------------------------


class Office:
    """`/api/v1/work-orders` as far as a dispatcher needs it."""

    def __init__(self, *orders: dict[str, Any]) -> None:
        self.orders = {o["id"]: o for o in orders}
        self.seen: list[tuple[str, dict[str, Any], str]] = []
        self.refuse = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            wanted = request.url.params["status"]
            return httpx.Response(
                200, json={"items": [o for o in self.orders.values() if o["status"] == wanted], "next_cursor": None}
            )
        self.seen.append((request.url.path, json.loads(request.content), request.headers["if-match"]))
        if self.refuse:
            return httpx.Response(409, json={"type": "cut-refused"})
        one = self.orders[request.url.path.split("/")[-2]]
        one.update(status="assigned", crew=json.loads(request.content)["crew"])
        return httpx.Response(200, json=one)


def ready(number: int, **more: Any) -> dict[str, Any]:
    return order(number, status="ready", crew=None, position=[33.02 + number / 1000, 34.687]) | more


def robot(office: Office, *crews: Crew) -> Dispatcher:
    return Dispatcher(httpx.Client(transport=httpx.MockTransport(office), base_url="http://hub"), list(crews))


def test_ready_work_is_given_to_a_crew_with_its_revision(crew: Crew) -> None:
    office = Office(ready(1))
    assert robot(office, crew).step(MORNING) == 1
    assert office.seen == [(f"/api/v1/work-orders/{order(1)['id']}/assign", {"crew": "c1"}, '"3"')]


def test_no_crew_is_given_more_than_it_can_do(crew: Crew) -> None:
    office = Office(*(ready(number) for number in (1, 2, 3, 5, 6, 7)))
    assert robot(office, crew).step(MORNING) == MOST_PER_CREW


def test_a_crew_the_visitor_drives_is_given_the_nearest_order_and_one_at_a_time(crew: Crew) -> None:
    crew.taken, crew.position = True, (33.05, 34.687)
    office = Office(ready(1), ready(2), ready(4, account="700007"))
    one = robot(office, crew)
    assert [one.step(MORNING), one.step(MORNING)] == [1, 0]
    assert office.orders[order(4)["id"]]["crew"] == "c1"
    assert one.accounts == {order(4)["id"]: "700007"}


def test_some_orders_are_left_for_the_visitor_for_a_while(crew: Crew) -> None:
    one = robot(Office(ready(4)), crew)
    assert one.step(MORNING) == 0
    assert one.step(MORNING + LEFT_FOR_VISITOR) == 1


def test_what_was_refused_is_not_asked_again_at_once(crew: Crew) -> None:
    office = Office(ready(1))
    office.refuse = True
    one = robot(office, crew)
    assert [one.step(MORNING + timedelta(minutes=m)) for m in (0, 5, 10)] == [0, 0, 0]
    assert len(office.seen) == 1


def test_distance_is_metres() -> None:
    assert metres((33.0, 34.7), (33.01, 34.7)) == pytest.approx(915, rel=0.01)
    assert metres((33.0, 34.7), (33.0, 34.71)) == pytest.approx(1109.5, rel=0.01)
