"""The town's billing system: signed both ways, booked once, and a Pay button that tells the hub."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks.webhooks import Webhook

from hub.demo import calendar
from hub.demo.billing_system import BillingSettings, Sender, create_app, create_not_yet
from hub.demo.businesstime import BusinessClock
from hub.demo.ledger import Ledger
from hub.demo.webpages import FrontDoor
from tests.hub.demo.conftest import StandIn

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
NOW = calendar.STORY + timedelta(hours=2)
ACCOUNT = "700007"


def book(*plan: dict[str, Any]) -> dict[str, Any]:
    person = {
        "account": ACCOUNT,
        "service_point": "SP-00002",
        "meter": "LT1",
        "name": "Eleni Markou",
        "phone": "+1",
        "email": "e@l-town.example",
        "address": "2 Bay Lane",
    }
    debt = {"service_point": "SP-00002", "past_due": "131.42", "due_since": "2025-12-05", "notices": [], "holds": []}
    return {"currency": "EUR", "accounts": [person], "debts": {ACCOUNT: debt}, "plan": list(plan), "late_bills": []}


CUT = {
    "at": calendar.utc_text(calendar.STORY),
    "type": "account.delinquent",
    "data": {
        "account": ACCOUNT,
        "service_point": "SP-00002",
        "amount_due": "131.42",
        "stage": "cut",
        "cut_list": "cut-1",
    },
}


def test_the_billing_system_says_when_it_is_not_open_yet(serve: Callable[[Any], str]) -> None:
    door = FrontDoor(create_not_yet("http://hub", "http://tour"))
    url = serve(door)
    early = httpx.get(f"{url}/accounts/1")
    assert (early.status_code, early.headers["retry-after"]) == (503, "2")
    assert "opens in a moment" in early.text
    assert httpx.post(f"{url}/hooks", headers={"webhook-id": "m1"}).status_code == 503
    door.app = FastAPI()
    assert httpx.get(f"{url}/accounts/1").status_code == 404


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "billing.sqlite")
    opened.open_book(book(CUT))
    yield opened
    opened.close()


@pytest.fixture
def settings(door: StandIn) -> BillingSettings:
    return BillingSettings(door.url, SECRET, BusinessClock(datetime.now(UTC), NOW, 1))


@pytest.fixture
def site(ledger: Ledger, settings: BillingSettings, serve: Callable[[FastAPI], str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve(create_app(ledger, settings)), timeout=30) as client:
        yield client


def signed(body: dict[str, Any], message: str | None = None, secret: str = SECRET) -> dict[str, Any]:
    message, at, text = message or f"msg_{uuid.uuid4().hex}", datetime.now(UTC), json.dumps(body)
    headers = {
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, at, text),
    }
    return {"content": text, "headers": headers}


def charge(**more: Any) -> dict[str, Any]:
    data = {
        "account": ACCOUNT,
        "charge": str(uuid.uuid4()),
        "code": "shutoff_trip_fee",
        "quantity": "1",
        "amount": "35.00",
        "currency": "EUR",
        "work_order": str(uuid.uuid4()),
        "number": "WO-2026-000007",
    }
    return {"type": "charge.created", "timestamp": "2026-03-02T08:00:00Z", "data": data | more}


def test_an_invoice_line_is_booked_and_confirmed(site: httpx.Client, ledger: Ledger) -> None:
    body = charge()
    assert site.post("/hooks", **signed(body)).status_code == 204
    [line] = ledger.rows("SELECT * FROM invoice_line")
    assert (line["charge"], line["amount"], line["account"]) == (body["data"]["charge"], "35.00", ACCOUNT)
    [answer] = [json.loads(m["body"]) for m in ledger.waiting()]
    assert answer["type"] == "charge.posted"
    assert answer["data"] == {
        "account": ACCOUNT,
        "charge": body["data"]["charge"],
        "invoice": line["invoice"],
        "seq": 1,
    }


def test_the_same_message_again_books_nothing(site: httpx.Client, ledger: Ledger) -> None:
    again = signed(charge(), "msg_twice")
    assert [site.post("/hooks", **again).status_code for _ in range(3)] == [204, 204, 204]
    assert len(ledger.rows("SELECT * FROM invoice_line")) == 1
    assert ledger.value("SELECT copies FROM received WHERE message = 'msg_twice'") == 3


def test_the_same_charge_under_another_message_books_nothing(site: httpx.Client, ledger: Ledger) -> None:
    body = charge()
    for _ in range(2):
        assert site.post("/hooks", **signed(body)).status_code == 204
    assert len(ledger.rows("SELECT * FROM invoice_line")) == 1


@pytest.mark.parametrize("spoil", ["secret", "body", "missing", "old"])
def test_what_is_not_signed_is_not_believed(site: httpx.Client, ledger: Ledger, spoil: str) -> None:
    request = signed(charge(), secret="whsec_" + "QUJD" * 8 if spoil == "secret" else SECRET)
    if spoil == "body":
        request["content"] = request["content"].replace("35.00", "3.00")
    elif spoil == "missing":
        del request["headers"]["webhook-signature"]
    elif spoil == "old":
        request["headers"]["webhook-timestamp"] = "1700000000"
    assert site.post("/hooks", **request).status_code == 401
    assert ledger.rows("SELECT * FROM received") == []


def test_service_off_and_on_is_shown(site: httpx.Client, ledger: Ledger) -> None:
    for kind, expected in (("service.disconnected", "off"), ("service.restored", "on")):
        site.post("/hooks", **signed({"type": kind, "data": {"account": ACCOUNT}}))
        assert ledger.account(ACCOUNT)["service"] == expected


def test_pay_books_once_and_tells_the_hub(
    site: httpx.Client, ledger: Ledger, settings: BillingSettings, door: StandIn
) -> None:
    ledger.play(NOW)
    assert "Pay" in site.get("/").text
    own = {"origin": str(site.base_url).rstrip("/")}
    assert site.post(f"/accounts/{ACCOUNT}/pay", headers=own).headers["location"] == f"/?paid={ACCOUNT}"
    assert site.post(f"/accounts/{ACCOUNT}/pay", headers=own).headers["location"] == "/"
    with httpx.Client() as client:
        Sender(ledger, settings).send_all(client)
    told = [json.loads(body) for _, body in door.seen]
    assert [message["type"] for message in told] == ["account.delinquent", "account.payment_received"]
    assert [message["data"]["seq"] for message in told] == [1, 2]
    assert told[1]["data"] | {"payment": ""} == {
        "account": ACCOUNT,
        "payment": "",
        "amount": "131.42",
        "past_due": "0.00",
        "to_restore": "0.00",
        "balance": "0.00",
        "paid_at": told[1]["data"]["paid_at"],
        "seq": 2,
    }
    for headers, body in door.seen:
        Webhook(SECRET).verify(body, headers)


def test_another_sites_form_cannot_pay(site: httpx.Client, ledger: Ledger) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
        assert site.post(f"/accounts/{ACCOUNT}/pay", headers=headers).status_code == 403
    assert ledger.account(ACCOUNT)["past_due"] == "131.42"


def test_a_hub_that_is_away_gets_the_message_later_under_the_same_id(
    ledger: Ledger, settings: BillingSettings, door: StandIn
) -> None:
    ledger.play(NOW)
    sender = Sender(ledger, settings)
    door.answers = [503, 429, 202]
    with httpx.Client() as client:
        while ledger.waiting():
            sender.send_all(client)
    assert len({headers["webhook-id"] for headers, _ in door.seen}) == 1
    assert len(door.seen) == 3


def test_a_refused_message_does_not_hold_up_the_others(
    ledger: Ledger, settings: BillingSettings, door: StandIn
) -> None:
    ledger.play(NOW)
    ledger.pay(ACCOUNT, NOW)
    door.answers = [422, 202]
    with httpx.Client() as client:
        Sender(ledger, settings).send_all(client)
    assert [row["state"] for row in ledger.rows("SELECT state FROM outgoing ORDER BY id")] == ["refused", "sent"]


def test_planned_events_happen_once_and_in_time(ledger: Ledger) -> None:
    assert ledger.play(calendar.STORY - timedelta(minutes=1)) == 0
    assert ledger.play(NOW) == 1
    assert ledger.play(NOW) == 0


def test_whoever_paid_is_not_put_on_a_cut_list(ledger: Ledger) -> None:
    ledger.pay(ACCOUNT, NOW)
    ledger.play(NOW)
    assert [m["type"] for m in ledger.waiting()] == ["account.payment_received"]


def test_the_balance_the_hub_asks_for(site: httpx.Client) -> None:
    answer = site.get(f"/balance/{ACCOUNT}").json()
    assert answer | {"as_of": ""} == {"account": ACCOUNT, "past_due": "131.42", "as_of": "", "holds": [], "seq": 0}
    assert site.get("/balance", params={"account": ACCOUNT}).json()["past_due"] == "131.42"
    assert site.get("/balance/none").status_code == 404


def test_a_medical_claim_at_the_door_protects_the_account(site: httpx.Client, ledger: Ledger) -> None:
    site.post("/hooks", **signed({"type": "customer.claimed", "data": {"account": ACCOUNT, "claim": "medical"}}))
    assert ledger.account(ACCOUNT)["holds"] == "medical"
    assert [m["type"] for m in ledger.waiting()] == ["account.hold_placed"]


@pytest.mark.parametrize("path", ["/", "/invoices", "/messages", f"/accounts/{ACCOUNT}", "/accounts/none"])
def test_pages_load_nothing_from_elsewhere(site: httpx.Client, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == (404 if path.endswith("none") else 200)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text.replace('href="http://', "") and "https://" not in answer.text
    assert "style=" not in answer.text and "onclick" not in answer.text


def test_names_are_shown_as_text(site: httpx.Client, ledger: Ledger) -> None:
    ledger.receive("m1", {"type": "<script>alert(1)</script>", "data": {"account": ACCOUNT}}, NOW)
    assert "<script>alert" not in site.get("/messages").text
