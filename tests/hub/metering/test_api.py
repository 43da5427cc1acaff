"""Readings, devices, meters and quarantine over HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hub.metering import rebooking, validation, watching
from hub.worker import jobs
from tests import factories
from tests.conftest import Live


@pytest.fixture
def http(live: Live) -> Iterator[httpx.Client]:
    """A supervisor's client."""
    yield live.client("supervisor")


def today(hour: int = 0, days_ago: int = 3) -> datetime:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=days_ago) + timedelta(hours=hour)


def item(value: Any, at: datetime, **more: Any) -> dict[str, Any]:
    return {"device": "D1", "value": value, "unit": "m3", "measured_at": at.isoformat()} | more


def register(http: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = http.post("/api/v1/devices", json={"device": "D1", "meter": "M1"} | more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_batch_is_booked_item_by_item_and_repeating_it_changes_nothing(http: httpx.Client) -> None:
    register(http)
    batch = {"readings": [item("1.5", today()), item(-1, today(1)), item(2, today(2), device="unknown")]}
    first = http.post("/api/v1/readings", json=batch)
    assert first.status_code == 200, first.text
    assert [(one["index"], one["outcome"], one["reason"]) for one in first.json()["items"]] == [
        (0, "stored", None),
        (1, "quarantined", "negative_value"),
        (2, "unclaimed", "unregistered_device"),
    ]
    again = http.post("/api/v1/readings", json=batch).json()
    assert (again["stored"], again["duplicates"]) == (0, 1)
    (reading,) = http.get("/api/v1/meters/M1/readings").json()["items"]
    assert (reading["value"], reading["repeats"], reading["quality"]) == ("1.5", 1, "good")


NO_BATCHES = [
    (b"", 422),
    (b"not json", 422),
    (b'{"readings": 5}', 422),
    (b'{"readings": [NaN]}', 422),
    (b"[" * 100_000, 422),
    (b'{"readings":' + b" " * (10 * 1024 * 1024) + b"[]}", 413),
]


def test_a_body_that_is_no_batch_is_refused_as_a_problem(http: httpx.Client) -> None:
    for body, status in NO_BATCHES:
        answer = http.post("/api/v1/readings", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, body[:40]
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_conflict_waits_in_quarantine_and_a_replay_keeps_it_there(http: httpx.Client) -> None:
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(1, today())]})
    http.post("/api/v1/readings", json={"readings": [item(2, today())]})
    (entry,) = http.get("/api/v1/quarantine", params={"reason": "value_conflict"}).json()["items"]
    assert (entry["device"], entry["meter"], entry["value"], entry["status"]) == ("D1", "M1", "2", "open")
    replayed = http.post(f"/api/v1/quarantine/{entry['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"]) == (200, "open")
    assert http.get("/api/v1/quarantine").json()["counts"] == {"value_conflict": 1}


def test_what_was_refused_for_its_register_is_booked_by_replay_once_the_register_is_known(http: httpx.Client) -> None:
    register(http)
    http.post(
        "/api/v1/readings", json={"readings": [item(1, today(), register="low"), item(2, today(1), register="low")]}
    )
    assert http.get("/api/v1/quarantine").json()["counts"] == {"unknown_register": 2}
    register(http, register="low")
    answer = http.post("/api/v1/quarantine/replay", json={"reason": "unknown_register"})
    assert answer.json() == {"tried": 2, "settled": 2, "next_cursor": None}
    assert http.get("/api/v1/quarantine").json()["items"] == []
    settled = http.get("/api/v1/quarantine", params={"resolved": True}).json()["items"]
    assert {one["resolution"] for one in settled} == {"replayed"}
    assert http.post(f"/api/v1/quarantine/{settled[0]['id']}/replay").status_code == 409
    assert len(http.get("/api/v1/meters/M1/readings").json()["items"]) == 2


def test_an_unclaimed_device_is_listed_and_its_messages_are_booked_when_it_is_registered(http: httpx.Client) -> None:
    http.post("/api/v1/readings", json={"readings": [item(7, today())]})
    (waiting,) = http.get("/api/v1/devices", params={"unclaimed": True}).json()["items"]
    assert (waiting["device"], waiting["messages"]) == ("d1", 1)
    (raw,) = http.get("/api/v1/devices/D1/raw-messages").json()["items"]
    assert (raw["disposition"], json.loads(raw["payload"])["readings"][0]["value"]) == ("unclaimed", 7)
    made = register(http, unit="m3", register_modulus_m3="10000")
    assert (made["device"], made["booked"], made["register_modulus_m3"]) == ("d1", 1, "10000")
    (reading,) = http.get("/api/v1/devices/d1/readings").json()["items"]
    assert reading["value"] == "7"
    assert http.get("/api/v1/devices", params={"unclaimed": True}).json()["items"] == []
    (entry,) = http.get("/api/v1/devices", params={"meter": "M1"}).json()["items"]
    assert entry["device"] == "d1"


def test_strangers_in_a_batch_of_several_devices_are_listed_too(http: httpx.Client) -> None:
    register(http)
    batch = [item(7, today()), item(8, today(), device="S1"), item(9, today(), device="S2")]
    http.post("/api/v1/readings", json={"readings": batch})
    waiting = http.get("/api/v1/devices", params={"unclaimed": True}).json()["items"]
    assert sorted((one["device"], one["messages"]) for one in waiting) == [("s1", 1), ("s2", 1)]
    assert register(http, device="S1", meter="M2")["booked"] == 1
    assert [one["device"] for one in http.get("/api/v1/devices?unclaimed=true").json()["items"]] == ["s2"]


def test_a_kept_message_is_decoded_as_it_is_booked(http: httpx.Client) -> None:
    register(http, unit="l", multiplier=10)
    http.post("/api/v1/readings", json={"readings": [{"device": "D1", "value": 5, "measured_at": today().isoformat()}]})
    (raw,) = http.get("/api/v1/devices/D1/raw-messages").json()["items"]
    (value,) = http.get(f"/api/v1/raw-messages/{raw['id']}").json()["decoded"]["readings"]
    assert (value["value"], value["unit"], value["flags"]) == (0.05, "m3", [])


def test_a_replay_by_reason_goes_on_behind_what_stays(http: httpx.Client) -> None:
    register(http)
    for hour in range(3):
        http.post("/api/v1/readings", json={"readings": [item(-1 - hour, today(hour))]})
    told = {"reason": "negative_value", "limit": 2}
    first = http.post("/api/v1/quarantine/replay", json=told).json()
    assert (first["tried"], first["settled"]) == (2, 0)
    rest = http.post("/api/v1/quarantine/replay", json=told | {"cursor": first["next_cursor"]}).json()
    assert rest == {"tried": 1, "settled": 0, "next_cursor": None}
    assert http.post("/api/v1/quarantine/replay", json=told | {"cursor": "x"}).status_code in (400, 422)


def test_alarm_words_are_listed(http: httpx.Client) -> None:
    register(http)
    batch = [item(1, today(1)), item(2, today(2), flags=["leak", "q:estimated"])]
    http.post("/api/v1/readings", json={"readings": batch})
    (alarm,) = http.get("/api/v1/devices/D1/alarms").json()["items"]
    assert (alarm["alarms"], datetime.fromisoformat(alarm["at"])) == (["leak"], today(2))


def test_missing_sequence_numbers_are_shown(live: Live, http: httpx.Client) -> None:
    register(http)
    batch = [item(seq, today(seq), seq=seq) for seq in (3, 6, 7, 9)]
    http.post("/api/v1/readings", json={"readings": batch})
    with live.database.transaction() as session:
        watching.fold(session)
    found = http.get("/api/v1/devices/D1").json()
    assert [(gap["after"], gap["before"], gap["missing"]) for gap in found["gaps"]] == [(7, 9, 1), (3, 6, 2)]
    assert found["state"]["seq"] == 9
    (gap, _) = http.get("/api/v1/gaps", params={"kind": "device", "subject": "D1"}).json()["items"]
    assert gap["missing"] == 1
    refused = http.post(f"/api/v1/gaps/{gap['id']}/resend")
    assert (refused.status_code, refused.json()["type"]) == (409, "conflict")


WRONG_ENTRIES: list[dict[str, Any]] = [
    {"unit": "furlong"},
    {"adapter": "nothing"},
    {"decoder": "nothing"},
    {"time_zone": "Moon/Crater"},
    {"multiplier": "0"},
    {"register_modulus_m3": "NaN"},
    {"device": " "},
    {"valid_from": "0001-01-01T00:00:00Z"},
    {"surplus": 1},
]


def test_a_registry_entry_that_cannot_work_is_refused(http: httpx.Client) -> None:
    for wrong in WRONG_ENTRIES:
        answer = http.post("/api/v1/devices", json={"device": "D1", "meter": "M1"} | wrong)
        assert answer.status_code == 422, wrong


def test_consumption_by_hour_and_day_marks_what_is_missing(http: httpx.Client, live: Live) -> None:
    register(http)
    # January: no hour is missing or doubled in any zone
    midnight = datetime((datetime.now(UTC) - timedelta(days=20)).year, 1, 10, tzinfo=live.settings.zone)
    stands = [item(100 + hour, midnight.astimezone(UTC) + timedelta(hours=hour)) for hour in range(25)]
    http.post("/api/v1/readings", json={"readings": stands})
    span = {"from": f"{midnight:%Y}-01-10", "to": f"{midnight:%Y}-01-12"}
    hours = http.get("/api/v1/meters/M1/consumption", params=span | {"step": "hour"}).json()
    assert [one["volume_m3"] for one in hours["items"][:24]] == [1.0] * 24
    assert [one["missing"] for one in hours["items"]] == [False] * 24 + [True] * 24
    assert hours["items"][30]["volume_m3"] is None
    days = http.get("/api/v1/meters/M1/consumption", params=span).json()
    assert [(one["volume_m3"], one["missing"]) for one in days["items"]] == [(24.0, False), (None, True)]
    assert days["total_m3"] == 24.0


UNKNOWN = [
    "/api/v1/meters/none",
    "/api/v1/meters/none/readings",
    "/api/v1/meters/none/consumption?from=2026-01-01&to=2026-02-01",
    "/api/v1/devices/none",
    "/api/v1/devices/none/readings",
]


def test_unknown_things_are_not_found(http: httpx.Client) -> None:
    for path in UNKNOWN:
        assert http.get(path).status_code == 404, path


WRONG_TIMES = [
    "/api/v1/meters/M1/consumption?from=2026-01-01&to=2026-02-01&step=year",
    "/api/v1/meters/M1/consumption?from=2026-02-01&to=2026-01-01",
    "/api/v1/meters/M1/consumption?from=1990-02-01&to=2026-01-01&step=hour",
    "/api/v1/meters/M1/consumption?from=nonsense&to=2026-01-01",
    "/api/v1/meters/M1/readings?from=2026-99-01",
]


def test_times_that_cannot_work_are_refused(http: httpx.Client) -> None:
    register(http)
    for path in WRONG_TIMES:
        assert http.get(path).status_code == 422, path


def test_readings_come_in_pages_newest_first(http: httpx.Client) -> None:
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(hour, today(hour)) for hour in range(5)]})
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = http.get(
            "/api/v1/meters/M1/readings", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [one["value"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["4", "3", "2", "1", "0"]
    assert http.get("/api/v1/meters/M1/readings", params={"cursor": "nonsense"}).status_code == 400


def test_crews_have_no_business_here(live: Live) -> None:
    with live.database.transaction() as session:
        crew_id = factories.crew(session).id
    crew = live.client("crew", crew_id=crew_id)
    assert crew.get("/api/v1/devices").status_code == 403
    assert crew.post("/api/v1/readings", json={"readings": []}).status_code == 403
    assert live.client().post("/api/v1/readings", json={"readings": []}).status_code == 401


HOSTILE_PATHS = [
    "/api/v1/meters/%00",
    "/api/v1/meters/%00/readings",
    "/api/v1/meters/%FF/consumption?from=2026-01-01&to=2026-01-02",
    "/api/v1/meters/M1/readings?cursor=W10",
    "/api/v1/meters/M1/readings?cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsMWUzMDBd",
    "/api/v1/meters/M1/readings?limit=99999999999999999999",
    "/api/v1/devices/%00",
    "/api/v1/devices/%00/raw-messages",
    "/api/v1/devices?cursor=WzFd",
    "/api/v1/devices?meter=%00",
    "/api/v1/quarantine?cursor=WyJ4Il0",
    "/api/v1/quarantine?reason=%00",
    "/api/v1/quarantine?device=%00",
]


def test_nothing_asked_makes_the_hub_fail(http: httpx.Client) -> None:
    register(http)
    for path in HOSTILE_PATHS:
        assert http.get(path).status_code < 500, path


HOSTILE_ENTRIES = [
    '{"device":"\\u0000","meter":"M1"}',
    '{"device":"\\ud800","meter":"M1"}',
    '{"device":"d","meter":"M1","config":{"\\u0000":"\\u0000"}}',
    '{"device":"d","meter":"M1","multiplier":1e400}',
    '{"device":"d","meter":"M1","valid_from":"9999-12-31T23:59:59Z"}',
]


def test_nothing_registered_makes_the_hub_fail(http: httpx.Client) -> None:
    for body in HOSTILE_ENTRIES:
        answer = http.post("/api/v1/devices", content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, answer.text


def test_a_reading_is_edited_and_shows_what_it_was(http: httpx.Client) -> None:
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(1, today(1)), item(900, today(2))]})
    at = today(2).isoformat().replace("+00:00", "Z")
    edit = {"action": "replace", "value": "2", "unit": "m3", "reason": "read from the photo"}
    answer = http.post(f"/api/v1/meters/M1/readings/{at}/edit", json=edit)
    assert answer.status_code == 200, answer.text
    found = http.get(f"/api/v1/meters/M1/readings/{at}").json()
    assert (found["reading"]["value"], found["reading"]["flags"]) == ("2", ["edited"])
    assert [(one["value"], one["reason"]) for one in found["revisions"]] == [("900", "read from the photo")]
    for body in ({}, edit | {"action": "x"}, edit | {"value": "-1"}, edit | {"reason": ""}, edit | {"unit": "furlong"}):
        assert http.post(f"/api/v1/meters/M1/readings/{at}/edit", json=body).status_code == 422
    assert http.post("/api/v1/meters/M1/readings/never/edit", json=edit).status_code == 422
    assert http.get(f"/api/v1/meters/M1/readings/{today(9).isoformat()[:19]}Z").status_code == 404


def test_a_meter_is_exchanged_and_its_radio_goes_over(live: Live, http: httpx.Client) -> None:
    with live.database.transaction() as session:
        factories.zone(session)
        factories.service_point(session, zone="Z1")
        factories.meter(session)
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(100, today(1)), item(2, today(5))]})
    body = {
        "new": {"serial": "M2", "unit": "m3", "dials": 5},
        "at": today(3).isoformat(),
        "final_read": {"value": "101", "unit": "m3"},
        "start_read": {"value": "0", "unit": "m3"},
    }
    answer = http.post("/api/v1/meters/M1/exchange", json=body)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["new"], answer.json()["service_point"]) == ("M2", "SP1")
    with live.database.transaction() as session:
        while rebooking.run(session) is not None:
            pass
    values = [one["value"] for one in http.get("/api/v1/meters/M2/readings").json()["items"]]
    assert values == ["2", "0"]
    assert [one["value"] for one in http.get("/api/v1/meters/M1/readings").json()["items"]] == ["101", "100"]
    assert http.post("/api/v1/meters/M1/exchange", json=body).status_code == 409
    assert http.post("/api/v1/meters/M1/exchange", json=body | {"at": "0001-01-01T00:00:00+14:00"}).status_code == 422


def test_completeness_alarms_and_gateways_are_listed(live: Live, http: httpx.Client) -> None:
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(hour, today(hour), flags=["leak"]) for hour in range(3)]})
    with live.database.transaction() as session:
        watching.fold(session)
    days = {"from": today().date().isoformat(), "to": (today() + timedelta(days=1)).date().isoformat()}
    assert http.get("/api/v1/meters/M1/completeness", params=days).json()["items"][0]["usual"] > 0
    assert http.get("/api/v1/meters/M1/completeness", params=days | {"to": days["from"]}).status_code == 422
    (alarm,) = http.get("/api/v1/alarms", params={"state": "active", "meter": "M1"}).json()["items"]
    assert (alarm["type"], alarm["source"]) == ("leak", "device")
    cleared = http.post(f"/api/v1/alarms/{alarm['id']}/clear", json={"reason": "found nothing"})
    assert (cleared.status_code, cleared.json()["state"]) == (200, "cleared")
    (gateway,) = http.get("/api/v1/gateways").json()["items"]
    assert (gateway["devices"], gateway["silent"]) == (1, 0)


def test_flagged_readings_are_listed_and_settled(live: Live, http: httpx.Client) -> None:
    register(http)
    values = [100 + hour * 0.02 for hour in range(20)] + [60, 60.02]
    batch = [item(round(value, 2), today(days_ago=4, hour=hour)) for hour, value in enumerate(values)]
    http.post("/api/v1/readings", json={"readings": batch})
    with live.database.transaction() as session:
        watching.fold(session)
        assert validation.review(session, live.settings.zone) == 1
    (flagged,) = http.get("/api/v1/meters/M1/exceptions").json()["items"]
    assert (flagged["rule"], flagged["kind"], flagged["register"]) == ("register_fall", "reset", "volume")
    listed = http.get("/api/v1/reading-exceptions", params={"rule": "register_fall", "limit": 1}).json()
    assert (listed["items"], listed["counts"]) == ([flagged], {"register_fall": 1})
    path = f"/api/v1/reading-exceptions/{flagged['id']}/settle"
    assert http.post(path, json={"action": "ignore", "reason": "x"}).status_code == 422
    settled = http.post(path, json={"action": "accept", "reason": "the meter was exchanged"})
    assert (settled.status_code, settled.json()["status"]) == (200, "resolved")
    assert http.post(path, json={"action": "accept", "reason": "again"}).status_code == 409
    assert http.get("/api/v1/meters/M1/exceptions").json()["items"] == []
    assert http.get("/api/v1/meters/M7/exceptions").status_code == 404


def test_a_tamper_word_in_a_message_becomes_an_order_with_its_evidence(live: Live, http: httpx.Client) -> None:
    with live.database.transaction() as session:
        factories.zone(session)
        factories.service_point(session, zone="Z1")
        factories.account(session)
        factories.meter(session)
    register(http)
    http.post("/api/v1/readings", json={"readings": [item(1, datetime.now(UTC), flags=["tamper"])]})
    with live.database.transaction() as session:
        watching.fold(session)
    jobs.turn_facts_into_work(live.database, live.settings)
    found = http.get("/api/v1/findings").json()
    (finding,) = found["items"]
    assert (finding["rule"], finding["state"], finding["account"]) == ("tamper_alarm", "opened", "A1")
    assert found["counts"] == {"tamper_alarm": {"opened": 1}}
    order = http.get(f"/api/v1/work-orders/{finding['work_order']}").json()
    assert (order["type"], order["meter"], order["service_point"]) == ("tamper", "M1", "SP1")
    (evidence,) = [line["detail"] for line in order["timeline"] if line["verb"] == "evidence"]
    assert evidence["evidence"]["alarms"][0]["device"] == "d1"
    refused = http.post(f"/api/v1/findings/{finding['id']}/dismiss", json={"reason": "x"})
    assert refused.status_code == 409
    assert http.get("/api/v1/findings", params={"state": "settled"}).json()["items"] == []
