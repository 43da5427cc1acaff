"""The network and its work as OGC API Features collections: what QGIS and GDAL open. Reads only.

OGC API - Features - Part 1: Core 1.0.1 (OGC 17-069r4). Pages follow keys, not offsets, so that a page costs the same
wherever it lies; PostgreSQL writes every feature's text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql
from sqlalchemy.orm import Session

from hub.db import raw_of

MOST_ITEMS = 10_000
DEFAULT_ITEMS = 100


class Property(NamedTuple):
    """One property of a collection's features: its SQL, its JSON type, whether clients may ask for a value of it."""

    sql: str
    type: str = "string"
    query: bool = False


@dataclass(frozen=True)
class Collection:
    """What is served under one name. `source` is a FROM clause; `key` the column features are named and ordered by.

    `time` holds the SQL of the begin and end of a feature's life, for the `datetime` parameter. `hidden` names the
    properties that a role does not see.
    """

    id: str
    title: str
    description: str
    source: str
    key: str
    key_type: str
    geometry: str
    shapes: str
    properties: Mapping[str, Property]
    time: tuple[str, str] | None = None
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def visible(self, role: str) -> dict[str, Property]:
        """The properties that `role` sees."""
        hidden = self.hidden.get(role, frozenset())
        return {name: one for name, one in self.properties.items() if name not in hidden}


@dataclass(frozen=True)
class Viewer:
    """Who looks: a role, and the crew or billing system whose own orders are all that it may see."""

    role: str
    crew_id: UUID | None = None
    source_id: UUID | None = None


@dataclass(frozen=True)
class Query:
    """What a client asks of a collection; what is None or empty narrows nothing.

    `boxes` are (west, south, east, north) in degrees, two when the asked one crosses the antimeridian. `during` is a
    closed interval with open ends as None. `after` is the key of the last feature of the page before.
    """

    boxes: Sequence[tuple[float, float, float, float]] = ()
    during: tuple[datetime | None, datetime | None] | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    limit: int = DEFAULT_ITEMS


class Page(NamedTuple):
    """A page of features as GeoJSON texts, how many match in all, and the key after which the next page begins."""

    features: list[str]
    matched: int
    next_after: str | None


def _instant(column: str) -> str:
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"


COLLECTIONS: Mapping[str, Collection] = {
    one.id: one
    for one in (
        Collection(
            id="zones",
            title="Zones",
            description="District metered areas, over which water is balanced.",
            source="(SELECT * FROM zone WHERE valid_to IS NULL) f",
            key="f.code",
            key_type="text",
            geometry="f.geometry",
            shapes="MultiPolygon",
            properties={
                "code": Property("f.code", query=True),
                "name": Property("f.name"),
                "parent": Property("f.parent", query=True),
                "pressure_m": Property("f.pressure_m", "number"),
            },
        ),
        Collection(
            id="service_points",
            title="Service points",
            description="Places where water is delivered, with the state of their valve and meter.",
            source=(
                "service_point f"
                " LEFT JOIN place_fact v ON v.service_point = f.id AND v.fact = 'valve'"
                " LEFT JOIN place_fact m ON m.service_point = f.id AND m.fact = 'meter'"
            ),
            key="f.id",
            key_type="text",
            geometry="f.geometry",
            shapes="Point",
            properties={
                "id": Property("f.id"),
                "address": Property("f.address"),
                "premise_class": Property("f.premise_class", query=True),
                "zone": Property("f.zone", query=True),
                "valve": Property("coalesce(v.state, 'unknown')", query=True),
                "meter": Property("coalesce(m.state, 'unknown')", query=True),
                "units": Property("f.units", "integer"),
                "critical": Property("f.critical", "boolean"),
            },
            # an analyst looks at zones, not at people's doors
            hidden={"analyst": frozenset({"address"})},
        ),
        Collection(
            id="mains",
            title="Mains",
            description="Pipes of the distribution network.",
            source="main f",
            key="f.id",
            key_type="text",
            geometry="f.geometry",
            shapes="MultiLineString",
            properties={
                "id": Property("f.id"),
                "diameter_mm": Property("f.diameter_mm", "number"),
                "material": Property("f.material", query=True),
                "installed_on": Property("f.installed_on", "date"),
            },
        ),
        Collection(
            id="work_orders",
            title="Work orders",
            description="Field work with its state; a crew and a billing system see their own only.",
            source="work_order f LEFT JOIN crew c ON c.id = f.crew_id",
            key="f.id",
            key_type="uuid",
            geometry="f.position",
            shapes="Point",
            properties={
                "number": Property("f.number", query=True),
                "type": Property("f.type", query=True),
                "status": Property("f.status", query=True),
                "priority": Property("f.priority", "integer"),
                "zone": Property("f.zone", query=True),
                "service_point": Property("f.service_point", query=True),
                "crew": Property("c.name", query=True),
                "not_before": Property(_instant("f.not_before"), "date-time"),
                "due_by": Property(_instant("f.due_by"), "date-time"),
                "opened_at": Property(_instant("f.opened_at"), "date-time"),
                "ended_at": Property(_instant("f.ended_at"), "date-time"),
                "rev": Property("f.rev", "integer"),
            },
            time=("f.opened_at", "f.ended_at"),
            hidden={"billing": frozenset({"crew"}), "analyst": frozenset({"crew"})},
        ),
    )
}

# What a viewer may know of: a crew its own orders, 48 hours after their end at most; a billing system what it asked
# for itself.
_OWN_ORDERS = sql.SQL(
    "(%(role)s <> 'crew' OR (f.crew_id = %(crew)s::uuid"
    " AND (f.ended_at IS NULL OR f.ended_at > business_now() - interval '48 hours')))"
    " AND (%(role)s <> 'billing' OR %(source)s::uuid IS NULL OR f.source_id = %(source)s::uuid)"
)


def page(session: Session, collection: Collection, viewer: Viewer, query: Query) -> Page:
    """The features that `query` asks for, in order of their keys."""
    where, values = _where(collection, viewer, query)
    found = (
        raw_of(session)
        .execute(
            sql.SQL(
                "SELECT {key}::text, {feature} FROM {source} WHERE {where}{after} ORDER BY {key} LIMIT %(limit)s"
            ).format(
                key=sql.SQL(collection.key),
                feature=_feature(collection, viewer),
                source=sql.SQL(collection.source),
                where=where,
                after=sql.SQL(f" AND {collection.key} > %(after)s::{collection.key_type}" if query.after else ""),
            ),
            {**values, "after": query.after, "limit": query.limit + 1},
        )
        .fetchall()
    )
    counted = (
        raw_of(session)
        .execute(
            sql.SQL("SELECT count(*) FROM {source} WHERE {where}").format(
                source=sql.SQL(collection.source), where=where
            ),
            values,
        )
        .fetchone()
    )
    assert counted is not None
    more = len(found) > query.limit
    shown = found[: query.limit]
    return Page([row[1] for row in shown], counted[0], shown[-1][0] if more else None)


def feature(session: Session, collection: Collection, viewer: Viewer, key: str) -> str | None:
    """One feature as a GeoJSON text; None when there is none that `viewer` may know of."""
    where, values = _where(collection, viewer, Query())
    if collection.key_type == "uuid":
        try:
            key = str(UUID(key))
        except ValueError:
            return None
    row = (
        raw_of(session)
        .execute(
            sql.SQL("SELECT {feature} FROM {source} WHERE {where} AND {key} = %(key)s").format(
                feature=_feature(collection, viewer),
                source=sql.SQL(collection.source),
                where=where,
                key=sql.SQL(collection.key),
            ),
            {**values, "key": key},
        )
        .fetchone()
    )
    return None if row is None else str(row[0])


def extent(session: Session, collection: Collection, viewer: Viewer) -> tuple[float, float, float, float] | None:
    """West, south, east and north of all that `viewer` may see, in degrees; None when that is nothing."""
    where, values = _where(collection, viewer, Query())
    row = (
        raw_of(session)
        .execute(
            sql.SQL(
                "SELECT ST_XMin(e), ST_YMin(e), ST_XMax(e), ST_YMax(e)"
                " FROM (SELECT ST_Extent({geometry}) AS e FROM {source} WHERE {where}) x WHERE e IS NOT NULL"
            ).format(geometry=sql.SQL(collection.geometry), source=sql.SQL(collection.source), where=where),
            values,
        )
        .fetchone()
    )
    return None if row is None else (row[0], row[1], row[2], row[3])


def boxes(numbers: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """The boxes in degrees of a `bbox` of four numbers, or six with heights, which are ignored.

    Raises ValueError for numbers that are no box. One whose west is beyond its east crosses the antimeridian.
    """
    if len(numbers) not in (4, 6) or not all(math.isfinite(number) for number in numbers):
        raise ValueError("four numbers are wanted: west, south, east, north")
    west, south, east, north = (*numbers[:2], *numbers[-3:-1]) if len(numbers) == 6 else numbers
    if south > north:
        raise ValueError("south lies beyond north")
    south, north = max(-90.0, south), min(90.0, north)
    if south > north:
        raise ValueError("the box lies beyond the poles")
    west, east = max(-180.0, min(180.0, west)), max(-180.0, min(180.0, east))
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _feature(collection: Collection, viewer: Viewer) -> sql.Composed:
    pairs = [
        sql.SQL("{}, {}").format(sql.Literal(name), sql.SQL(one.sql))
        for name, one in collection.visible(viewer.role).items()
    ]
    return sql.SQL(
        "json_build_object('type', 'Feature', 'id', {key}, 'geometry', ST_AsGeoJSON({geometry}, 7)::json,"
        " 'properties', json_build_object({properties}))::text"
    ).format(key=sql.SQL(collection.key), geometry=sql.SQL(collection.geometry), properties=sql.SQL(", ").join(pairs))


def _where(collection: Collection, viewer: Viewer, query: Query) -> tuple[sql.Composed, dict[str, Any]]:
    """The condition of what a viewer sees and a query asks for, with its values."""
    conditions: list[sql.Composable] = [sql.SQL("true")]
    values: dict[str, Any] = {"role": viewer.role, "crew": viewer.crew_id, "source": viewer.source_id}
    if collection.id == "work_orders":
        conditions.append(_OWN_ORDERS)
    if query.boxes:
        inside = []
        for number, box in enumerate(query.boxes):
            values |= dict(zip((f"w{number}", f"s{number}", f"e{number}", f"n{number}"), box, strict=True))
            inside.append(
                f"ST_Intersects({collection.geometry}, ST_MakeEnvelope(%(w{number})s, %(s{number})s,"
                f" %(e{number})s, %(n{number})s, 4326))"
            )
        conditions.append(sql.SQL("(" + " OR ".join(inside) + ")"))
    if query.during is not None and collection.time is not None:
        begin, end = collection.time
        values["begins"], values["ends"] = query.during
        conditions.append(
            sql.SQL(
                f"(%(ends)s::timestamptz IS NULL OR {begin} <= %(ends)s::timestamptz)"
                f" AND (%(begins)s::timestamptz IS NULL OR {end} IS NULL OR {end} >= %(begins)s::timestamptz)"
            )
        )
    for name, value in query.values.items():
        values[f"p_{name}"] = value
        conditions.append(sql.SQL(f"{collection.properties[name].sql} = %(p_{name})s"))
    return sql.SQL(" AND ").join(conditions), values
