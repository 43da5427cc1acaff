"""Outbound messages and the day's reconciliation over HTTP."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text, update

from adapters.billing.signatures import verify
from hub import clock, outbox
from hub.models import DeliveryAttempt, OutboundMessage
from tests import factories

URL = "/api/v1/outbound-messages"


@pytest.fixture
def cities(live):
    """Two billing systems and five messages: a, b, c for city, d, e for county."""
    with live.database.transaction() as session:
        clock.set_clock(session, business_at=datetime(2026, 3, 2, 18, 0, tzinfo=UTC))
        made = {name: factories.source(session, name).id for name in ("city", "county")}
    for number, (name, kind) in enumerate(
        [("city", "a"), ("city", "b"), ("city", "c"), ("county", "d"), ("county", "e")]
    ):
        with live.database.transaction() as session:
            data = {"amount": f"{number + 1}.10", "currency": "USD"}
            outbox.put(session, type=kind, data=data, source_id=made[name])
    return made


def types(answer) -> list[str]:
    return [item["type"] for item in answer.json()["items"]]


def test_the_list_is_newest_first_in_pages(live, cities):
    client = live.client("dispatcher")
    first = client.get(URL, params={"limit": 2})
    assert types(first) == ["e", "d"]
    second = client.get(URL, params={"limit": 3, "cursor": first.json()["next_cursor"]})
    assert types(second) == ["c", "b", "a"]
    assert second.json()["next_cursor"] is None
    item = second.json()["items"][0]
    assert (item["status"], item["source"], item["tries"]) == ("pending", "city", 0)
    assert item["data"]["amount"] == "3.10"


def test_the_list_filters_by_status(live, cities):
    with live.database.transaction() as session:
        session.execute(update(OutboundMessage).where(OutboundMessage.type == "b").values(status="parked", reason="no"))
    client = live.client("supervisor")
    parked = client.get(URL, params={"status": "parked"})
    assert types(parked) == ["b"]
    assert parked.json()["items"][0]["reason"] == "no"
    assert client.get(URL, params={"status": "lost"}).status_code == 422


def test_the_catch_up_feed_is_oldest_first_and_goes_on_after_what_was_seen(live, cities):
    client = live.client("billing", source_id=cities["city"])
    page = client.get(URL, params={"after": "", "limit": 2}).json()
    assert [item["type"] for item in page["items"]] == ["a", "b"]
    assert types(client.get(URL, params={"after": page["next_cursor"]})) == ["c"]
    assert types(client.get(URL, params={"after": page["items"][0]["id"]})) == ["b", "c"]
    last = client.get(URL, params={"after": page["items"][1]["cursor"]}).json()
    assert last["next_cursor"] is None
    assert types(client.get(URL, params={"after": last["items"][0]["cursor"]})) == []


def test_the_feed_never_skips_what_commits_late(live, cities):
    client = live.client("billing")
    seen = client.get(URL, params={"after": ""}).json()["items"][-1]["cursor"]
    with live.database.transaction() as late:
        outbox.put(late, type="late", data={}, source_id=cities["city"])
        with live.database.transaction() as session:
            outbox.put(session, type="early", data={}, source_id=cities["city"])
        assert types(client.get(URL, params={"after": seen})) == []
    assert types(client.get(URL, params={"after": seen})) == ["late", "early"]


@pytest.mark.parametrize("after", ["nonsense", "W10", "WzEsMl0x", "WyJhIiwiYiJd", "W3RydWUsMV0", "Wy0xLDFd"])
def test_a_broken_cursor_is_refused(live, after):
    client = live.client("billing")
    assert client.get(URL, params={"after": after}).status_code in (400, 422)
    assert client.get(URL, params={"cursor": after}).status_code in (400, 422)


def test_an_unknown_message_is_not_found(live):
    client = live.client("billing")
    assert client.get(URL, params={"after": str(uuid4())}).status_code == 404
    assert client.post(f"{URL}/{uuid4()}/replay").status_code == 404


def test_one_message_shows_its_tries(live, cities):
    client = live.client("billing", source_id=cities["city"])
    id_ = client.get(URL, params={"after": ""}).json()["items"][0]["id"]
    with live.database.transaction() as session:
        session.add(DeliveryAttempt(message_id=id_, attempt=1, status_code=503, took_ms=12))
    shown = client.get(f"{URL}/{id_}").json()
    assert (shown["id"], shown["type"]) == (id_, "a")
    assert [(a["status_code"], a["error"], a["took_ms"]) for a in shown["attempts"]] == [(503, None, 12)]
    assert live.client("billing", source_id=cities["county"]).get(f"{URL}/{id_}").status_code == 404
    assert client.get(f"{URL}/{uuid4()}").status_code == 404


def test_replay_needs_the_right_role_and_the_right_source(live, cities):
    admin = live.client("admin")
    message = admin.get(URL, params={"after": ""}).json()["items"][0]["id"]
    assert live.client("dispatcher").post(f"{URL}/{message}/replay").status_code == 403
    assert live.client("analyst").get(URL).status_code == 403
    assert live.client().get(URL).status_code == 401
    assert live.client("billing", source_id=cities["county"]).post(f"{URL}/{message}/replay").status_code == 404
    city = live.client("billing", source_id=cities["city"])
    answer = city.post(f"{URL}/{message}/replay", json={"reason": "lost it"})
    assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (202, "pending", message)


def test_a_day_is_counted_summed_and_signed(live, cities):
    with live.database.transaction() as session:
        session.execute(text("UPDATE outbound_message SET type = 'charge.created' WHERE type IN ('a', 'b', 'd')"))
        session.execute(
            text(
                "UPDATE outbound_message SET type = 'charge.reversed', status = 'delivered',"
                " body = jsonb_set(body, '{data,amount}', '\"-1.10\"') WHERE type = 'c'"
            )
        )
    # 18:00 UTC on the 2nd is the 2nd in Chicago
    answer = live.client("billing", source_id=cities["city"]).get(
        "/api/v1/reconciliation", params={"date": "2026-03-02"}
    )
    assert answer.status_code == 200
    verify([factories.SECRET], answer.headers, answer.content, datetime.now(UTC))
    body = answer.json()
    assert (body["date"], body["source"], body["time_zone"]) == ("2026-03-02", "city", "America/Chicago")
    assert (body["from"], body["to"]) == ("2026-03-02T06:00:00Z", "2026-03-03T06:00:00Z")
    assert (body["count"], body["sum"], body["delivered"]) == (3, {"USD": "2.10"}, 1)
    assert {(m["type"], m["count"], m["delivered"]) for m in body["messages"]} == {
        ("charge.created", 2, 0),
        ("charge.reversed", 1, 1),
    }


def test_an_empty_day_and_one_of_several_sources(live, cities):
    client = live.client("supervisor")
    url = "/api/v1/reconciliation"
    empty = client.get(url, params={"date": str(date(2026, 3, 2) - timedelta(days=30)), "source": "county"})
    assert (empty.json()["count"], empty.json()["sum"], empty.json()["messages"]) == (0, {}, [])
    assert client.get(url, params={"date": "2026-03-02"}).status_code == 422
    assert client.get(url, params={"date": "2026-03-02", "source": "moon"}).status_code == 404
    assert client.get(url, params={"date": "9999-12-31", "source": "city"}).status_code == 422
    assert client.get(url, params={"date": "0001-01-01", "source": "city"}).status_code in (200, 422)
    assert client.get(url, params={"date": "yesterday"}).status_code == 422
    assert live.client("dispatcher").get(url, params={"date": "2026-03-02"}).status_code == 403
