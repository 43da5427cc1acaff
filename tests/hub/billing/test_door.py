"""The webhook door and the inbox over HTTP, on a real server."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import func, select, update

from adapters.billing.signatures import new_secret
from hub.billing import inbox
from hub.db import Database
from hub.models import BillingEvent, BillingSource
from hub.settings import Settings
from tests import factories
from tests.conftest import Live
from tests.hub.billing.conftest import NOW, delinquent, event, populate, signed

DOOR = "/webhooks/billing/city"
Post = Callable[..., httpx.Response]


@pytest.fixture
def live_settings(database: Database) -> Settings:
    """A rate that only the test of the rate reaches."""
    return Settings(database_url=database.url, time_zone="America/Chicago", webhook_rate=100_000)


@pytest.fixture
def post(live: Live) -> Iterator[Post]:
    """Post a body to the door, signed unless headers are given."""
    with live.database.transaction() as session:
        populate(session)
    client = live.client()

    def send(body: bytes, headers: dict[str, str] | None = None, *, door: str = DOOR, **more: Any) -> httpx.Response:
        return client.post(door, content=body, headers=signed(body, **more) if headers is None else headers)

    yield send


def rows(live: Live) -> list[BillingEvent]:
    """Everything in the inbox."""
    with live.database.transaction() as session:
        return list(session.scalars(select(BillingEvent).order_by(BillingEvent.received_seq)))


def test_202_then_200_then_409(live: Live, post: Post) -> None:
    first = post(delinquent(), webhook_id="msg_1")
    assert first.status_code == 202
    assert set(first.json()) == {"event_id"}
    again = post(delinquent(), webhook_id="msg_1")
    assert (again.status_code, again.json()) == (200, first.json())
    other = post(delinquent(amount="1.00"), webhook_id="msg_1")
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
    assert [row.status for row in rows(live)] == ["pending"]
    assert bytes(rows(live)[0].body) == delinquent()


def test_401_for_every_doubt_about_the_sender(live: Live, post: Post) -> None:
    body = delinquent()
    good = signed(body)
    old = (datetime.now(UTC) - timedelta(minutes=6)).replace(microsecond=0)
    for headers in (
        {},
        {**good, "webhook-signature": "v1," + base64.b64encode(b"x" * 32).decode()},
        {**good, "webhook-id": "another"},
        {name: value for name, value in good.items() if name != "webhook-timestamp"},
        signed(body, at=old),
        signed(body, secret=new_secret()),
        signed(body + b" "),
    ):
        answer = post(body, headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
    assert rows(live) == []


def test_checks_run_in_their_order(live: Live, post: Post) -> None:
    large = b"[" + b"1," * 5_000_001 + b"1]"
    assert post(large, {}, door="/webhooks/billing/nobody").status_code == 413
    assert post(b"no json", {}, door="/webhooks/billing/nobody").status_code == 404
    assert post(b"no json", {}).status_code == 401
    assert post(b"no json", webhook_id="m").status_code == 422
    assert post(b"no json", webhook_id="m").status_code == 200
    assert post(b"still no json", webhook_id="m").status_code == 409
    assert [(row.status, bytes(row.body)) for row in rows(live)] == [("parked", b"no json")]


def test_ten_megabytes_are_taken(post: Post) -> None:
    body = event("account.delinquency_cleared", reason="x" * 9_999_000)
    assert len(body) < 10_000_000
    assert post(body).status_code == 202


def test_what_cannot_be_understood_is_taken_and_parked(live: Live, post: Post) -> None:
    bodies = [
        event("meter.dance"),
        event("account.delinquent", account=None),
        event("account.payment_received", amount="1.00"),
        json.dumps({"type": "account.hold_placed", "data": {"account": "A1", "hold": "medical"}}).encode(),
        b"[]",
        b"null",
        event("account.hold_placed", hold="medical").replace(b"A1", b"A\\u0000"),
        event("account.hold_placed", hold="\ud800"),
    ]
    for body in bodies:
        assert post(body).status_code == 202, body
    assert {row.status for row in rows(live)} == {"parked"}
    assert all(row.reason for row in rows(live))


def test_odd_text_is_kept_and_applied(live: Live, post: Post) -> None:
    body = event("account.delinquency_cleared", reason="a\x00b\ud800c")
    assert post(body).status_code == 202
    inbox.process_pending(live.database)
    (row,) = rows(live)
    assert (row.status, bytes(row.body)) == ("applied", body)
    answer = live.client("supervisor").get(f"/api/v1/billing-events/{row.id}")
    assert answer.status_code == 200


def test_cloudevents_in_structured_mode(live: Live, post: Post) -> None:
    inner = json.loads(delinquent())
    envelope = {
        "specversion": "1.0",
        "id": "ce-1",
        "source": "/billing",
        "type": inner["type"],
        "time": inner["timestamp"],
        "datacontenttype": "application/json",
        "data": inner["data"],
    }
    body = json.dumps(envelope).encode()
    headers = signed(body) | {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert post(body, headers).status_code == 202
    assert post(json.dumps(envelope | {"time": "yesterday"}).encode()).status_code == 422
    assert post(json.dumps(envelope | {"MyExt": "x"}).encode()).status_code == 422
    bare = json.dumps(inner["data"]).encode()
    binary = signed(bare) | {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/b", "ce-type": inner["type"]}
    refused = post(bare, binary)
    assert (refused.status_code, "structured" in refused.json()["remedy"]) == (422, True)
    assert post(json.dumps(inner).encode(), signed(json.dumps(inner).encode()) | {"ce-id": "1"}).status_code == 202
    inbox.process_pending(live.database)
    assert [row.status for row in rows(live)] == ["applied", "parked", "parked", "parked", "superseded"]


def test_two_secrets_during_a_rotation(live: Live, post: Post) -> None:
    newer = new_secret()
    with live.database.transaction() as session:
        session.execute(update(BillingSource).values(secrets=[newer, factories.SECRET]))
    assert post(delinquent(), secret=newer).status_code == 202
    assert post(delinquent()).status_code == 202


def test_one_message_sent_many_times_at_once_is_one_row(live: Live, post: Post) -> None:
    body = delinquent()
    headers = signed(body)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(body, headers), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    assert len(rows(live)) == 1


def test_the_rate_of_a_source_is_limited(live: Live, post: Post) -> None:
    live.settings.webhook_rate = 3
    bodies = [event("source.heartbeat", account=None, as_of=f"2026-11-16T0{n % 10}:00:00Z") for n in range(60)]
    answers = [post(body) for body in bodies]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused, "sixty messages at once are more than three a second"
    assert refused[0].headers["retry-after"] == "1"
    assert {answer.status_code for answer in answers} == {202, 429}
    with live.database.transaction() as session:
        kept = session.scalar(select(func.count()).select_from(BillingEvent))
    assert kept == len(answers) - len(refused)


def test_no_json_text_makes_the_door_stumble(live: Live, post: Post, samples: Path) -> None:
    suite = samples / "reliability" / "json_parsing_suite.jsonl"
    for line in suite.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        body = (
            base64.b64decode(case["body_b64"])
            if "body_b64" in case
            else base64.b64decode(case["repeat_b64"]) * case["times"] + base64.b64decode(case["then_b64"])
        )
        status = post(body).status_code
        # Of two values for one key nobody can say which is meant.
        allowed = {"must_reject": {422}, "must_parse": {422} if "duplicated_key" in case["name"] else {202}}
        assert status in allowed.get(case["expect"], {202, 422}), case["name"]
    assert all(row.status == "parked" for row in rows(live))


def test_naughty_strings_through_door_inbox_and_pages(live: Live, post: Post, samples: Path) -> None:
    listed = json.loads((samples / "reliability" / "naughty_strings_public.json").read_text(encoding="utf-8"))
    texts = [base64.b64decode(entry).decode("utf-8", "replace") for entry in listed["strings"][::12]]
    for n, naughty in enumerate(texts):
        body = event("service.cancelled", at=NOW + timedelta(seconds=n), reference=naughty[:100], reason=naughty)
        assert post(body).status_code == 202
    inbox.process_pending(live.database, most=10_000)
    found = rows(live)
    assert {row.status for row in found} <= {"applied", "parked"}
    assert all(row.attempts == 1 for row in found if row.status == "applied")
    client = live.client("supervisor")
    assert client.get("/api/v1/accounts/A1").status_code == 200
    assert client.get("/api/v1/billing-events?limit=1000").status_code == 200
    for naughty in filter(None, texts):
        for path in ("accounts", "service-points", "billing-events"):
            assert client.get(f"/api/v1/{path}/{quote(naughty, safe='')}").status_code < 500


# ---------------------------------------------------------------------------------------------------- over the API


def test_the_inbox_over_http(live: Live, post: Post) -> None:
    event_id = post(event("meter.dance")).json()["event_id"]
    post(delinquent())
    client = live.client("supervisor")
    parked = client.get("/api/v1/billing-events", params={"status": "parked"}).json()
    assert [item["id"] for item in parked["items"]] == [event_id]
    shown = client.get(f"/api/v1/billing-events/{event_id}").json()
    assert (shown["type"], shown["account"], shown["status"]) == ("meter.dance", "A1", "parked")
    assert json.loads(shown["body"])["type"] == "meter.dance"
    page = client.get("/api/v1/billing-events", params={"limit": 1}).json()
    rest = client.get("/api/v1/billing-events", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [item["type"] for item in page["items"] + rest["items"]] == ["account.delinquent", "meter.dance"]
    assert client.post(f"/api/v1/billing-events/{event_id}/retry").json()["status"] == "pending"
    assert client.post(f"/api/v1/billing-events/{event_id}/retry").status_code == 409
    inbox.process_pending(live.database)
    assert client.get(f"/api/v1/billing-events/{event_id}").json()["status"] == "parked"
    dismissed = client.post(f"/api/v1/billing-events/{event_id}/dismiss", json={"reason": "not for us"}).json()
    assert dismissed["status"] == "superseded"
    assert client.get("/api/v1/billing-events", params={"status": "lost"}).status_code == 422
    assert client.get("/api/v1/billing-events/no-such-id").status_code == 422
    assert live.client("dispatcher").get(f"/api/v1/billing-events/{event_id}").json().get("body") is None
    assert live.client("dispatcher").post(f"/api/v1/billing-events/{event_id}/retry").status_code == 403
    assert live.client("crew", crew_id=_crew(live)).get("/api/v1/billing-events").status_code == 403


def _crew(live: Live) -> Any:
    from hub.models import Crew

    with live.database.transaction() as session:
        return session.scalars(select(Crew.id)).one()


def test_a_billing_system_sees_its_own_events_only(live: Live, post: Post) -> None:
    event_id = post(delinquent()).json()["event_id"]
    with live.database.transaction() as session:
        other = factories.source(session, "district").id
        mine = session.scalars(select(BillingSource.id).where(BillingSource.name == "city")).one()
    stranger, owner = live.client("billing", source_id=other), live.client("billing", source_id=mine)
    assert stranger.get("/api/v1/billing-events").json()["items"] == []
    assert stranger.get(f"/api/v1/billing-events/{event_id}").status_code == 404
    assert stranger.get("/api/v1/accounts/A1").status_code == 404
    assert owner.get(f"/api/v1/billing-events/{event_id}").status_code == 200
    assert owner.get("/api/v1/accounts/A1").status_code == 200


def test_account_and_place_by_role(live: Live, post: Post) -> None:
    post(delinquent())
    inbox.process_pending(live.database)
    account = live.client("supervisor").get("/api/v1/accounts/A1").json()
    assert account["customer"]["name"] == "Customer A1"
    assert account["facts"]["past_due"] == "120.00"
    assert [order["type"] for order in account["open_orders"]] == ["shutoff"]
    assert [told["type"] for told in account["events"]] == ["account.delinquent"]
    assert account["places"][0]["service_point"] == "SP1"
    assert live.client("dispatcher").get("/api/v1/accounts/A1").json()["facts"]["past_due"] == "50 to 200"
    reduced = live.client("analyst").get("/api/v1/accounts/A1").json()
    assert "Customer A1" not in json.dumps(reduced) and "+15550100" not in json.dumps(reduced)
    place = live.client("supervisor").get("/api/v1/service-points/SP1").json()
    assert (place["valve"]["state"], place["zone"], place["address"]) == ("open", "Z1", "SP1 Main Street")
    assert [resident["account"] for resident in place["residents"]] == ["A1"]
    assert [meter["serial"] for meter in place["meters"]] == ["M-SP1"]
    assert place["timeline"]
    assert "Main Street" not in json.dumps(live.client("analyst").get("/api/v1/service-points/SP1").json()["meters"])
    client = live.client("supervisor")
    assert client.get("/api/v1/accounts/none").status_code == 404
    assert client.get("/api/v1/service-points/none").status_code == 404
    assert live.client("crew", crew_id=_crew(live)).get("/api/v1/accounts/A1").status_code == 403
    assert live.client().get("/api/v1/accounts/A1").status_code == 401


def test_keys_of_the_utility_may_hold_slashes_and_other_signs(live: Live, post: Post) -> None:
    key = "12/4 b#1?"
    with live.database.transaction() as session:
        factories.service_point(session, key, zone="Z1", lon=0.7)
        factories.account(session, key, at=key)
    client = live.client("supervisor")
    spelled = quote(key, safe="")
    assert client.get(f"/api/v1/accounts/{spelled}").json()["places"][0]["service_point"] == key
    assert client.get(f"/api/v1/service-points/{spelled}").json()["residents"][0]["account"] == key
    assert client.get("/api/v1/service-points/no/such").status_code == 404


def test_sources_never_show_their_secrets(live: Live, post: Post) -> None:
    post(delinquent())
    answer = live.client("admin").get("/api/v1/sources")
    assert [source["name"] for source in answer.json()["items"]] == ["city"]
    assert factories.SECRET not in answer.text
    assert live.client("billing").get("/api/v1/sources").status_code == 403


def test_no_message_is_lost_between_the_door_and_its_outcome(live: Live, post: Post) -> None:
    sent = {post(delinquent(at=NOW + timedelta(seconds=n))).json()["event_id"] for n in range(20)}
    inbox.process_pending(live.database)
    found = rows(live)
    assert {str(row.id) for row in found} == sent
    assert {row.status for row in found} == {"applied", "joined"}
