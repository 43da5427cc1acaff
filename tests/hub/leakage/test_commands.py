"""`curbstop import` and `curbstop report`, run as a person runs them."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.cli import build
from hub.db import Database
from tests.hub.leakage.test_zone_routes import METERS, POINTS, READINGS, ZONES

PERIOD = ("--from", "2026-01-01", "--to", "2026-02-01")


@pytest.fixture(autouse=True)
def town(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", database.url)
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(tmp_path / "data"))
    for kind, body in (("zones", ZONES), ("service-points", POINTS), ("meters", METERS), ("readings", READINGS)):
        path = tmp_path / f"{kind}.csv"
        path.write_bytes(body)
        assert "new, 0 changed, 0 as before" in run("import", kind, str(path))


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else f"{result.output}{result.exception}"


def test_reports_in_every_format(tmp_path: Path) -> None:
    document = json.loads(run("report", "water-balance", *PERIOD))
    assert [zone["loss_m3"] for zone in document["zones"]] == [200, 60]
    assert document["system"]["loss_m3"] == 260
    one = json.loads(run("report", "water-balance", *PERIOD, "--zone", "B"))
    assert [zone["zone"] for zone in one["zones"]] == ["B"] and one["system"] is None
    lines = list(csv.DictReader(io.StringIO(run("report", "water-balance", *PERIOD, "--format", "csv"))))
    assert [(line["zone"], line["nrw"], line["revision"]) for line in lines] == [
        ("A", "200", "1"),
        ("B", "60", "1"),
        ("", "260", "1"),
    ]
    run("report", "water-balance", *PERIOD, "--format", "html", "--output", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "Lower town" in page and "Whole system" in page and "<script" not in page
    shapes = json.loads(run("report", "water-balance", *PERIOD, "--format", "geojson"))
    assert [shape["properties"]["loss_m3"] for shape in shapes["features"]] == [200, 60]


def test_what_cannot_be_reported() -> None:
    assert "is not a day" in run("report", "water-balance", "--from", "May", "--to", "2026-02-01", code=1)
    assert "has no day in it" in run("report", "water-balance", "--from", "2026-02-01", "--to", "2026-01-01", code=1)
    assert "There is no zone" in run("report", "water-balance", *PERIOD, "--zone", "Q", code=1)
    assert "pdf" in run("report", "water-balance", *PERIOD, "--format", "doc", code=2)


def test_a_bad_file_names_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("id,address,lon,lat,valve\nP7,,1,1,ajar\nP8,Elm 1,200,1,open\n")
    told = run("import", "service-points", str(path), code=1)
    assert "3 faults" in told and "ajar" in told and "200" in told


def test_an_audit_from_a_file(tmp_path: Path) -> None:
    toml = tmp_path / "audit.toml"
    toml.write_text('method = "easycalc"\n[inputs]\ndays = 365\nsources = [[1000, 0.02]]\nbilled_metered = 800\n')
    found = json.loads(run("report", "audit", str(toml)))
    assert (found["nrw"], found["limits_95"]["nrw"]) == (200, [180, 220])
    plain = tmp_path / "audit.json"
    plain.write_text('{"WS_OWN_SOURCES_VOL": 100, "AC_BILL_METER_VOL": 80}')
    assert json.loads(run("report", "audit", str(plain), "--method", "fwas_v5"))["WS_WATER_SUPPLIED_VOL"] == 100
    assert "names no method" in run("report", "audit", str(plain), code=1)
    plain.write_text("{")
    assert "neither TOML nor JSON" in run("report", "audit", str(plain), code=1)
    many = tmp_path / "many.csv"
    many.write_text("WS_OWN_SOURCES_VOL,AC_BILL_METER_VOL\n100,80\n50,\n")
    found = json.loads(run("report", "audit", str(many), "--method", "fwas_v5"))
    assert [one["WS_WATER_SUPPLIED_VOL"] for one in found] == [100, 50]
    many.write_text("WS_OWN_SOURCES_VOL\n100\nlots\n")
    assert "line 3" in run("report", "audit", str(many), "--method", "fwas_v5", code=1)
    assert "names no method" in run("report", "audit", str(many), code=1)
