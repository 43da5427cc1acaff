"""Night flow of a zone from what its meters reported, over HTTP and by command."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from hub.cli import build
from tests.conftest import Live
from tests.hub.leakage.test_zone_routes import ZONES

PERIOD = {"from": "2026-01-01", "to": "2026-01-04"}
# the utility's midnight
MIDNIGHT = datetime(2026, 1, 1, 6, tzinfo=UTC)
HOURS = 72


def inflow(hour: int) -> float:
    """10 m³/h by day, 4 between two and four, 3 at five in the morning; local hours."""
    return 4.0 if hour % 24 in (2, 3) else 3.0 if hour % 24 == 5 else 10.0


def fill(live: Live) -> None:
    client = live.client("admin")
    zones = ["code,name,wkt,pressure_m", 'A,Upper,"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))",50']
    zones += ['B,Lower,"POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))",']
    points = ["id,address,lon,lat,premise_class"] + [f"P{n},a,0.5,0.{n + 1},residential" for n in range(8)]
    points += ["S1,b,0.5,0.05,commercial", "Q1,c,1.5,0.5,residential"]
    meters = [
        "serial,service_point,zone,direction,to_zone,unit,dials,register",
        "IN,,A,in,,m3,7,",
        "TR,,A,out,B,m3,,volume_interval",
    ]
    meters += [f"C{n},P{n},,,,m3,5,{'volume_interval' if n == 5 else ''}" for n in range(6)]
    reads = ["meter,register,read_at,value"]
    stand, tank = 1000.0, ["tank,read_at,level_m,area_m2,zone"]
    for hour in range(HOURS + 1):
        at = (MIDNIGHT + timedelta(hours=hour)).isoformat()
        reads.append(f"IN,,{at},{stand:.3f}")
        if hour:
            reads.append(f"TR,volume_interval,{at},1")
        # six metered homes, 12 litres an hour each; the last tells what each hour took
        reads += [f"C{n},,{at},{100 + 0.012 * hour:.3f}" for n in range(5)] + [f"C5,volume_interval,{at},0.012"]
        # the tank takes one of the ten cubic metres by day and gives half of one back at night
        stand += inflow(hour)
        tank.append(f"T,{at},{2 + 0.01 * (hour % 24 in (3, 4))},50,A")
    for kind, lines in (
        ("zones", zones),
        ("mains", ["id,material,wkt", 'm,PVC,"LINESTRING (0.5 0.1, 0.5 0.2)"']),
        ("service-points", points),
        ("meters", meters),
        ("readings", reads),
        ("tank-levels", tank),
    ):
        answer = client.post(f"/api/v1/imports/{kind}", content="\n".join(lines).encode())
        assert answer.status_code == 200, answer.text


def test_a_zone_at_night(live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fill(live)
    client = live.client("analyst")
    found = client.get("/api/v1/zones/A/night-flow", params=PERIOD).json()
    # 4 in, 1 on to B; the tank rises 0.5 m³ from two to three and holds until four
    assert found["mnf_m3_h"] == pytest.approx(4 - 1 - 0.25)
    assert [night["day"] for night in found["nights"]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    # eight homes at what six of them were seen to use, one shop assessed
    assert found["night_use_m3_h"] == pytest.approx(8 * 0.012 + 0.008)
    uses = {use["premise_class"]: use["source"] for use in found["night_use"]}
    assert uses == {"residential": "metered", "commercial": "assessed"}
    assert found["nnf_m3_h"] == pytest.approx(2.75 - 0.104)
    background = (20 * found["mains_km"] + 1.25 * 9) / 1000
    assert found["background_m3_h"] == pytest.approx(background)
    assert found["excess_m3_h"] == pytest.approx(2.75 - 0.104 - background)
    assert found["n1"] == 1.5 and found["night_day_factor_h"] is None and found["leakage_m3_day"] is None
    lowest = client.get("/api/v1/zones/A/night-flow", params={**PERIOD, "method": "lowest_hour"}).json()
    # 3 in at five less 1 on to B; the tank stands still
    assert lowest["mnf_m3_h"] == pytest.approx(2)
    other = client.get("/api/v1/zones/B/night-flow", params=PERIOD).json()
    assert other["mnf_m3_h"] == pytest.approx(1) and other["background_m3_h"] is None
    before = client.get("/api/v1/zones/A/night-flow", params={"from": "2025-01-01", "to": "2025-01-03"}).json()
    assert before["mnf_m3_h"] is None and before["coverage"]["nights"] == 0
    for bad in ({"method": "x"}, {"n1": "9"}, {"n1": "nan"}, {"from": "2026-02-01"}, {"to": "2036-01-01"}):
        assert client.get("/api/v1/zones/A/night-flow", params={**PERIOD, **bad}).status_code == 422, bad
    assert client.get("/api/v1/zones/Z/night-flow", params=PERIOD).status_code == 404
    assert client.get("/api/v1/zones/system/night-flow", params=PERIOD).json()["zone"] is None

    monkeypatch.setenv("CURBSTOP_DATABASE_URL", live.database.url)
    monkeypatch.setenv("CURBSTOP_TIME_ZONE", "America/Chicago")
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(tmp_path))

    period = ("--from", PERIOD["from"], "--to", PERIOD["to"])

    def run(*words: str) -> str:
        result = CliRunner().invoke(build(), ("report", "night-flow", *period, *words))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert json.loads(run("--zone", "A")) == found
    lines = list(csv.DictReader(io.StringIO(run("--format", "csv"))))
    assert [(line["zone"], float(line["mnf_m3_h"])) for line in lines[:2]] == [("A", pytest.approx(2.75)), ("B", 1)]
    assert "Whole system" in run("--format", "html")


def test_a_leak_that_crews_stopped(live: Live) -> None:
    client = live.client("admin")
    assert client.post("/api/v1/imports/zones", content=ZONES).status_code == 200
    answers = {"code": "repaired", "pipe": "main", "flow_m3_h": "2.5", "known_at": "2026-01-01T06:00:00Z",
               "located_at": "2026-01-01T18:00:00Z", "stopped_at": "2026-01-02T06:00:00Z"}  # fmt: skip
    with live.database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO work_order (id, number, type, purpose, type_snapshot, status, zone, opened_at, opened_by,"
                " ended_at, details, completion) VALUES (gen_random_uuid(), 'W-1', 'leak_repair', 'leak_repair', '{}',"
                " 'closed', 'A', '2026-01-01T06:00Z', 'test', '2026-01-02T07:00Z',"
                ' \'{"began_at": "2025-12-31T06:00:00Z"}\', CAST(:completion AS jsonb))'
            ),
            {"completion": json.dumps({"code": "repaired", "answers": answers})},
        )
    found = client.get("/api/v1/zones/A/night-flow", params=PERIOD).json()["babe"]
    (burst,) = found["bursts"]
    assert (burst["awareness_h"], burst["location_h"], burst["repair_h"]) == (24, 12, 12)
    # it had begun before the period: a day of it lies inside
    assert found["bursts_m3"] == pytest.approx(2.5 * 24)
