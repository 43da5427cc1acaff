"""Faults of the map: zones that overlap or leave gaps, places outside zones or far from every main, loose mains.

Reads only. A water balance is as good as its map: water used where two zones overlap is anybody's, a place in a gap is
nobody's, and a place that no main reaches is a wrong coordinate or a main that nobody drew. Distances and areas are
metres on the ground (geography), whatever the coordinate system the files came in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

# A place farther than this from every main is not connected to any of them: service lines are rarely longer.
REACH_M = 150.0
# Mains whose ends lie closer than this are joined: what digitising by hand leaves.
JOIN_M = 0.5
# Slivers below this come from rounding, not from drawing.
SLIVER_M2 = 1.0
KINDS = ("overlap", "gap", "outside_parent", "point_in_no_zone", "point_unreached", "main_apart")

_JOIN_DEGREES = JOIN_M / 111_320


@dataclass(slots=True, frozen=True)
class Fault:
    """One fault: its kind, what it is about, how large, and where to look.

    `size` is m² for areas, m for distances and lengths, None where neither fits. `position` is (lon, lat).
    """

    kind: str
    subject: str
    other: str | None
    size: float | None
    position: tuple[float, float]
    text: str

    def document(self) -> dict[str, Any]:
        """The fault as a JSON object."""
        unit = {"overlap": "m2", "gap": "m2", "outside_parent": "m2"}.get(self.kind, "m")
        return {
            "kind": self.kind,
            "subject": self.subject,
            "other": self.other,
            f"size_{unit}": None if self.size is None else round(self.size, 1),
            "position": list(self.position),
            "text": self.text,
        }


_STATEMENTS = {
    # two zones side by side that share ground
    "overlap": """
        SELECT a.code AS subject, b.code AS other, ST_Area(s.g::geography) AS size, ST_PointOnSurface(s.g) AS p
        FROM zone a JOIN zone b ON a.code < b.code AND a.parent IS NOT DISTINCT FROM b.parent
            AND a.geometry && b.geometry AND ST_Relate(a.geometry, b.geometry, '2********')
        CROSS JOIN LATERAL (SELECT ST_CollectionExtract(ST_Intersection(a.geometry, b.geometry), 3) AS g) s
        WHERE ST_Area(s.g::geography) >= :sliver
    """,
    # holes in what zones of one parent cover together, that no single zone of theirs has
    "gap": """
        SELECT coalesce(u.parent, 'town') AS subject, near.code AS other, ST_Area(h.g::geography) AS size,
            ST_PointOnSurface(h.g) AS p
        FROM (SELECT parent, ST_Union(geometry) AS g FROM zone GROUP BY parent HAVING count(*) > 1) u
        CROSS JOIN LATERAL ST_Dump(u.g) part
        CROSS JOIN LATERAL ST_DumpRings(part.geom) ring
        CROSS JOIN LATERAL (SELECT ST_MakePolygon(ST_ExteriorRing(ring.geom)) AS g) h
        CROSS JOIN LATERAL (
            SELECT z.code FROM zone z WHERE z.parent IS NOT DISTINCT FROM u.parent
            ORDER BY z.geometry <-> h.g, z.code LIMIT 1
        ) near
        WHERE ring.path[1] > 0 AND ST_Area(h.g::geography) >= :sliver
            AND NOT EXISTS (
                SELECT FROM zone z CROSS JOIN LATERAL ST_Dump(z.geometry) d CROSS JOIN LATERAL ST_DumpRings(d.geom) r
                WHERE z.parent IS NOT DISTINCT FROM u.parent AND r.path[1] > 0 AND z.geometry && h.g
                    AND ST_Equals(ST_MakePolygon(ST_ExteriorRing(r.geom)), h.g)
            )
    """,
    "outside_parent": """
        SELECT c.code AS subject, p.code AS other, ST_Area(s.g::geography) AS size, ST_PointOnSurface(s.g) AS p
        FROM zone c JOIN zone p ON p.code = c.parent
        CROSS JOIN LATERAL (SELECT ST_CollectionExtract(ST_Difference(c.geometry, p.geometry), 3) AS g) s
        WHERE NOT ST_IsEmpty(s.g) AND ST_Area(s.g::geography) >= :sliver
    """,
    "point_in_no_zone": """
        SELECT p.id AS subject, near.code AS other, ST_Distance(p.geometry::geography, near.g::geography) AS size,
            p.geometry AS p
        FROM service_point p LEFT JOIN LATERAL (
            SELECT z.code, z.geometry AS g FROM zone z ORDER BY z.geometry <-> p.geometry, z.code LIMIT 1
        ) near ON true
        WHERE p.zone IS NULL AND EXISTS (SELECT FROM zone)
    """,
    # the box in degrees lets the index work; it is wide enough up to 75° of latitude
    "point_unreached": """
        SELECT p.id AS subject, near.id AS other, ST_Distance(p.geometry::geography, near.g::geography) AS size,
            p.geometry AS p
        FROM service_point p CROSS JOIN LATERAL (
            SELECT m.id, m.geometry AS g FROM main m ORDER BY m.geometry <-> p.geometry LIMIT 1
        ) near
        WHERE NOT EXISTS (
            SELECT FROM main m WHERE m.geometry && ST_Expand(p.geometry, :reach / 28800.0, :reach / 110000.0)
                AND ST_DWithin(m.geometry::geography, p.geometry::geography, :reach)
        )
    """,
    # mains that touch no way to the largest connected part of the network
    "main_apart": """
        SELECT c.subject, NULL AS other, c.size, c.p FROM (
            SELECT min(id) AS subject, sum(ST_Length(geometry::geography)) AS size,
                ST_PointOnSurface((array_agg(geometry ORDER BY id))[1]) AS p,
                rank() OVER (ORDER BY sum(ST_Length(geometry::geography)) DESC, min(id)) AS place
            FROM (SELECT id, geometry, ST_ClusterDBSCAN(geometry, :join, 1) OVER () AS part FROM main) m
            GROUP BY part
        ) c WHERE c.place > 1
    """,
}


def faults(session: Session, kinds: Sequence[str] = KINDS, *, limit: int = 1000) -> list[Fault]:
    """Faults of the given kinds, at most `limit` of each, the largest first."""
    found: list[Fault] = []
    for kind in kinds:
        rows = session.execute(
            text(
                # zones as they are now; those given up keep no border
                "WITH zone AS NOT MATERIALIZED (SELECT * FROM zone WHERE valid_to IS NULL) "  # noqa: S608  (our own statements)
                f"SELECT subject, other, size, ST_X(p) AS lon, ST_Y(p) AS lat FROM ({_STATEMENTS[kind]}) f"
                " ORDER BY size DESC NULLS LAST, subject, other LIMIT :limit"
            ),
            {"sliver": SLIVER_M2, "reach": REACH_M, "join": _JOIN_DEGREES, "limit": limit},
        )
        found += [
            Fault(kind, subject, other, size, (round(lon, 7), round(lat, 7)), _text(kind, subject, other, size))
            for subject, other, size, lon, lat in rows
        ]
    return found


def _text(kind: str, subject: str, other: str | None, size: float | None) -> str:
    """The fault in a sentence, with what to do."""
    measure = "" if size is None else f"{size:,.0f}"
    return {
        "overlap": f"Zones {subject} and {other} share {measure} m²: draw their border once, and import both again.",
        "gap": f"{measure} m² between the zones of {subject}, beside {other}, are in no zone: close the gap.",
        "outside_parent": f"{measure} m² of zone {subject} lie outside its parent {other}: redraw one of the two.",
        "point_in_no_zone": f"Service point {subject} lies in no zone, {measure} m from {other}: check its position.",
        "point_unreached": f"Service point {subject} is {measure} m from the nearest main {other}: a wrong position, or"
        " a main that is missing from the map.",
        "main_apart": f"Main {subject} and what it joins ({measure} m) touch no other main: a missing piece, or ends"
        f" more than {JOIN_M} m apart.",
    }[kind]


_WORDS = {
    "overlap": ("pair of zones shares ground", "pairs of zones share ground"),
    "gap": ("gap between zones", "gaps between zones"),
    "outside_parent": ("zone reaches beyond its parent", "zones reach beyond their parents"),
    "point_in_no_zone": ("service point lies in no zone", "service points lie in no zone"),
    "point_unreached": (
        f"service point lies more than {REACH_M:.0f} m from every main",
        f"service points lie more than {REACH_M:.0f} m from every main",
    ),
    "main_apart": ("piece of the network touches no other main", "pieces of the network touch no other main"),
}


def notes(session: Session, kinds: Sequence[str]) -> list[str]:
    """One sentence for each kind of fault that the map has, naming the first three; for whoever imports a file."""
    found = []
    for kind in kinds:
        rows = faults(session, [kind])
        if rows:
            named = ", ".join(
                f"{row.subject} and {row.other}" if kind == "overlap" else row.subject for row in rows[:3]
            )
            words = _WORDS[kind][len(rows) > 1]
            found.append(f"{len(rows)} {words} ({named}{', …' if len(rows) > 3 else ''}): see GET /api/v1/topology")
    return found
