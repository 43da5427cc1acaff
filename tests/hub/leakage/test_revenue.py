"""Water that earned nothing, and billing codes that name the wrong zone."""

import csv
import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.cli import build
from tests.conftest import Live
from tests.hub.leakage.test_zone_routes import ZONES

PERIOD = {"from": "2026-01-01", "to": "2026-02-01"}
FILES = {
    "service-points": "id,address,lon,lat,valve\n"
    + "".join(f"P{n},Street {n},0.5,0.{n},{'closed' if n == 4 else 'open'}\n" for n in range(1, 8)),
    "meters": "serial,service_point,unit,dials,purpose\n"
    + "".join(f"C{n},P{n},m3,4,{'unbilled' if n == 6 else 'revenue'}\n" for n in range(1, 8)),
    "accounts": "account,service_point,since,billing_zone\n"
    "A1,P1,2020-01-01,A\nA2,P2,2020-01-01,B\nA4,P4,2020-01-01,upper TOWN\nA5,P5,2020-01-01,\nA7,P7,2020-01-01,Z\n",
    # P1 pays; P2 pays for nothing; P3 has no account; P4 is closed; P5 has an account and no bill; P6 is the park;
    # P7's register has stood still since October
    "consumption": "service_point,from,to,volume,unit,bill\n"
    "P1,2026-01-01,2026-02-01,31,m3,B1\nP2,2026-01-01,2026-02-01,0,m3,B2\nP4,2026-01-01,2026-02-01,0,m3,B4\n"
    "P7,2026-01-01,2026-02-01,0,m3,B7\n",
    "readings": "meter,read_at,value\n"
    + "".join(f"C{n},2026-01-01,9990\nC{n},2026-02-01,{9990 + n}\n" for n in (1, 2, 3, 4, 5, 6))
    + "C7,2025-06-01,100\nC7,2025-10-01,222\nC7,2025-11-01,222\nC7,2025-12-01,222\nC7,2026-01-15,222\n",
}


@pytest.fixture
def town(live: Live) -> Live:
    client = live.client("admin")
    for kind, body in (("zones", ZONES), *((kind, text.encode()) for kind, text in FILES.items())):
        answer = client.post(f"/api/v1/imports/{kind}", content=body)
        assert answer.status_code == 200, answer.text
    with live.database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE place_fact SET since = '2025-12-01' WHERE fact = 'valve'")
    return live


def test_meters_that_earn_nothing(town: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = town.client("analyst")
    found = client.get("/api/v1/revenue-gap", params=PERIOD).json()
    items = {item["meter"]: item for item in found["items"]}
    assert {meter: item["kind"] for meter, item in items.items()} == {
        "C2": "zero_bill",
        "C3": "running_unbilled",
        "C4": "use_while_closed",
        "C5": "running_unbilled",
        "C7": "stopped_meter",
    }
    assert [items[f"C{n}"]["m3"] for n in (2, 3, 4, 5)] == pytest.approx([2, 3, 4, 5])
    assert (items["C3"]["why"], items["C5"]["why"]) == ("no account", "no bill")
    assert (items["C5"]["account"], items["C3"]["account"], items["C5"]["money"]) == ("A5", None, None)
    # a cubic metre a day until October; still from New Year to the last read
    assert items["C7"]["estimated"] and items["C7"]["m3"] == pytest.approx(14, rel=0.01)
    totals = {total["kind"]: (total["meters"], total["m3"]) for total in found["totals"]}
    assert totals["running_unbilled"] == (2, pytest.approx(8))
    assert client.get("/api/v1/revenue-gap", params={"from": "x", "to": "y"}).status_code == 422
    assert town.client().get("/api/v1/revenue-gap", params=PERIOD).status_code == 401

    monkeypatch.setenv("CURBSTOP_DATABASE_URL", town.database.url)
    monkeypatch.setenv("CURBSTOP_TIME_ZONE", "America/Chicago")
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CURBSTOP_RETAIL_PRICE_M3", "2.505")
    words = ("report", "revenue-gap", "--from", PERIOD["from"], "--to", PERIOD["to"])
    lines = list(csv.DictReader(io.StringIO(CliRunner().invoke(build(), (*words, "--format", "csv")).stdout)))
    assert {line["meter"]: line["money"] for line in lines}["C4"] == "10.02"
    page = CliRunner().invoke(build(), (*words, "--format", "html")).stdout
    assert "uses water though the valve is closed" in page and "Street 4" in page


def test_codes_that_name_the_wrong_zone(town: Live) -> None:
    items = town.client("analyst").get("/api/v1/billing-zone-mismatches").json()["items"]
    assert [(item["account"], item["billing_zone"], item["zone"]) for item in items] == [
        ("A2", "B", "A"),
        ("A7", "Z", "A"),
    ]
    balance = town.client("analyst").get("/api/v1/zones/A/balance", params=PERIOD).json()
    assert "2 billing codes name another zone than the place lies in" in balance["notes"]
