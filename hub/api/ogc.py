"""OGC API - Features, Part 1: Core, with GeoJSON: the door through which QGIS, GDAL and other GIS programs read.

Schemas and permissions only; what each collection holds is in `gis.features`. Parameters that a collection does not
have are refused with 400, as the standard asks.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from gis import features
from gis.features import COLLECTIONS, Collection, Query, Viewer
from hub.auth import Principal
from hub.errors import Malformed, NotFound, storable_text
from hub.paths import segment
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor, rfc3339, settings_of

router = APIRouter(prefix="/ogc", tags=["OGC API"])
EVERYBODY = ("admin", "supervisor", "dispatcher", "crew", "billing", "analyst")
GEOJSON = "application/geo+json"
SCHEMA = "application/schema+json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
CONFORMANCE = [
    f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{name}" for name in ("core", "geojson", "oas30")
]
_FORMS = {"date": "date", "date-time": "date-time"}


def _base(request: Request) -> str:
    return (settings_of(request).base_url or str(request.base_url)).rstrip("/") + "/ogc"


def _link(href: str, rel: str, title: str, type: str = "application/json") -> dict[str, str]:
    return {"href": href, "rel": rel, "type": type, "title": title}


def _viewer(who: Principal) -> Viewer:
    return Viewer(who.role, who.crew_id, who.source_id)


def _collection(name: str) -> Collection:
    found = COLLECTIONS.get(name)
    if found is None:
        raise NotFound(f"There is no collection {name[:40]!r}.", remedy=f"Use one of {', '.join(COLLECTIONS)}.")
    return found


def _known(request: Request, *names: str) -> None:
    """Raises Malformed for a query parameter that is none of `names` (requirement /req/core/query-param-unknown)."""
    for name in request.query_params:
        if name not in (*names, "f"):
            raise Malformed(f"There is no parameter {name[:40]!r} here.", field=name[:40], remedy=_offer(names))
    if request.query_params.get("f", "json") not in ("json", "geojson"):
        raise Malformed("Only JSON is served here.", field="f", remedy="Leave it out, or send f=json.")


def _offer(names: tuple[str, ...]) -> str:
    return f"Use {', '.join(names)}." if names else "Leave it out."


@router.get("")
@router.get("/", include_in_schema=False)
def get_ogc_landing_page(request: Request, who: Principal = allow(*EVERYBODY)) -> Json:
    """Where a GIS program begins: links to everything else."""
    _known(request)
    base = _base(request)
    return Json(
        {
            "title": "Curbstop",
            "description": "Zones, mains, service points and work orders of a water utility.",
            "links": [
                _link(base, "self", "This document"),
                _link(f"{base}/api", "service-desc", "The definition of this API", OPENAPI),
                _link(f"{base}/conformance", "conformance", "What this API conforms to"),
                _link(f"{base}/collections", "data", "The collections"),
            ],
        }
    )


@router.get("/conformance")
def get_ogc_conformance(request: Request, who: Principal = allow(*EVERYBODY)) -> Json:
    """The conformance classes of the standard that are implemented."""
    _known(request)
    return Json({"conformsTo": CONFORMANCE})


@router.get("/collections")
def list_ogc_collections(request: Request, session: Tx, who: Principal = allow(*EVERYBODY)) -> Json:
    """All collections with their extents."""
    _known(request)
    base = _base(request)
    found = [_described(session, one, who, base) for one in COLLECTIONS.values()]
    return Json({"links": [_link(f"{base}/collections", "self", "This document")], "collections": found})


@router.get("/collections/{collection_id}")
def get_ogc_collection(collection_id: str, request: Request, session: Tx, who: Principal = allow(*EVERYBODY)) -> Json:
    """One collection with its extent."""
    _known(request)
    return Json(_described(session, _collection(collection_id), who, _base(request)))


def _described(session: Tx, one: Collection, who: Principal, base: str) -> dict[str, Any]:
    here = f"{base}/collections/{one.id}"
    document: dict[str, Any] = {
        "id": one.id,
        "title": one.title,
        "description": one.description,
        "itemType": "feature",
        "crs": [CRS84],
        "links": [
            _link(here, "self", "This document"),
            _link(f"{here}/items", "items", f"{one.title} as GeoJSON", GEOJSON),
            _link(f"{here}/schema", "describedby", "The properties of its features", SCHEMA),
        ],
    }
    extent = features.extent(session, one, _viewer(who))
    if extent is not None:
        document["extent"] = {"spatial": {"bbox": [extent], "crs": CRS84}}
    return document


@router.get("/collections/{collection_id}/schema")
def get_ogc_schema(collection_id: str, request: Request, who: Principal = allow(*EVERYBODY)) -> Response:
    """The properties of a collection's features, as far as the caller sees them, as JSON Schema."""
    _known(request)
    one = _collection(collection_id)
    properties: dict[str, Any] = {name: _typed(prop.type) for name, prop in one.visible(who.role).items()}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{_base(request)}/collections/{one.id}/schema",
        "title": one.title,
        "type": "object",
        "properties": {
            **properties,
            "geometry": {"$ref": f"https://geojson.org/schema/{one.shapes}.json"},
        },
    }
    return Response(orjson.dumps(document), media_type=SCHEMA)


def _typed(name: str) -> dict[str, str]:
    return {"type": "string", "format": _FORMS[name]} if name in _FORMS else {"type": name}


@router.get("/collections/{collection_id}/items", response_class=Response)
def list_ogc_items(collection_id: str, request: Request, session: Tx, who: Principal = allow(*EVERYBODY)) -> Response:
    """A page of features. Parameters: `limit`, `bbox`, `datetime`, and equality with the collection's properties."""
    one = _collection(collection_id)
    queryable = tuple(name for name, prop in one.visible(who.role).items() if prop.query)
    _known(request, "limit", "bbox", "bbox-crs", "datetime", "cursor", *queryable)
    query = Query(
        boxes=_bbox(request),
        during=_during(request.query_params.get("datetime")),
        values={name: storable_text(request.query_params[name]) for name in queryable if name in request.query_params},
        after=_after(request.query_params.get("cursor"), one),
        limit=_limit(request.query_params.get("limit")),
    )
    page = features.page(session, one, _viewer(who), query)
    here = f"{_base(request)}/collections/{one.id}"
    asked = f"?{request.url.query}" if request.url.query else ""
    links = [_link(f"{here}/items{asked}", "self", "This page", GEOJSON), _link(here, "collection", one.title)]
    if page.next_after is not None:
        following = request.url.include_query_params(cursor=encode_cursor(page.next_after))
        links.append(_link(f"{here}/items?{following.query}", "next", "The next page", GEOJSON))
    body = (
        b'{"type":"FeatureCollection","timeStamp":%s,"numberMatched":%d,"numberReturned":%d,"links":%s,"features":['
        % (orjson.dumps(rfc3339(datetime.now(UTC))), page.matched, len(page.features), orjson.dumps(links))
        + ",".join(page.features).encode()
        + b"]}"
    )
    return Response(body, media_type=GEOJSON, headers={"Content-Crs": f"<{CRS84}>"})


@router.get("/collections/{collection_id}/items/{feature_id}", response_class=Response)
def get_ogc_item(
    collection_id: str, feature_id: str, request: Request, session: Tx, who: Principal = allow(*EVERYBODY)
) -> Response:
    """One feature."""
    _known(request)
    one = _collection(collection_id)
    found = features.feature(session, one, _viewer(who), storable_text(feature_id))
    if found is None:
        raise NotFound(f"There is no feature {feature_id[:80]!r} in {one.id}.", field="id", value=feature_id[:80])
    here = f"{_base(request)}/collections/{one.id}"
    document = orjson.loads(found)
    document["links"] = [
        _link(f"{here}/items/{segment(str(document['id']))}", "self", "This feature", GEOJSON),
        _link(here, "collection", one.title),
    ]
    return Response(orjson.dumps(document), media_type=GEOJSON, headers={"Content-Crs": f"<{CRS84}>"})


def _limit(text: str | None) -> int:
    if text is None:
        return features.DEFAULT_ITEMS
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Malformed("limit is no number above zero.", field="limit", value=text[:40], remedy="Send e.g. limit=100.")
    return min(int(text), features.MOST_ITEMS)


def _bbox(request: Request) -> list[tuple[float, float, float, float]]:
    if request.query_params.get("bbox-crs", CRS84) != CRS84:
        raise Malformed("Only longitude and latitude are served.", field="bbox-crs", remedy=f"Send {CRS84}.")
    text = request.query_params.get("bbox")
    if text is None:
        return []
    try:
        return features.boxes([float(part) for part in text.split(",")])
    except (ValueError, OverflowError):
        raise Malformed(
            "bbox is no box.", field="bbox", value=text[:80], remedy="Send west,south,east,north in degrees."
        ) from None


def _during(text: str | None) -> tuple[datetime | None, datetime | None] | None:
    """A `datetime` parameter: an instant, or begin/end where `..` or nothing leaves an end open."""
    if text is None:
        return None
    begin, slash, end = text.partition("/")
    try:
        if not slash:
            at = _instant(begin)
            return (at, at)
        begins, ends = (None if part in ("", "..") else _instant(part) for part in (begin, end))
        if begins and ends and begins > ends:
            raise ValueError("backwards")
        return (begins, ends)
    except ValueError:
        raise Malformed(
            "datetime is no time.",
            field="datetime",
            value=text[:80],
            remedy="Send 2026-01-31T12:00:00Z, or two with a slash between them, .. for an open end.",
        ) from None


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not 1 < at.year < 9999:
        raise ValueError("not of our time")
    return at


def _after(text: str | None, one: Collection) -> str | None:
    if text is None:
        return None
    (key,) = decode_cursor(text, 1)
    if not isinstance(key, str) or storable_text(key) != key or not _fits(key, one):
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")
    return key


def _fits(key: str, one: Collection) -> bool:
    try:
        return one.key_type != "uuid" or str(UUID(key)) == key
    except ValueError:
        return False


@router.get("/api")
def get_ogc_api(request: Request, who: Principal = allow(*EVERYBODY)) -> Response:
    """The definition of this part of the API in OpenAPI 3.0, which GIS programs read to learn what they may ask."""
    _known(request)
    document = {
        "openapi": "3.0.3",
        "info": {"title": "Curbstop: OGC API Features", "version": "1.0.1"},
        "servers": [{"url": _base(request)}],
        "paths": {
            "/": _path("The landing page"),
            "/conformance": _path("Conformance classes"),
            "/collections": _path("The collections"),
        },
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
    }
    for one in COLLECTIONS.values():
        document["paths"] |= {  # type: ignore[operator]
            f"/collections/{one.id}": _path(one.title),
            f"/collections/{one.id}/schema": _path(f"Properties of {one.title.lower()}"),
            f"/collections/{one.id}/items": _path(f"{one.title} as GeoJSON", _parameters(one, who.role)),
            f"/collections/{one.id}/items/{{featureId}}": _path("One feature", [_FEATURE_ID]),
        }
    return Response(orjson.dumps(document), media_type=OPENAPI)


_FEATURE_ID = {"name": "featureId", "in": "path", "required": True, "schema": {"type": "string"}}


def _path(summary: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": {"200": {"description": "OK"}}}}


def _parameters(one: Collection, role: str) -> list[dict[str, Any]]:
    numbers = {"type": "array", "minItems": 4, "maxItems": 6, "items": {"type": "number"}}
    limit = {"type": "integer", "minimum": 1, "maximum": features.MOST_ITEMS, "default": features.DEFAULT_ITEMS}
    return [
        {"name": "limit", "in": "query", "schema": limit},
        {"name": "bbox", "in": "query", "style": "form", "explode": False, "schema": numbers},
        {"name": "datetime", "in": "query", "schema": {"type": "string"}},
        *(
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name, prop in one.visible(role).items()
            if prop.query
        ),
    ]
