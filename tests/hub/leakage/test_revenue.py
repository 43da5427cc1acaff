"""Water that earned nothing, and billing codes that name the wrong zone."""

import csv
import io
from datetime import date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.cli import build
from hub.work import orders
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


def test_parts_of_a_year_that_earn_nothing(live: Live) -> None:
    """Each of these pays for a part of the year. A cubic metre a day runs everywhere, read on the first of months."""
    client = live.client("admin")
    serials = ("VACANT", "GAP", "TAIL", "FRESH", "CUT", "SWITCH", "PAYS")
    firsts = [f"2025-{month:02}-01" for month in range(1, 13)] + ["2026-01-01"]

    def bills(serial: str, *months: int) -> str:
        return "".join(f"{serial},{firsts[m - 1]},{firsts[m]},30,m3,{serial}{m}\n" for m in months)

    def days(day: str) -> int:
        return (date.fromisoformat(day) - date(2025, 1, 1)).days

    files = {
        "service-points": "id,address,lon,lat\n" + "".join(f"{s},Street {s},0.5,0.5\n" for s in serials),
        "meters": "serial,service_point,unit,dials\n" + "".join(f"{s},{s},m3,6\n" for s in serials),
        "accounts": "account,service_point,since,until\n"
        + "".join(f"A{s},{s},2020-01-01,{'2025-04-01' if s == 'VACANT' else ''}\n" for s in serials if s != "SWITCH")
        # one tenant leaves, the next one comes, and June is billed to neither
        + "A1,SWITCH,2020-01-01,2025-06-10\nA2,SWITCH,2025-06-20,\n",
        "consumption": "service_point,from,to,volume,unit,bill\n"
        + bills("VACANT", 1, 2, 3) + bills("GAP", 1, 2, 3, 4, 8, 9, 10, 11, 12) + bills("TAIL", 1, 2)
        + bills("FRESH", *range(1, 12)) + bills("CUT", *range(1, 13)) + bills("PAYS", *range(1, 13))
        + bills("SWITCH", 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12),
        "readings": "meter,read_at,value\n" + "".join(f"{s},{day},{days(day)}\n" for s in serials for day in firsts),
    }  # fmt: skip
    for kind, body in files.items():
        answer = client.post(f"/api/v1/imports/{kind}", content=body.encode())
        assert answer.status_code == 200, answer.text
    with live.database.transaction() as session:
        # cut in March, restored in October: the valve is open now, the orders tell what it was
        for answer, at in (("closed", "2025-03-01"), ("open", "2025-10-01")):
            order = orders.open_order(session, type="reread", by="test", service_point="CUT").order
            order.status, order.ended_at = "closed", datetime.fromisoformat(f"{at}T00:00:00+00:00")
            order.completion = {"code": "done", "answers": {"valve_after": answer}}
        session.connection().exec_driver_sql(
            "INSERT INTO place_fact (service_point, fact, state, since) VALUES ('CUT', 'valve', 'open', '2025-10-01')"
        )
    year = {"from": "2025-01-01", "to": "2026-01-01"}
    items = live.client("analyst").get("/api/v1/revenue-gap", params=year).json()["items"]
    assert {item["meter"]: (item["kind"], item["why"], round(item["m3"])) for item in items} == {
        "VACANT": ("running_unbilled", "no account", 275),
        "GAP": ("running_unbilled", "no bill", 92),
        "TAIL": ("running_unbilled", "no bill", 306),
        "SWITCH": ("running_unbilled", "no account; no bill", 30),
        "CUT": ("use_while_closed", "valve closed", 214),
    }


def test_codes_that_name_the_wrong_zone(town: Live) -> None:
    items = town.client("analyst").get("/api/v1/billing-zone-mismatches").json()["items"]
    assert [(item["account"], item["billing_zone"], item["zone"]) for item in items] == [
        ("A2", "B", "A"),
        ("A7", "Z", "A"),
    ]
    balance = town.client("analyst").get("/api/v1/zones/A/balance", params=PERIOD).json()
    assert "2 billing codes name another zone than the place lies in" in balance["notes"]
