"""Zones, mains and service points from every format, and what is refused of them."""

import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer
from shapely import LineString, MultiPolygon, Point, Polygon, box
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub import imports
from hub.imports import Fault, ImportRefused, Outcome

UTC = ZoneInfo("UTC")


def run(session: Session, kind: str, path: Path, zone: ZoneInfo = UTC) -> Outcome:
    return imports.run(session, kind, path, actor="test", zone=zone)


def refused(session: Session, kind: str, path: Path) -> list[Fault]:
    with pytest.raises(ImportRefused) as caught:
        run(session, kind, path)
    tables = ("zone", "main", "service_point", "meter", "billed_consumption", "tank_level", "account", "change")
    assert [session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables] == [0] * len(tables)
    return caught.value.faults


def geojson(path: Path, features: list[tuple[dict[str, Any], Any]], **members: Any) -> Path:
    path.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                **members,
                "features": [
                    {
                        "type": "Feature",
                        "properties": properties,
                        "geometry": None if shape is None else json.loads(shapely.to_geojson(shape)),
                    }
                    for properties, shape in features
                ],
            }
        )
    )
    return path


def ogr(path: Path, shapes: list[Any], crs: str, geometry_type: str, **columns: list[Any]) -> Path:
    pyogrio.raw.write(
        str(path),
        np.array([shapely.to_wkb(shape) for shape in shapes], dtype=object),
        [np.array(values, dtype=object) for values in columns.values()],
        list(columns),
        geometry_type=geometry_type,
        crs=crs,
        driver="GPKG" if path.suffix == ".gpkg" else "ESRI Shapefile",
    )
    return path


def zoned(path: Path) -> Path:
    return geojson(
        path,
        [
            ({"code": "TOWN", "name": "Town"}, box(0, 0, 4, 4)),
            ({"code": "A", "name": "Inner", "parent": "TOWN", "pressure_m": 48.1}, box(0, 0, 2, 2)),
        ],
    )


def test_zones_then_points_find_their_zone(session: Session, tmp_path: Path) -> None:
    outcome = run(session, "zones", zoned(tmp_path / "zones.geojson"))
    assert (outcome.inserted, outcome.updated, outcome.unchanged) == (2, 0, 0)
    points = tmp_path / "points.csv"
    points.write_bytes(
        "\ufeffid;address;lon;lat;valve;critical\n"
        'P1;"Hill; 1";1,5;1,5;open;yes\nP2;Hill 2;3.0;3.0;closed;\nP3;Far away;9;9;;no\n'.encode()
    )
    outcome = run(session, "service-points", points)
    assert outcome.inserted == 3 and "1 service points lie in no zone" in outcome.notes
    rows = session.execute(
        text("SELECT id, address, zone, critical, ST_X(geometry) FROM service_point ORDER BY id")
    ).all()
    assert rows == [
        ("P1", "Hill; 1", "A", True, 1.5),
        ("P2", "Hill 2", "TOWN", False, 3.0),
        ("P3", "Far away", None, False, 9.0),
    ]
    valves = session.execute(text("SELECT service_point, state FROM place_fact ORDER BY 1")).all()
    assert valves == [("P1", "open"), ("P2", "closed")]

    # the same file again changes nothing, a changed border moves the point
    assert run(session, "service-points", points).unchanged == 3
    bigger = geojson(
        tmp_path / "moved.geojson", [({"code": "A", "name": "Inner", "parent": "TOWN"}, box(0, 0, 3.5, 3.5))]
    )
    outcome = run(session, "zones", bigger)
    assert (outcome.updated, outcome.notes) == (
        1,
        ["1 zones changed: what they were stays in force for the days before", "1 service points changed zone"],
    )
    assert session.execute(
        text("SELECT zone, pressure_m FROM service_point p JOIN zone z ON z.code = p.zone WHERE id = 'P2'")
    ).one() == ("A", Decimal("48.1"))


def test_zones_that_share_ground_are_told(session: Session, tmp_path: Path) -> None:
    zones = [({"code": c, "name": c}, box(x, 0, x + 1, 1)) for c, x in (("A", 0), ("B", 0.5), ("C", 1.5))]
    outcome = run(session, "zones", geojson(tmp_path / "zones.geojson", zones))
    assert outcome.notes == ["1 pair of zones shares ground (A and B): see GET /api/v1/topology"]


def test_a_file_never_overrides_what_a_crew_reported(session: Session, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("id,address,lon,lat,valve\nP1,Hill 1,1,1,open\n")
    run(session, "service-points", points)
    session.execute(text("UPDATE place_fact SET state = 'closed', order_id = gen_random_uuid()"))
    outcome = run(session, "service-points", points)
    assert session.execute(text("SELECT state FROM place_fact")).scalar_one() == "closed"
    assert "1 valves left as crews reported them" in outcome.notes


def test_geopackage_and_shapefile_in_another_system(session: Session, tmp_path: Path) -> None:
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32636", always_xy=True)
    corners = [to_utm.transform(*corner) for corner in ((33.0, 34.6), (33.1, 34.6), (33.1, 34.7), (33.0, 34.7))]
    square = MultiPolygon([Polygon(corners)])
    ogr(tmp_path / "z.gpkg", [square], "EPSG:32636", "MultiPolygon", code=["LT"], name=["L-Town"])
    assert run(session, "zones", tmp_path / "z.gpkg").inserted == 1

    # a Shapefile cuts the column names to ten characters
    ogr(
        tmp_path / "points.shp",
        [Point(*to_utm.transform(33.05, 34.65))],
        "EPSG:32636",
        "Point",
        id=["P1"],
        address=["Hill 1"],
        premise_cl=["residential"],
    )
    with zipfile.ZipFile(tmp_path / "points.zip", "w") as archive:
        for part in tmp_path.glob("points.*"):
            if part.suffix != ".zip":
                archive.write(part, part.name)
    # an upload has no name to be recognised by
    upload = (tmp_path / "points.zip").rename(tmp_path / "upload")
    assert run(session, "service-points", upload).inserted == 1
    found = session.execute(text("SELECT zone, premise_class, ST_X(geometry), ST_Y(geometry) FROM service_point")).one()
    assert found == ("LT", "residential", pytest.approx(33.05, abs=1e-7), pytest.approx(34.65, abs=1e-7))


def test_geojson_with_a_crs_of_its_own_and_numeric_ids(session: Session, tmp_path: Path) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(0.5, 0.5)
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    path = geojson(
        tmp_path / "mains.geojson", [({"id": 17, "diameter_mm": 150}, LineString([(0, 0), (x, y)]))], crs=crs
    )
    assert run(session, "mains", path).inserted == 1
    found = session.execute(text("SELECT id, diameter_mm, ST_XMax(geometry) FROM main")).one()
    assert found == ("17", 150, pytest.approx(0.5))


def test_coordinate_systems_and_parts_that_cannot_be_used(session: Session, tmp_path: Path) -> None:
    square = Polygon([(0, 0), (1, 0), (1, 1), (0, 1)])
    shape = [({"code": "A", "name": "a"}, square)]
    faults = []
    for number, crs in enumerate(({"type": "name", "properties": ["x"]}, "EPSG:x", {"properties": {"name": []}})):
        path = geojson(tmp_path / f"{number}.geojson", shape, crs=crs)
        with pytest.raises(ImportRefused) as caught:
            run(session, "zones", path)
        faults += caught.value.faults
    assert all("coordinate system" in fault.problem and fault.remedy for fault in faults)
    # a drawing's own grid lies nowhere on earth
    ogr(tmp_path / "grid.gpkg", [square], 'LOCAL_CS["site grid",UNIT["metre",1]]', "Polygon", code=["A"], name=["a"])
    with pytest.raises(ImportRefused, match="cannot be turned into longitude and latitude"):
        run(session, "zones", tmp_path / "grid.gpkg")
    ogr(tmp_path / "z.shp", [square], "EPSG:4326", "Polygon", code=["A"], name=["a"])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "z.shp", "z.shp")
        archive.write(tmp_path / "z.dbf", "Z.DBF")
    with pytest.raises(ImportRefused, match=r"lacks z\.shx"):
        run(session, "zones", tmp_path / "z.zip")


def test_wkt_in_csv(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "zones.csv"
    path.write_text('code,name,wkt\nA,Inner,"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"\n')
    assert run(session, "zones", path).inserted == 1


BAD_POINTS = [
    ("id,address,lon,lat\nP1,Hill,34.6,133\n", (2, "lon, lat"), "look swapped"),
    ("id,address,lon,lat\nP1,Hill,nan,1\n", (2, "lon, lat"), "not finite"),
    ("id,address,lon,lat\nP1,Hill,1e400,1\n", (2, "lon, lat"), "not finite"),
    ("id,address,lon,lat\nP1,Hill,east,1\n", (2, "lon"), "not a number"),
    ("id,address,lon,lat\nP1,Hill,,1\n", (2, "lon"), "is missing"),
    ("id,address,lon,lat\nP1,,1,1\n", (2, "address"), "is blank"),
    ("id,address,lon,lat\nP1,Hill,1,1\n\nP1,Dale,1,1\n", (4, "id"), "already in row 2"),
    ("id,address,lon,lat,valve\nP1,Hill,1,1,ajar\n", (2, "valve"), "known words"),
    ("id,address,lon,lat,units\nP1,Hill,1,1,1e99\n", (2, "units"), "too long a number"),
    ("id,address,lon,lat,units\nP1,Hill,1,1,1.5\n", (2, "units"), "whole number"),
    ("id,address,lon,lat\nP1,Hill,1\n", (2, None), "3 fields where the header has 4"),
    ('id,address,lon,lat\nP1,"Hill,1,1\n', (2, None), "is not CSV"),
    ("id,lon,lat\nP1,1,1\n", (None, "address"), "is missing"),
    ("id,id,address\nP1,P1,Hill\n", (None, "id"), "names a column twice"),
    ("name;colour\nx;red\n", (1, None), "none of the known columns"),
    ("id,address\nP1,Hill\n", (None, None), "no geometry columns"),
    ("id,address,lon,lat\n", (None, None), "has a header and no rows"),
    ("", (None, None), "is empty"),
    (" \n\n", (None, None), "is empty"),
    ("id,address,lon,lat\nP\x001,Hill,1,1\n", (2, None), "NUL byte"),
    ('id,address,wkt\nP1,Hill,"POLYGON ((0 0, 1 1, 0 1, 0 0))"\n', (2, "geometry"), "is not a point"),
    ("id,address,wkt\nP1,Hill,POINT EMPTY\n", (2, "wkt"), "has no geometry"),
    ("id,address,wkt\nP1,Hill,PINT (1 1)\n", (2, "wkt"), "not well-known text"),
]


@pytest.mark.parametrize(("content", "where", "problem"), BAD_POINTS)
def test_bad_points(
    session: Session, tmp_path: Path, content: str, where: tuple[int | None, str | None], problem: str
) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    fault = refused(session, "service-points", path)[0]
    assert (fault.row, fault.column) == where
    assert problem in fault.problem
    assert fault.remedy


def test_every_bad_row_is_named(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("id,address,lon,lat,units\nP1,,1,1,x\nP2,Hill,1,1,2\nP3,Dale,190,1,y\nP4\n")
    assert [(f.row, f.column) for f in refused(session, "service-points", path)] == [
        (2, "address"),
        (2, "units"),
        (4, "lon, lat"),
        (4, "units"),
        (5, None),
    ]


def test_a_part_of_a_zone_with_a_fault_has_none_itself(session: Session, tmp_path: Path) -> None:
    features = [
        ({"code": "A", "name": "A", "pressure_m": "x"}, box(0, 0, 1, 1)),
        ({"code": "B", "name": "B", "parent": "A"}, box(0, 0, 0.5, 0.5)),
    ]
    faults = refused(session, "zones", geojson(tmp_path / "z.geojson", features))
    assert [(f.row, f.column) for f in faults] == [(1, "pressure_m")]


def test_wrong_encoding(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes("id,address,lon,lat\nP1,Hill,1,1\nP2,Königsweg,1,1\n".encode("latin-1"))
    fault = refused(session, "service-points", path)[0]
    assert fault.row == 3 and "not UTF-8" in fault.problem


BAD_ZONES: list[tuple[Any, str]] = [
    ([({"code": "A", "name": "A"}, Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]))], "not a valid geometry"),
    ([({"code": "A", "name": "A"}, Point(0, 0))], "is not a polygon"),
    ([({"code": "A", "name": "A"}, None)], "has no geometry"),
    ([({"code": "A", "name": "A"}, box(0, 0, 500000, 4000000))], "coordinate system"),
    ([({"code": "A", "name": "A", "parent": "B"}, box(0, 0, 1, 1))], "is not known"),
    ([({"code": "A", "name": "A", "parent": "A"}, box(0, 0, 1, 1))], "is the zone itself"),
    (
        [
            ({"code": "A", "name": "A", "parent": "B"}, box(0, 0, 1, 1)),
            ({"code": "B", "name": "B", "parent": "A"}, box(0, 0, 2, 2)),
        ],
        "through its parents",
    ),
    ([({"code": "A\x00", "name": "A"}, box(0, 0, 1, 1))], "cannot be stored"),
    ([({"code": {"x": 1}, "name": "A"}, box(0, 0, 1, 1))], "not plain text"),
    ([({"code": "A", "name": "A", "pressure_m": 10**40}, box(0, 0, 1, 1))], "too long a number"),
    ([({"code": "A", "name": "A", "pressure_m": -3}, box(0, 0, 1, 1))], "greater than zero"),
]


@pytest.mark.parametrize(("features", "problem"), BAD_ZONES)
def test_bad_zones(shared_database: Any, tmp_path: Path, features: Any, problem: str) -> None:
    # a refusal found after writing relies on the caller's rollback, as every door does
    path = geojson(tmp_path / "zones.geojson", features)
    with pytest.raises(ImportRefused) as caught, shared_database.transaction() as session:
        run(session, "zones", path)
    assert problem in caught.value.faults[0].problem
    with shared_database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM zone")).scalar_one() == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"type": "FeatureCollection"', "not GeoJSON"),
        (b'{"type": "Topology"}', "no GeoJSON FeatureCollection"),
        (b"[1, 2]", "no GeoJSON FeatureCollection"),
        (b'{"type": "FeatureCollection", "features": [7]}', "not a GeoJSON feature"),
        (
            b'{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"code":"A","name":"A"},"geometry":{"type":"Polygon","coordinates":[[1,2]]}}]}',
            "cannot be read",
        ),
        (
            b'{"type":"FeatureCollection","crs":{"properties":{"name":"EPSG:999999"}},"features":[]}',
            "coordinate system",
        ),
        (b"[" * 100_000, "not GeoJSON"),
        (b"PK\x03\x04 not really", "archive is broken"),
        (b"SQLite format 3\x00 not really", "GeoPackage cannot be read"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"\x00\x01\x02", "NUL"),
    ],
)
def test_broken_files(session: Session, tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    fault = refused(session, "zones", path)[0]
    assert problem in fault.problem
    assert str(tmp_path) not in fault.sentence()
