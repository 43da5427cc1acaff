"""Files in, zones and balances out, over HTTP; tiles."""

import json

import httpx
import pytest

from tests import factories
from tests.conftest import Live

ZONES = (
    b"code,name,wkt\n"
    b'A,Upper town,"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"\n'
    b'B,Lower town,"POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))"\n'
)
POINTS = b"id,address,lon,lat\nP1,Hill 1,0.5,0.5\nP2,Dale 2,1.5,0.5\n"
METERS = (
    b"serial,service_point,zone,direction,to_zone,unit,dials\n"
    b"IN,,A,in,,m3,6\nTR,,A,out,B,m3,6\nC1,P1,,,,m3,5\nC2,P2,,,,m3,5\n"
)
READINGS = (
    b"meter,read_at,value\n"
    b"IN,2026-01-01,1000\nIN,2026-02-01,2000\nTR,2026-01-01,0\nTR,2026-02-01,300\n"
    b"C1,2026-01-01,10\nC1,2026-02-01,510\nC2,2026-01-01,0\nC2,2026-02-01,240\n"
)


def fill(live: Live) -> None:
    client = live.client("admin")
    for kind, body in (("zones", ZONES), ("service-points", POINTS), ("meters", METERS), ("readings", READINGS)):
        answer = client.post(f"/api/v1/imports/{kind}", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["inserted"] == body.count(b"\n") - 1


def test_from_files_to_balances(live: Live) -> None:
    fill(live)
    client = live.client("analyst")
    zones = client.get("/api/v1/zones").json()
    assert [(z["code"], z["service_points"], z["bbox"]) for z in zones["items"]] == [
        ("A", 1, [0, 0, 1, 1]),
        ("B", 1, [1, 0, 2, 1]),
    ]
    january = {"from": "2026-01-01", "to": "2026-02-01"}
    first = client.get("/api/v1/zones/A/balance", params=january).json()
    assert (first["system_input"], first["billed"], first["nrw"], first["loss_m3"]) == (700, 500, 200, 200)
    assert first["loss_pct"] == pytest.approx(100 * 200 / 700, abs=1e-6)
    assert first["coverage"]["overall"] == 1 and first["revision"] == 1
    low, high = first["limits_95"]["nrw"]
    assert low < 200 < high
    whole = client.get("/api/v1/water-balance", params=january).json()
    assert [z["loss_m3"] for z in whole["zones"]] == [200, 60]
    # the transfer cancels
    assert (whole["system"]["system_input"], whole["system"]["loss_m3"]) == (1000, 260)

    # nothing changed: the same revision; a late correction makes the next one, and the first stays
    assert client.get("/api/v1/zones/A/balance", params=january).json() == first
    bill = b"service_point,from,to,volume,unit,bill\nP1,2026-01-01,2026-02-01,520,m3,B1\n"
    assert live.client("billing").post("/api/v1/imports/consumption", content=bill).status_code == 200
    second = client.get("/api/v1/zones/A/balance", params=january).json()
    assert (second["revision"], second["billed"]) == (2, 520)
    assert second["billed_sources"]["bills"] == {"points": 1, "volume_m3": 520}
    kept = client.get("/api/v1/zones/A/balance/revisions", params=january).json()["items"]
    assert [(r["revision"], r["results"]["billed"]) for r in kept] == [(2, 520), (1, 500)]


def test_refusals(live: Live) -> None:
    fill(live)
    client = live.client("analyst")
    assert client.get("/api/v1/zones/Z/balance", params={"from": "2026-01-01", "to": "2026-02-01"}).status_code == 404
    for query in (
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"from": "2026-02-01", "to": "2026-02-01"},
        {"from": "0", "to": "2026-01-01"},
        {"from": "2026-02-30", "to": "2026-03-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
        {"from": "2026-01-01\x00", "to": "2026-02-01"},
        {"to": "2026-02-01"},
        {},
    ):
        answer = client.get("/api/v1/zones/A/balance", params=query)
        assert answer.status_code == 422, query
        assert answer.headers["content-type"] == "application/problem+json"
    with live.database.transaction() as session:
        crew_id = factories.crew(session).id
    crew = live.client("crew", crew_id=crew_id)
    assert crew.get("/api/v1/zones/A/balance", params={"from": "2026-01-01", "to": "2026-02-01"}).status_code == 403
    assert live.client().get("/api/v1/zones").status_code == 401

    bad = live.client("admin").post("/api/v1/imports/zones", content=b"code,name,wkt\n,x,POINT (1 1)\n")
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["row"] == 2
    assert live.client("admin").post("/api/v1/imports/wishes", content=b"x").status_code == 404
    assert live.client("admin").post("/api/v1/imports/zones").status_code == 422
    assert crew.post("/api/v1/imports/zones", content=ZONES).status_code == 403


def test_tiles(live: Live) -> None:
    fill(live)
    client = live.client("dispatcher")
    world = client.get("/tiles/zones/0/0/0.mvt")
    assert world.status_code == 200 and b"Upper town" in world.content
    assert world.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    again = client.get("/tiles/zones/0/0/0.mvt", headers={"If-None-Match": world.headers["etag"]})
    assert again.status_code == 304
    assert b"places" in client.get("/tiles/service_points/3/4/3.mvt").content
    # 0.5° east, 0.5° north at zoom 14
    near = client.get("/tiles/service_points/14/8214/8169.mvt")
    assert near.status_code == 200 and b"Hill 1" in near.content
    analysts = live.client("analyst").get("/tiles/service_points/14/8214/8169.mvt").content
    assert b"P1" in analysts and b"Hill 1" not in analysts
    for layer in ("mains", "work_orders"):
        assert client.get(f"/tiles/{layer}/0/0/0.mvt").content == b""
    assert client.get("/tiles/pipes/0/0/0.mvt").status_code == 404
    assert client.get("/tiles/zones/2/4/0.mvt").status_code == 404
    assert client.get("/tiles/zones/99/0/0.mvt").status_code == 404
    assert client.get("/tiles/zones/a/0/0.mvt").status_code == 422
    assert live.client().get("/tiles/zones/0/0/0.mvt").status_code == 401


def test_a_zone_within_another_is_drawn_over_it(live: Live) -> None:
    outer = b'code,name,wkt\nZ,Outer town,"POLYGON ((0 0, 3 0, 3 3, 0 3, 0 0))"\n'
    client = live.client("admin")
    for body in (ZONES, outer):
        assert client.post("/api/v1/imports/zones", content=body).status_code == 200
    world = client.get("/tiles/zones/0/0/0.mvt").content
    # names stand in the order of the features
    assert -1 < world.index(b"Outer town") < world.index(b"Upper town")


def test_audits_of_plain_inputs(live: Live) -> None:
    client = live.client("analyst")
    body = {"method": "easycalc", "inputs": {"days": 365, "sources": [[1000, 0.02]], "billed_metered": 800}}
    found = client.post("/api/v1/water-balance/audit", json=body).json()
    assert (found["nrw"], found["limits_95"]["system_input"]) == (200, [980, 1020])

    def post(document: object) -> httpx.Response:
        # not as `json=`, which refuses to write lone surrogates
        return client.post(
            "/api/v1/water-balance/audit", content=json.dumps(document), headers={"Content-Type": "application/json"}
        )

    for bad, field in (
        ({}, "method"),
        ({"method": "easycalc"}, "inputs"),
        ({"method": "x", "inputs": {}}, "method"),
        ({"method": "fwas_v6", "inputs": {"WS_OWN_SOURCES_VOL": "\ud800"}}, "WS_OWN_SOURCES_VOL"),
        ({"method": "easycalc", "inputs": {"days": 1e308, "sources": [[1e308, 1e308]]}}, "days"),
        ({**body, "years": 5}, "years"),
        ({**body, "\ud800": 5}, "body"),
    ):
        answer = post(bad)
        assert answer.status_code == 422 and answer.json()["field"] == field
        assert answer.json()["remedy"]
    assert post({**body, "years": 5}).json()["value"] == "5"
    odd = {"method": "fwas_v5", "inputs": {"\ud800": 1}}
    assert post(odd).json()["unused_inputs"] == ["\ufffd"]
    for sender in (client, live.client()):
        answer = sender.post(
            "/api/v1/water-balance/audit", content=b" " * (11 << 20), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("code", ["%00", "%ff", "%ed%a0%80", "..%2f..", "%F0%9F%92%A7", "x" * 5000])
def test_codes_that_nobody_has(live: Live, code: str) -> None:
    client = live.client("analyst")
    for path in ("balance", "balance/revisions"):
        answer = client.get(f"/api/v1/zones/{code}/{path}?from=2026-01-01&to=2026-02-01")
        assert answer.status_code in (404, 422)
