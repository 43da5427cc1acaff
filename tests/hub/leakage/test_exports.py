"""A report of balances as files: what other programs read back from them."""

import io
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pyogrio
import pytest
from pypdf import PdfReader
from sqlalchemy.orm import Session

from hub.errors import BadInput
from hub.leakage import balances, exports
from tests import factories
from tests.conftest import Live
from tests.hub.leakage.test_zone_routes import fill

JANUARY = (date(2026, 1, 1), date(2026, 2, 1))
NASTY = "=1+1 <b>Zürich & Łódź</b> Ωμέγα\u202e"


@pytest.fixture
def found(session: Session) -> list[dict[str, Any]]:
    """The balances of a zone with a hostile name and without any meter."""
    factories.zone(session, name=NASTY)
    factories.service_point(session, zone="Z1")
    return balances.report(session, *JANUARY, zone=ZoneInfo("UTC"), actor="t")


def test_a_workbook_holds_terms_components_and_meters(
    session: Session, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    book = tmp_path / "b.xlsx"
    book.write_bytes(exports.written(session, found, *JANUARY, format="xlsx", utility="Town"))
    assert [name for name, _ in pyogrio.list_layers(book)] == ["Balance", "Components", "Meters"]
    meta, _, _, columns = pyogrio.raw.read(book, layer="Balance")
    read = dict(zip(meta["fields"], columns, strict=True))
    assert read["name"][0] == NASTY
    assert "water_losses" in read and "water_losses from 95 %" in read


def test_a_pdf_prints_any_name(session: Session, found: list[dict[str, Any]]) -> None:
    printed = exports.written(session, found, *JANUARY, format="pdf", utility="Town")
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(printed)).pages]
    assert len(pages) == 1 + len(found)
    assert "=1+1 <b>Zürich & Łódź</b> Ωμέγα" in pages[0].replace("\n", " ")
    assert "Apparent losses" in pages[1] and "page 2" in pages[1]


def test_unknown_formats_are_refused(session: Session, found: list[dict[str, Any]]) -> None:
    with pytest.raises(BadInput):
        exports.written(session, found, *JANUARY, format="doc", utility="Town")


def test_files_over_http_agree(live: Live, tmp_path: Path) -> None:
    fill(live)
    client = live.client("analyst")
    asked = {"from": "2026-01-01", "to": "2026-02-01"}
    plain = client.get("/api/v1/water-balance", params=asked).json()
    losses = [one["water_losses"] for one in [*plain["zones"], plain["system"]]]
    for format, media in exports.MEDIA_TYPES.items():
        answer = client.get("/api/v1/water-balance", params={**asked, "format": format})
        assert answer.status_code == 200 and answer.headers["content-type"] == media
        (tmp_path / f"b.{format}").write_bytes(answer.content)
    _, _, _, columns = pyogrio.raw.read(tmp_path / "b.xlsx", layer="Balance", columns=["water_losses"])
    assert list(columns[0]) == losses
    shapes = orjson.loads((tmp_path / "b.geojson").read_bytes())["features"]
    assert [one["properties"]["water_losses"] for one in shapes] == losses[:-1]
    text = PdfReader(tmp_path / "b.pdf").pages[0].extract_text()
    assert all(f"{loss:,.0f}" in text for loss in losses)
    assert client.get("/api/v1/water-balance", params={**asked, "format": "exe"}).status_code == 422
