"""Vector tiles of the network and its open work (Mapbox Vector Tile 2.1, Web Mercator). Reads only."""

import math
from uuid import UUID

from psycopg import sql
from sqlalchemy.orm import Session

from hub.db import raw_of

EXTENT = 4096
BUFFER = 64
MAX_ZOOM = 22
# Below this zoom a tile shows one place per pixel cell, with how many it stands for: a town of 50,000 places is one
# tile there, and nobody can see more.
FULL_POINTS_ZOOM = 13

# Bounds in degrees are computed by the caller; shapes are cut before they are projected, so that no vertex near a pole
# can fail.
_SHAPES = """
    SELECT ST_AsMVT(t, {layer}, 4096, 'geom') FROM (
        SELECT {columns}, ST_AsMVTGeom(
            ST_Transform(
                ST_ClipByBox2D(geometry, ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)), 3857),
            ST_TileEnvelope(%(z)s, %(x)s, %(y)s), 4096, 64, true) AS geom
        FROM {table}
        WHERE geometry && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
        -- what lies within another is drawn over it
        ORDER BY ST_Area(geometry) DESC, 1
    ) t WHERE geom IS NOT NULL
"""
_POINTS = """
    SELECT ST_AsMVT(t, 'service_points', 4096, 'geom') FROM (
        SELECT p.id, CASE WHEN %(addresses)s THEN p.address END AS address, p.zone, f.state AS valve, ST_AsMVTGeom(
            ST_Transform(p.geometry, 3857), ST_TileEnvelope(%(z)s, %(x)s, %(y)s), 4096, 64, true) AS geom
        FROM service_point p LEFT JOIN place_fact f ON f.service_point = p.id AND f.fact = 'valve'
        WHERE p.geometry && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
    ) t WHERE geom IS NOT NULL
"""
_POINT_CELLS = """
    SELECT ST_AsMVT(t, 'service_points', 4096, 'geom') FROM (
        SELECT min(id) AS id, count(*) AS places, ST_AsMVTGeom(
            ST_Transform((array_agg(geometry))[1], 3857), ST_TileEnvelope(%(z)s, %(x)s, %(y)s), 4096, 64, true) AS geom
        FROM service_point
        WHERE geometry && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
        GROUP BY ST_SnapToGrid(geometry, (%(east)s - %(west)s) / 512)
    ) t WHERE geom IS NOT NULL
"""
_ORDERS = """
    SELECT ST_AsMVT(t, 'work_orders', 4096, 'geom') FROM (
        SELECT o.id::text AS id, o.number, o.type, o.status, o.priority, c.name AS crew, ST_AsMVTGeom(
            ST_Transform(coalesce(o.position, p.geometry), 3857),
            ST_TileEnvelope(%(z)s, %(x)s, %(y)s), 4096, 64, true) AS geom
        FROM work_order o
        LEFT JOIN service_point p ON p.id = o.service_point
        LEFT JOIN crew c ON c.id = o.crew_id
        WHERE o.status IN ('held', 'ready', 'assigned', 'en_route', 'on_site', 'paused')
          AND coalesce(o.position, p.geometry) && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
          AND (%(crew)s::uuid IS NULL OR o.crew_id = %(crew)s::uuid)
    ) t WHERE geom IS NOT NULL
"""
LAYERS = ("zones", "mains", "service_points", "work_orders")


def bounds(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees of a tile with its buffer."""
    margin = BUFFER / EXTENT
    return (
        max(-180.0, _longitude(z, x - margin)),
        _latitude(z, y + 1 + margin),
        min(180.0, _longitude(z, x + 1 + margin)),
        _latitude(z, y - margin),
    )


def _longitude(z: int, x: float) -> float:
    return float(x / 2**z * 360 - 180)


def _latitude(z: int, y: float) -> float:
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * min(max(y / 2**z, 0.0), 1.0)))))


def tile(
    session: Session, layer: str, z: int, x: int, y: int, *, crew_id: UUID | None = None, addresses: bool = True
) -> bytes:
    """One tile of `layer` (one of LAYERS), no bytes where there is nothing.

    `crew_id` limits orders to that crew's; without `addresses` places have none.
    """
    west, south, east, north = bounds(z, x, y)
    parameters = {"z": z, "x": x, "y": y, "west": west, "south": south, "east": east, "north": north, "crew": crew_id}
    parameters["addresses"] = addresses
    row = raw_of(session).execute(_statement(layer, z), parameters).fetchone()
    return bytes(row[0]) if row and row[0] else b""


def _statement(layer: str, z: int) -> sql.SQL | sql.Composed:
    if layer == "work_orders":
        return sql.SQL(_ORDERS)
    if layer == "service_points":
        return sql.SQL(_POINTS if z >= FULL_POINTS_ZOOM else _POINT_CELLS)
    columns = {"zones": ("code", "name", "parent"), "mains": ("id", "diameter_mm", "material")}[layer]
    # numeric has no counterpart in a tile
    shown = [
        sql.SQL("diameter_mm::float8 AS diameter_mm") if c == "diameter_mm" else sql.Identifier(c) for c in columns
    ]
    return sql.SQL(_SHAPES).format(
        layer=sql.Literal(layer),
        columns=sql.SQL(", ").join(shown),
        table=sql.Identifier({"zones": "zone", "mains": "main"}[layer]),
    )
