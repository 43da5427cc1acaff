"""Work over HTTP: shapes, revisions, refusals, and what each role may see and do."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from hub import clock
from hub.db import Database
from hub.private.cluster import PrivateCluster
from hub.settings import Settings
from hub.work import orders
from tests import factories
from tests.conftest import Live, ServerThread, copy_of, drop
from tests.hub.work.conftest import TUESDAY, people

ORDER_KEYS = {
    "id", "number", "type", "status", "rev", "account", "service_point", "meter", "zone", "crew", "reference",
    "reasons", "earliest_at", "cancel_requested", "not_before", "due_by", "appointment", "permits", "charges",
}  # fmt: skip


class Desk:
    """A dispatcher's client: opens orders and does verbs with the revision last seen."""

    def __init__(self, live: Live) -> None:
        self.live = live
        with live.database.transaction() as session:
            cast = people(session)
            self.source_id, self.north, self.south = cast.source_id, cast.north.id, cast.south.id
        self.http = live.client("dispatcher")

    def open(self, type: str = "reread", **body: object) -> dict[str, object]:
        """A fresh order at SP1."""
        answer = self.http.post("/api/v1/work-orders", json={"type": type, "service_point": "SP1", **body})
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, object] = answer.json()
        return found

    def get(self, id: object) -> dict[str, object]:
        """The order as the dispatcher sees it."""
        found: dict[str, object] = self.http.get(f"/api/v1/work-orders/{id}").json()
        return found

    def do(self, id: object, verb: str, body: object = None, *, client: httpx.Client | None = None) -> httpx.Response:
        """A verb with the present revision."""
        headers = {"If-Match": f'"{self.get(id)["rev"]}"'}
        return (client or self.http).post(f"/api/v1/work-orders/{id}/{verb}", json=body or {}, headers=headers)


@pytest.fixture(scope="module")
def hub(cluster: PrivateCluster, template: str) -> Iterator[Live]:
    """One server for all tests here; each begins with empty tables."""
    url = copy_of(cluster, template)
    database, settings = Database(url), Settings(database_url=SecretStr(url))
    server = ServerThread(settings, database)
    running = Live(server.started(), database, settings)
    yield running
    running.close()
    server.stop()
    database.dispose()
    drop(cluster, url)


@pytest.fixture
def desk(hub: Live) -> Desk:
    """A dispatcher at work in an empty town."""
    kept = {"alembic_version", "spatial_ref_sys", "hub_epoch"}
    with hub.database.transaction() as session:
        tables = session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        session.execute(text(f"TRUNCATE {', '.join(sorted(set(tables) - kept))} CASCADE"))
    return Desk(hub)


def test_an_order_from_opening_to_its_invoice_line(desk: Desk) -> None:
    made = desk.http.post("/api/v1/work-orders", json={"type": "reread", "account": "A1", "note": "Ring twice"})
    assert made.status_code == 201 and made.headers["etag"] == f'"{made.json()["rev"]}"'
    order = made.json()
    assert ORDER_KEYS | {"timeline"} <= order.keys()
    assert made.headers["location"] == f"/api/v1/work-orders/{order['id']}"
    assert (order["service_point"], order["meter"], order["zone"], order["status"]) == ("SP1", "M1", "Z1", "ready")
    given = desk.do(order["id"], "assign", {"crew": str(desk.north)})
    assert given.status_code == 200 and given.json()["status"] == "assigned"
    assert given.json()["crew"] == str(desk.north) and given.json()["crew_name"] == "North"
    noted = desk.http.post(f"/api/v1/work-orders/{order['number']}/note", json={"text": "Called the customer"})
    assert noted.status_code == 200 and noted.headers["etag"] == given.headers["etag"]
    done = desk.do(
        order["id"],
        "complete",
        {"via": "paper", "at": "2026-03-10T09:59:00Z", "answers": {"code": "confirmed", "reading": {"value": "321.5"}}},
    )
    assert done.status_code == 200 and done.json()["status"] == "completed"
    (charge,) = done.json()["charges"]
    assert (charge["amount"], charge["code"], charge["account"]) == ("25.00", "reread_trip_fee", "A1")
    assert [line["verb"] for line in done.json()["timeline"]] == ["opened", "assigned", "noted", "completed"]
    listed = desk.http.get("/api/v1/charges", params={"from": "2026-03-10", "to": "2026-03-11"}).json()
    assert [line["charge"] for line in listed["items"]] == [charge["charge"]]
    assert desk.http.get("/api/v1/charges", params={"to": "2026-03-10"}).json()["items"] == []


def test_verbs_want_the_revision_that_was_seen(desk: Desk) -> None:
    order = desk.open()
    bodies = {
        "assign": {"crew": "North"},
        "unassign": {},
        "hold": {"reason": "wait"},
        "release": {},
        "cancel": {},
        "reopen": {},
        "complete": {"via": "radio", "answers": {"code": "stopped_meter"}},
        "unable": {"via": "radio", "code": "dog"},
    }
    for verb, body in bodies.items():
        url = f"/api/v1/work-orders/{order['id']}/{verb}"
        assert desk.http.post(url, json=body).status_code == 428, verb
        stale = desk.http.post(url, json=body, headers={"If-Match": '"99"'})
        assert stale.status_code == 412 and stale.json()["current"]["status"] == "ready", verb
        assert desk.http.post(url, json=body, headers={"If-Match": "yesterday"}).status_code == 400, verb


def test_illegal_steps_are_409_with_the_steps_that_are_possible(desk: Desk) -> None:
    order = desk.open()
    for verb, body in (
        ("unassign", {}),
        ("release", {}),
        ("reopen", {}),
        ("complete", {"via": "radio", "answers": {"code": "stopped_meter"}}),
        ("unable", {"via": "radio", "code": "dog"}),
        ("told", {}),
    ):
        refused = desk.do(order["id"], verb, body)
        assert refused.status_code == 409 and refused.json()["type"] == "illegal-transition", verb
        assert refused.headers["content-type"] == "application/problem+json"
    desk.do(order["id"], "cancel", {"reason": "not needed"})
    assert desk.do(order["id"], "assign", {"crew": "North"}).json()["type"] == "illegal-transition"


def test_what_cannot_be_taken_is_named(desk: Desk) -> None:
    order = desk.open()
    for verb, body, status in (
        ("hold", {}, 422),
        ("assign", {"crew": "Nobody"}, 404),
        ("assign", {}, 422),
        ("note", {"text": " "}, 422),
        ("complete", {"via": "pigeon", "answers": {"code": "confirmed"}}, 422),
    ):
        assert desk.do(order["id"], verb, body).status_code == status, (verb, body)
    desk.do(order["id"], "assign", {"crew": "North"})
    rev = desk.get(order["id"])["rev"]
    broken = desk.http.post(
        f"/api/v1/work-orders/{order['id']}/complete",
        content=b'{"via": "radio", "answers": {"code": "\\ud800\\u0000"}}',
        headers={"If-Match": f'"{rev}"', "Content-Type": "application/json"},
    )
    assert broken.status_code == 422 and broken.json()["field"] == "answers.code"
    for params in ({"status": "lost"}, {"bbox": "1,2"}, {"bbox": "nan,0,1,1"}, {"limit": "0"}):
        assert desk.http.get("/api/v1/work-orders", params=params).status_code == 422, params
    assert desk.http.get("/api/v1/work-orders", params={"cursor": "!!"}).status_code == 400
    for path in ("nothing", "WO-2026-999999", str(desk.source_id), "%00"):
        assert desk.http.get(f"/api/v1/work-orders/{path}").status_code == 404, path


@pytest.mark.parametrize("depth", [65, 300, 900, 100_000])
def test_no_depth_of_a_body_makes_the_hub_stumble(desk: Desk, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    order = desk.open()
    desk.do(order["id"], "assign", {"crew": "North"})
    for path, body in (
        (f"work-orders/{order['id']}/complete", b'{"answers": {"code": "confirmed", "more": %s}}'),
        ("crews", b'{"name": "East", "shifts": [{"a": %s}]}'),
    ):
        headers = {"If-Match": "*", "Content-Type": "application/json"}
        answer = desk.http.post(f"/api/v1/{path}", content=body % nested, headers=headers)
        assert answer.status_code in (400, 422), (path, answer.status_code)


def test_whole_numbers_beyond_64_bits_are_refused(desk: Desk) -> None:
    for shifts in ([{"a": 2**63}], [{"a": [-(2**63) - 1]}]):
        refused = desk.http.post("/api/v1/crews", json={"name": "East", "shifts": shifts})
        assert (refused.status_code, "too large" in refused.json()["detail"]) == (422, True)
    assert desk.http.post("/api/v1/crews", json={"name": "East", "shifts": [{"a": 2**63 - 1}]}).status_code == 201


def test_bodies_may_be_spelled_in_several_ways(desk: Desk) -> None:
    placed = desk.http.post("/api/v1/work-orders", json={"type": "reread", "position": {"lon": 0.25, "lat": 0.25}})
    assert placed.status_code == 201 and placed.json()["position"] == [0.25, 0.25]
    order = desk.open()
    held = desk.do(order["id"], "hold", {"reasons": ["wait"], "until": "2026-03-12T00:00:00Z"}).json()
    assert (held["reasons"][0]["text"], held["earliest_at"]) == ("wait", "2026-03-12T00:00:00Z")
    desk.do(order["id"], "release")
    desk.do(order["id"], "assign", {"crew_id": str(desk.north)})
    told = {
        "via": "radio",
        "observed_at": "2026-03-10T09:00:00Z",
        "answers": {"code": "wrong_address", "remark": "no 12"},
    }
    ended = desk.do(order["id"], "unable", told).json()
    assert ended["status"] == "unable" and ended["completion"]["answers"]["remark"] == "no 12"


def test_lists_are_narrowed_and_paged(desk: Desk) -> None:
    first = desk.open()
    second = desk.open("move_in", service_point="SP2", account="A2", reference="R-7")
    desk.do(first["id"], "assign", {"crew": "North"})

    def numbers(**params: object) -> list[object]:
        answer = desk.http.get("/api/v1/work-orders", params={k: str(v) for k, v in params.items()}).json()
        return [item["number"] for item in answer["items"]]

    one, two = first["number"], second["number"]
    assert numbers() == [two, one]
    assert numbers(status="assigned") == [one] and numbers(status="ready,assigned") == [two, one]
    assert numbers(status="open") == [two, one] and numbers(type="move_in") == [two]
    assert numbers(zone="Z1") == [two, one] and numbers(zone="Z9") == []
    assert numbers(crew=desk.north) == [one] and numbers(crew="North") == [one] and numbers(crew="none") == [two]
    assert numbers(account="A2") == [two] and numbers(q="R-7") == [two] and numbers(q="SP2 Main") == [two]
    assert numbers(q="50%") == [] and numbers(bbox="0.55,0,1,1") == [two] and numbers(bbox="2,2,3,3") == []
    page = desk.http.get("/api/v1/work-orders", params={"limit": 1}).json()
    rest = desk.http.get("/api/v1/work-orders", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [i["number"] for i in page["items"] + rest["items"]] == [two, one] and rest["next_cursor"] is None
    assert page["items"][0].keys() >= ORDER_KEYS


def test_a_list_costs_the_same_however_long_it_is(desk: Desk) -> None:
    counted: list[str] = []

    def statements() -> int:
        counted.clear()
        assert desk.http.get("/api/v1/work-orders").status_code == 200
        return len(counted)

    def note(*executed: object) -> None:
        # listeners of what was opened before are woken by a thread of its own, in its own time
        if "pg_notify" not in str(executed[2]):
            counted.append(str(executed[2]))

    event.listen(desk.live.database.engine, "before_cursor_execute", note)
    desk.open()
    few = statements()
    with desk.live.database.transaction() as session:
        for number in range(20):
            factories.service_point(session, f"N{number}", zone="Z1")
            orders.open_order(session, type="reread", by="test", service_point=f"N{number}")
    many = statements()
    event.remove(desk.live.database.engine, "before_cursor_execute", note)
    assert many == few


def test_bulk_assignment_answers_item_by_item(desk: Desk) -> None:
    one, two = desk.open(), desk.open("move_in", service_point="SP2")
    desk.do(two["id"], "hold", {"reason": "wait"})
    answer = desk.http.post(
        "/api/v1/work-orders/bulk-assign",
        json={
            "crew": str(desk.north),
            "items": [{"id": one["id"], "rev": one["rev"]}, {"id": two["id"], "rev": 1}, {"id": "WO-0", "rev": 1}],
        },
    )
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [i["result"] for i in items] == ["applied", "refused", "refused"]
    assert items[0]["status"] == "assigned" and items[0]["rev"] == desk.get(one["id"])["rev"]
    assert [i["problem"] and i["problem"]["status"] for i in items] == [None, 412, 404]


def test_an_order_named_twice_or_a_day_that_is_none_is_refused(desk: Desk) -> None:
    order = desk.open()
    items = [{"id": order["id"], "rev": 1}, {"id": order["number"], "rev": 1}]
    twice = desk.http.post("/api/v1/work-orders/bulk-assign", json={"crew": "North", "items": items})
    assert twice.status_code == 422 and desk.get(order["id"])["status"] == "ready"
    for days in ({"from": "0001-01-01"}, {"to": "9999-12-31"}, {"from": "2026-03-10", "to": "2026-03-10"}):
        assert desk.http.get("/api/v1/charges", params=days).status_code == 422, days


def test_who_may_do_what(desk: Desk) -> None:
    order = desk.open()
    assign = ("assign", {"crew": "North"})
    complete = ("complete", {"via": "radio", "answers": {"code": "stopped_meter"}})
    for role, verb, status in (
        ("crew", assign, 403),
        ("billing", assign, 403),
        ("analyst", assign, 403),
        ("admin", complete, 403),
        ("billing", complete, 403),
    ):
        client = desk.live.client(role, crew_id=desk.north if role == "crew" else None)
        assert desk.do(order["id"], verb[0], verb[1], client=client).status_code == status, (role, verb)
    assert desk.live.client().get("/api/v1/work-orders").status_code == 401


def test_a_hold_that_protects_needs_a_supervisor_who_did_not_place_it(desk: Desk) -> None:
    order = desk.open()
    assert desk.do(order["id"], "hold", {"reason": "oxygen at home", "code": "medical"}).status_code == 200
    assert desk.do(order["id"], "release").status_code == 403
    assert desk.do(order["id"], "release", client=desk.live.client("supervisor")).json()["status"] == "ready"


def test_a_crew_sees_its_own_orders_and_no_more_of_them_than_it_needs(desk: Desk) -> None:
    order = desk.open("move_in", amount_due="90.00")
    north, south = desk.live.client("crew", crew_id=desk.north), desk.live.client("crew", crew_id=desk.south)
    path = f"/api/v1/work-orders/{order['id']}"
    assert north.get(path).status_code == 404 and north.get("/api/v1/work-orders").json()["items"] == []
    desk.do(order["id"], "assign", {"crew": "North"})
    mine = north.get(path).json()
    assert mine["customer"] == "Customer A1" and "amount_due" not in mine and "balance_band" not in mine
    assert south.get(path).status_code == 404
    assert [i["id"] for i in north.get("/api/v1/work-orders").json()["items"]] == [order["id"]]
    desk.do(order["id"], "complete", {"via": "paper", "answers": {"code": "on", "reading": {"value": "1"}}})
    after = north.get(path).json()
    assert "customer" not in after and "phone" not in after
    with desk.live.database.transaction() as session:
        clock.set_clock(session, business_at=TUESDAY + timedelta(hours=49))
    assert north.get(path).status_code == 404


def test_billing_and_analysts_see_less(desk: Desk) -> None:
    with desk.live.database.transaction() as session:
        order = orders.open_order(
            session,
            type="reread",
            by="billing:city",
            account="A1",
            service_point="SP1",
            source_id=desk.source_id,
            note="Mrs Miller, 555 0100",
        ).order
    hand = desk.open("move_in", service_point="SP2", account="A2", amount_due="90.00")
    desk.do(order.id, "assign", {"crew": "North"})
    desk.do(
        order.id,
        "complete",
        {
            "via": "radio",
            "position": {"lat": 1.0, "lon": 2.0},
            "answers": {"code": "stopped_meter", "remark": "Mr Miller"},
        },
    )
    billing = desk.live.client("billing", source_id=desk.source_id)
    path = f"/api/v1/work-orders/{order.id}"
    seen = billing.get(path)
    assert seen.status_code == 200 and "North" not in seen.text and str(desk.north) not in seen.text
    assert "position" not in seen.json()["completion"]
    assert billing.get(f"/api/v1/work-orders/{hand['id']}").status_code == 404
    assert [i["id"] for i in billing.get("/api/v1/work-orders").json()["items"]] == [str(order.id)]
    with desk.live.database.transaction() as session:
        stranger = factories.source(session, "other").id
    assert desk.live.client("billing", source_id=stranger).get(path).status_code == 404
    reduced = desk.live.client("analyst").get(path)
    for secret in ("Customer A1", "+15550100", "Miller", "North", "12 Main"):
        assert secret not in reduced.text, secret
    assert reduced.json()["address"] == "Main Street"
    assert desk.get(hand["id"])["balance_band"] == "50 to 200" and "amount_due" not in desk.get(hand["id"])


def test_work_types_and_crews(desk: Desk) -> None:
    types = {item["type"]: item for item in desk.http.get("/api/v1/work-types").json()["items"]}
    assert {"shutoff", "reconnect", "reread", "move_in", "move_out"} <= types.keys()
    form = desk.http.get("/api/v1/work-types/shutoff").json()["form"]
    assert {"code", "reading", "meter_serial", "valve_before", "valve_after", "remark"} <= form["properties"].keys()
    assert desk.http.get("/api/v1/work-types/dance").status_code == 404
    made = desk.http.post("/api/v1/crews", json={"name": "West", "phone": "+1 555 0103", "skills": ["valve"]})
    assert made.status_code == 201 and UUID(made.json()["id"])
    assert desk.http.get(f"/api/v1/crews/{made.json()['id']}").json()["name"] == "West"
    assert desk.http.post("/api/v1/crews", json={"name": "West"}).status_code == 409
    assert desk.http.post("/api/v1/crews", json={"name": " "}).status_code == 422
    changed = desk.http.patch("/api/v1/crews/West", json={"active": False}).json()
    assert (changed["active"], changed["phone"]) == (False, "+1 555 0103")
    order = desk.open()
    assert desk.do(order["id"], "assign", {"crew": "West"}).status_code == 409
    names = [crew["name"] for crew in desk.http.get("/api/v1/crews").json()["items"]]
    assert names == ["North", "South", "West"]
    assert desk.live.client("analyst").get("/api/v1/crews").status_code == 403


def test_the_crew_that_lost_an_order_is_to_be_called_until_it_knows(desk: Desk) -> None:
    order = desk.open()
    desk.do(order["id"], "assign", {"crew": "North"})
    gone = desk.do(order["id"], "cancel", {"reason": "not needed"}).json()
    assert gone["status"] == "cancelled" and gone["crew_phone"] == "+15550199" and gone["crew"] is None
    told = desk.do(order["id"], "told").json()
    assert told["crew_phone"] is None and told["withdrawal"]["told"] == "radio"


def test_a_person_settles_what_no_rule_can(desk: Desk) -> None:
    order = desk.open()
    desk.do(order["id"], "assign", {"crew": "North"})
    desk.do(order["id"], "cancel", {"reason": "not needed"})
    late = desk.do(order["id"], "complete", {"via": "paper", "answers": {"code": "stopped_meter"}})
    assert late.status_code == 200 and late.json()["status"] == "cancelled"
    (waiting,) = desk.http.get("/api/v1/exceptions").json()["items"]
    assert (waiting["kind"], waiting["ours"]["status"], waiting["theirs"]["code"]) == (
        "late_report",
        "cancelled",
        "stopped_meter",
    )
    path = f"/api/v1/exceptions/{waiting['id']}/resolve"
    assert desk.http.post(path, json={"text": " "}).status_code == 422
    assert (
        desk.http.post(path, json={"text": "Paid the crew all the same"})
        .json()["resolution"]["text"]
        .startswith("Paid")
    )
    assert desk.http.post(path, json={"text": "again"}).status_code == 409
    assert desk.http.get("/api/v1/exceptions").json()["items"] == []
    assert len(desk.http.get("/api/v1/exceptions", params={"status": "all"}).json()["items"]) == 1
    assert desk.http.post(f"/api/v1/exceptions/{order['id']}/resolve", json={"text": "x"}).status_code == 404


def test_a_repeated_request_gets_the_first_answer_again(desk: Desk) -> None:
    path, body, key = "/api/v1/work-orders", {"type": "reread", "service_point": "SP1"}, {"Idempotency-Key": '"k-1"'}
    first = desk.http.post(path, json=body, headers=key)
    again = desk.http.post(path, json=body, headers={"Idempotency-Key": "k-1"})
    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert again.headers["etag"] == first.headers["etag"]
    assert desk.get(first.json()["id"])["rev"] == first.json()["rev"]
    other = desk.http.post(path, json={**body, "note": "x"}, headers=key)
    assert other.status_code == 422 and other.json()["type"] == "idempotency-key-reused"
    for bad in ("", '""', "x" * 256):
        assert desk.http.post(path, json=body, headers={"Idempotency-Key": bad}).status_code == 400
    cancel, match = f"{path}/{first.json()['id']}/cancel", {"If-Match": first.headers["etag"], "Idempotency-Key": "k-1"}
    assert desk.http.post(cancel, json={}, headers={"If-Match": '"99"', "Idempotency-Key": "k-1"}).status_code == 412
    assert desk.http.post(cancel, json={}, headers=match).json()["status"] == "cancelled"
    assert desk.http.post(cancel, json={}, headers=match).headers["idempotent-replayed"] == "true"
    stranger = desk.live.client("dispatcher").post(path, json=body, headers=key)
    assert stranger.status_code == 201 and stranger.json()["id"] != first.json()["id"]
