"""OGC API Features: read by GDAL's own client, page by page, and by hand where the standard is strict."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from geoalchemy2.shape import from_shape
from shapely import LineString, MultiLineString

from hub import clock
from hub.models import Main
from hub.work import orders
from tests import factories
from tests.conftest import Live

MONDAY = datetime(2026, 3, 9, 10, 0, tzinfo=UTC)


@pytest.fixture
def town(live: Live) -> Live:
    """Two zones, 25 places, a main, and two orders of which crew North has one."""
    with live.database.transaction() as session:
        clock.set_clock(session, business_at=MONDAY, rate=1)
        factories.zone(session)
        factories.zone(session, "Z2", west=1.0)
        for number in range(25):
            factories.service_point(session, f"SP{number:02}", zone="Z1", lon=0.1 + number / 100, address="5 Mill Lane")
        line = MultiLineString([LineString([(0.1, 0.4), (0.4, 0.4)])])
        session.add(Main(id="P1", material="PVC", diameter_mm=100, geometry=from_shape(line, 4326)))
        north = factories.crew(session)
        order = orders.open_order(session, type="reread", by="user:t", service_point="SP01").order
        orders.assign(session, order.id, crew_id=north.id, by="user:t")
        orders.open_order(session, type="reread", by="user:t", service_point="SP02")
        live.north = north.id  # type: ignore[attr-defined]
    return live


# GDAL waits for answers with the interpreter's lock in hand, so it reads from a process of its own, as QGIS would.
GDAL = """
import json, sys
import pyogrio

place, token, wanted = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
pyogrio.set_gdal_config_options({"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": token})
found = {"layers": sorted(str(name) for name, _ in pyogrio.list_layers(place)), "reads": []}
for asked in wanted:
    asked["bbox"] = tuple(asked["bbox"]) if "bbox" in asked else None
    meta, _, shapes, columns = pyogrio.raw.read(place, **asked)
    columns = {name: [str(value) for value in column] for name, column in zip(meta["fields"], columns)}
    found["reads"].append({"count": len(shapes), "crs": meta["crs"], "columns": columns})
print(json.dumps(found))
"""


def gdal(town: Live, token: str, *wanted: dict[str, Any]) -> dict[str, Any]:
    """What GDAL's client finds: the layers, and what each of the `wanted` reads brings."""
    asked = json.dumps([{**one, "PAGE_SIZE": "10"} for one in wanted])
    done = subprocess.run(
        [sys.executable, "-c", GDAL, f"OAPIF:{town.url}/ogc", token, asked], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_gdal_opens_every_collection(town: Live) -> None:
    found = gdal(
        town,
        town.token("dispatcher"),
        {"layer": "service_points"},
        {"layer": "service_points", "bbox": (0.095, 0, 0.125, 1)},
        {"layer": "zones"},
        {"layer": "mains"},
        {"layer": "work_orders"},
        {"layer": "zones", "where": "code = 'Z2'"},
    )
    assert found["layers"] == ["mains", "service_points", "work_orders", "zones"]
    assert [read["count"] for read in found["reads"]] == [25, 3, 2, 1, 2, 1]
    places = found["reads"][0]
    assert set(places["columns"]["zone"]) == {"Z1"} and set(places["columns"]["address"]) == {"5 Mill Lane"}
    assert places["crs"] in ("OGC:CRS84", "EPSG:4326")
    assert [float(size) for size in found["reads"][3]["columns"]["diameter_mm"]] == [100]


def test_gdal_sees_what_its_token_may(town: Live) -> None:
    found = gdal(town, town.token("crew", crew_id=town.north), {"layer": "work_orders"})  # type: ignore[attr-defined]
    assert found["reads"][0]["columns"]["service_point"] == ["SP01"]


def items(client: httpx.Client, collection: str, **asked: str) -> dict:  # type: ignore[type-arg]
    """A page."""
    answer = client.get(
        f"/ogc/collections/{collection}/items", params={k.replace("_", "-"): v for k, v in asked.items()}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    return dict(answer.json())


def test_links_lead_everywhere(town: Live) -> None:
    client = town.client("analyst")
    seen: set[str] = set()
    due = [f"{town.url}/ogc"]
    while due:
        href = due.pop()
        if href in seen:
            continue
        seen.add(href)
        answer = client.get(href)
        assert answer.status_code == 200, href
        document = answer.json()
        due += [link["href"] for link in document.get("links", [])]
        for part in document.get("collections", []):
            due += [link["href"] for link in part["links"]]
    assert len(seen) == 4 + 4 * 3
    for path in ("/ogc/", "/ogc"):
        assert client.get(path).json()["links"][0]["rel"] == "self"


def test_pages_follow_each_other(town: Live) -> None:
    client = town.client("dispatcher")
    names: list[str] = []
    href = f"{town.url}/ogc/collections/service_points/items?limit=10&zone=Z1"
    while href:
        page = client.get(href).json()
        assert page["numberMatched"] == 25 and page["numberReturned"] == len(page["features"]) <= 10
        names += [one["id"] for one in page["features"]]
        href = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    assert names == [f"SP{number:02}" for number in range(25)]
    one = client.get("/ogc/collections/service_points/items/SP07").json()
    assert one["properties"]["valve"] == "open" and one["geometry"]["type"] == "Point"
    first = items(client, "work_orders", limit="1")
    key = first["features"][0]["id"]
    assert client.get(f"/ogc/collections/work_orders/items/{key}").json()["id"] == key
    rest = client.get(next(link["href"] for link in first["links"] if link["rel"] == "next")).json()
    assert [one["id"] for one in rest["features"]] != [key] and rest["numberReturned"] == 1


def test_what_each_role_sees(town: Live) -> None:
    analyst = town.client("analyst")
    assert "address" not in items(analyst, "service_points")["features"][0]["properties"]
    assert "crew" not in items(analyst, "work_orders")["features"][0]["properties"]
    assert analyst.get("/ogc/collections/work_orders/items?crew=North").status_code == 400
    dispatcher = town.client("dispatcher")
    assert [one["properties"]["crew"] for one in items(dispatcher, "work_orders", crew="North")["features"]] == [
        "North"
    ]
    assert items(dispatcher, "work_orders", status="ready")["numberMatched"] == 1
    with town.database.transaction() as session:
        source = factories.source(session)
        source_id = source.id
    theirs = town.client("billing", source_id=source_id)
    assert items(theirs, "work_orders")["numberMatched"] == 0
    other = items(dispatcher, "work_orders", crew="North")["features"][0]["id"]
    assert theirs.get(f"/ogc/collections/work_orders/items/{other}").status_code == 404
    assert town.client().get("/ogc").status_code == 401


def test_boxes_and_times(town: Live) -> None:
    client = town.client("dispatcher")

    def count(collection: str, **asked: str) -> int:
        return int(items(client, collection, **asked)["numberMatched"])

    assert count("service_points", bbox="0.095,0,0.125,1") == 3
    assert count("service_points", bbox="0.095,0,-50,0.125,1,50") == 3
    # west beyond east: over the antimeridian, all of the world but a strip
    assert count("service_points", bbox="0.125,0,0.095,1") == 22
    assert count("zones", bbox="0.5,0.5,0.6,0.6") == 1
    assert count("work_orders", datetime="2026-03-09T00:00:00Z/..") == 2
    assert count("work_orders", datetime="../2026-03-08T00:00:00Z") == 0
    assert count("work_orders", datetime="2026-03-10T00:00:00Z") == 2
    # a collection without times knows no difference
    assert count("zones", datetime="1990-01-01T00:00:00Z") == 2


STRANGE = [
        ("limit=0", 400), ("limit=-1", 400), ("limit=x", 400), ("limit=99999", 200), ("limit=9" + "9" * 40, 400),
        ("bbox=1,2,3", 400), ("bbox=a,b,c,d", 400), ("bbox=nan,0,1,1", 400), ("bbox=0,1e400,1,1", 400),
        ("bbox=0,5,1,1", 400), ("bbox=0,95,1,99", 400), ("bbox=-999,-999,999,999", 200), ("bbox-crs=EPSG:3857", 400),
        ("datetime=yesterday", 400), ("datetime=2026-01-01/2025-01-01", 400), ("datetime=0001-01-01", 400),
        ("datetime=..%2F..", 200), ("datetime=%00", 400), ("wishes=1", 400), ("zone=%00", 200), ("zone=%ED%A0%80", 200),
        ("cursor=x", 400), ("cursor=WzFd", 400), ("f=html", 400), ("f=json", 200), ("address=x", 400),
    ]  # fmt: skip


def test_strange_questions(live: Live) -> None:
    client = live.client("dispatcher")
    for query, status in STRANGE:
        for collection in ("service_points", "work_orders"):
            answer = client.get(f"/ogc/collections/{collection}/items?{query}")
            assert answer.status_code == status, (query, answer.text)
            assert answer.headers["content-type"] == (
                "application/problem+json" if status == 400 else "application/geo+json"
            )
    assert client.get("/ogc/collections/wishes/items").status_code == 404
    for key in ("%00", "x" * 3000, "00000000-0000-0000-0000-00000000000g", "%F0%9F%92%A7"):
        assert client.get(f"/ogc/collections/work_orders/items/{key}").status_code == 404
