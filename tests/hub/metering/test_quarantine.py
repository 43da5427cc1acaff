"""What people say of readings that were put aside: dismissed with a reason, opened again, read again all the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.conftest import Live

NOBODY = "01900000-0000-7000-8000-000000000000"


def sent(http: httpx.Client, *values: Any, device: str = "D1", **more: Any) -> None:
    """One message per value, an hour apart, some days ago."""
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
    for number, value in enumerate(values):
        at = (begin + timedelta(hours=number)).isoformat()
        item = {"device": device, "value": value, "unit": "m3", "measured_at": at} | more
        assert http.post("/api/v1/readings", json={"readings": [item]}).status_code == 200


def entries(http: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/api/v1/quarantine", params=asked).json()["items"]
    return found


@pytest.fixture
def http(live: Live) -> httpx.Client:
    """A dispatcher's client; D1 and D2 report M1 and M2."""
    client = live.client("dispatcher")
    for number in (1, 2):
        assert client.post("/api/v1/devices", json={"device": f"D{number}", "meter": f"M{number}"}).status_code == 201
    return client


def test_a_dismissed_entry_stays_with_who_when_and_why_and_can_be_opened_again(live: Live, http: httpx.Client) -> None:
    sent(http, -1)
    (entry,) = entries(http)
    path = f"/api/v1/quarantine/{entry['id']}"
    for nothing in ({}, {"why": " "}, {"why": ""}, {"why": "x", "other": 1}):
        assert http.post(f"{path}/dismiss", json=nothing).status_code == 422, nothing
    gone = http.post(f"{path}/dismiss", json={"why": "the fitter's \u0000 test"}).json()
    assert (gone["status"], gone["resolution"], gone["note"]) == ("resolved", "dismissed", "the fitter's \ufffd test")
    assert (gone["resolved_by"], gone["resolved_at"] is None) == ("token:test dispatcher", False)
    assert http.post(f"{path}/dismiss", json={"why": "again"}).status_code == 409
    listed = http.get("/api/v1/quarantine").json()
    assert (listed["items"], listed["counts"], listed["dismissed"]) == ([], {}, {"negative_value": 1})
    (shown,) = entries(http, state="dismissed")
    assert shown["id"] == entry["id"] and entries(http, resolved=True) == [shown]

    back = http.post(f"{path}/reopen").json()
    assert (back["status"], back["note"], back["resolved_by"]) == ("open", None, None)
    assert http.post(f"{path}/reopen").status_code == 409
    assert http.post(f"/api/v1/quarantine/{NOBODY}/reopen").status_code == 404
    assert http.post(f"/api/v1/quarantine/{NOBODY}/dismiss", json={"why": "x"}).status_code == 404
    with live.database.transaction() as session:
        told = session.execute(
            text("SELECT verb, actor, detail ->> 'why' FROM change WHERE subject_type = 'quarantine' ORDER BY cursor")
        ).all()
    why = "the fitter's \ufffd test"
    assert [tuple(line) for line in told] == [
        ("quarantine_dismissed", "token:test dispatcher", why),
        ("quarantine_reopened", "token:test dispatcher", why),
    ]


def test_dismissing_all_of_a_kind_hides_nothing_that_came_unseen_or_comes_later(http: httpx.Client) -> None:
    sent(http, -1, -2)
    sent(http, -3, device="d2")
    seen = entries(http, reason="negative_value", device="D1")
    sent(http, -9, register="volume")
    told = {"reason": "negative_value", "device": "d1", "why": "a mounting test", "up_to": seen[0]["id"]}
    done = http.post("/api/v1/quarantine/dismiss", json=told).json()
    assert done["dismissed"] == 2
    sent(http, -1)
    assert sorted(one["value"] for one in entries(http)) == ["-1", "-3", "-9"]
    assert http.get("/api/v1/quarantine?device=D2").json()["counts"] == {"negative_value": 1}
    rest = http.post("/api/v1/quarantine/dismiss", json={"device": "D1", "why": "all the same"}).json()
    assert rest["dismissed"] == 2

    at = {"reason": "negative_value", "dismissed_at": done["dismissed_at"]}
    assert http.post("/api/v1/quarantine/reopen", json=at).json() == {"reopened": 2}
    assert sorted(one["value"] for one in entries(http)) == ["-1", "-2", "-3"]
    assert http.post("/api/v1/quarantine/reopen", json={"device": "D1"}).json() == {"reopened": 2}
    for path in ("dismiss", "reopen", "replay"):
        answer = http.post(f"/api/v1/quarantine/{path}", json={"why": "x"} if path == "dismiss" else {})
        assert (answer.status_code, answer.json()["field"]) == (422, "reason"), path
    strange = {"reason": "negative_value", "dismissed_at": "9999-12-31T23:59:59-14:00"}
    assert http.post("/api/v1/quarantine/reopen", json=strange).status_code == 422


def test_a_dismissed_entry_can_be_read_again_and_stays_dismissed_while_it_holds(http: httpx.Client) -> None:
    sent(http, 7, 8, register="low")
    for entry in entries(http):
        http.post(f"/api/v1/quarantine/{entry['id']}/dismiss", json={"why": "no such dial"})
    first, second = entries(http, state="dismissed")
    again = http.post(f"/api/v1/quarantine/{first['id']}/replay").json()
    assert (again["resolution"], again["note"], again["stored"]) == ("dismissed", "no such dial", 0)
    assert entries(http) == []

    assert http.post("/api/v1/devices", json={"device": "D9", "meter": "M1", "register": "low"}).status_code == 201
    assert http.post("/api/v1/devices", json={"device": "D1", "meter": "M1", "register": "low"}).status_code == 201
    booked = http.post(f"/api/v1/quarantine/{second['id']}/replay").json()
    assert (booked["resolution"], booked["note"], booked["stored"]) == ("replayed", None, 1)


def test_a_dismissed_entry_that_is_put_aside_for_another_reason_is_a_new_one(live: Live, http: httpx.Client) -> None:
    sent(http, 7, register="low")
    (entry,) = entries(http)
    http.post(f"/api/v1/quarantine/{entry['id']}/dismiss", json={"why": "no such dial"})
    with live.database.transaction() as session:
        session.execute(text("UPDATE device SET valid_from = now() WHERE device = 'd1'"))
    assert http.post(f"/api/v1/quarantine/{entry['id']}/replay").json()["resolution"] == "dismissed"
    (new,) = entries(http)
    assert (new["reason"], new["value"]) == ("outside_validity", "7")


def test_an_entry_whose_message_is_gone_is_dismissed_and_not_read_again(live: Live, http: httpx.Client) -> None:
    sent(http, -1)
    with live.database.transaction() as session:
        session.execute(text("DELETE FROM raw_message"))
    (entry,) = entries(http)
    answer = http.post(f"/api/v1/quarantine/{entry['id']}/replay")
    assert (answer.status_code, answer.json()["remedy"]) == (409, "Dismiss the entry, with a reason.")
    assert http.post(f"/api/v1/quarantine/{entry['id']}/dismiss", json={"why": "gone"}).status_code == 200
