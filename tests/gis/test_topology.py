"""Faults of the map: each kind is found where it was drawn, and a clean map has none."""

import pytest
from geoalchemy2.shape import from_shape
from shapely import LineString, MultiLineString, MultiPolygon, Polygon, box
from sqlalchemy.orm import Session

from gis import topology
from hub.models import Main, Zone
from tests import factories

# some 11 m on the ground near the equator
STEP = 0.0001


def zone(session: Session, code: str, shape: Polygon, parent: str | None = None) -> None:
    session.add(Zone(code=code, name=code, parent=parent, geometry=from_shape(MultiPolygon([shape]), 4326)))
    session.flush()


def main(session: Session, id: str, *points: tuple[float, float]) -> None:
    session.add(Main(id=id, geometry=from_shape(MultiLineString([LineString(points)]), 4326)))
    session.flush()


def found(session: Session) -> list[tuple[str, str, str | None]]:
    return [(fault.kind, fault.subject, fault.other) for fault in topology.faults(session)]


def test_a_clean_map_has_no_faults(session: Session) -> None:
    assert found(session) == []
    zone(session, "A", box(0, 0, 10 * STEP, 10 * STEP))
    zone(session, "B", box(10 * STEP, 0, 20 * STEP, 10 * STEP))
    zone(session, "A1", box(0, 0, 5 * STEP, 10 * STEP), parent="A")
    main(session, "M1", (STEP, STEP), (15 * STEP, STEP))
    main(session, "M2", (15 * STEP, STEP), (15 * STEP, 9 * STEP))
    factories.service_point(session, "P1", zone="A", lon=6 * STEP, lat=2 * STEP)
    # a courtyard inside one zone is that zone's own business
    ring = Polygon(
        box(30 * STEP, 0, 40 * STEP, 10 * STEP).exterior, [box(33 * STEP, 3 * STEP, 36 * STEP, 6 * STEP).exterior]
    )
    zone(session, "C", ring)
    assert found(session) == []


def test_each_kind_is_found(session: Session) -> None:
    zone(session, "A", box(0, 0, 10 * STEP, 10 * STEP))
    zone(session, "B", box(9 * STEP, 0, 20 * STEP, 10 * STEP))
    zone(session, "A1", box(5 * STEP, 8 * STEP, 8 * STEP, 12 * STEP), parent="A")
    # four zones around a hole of 2 × 2 steps
    for code, shape in {
        "N": box(100 * STEP, 6 * STEP, 110 * STEP, 10 * STEP),
        "S": box(100 * STEP, 0, 110 * STEP, 4 * STEP),
        "E": box(106 * STEP, 4 * STEP, 110 * STEP, 6 * STEP),
        "W": box(100 * STEP, 4 * STEP, 104 * STEP, 6 * STEP),
    }.items():
        zone(session, code, shape)
    main(session, "M1", (STEP, STEP), (19 * STEP, STEP))
    main(session, "M2", (100 * STEP, STEP), (101 * STEP, STEP))
    # an end that misses its neighbour by some 10 cm is joined
    main(session, "M3", (19 * STEP + 1e-6, STEP), (19 * STEP, 5 * STEP))
    factories.service_point(session, "P1", zone="B", lon=15 * STEP, lat=2 * STEP)
    factories.service_point(session, "P2", lon=50 * STEP, lat=STEP)
    assert sorted(found(session)) == [
        ("gap", "town", "E"),
        ("main_apart", "M2", None),
        ("outside_parent", "A1", "A"),
        ("overlap", "A", "B"),
        ("point_in_no_zone", "P2", "B"),
        ("point_unreached", "P2", "M3"),
    ]
    by_kind = {fault.kind: fault for fault in topology.faults(session)}
    # a step is 11.13 m east and 11.06 m north here
    assert by_kind["overlap"].size == pytest.approx(10 * 11.13 * 11.06, rel=0.01)
    assert by_kind["gap"].size == pytest.approx(4 * 11.13 * 11.06, rel=0.01)
    assert by_kind["point_unreached"].size == pytest.approx(31 * 11.13, rel=0.01)
    assert by_kind["point_unreached"].position == (0.005, 0.0001)
    assert topology.faults(session, ["overlap"])[0].document()["size_m2"] == pytest.approx(1231, rel=0.01)
    assert [fault.kind for fault in topology.faults(session, ["gap", "overlap"], limit=1)] == ["gap", "overlap"]
