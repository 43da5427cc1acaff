"""Leaks over HTTP: who may see and dismiss what, and questions that have no answer."""

from datetime import UTC, datetime
from decimal import Decimal

from hub import clock
from hub.db import new_id
from hub.models import LeakEvent
from tests import factories
from tests.conftest import Live

AT = datetime(2026, 4, 1, tzinfo=UTC)


def test_an_event_is_shown_listed_and_dismissed(live: Live) -> None:
    with live.database.transaction() as session:
        clock.set_clock(session, business_at=AT, rate=1)
        factories.zone(session)
        event = LeakEvent(
            zone="Z1", kind="burst", onset_at=AT, detected_at=AT, grown_at=AT, size_m3h=Decimal("2.5"),
            low_m3h=Decimal(2), high_m3h=Decimal(3), facts={"z": 7.1},
        )  # fmt: skip
        session.add(event)
        session.flush()
        key = str(event.id)
        crew_id = factories.crew(session).id
    analyst = live.client("analyst")
    (listed,) = analyst.get("/api/v1/leak-events?status=open&zone=Z1").json()["items"]
    assert (listed["id"], listed["limits_95"], listed["facts"]) == (key, [2.0, 3.0], {"z": 7.1})
    assert analyst.get(f"/api/v1/leak-events/{key}").json()["work"] == []
    assert [one["leak_event"] for one in analyst.get("/api/v1/dig-list").json()["items"]] == [key]
    assert analyst.get("/api/v1/loss-ledger").json()["totals"]["repairs"] == 0
    assert analyst.get("/api/v1/survey-plan").json()["zones"][0]["zone"] == "Z1"
    assert analyst.get("/api/v1/mains/ranking").json()["items"] == []

    for path in ("leak-events", "dig-list", "loss-ledger", "customer-leaks", "survey-plan", "mains/ranking"):
        file = analyst.get(f"/api/v1/{path}?format=csv")
        assert (file.status_code, file.headers["content-type"]) == (200, "text/csv; charset=utf-8"), path
    assert key in analyst.get("/api/v1/dig-list?format=csv").text
    assert analyst.get("/api/v1/dig-list?format=exe").status_code == 422
    assert analyst.post(f"/api/v1/leak-events/{key}/dismiss", json={"reason": "x"}).status_code == 403
    dispatcher = live.client("dispatcher")
    assert dispatcher.post(f"/api/v1/leak-events/{key}/dismiss", json={"reason": ""}).status_code == 422
    done = dispatcher.post(f"/api/v1/leak-events/{key}/dismiss", json={"reason": "a \x00 pool"})
    assert (done.status_code, done.json()["status"]) == (200, "dismissed")
    assert dispatcher.post(f"/api/v1/leak-events/{key}/dismiss", json={"reason": "x"}).status_code == 409
    assert analyst.get("/api/v1/dig-list").json()["items"] == []

    crew = live.client("crew", crew_id=crew_id)
    for path in ("leak-events", "dig-list", "loss-ledger", "survey-plan", "mains/ranking"):
        assert crew.get(f"/api/v1/{path}").status_code == 403
    for query in ("status=wishes", "status=%00"):
        assert analyst.get(f"/api/v1/leak-events?{query}").status_code == 422
    assert analyst.get("/api/v1/leak-events?zone=%00").json()["items"] == []
    assert analyst.get("/api/v1/loss-ledger?zone=%F0%9F%92%A7%00").json()["items"] == []
    assert analyst.get("/api/v1/leak-events/x").status_code == 422
    assert analyst.get(f"/api/v1/leak-events/{new_id()}").status_code == 404
    assert dispatcher.post(f"/api/v1/leak-events/{new_id()}/dismiss", json={"reason": "x"}).status_code == 404
