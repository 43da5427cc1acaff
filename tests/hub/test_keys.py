"""A utility's keys are what they are: whatever characters a serial, a device, a zone or a number has, it is reached."""

import contextlib
import re
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from hub.app import create_app
from hub.paths import PartedPaths
from hub.settings import Settings
from tests.conftest import Live

KEYS = [
    "A/B",
    "a%2Fb",
    "100%",
    "what?",
    "#7",
    "two words",
    "a/../b",
    "../x",
    "/M",
    "M/",
    "%25",
    "ä/ö;&=+",
    "a//b",
    "...",
]
# What stands for a key in the address of a route, and the list that all keys must be found in.
PARAMETERS = {"serial", "device", "code", "number", "feature_id"}
ASKED = {"from": "2026-01-01", "to": "2026-01-02"}


@pytest.fixture
def http(live: Live) -> httpx.Client:
    """A supervisor's client, once there are a zone, a place, an account, a meter and a device of every key."""
    client = live.client("supervisor")
    quoted = [f'"{key}"' for key in KEYS]
    square = '"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"'
    files = {
        "zones": ["code,name,wkt", *(f"{key},Zone,{square}" for key in quoted)],
        "service-points": ["id,address,lon,lat", *(f"{key},Here,0.5,0.5" for key in quoted)],
        "mains": ["id,wkt", *(f'{key},"LINESTRING (0 0, 1 1)"' for key in quoted)],
        "accounts": ["account,service_point,since", *(f"{key},{key},2020-01-01" for key in quoted)],
        "meters": ["serial,service_point,unit", *(f"{key},{key},m3" for key in quoted)],
    }
    for kind, lines in files.items():
        answer = client.post(f"/api/v1/imports/{kind}", content="\n".join(lines).encode())
        assert answer.status_code == 200, answer.text
    for key in KEYS:
        made = client.post("/api/v1/devices", json={"device": key, "meter": key})
        assert made.status_code == 201, made.text
        read = {"readings": [{"device": key, "value": 1, "unit": "m3", "measured_at": "2026-01-01T06:00:00Z"}]}
        assert client.post("/api/v1/readings", json=read).json()["stored"] == 1
    return client


def readings_of(routes: list[BaseRoute]) -> list[str]:
    """The address of every route that is asked about something with a key of the utility's."""
    found = []
    for route in routes:
        if isinstance(route, APIRoute) and "GET" in route.methods:
            named = set(re.findall(r"{(\w+)", route.path))
            if named & (PARAMETERS | ({"id"} if "service-points" in route.path else set())) or ":path}" in route.path:
                found.append(route.path)
        elif hasattr(route, "original_router"):
            found += readings_of(route.original_router.routes)
    return sorted(set(found))


def paths_of(key: str, templates: list[str]) -> list[str]:
    """Every address of a key; a template's own words are filled in."""
    written = quote(key, safe="")
    filled = []
    for template in templates:
        for collection in ("zones", "mains", "service_points") if "{collection_id}" in template else ("",):
            path = template.replace("{collection_id}", collection).replace("{measured_at}", "2026-01-01T06:00:00Z")
            filled.append(re.sub(r"{\w+(:path)?}", lambda _: written, path))
    return filled


def test_every_route_reaches_every_key(http: httpx.Client) -> None:
    wrong = []
    templates = readings_of(list(create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none")).routes))
    assert "/api/v1/service-points/{id}/consumption" in templates
    paths = {key: paths_of(key, templates) for key in KEYS}
    assert len(paths["A/B"]) >= 20
    for key, asked in paths.items():
        for path in asked:
            parameters = {} if path.startswith("/ogc") else ASKED
            answer = http.get(path, params=parameters)
            if answer.status_code != 200:
                wrong.append((path, answer.status_code, answer.text[:200]))
        meter = http.get(f"/api/v1/meters/{quote(key, safe='')}").json()
        assert (meter["serial"], meter["service_point"], meter["last_reading"]["value"]) == (key, key, "1")
        assert http.get(f"/api/v1/devices/{quote(key, safe='')}").json()["device"] == key.lower()
    assert wrong == []


def test_verbs_reach_them_too_and_links_lead_back(http: httpx.Client) -> None:
    for key in KEYS:
        path = f"/api/v1/meters/{quote(key, safe='')}"
        edit = {"action": "accept", "reason": "seen"}
        assert http.post(f"{path}/readings/2026-01-01T06:00:00Z/edit", json=edit).status_code == 200, key
        link = http.get(f"/ogc/collections/zones/items/{quote(key, safe='')}").json()["links"][0]["href"]
        assert http.get(link).json()["id"] == key
        if len(key) > 1:
            items = http.get("/console/search", params={"q": key}).json()["items"]
            assert f"/meters/{quote(key, safe='')}" in [one["href"] for one in items], key
        exchanged = {"new": {"serial": f"{key} new", "unit": "m3"}, "at": "2026-02-01T09:30:00Z"}
        assert http.post(f"{path}/exchange", json=exchanged).status_code == 201, key


def test_a_key_that_no_address_can_name_is_refused(http: httpx.Client) -> None:
    for dots in (".", ".."):
        refused = http.post("/api/v1/imports/zones", content=f'code,name,wkt\n{dots},x,"POINT (1 1)"\n')
        assert refused.status_code == 422 and "Dots alone" in refused.text
        for body in ({"device": dots, "meter": "M"}, {"device": "d", "meter": dots}):
            answer = http.post("/api/v1/devices", json=body)
            assert (answer.status_code, "Dots alone" in answer.text) == (422, True)
    assert http.get("/api/v1/meters/A/B").status_code == 404
    assert http.get("/api/v1/meters/A%2FB/B").status_code == 404


def test_a_server_that_tells_of_no_written_address_reaches_keys_with_per_cent_signs() -> None:
    """Some servers hand over the decoded address only; what then looks written twice is taken as it is."""
    seen = []

    async def app(scope: dict, receive: object, send: object) -> None:
        seen.append(scope["path"])

    for scope in (
        {"type": "http", "path": "/x/a%2Fb"},
        {"type": "http", "path": "/x/a%2Fb", "raw_path": b"/other/a%252Fb"},
        {"type": "http", "path": "/x/a%2Fb", "raw_path": b"/x/a%252Fb?q=1"},
        {"type": "http", "path": "/x/a/b", "raw_path": b"/x/a%2Fb"},
    ):
        # it waits for nothing, so one step ends it
        with contextlib.suppress(StopIteration):
            PartedPaths(app)(scope, None, None).send(None)  # type: ignore[arg-type, attr-defined]
    assert seen == ["/x/a%252Fb", "/x/a%252Fb", "/x/a%252Fb", "/x/a%2Fb"]
