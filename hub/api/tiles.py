"""Vector tiles for maps: zones, mains, service points and open work orders."""

import hashlib

from fastapi import APIRouter, Request, Response

from gis import tiles
from hub.auth import Principal
from hub.errors import NotFound
from hub.web import Tx, allow

router = APIRouter(tags=["tiles"])
TILE_TYPE = "application/vnd.mapbox-vector-tile"
EVERYBODY = ("admin", "supervisor", "dispatcher", "crew", "billing", "analyst")


@router.get("/tiles/{layer}/{z}/{x}/{y}.mvt", response_class=Response, responses={200: {"content": {TILE_TYPE: {}}}})
def get_tile(
    layer: str, z: int, x: int, y: int, request: Request, session: Tx, who: Principal = allow(*EVERYBODY)
) -> Response:
    """One tile; a crew sees its own orders only, an analyst no addresses. An empty tile has no bytes."""
    if layer not in tiles.LAYERS:
        raise NotFound(f"There is no layer {layer[:40]!r}.", remedy=f"Use one of {', '.join(tiles.LAYERS)}.")
    if not (0 <= z <= tiles.MAX_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
        raise NotFound("There is no such tile.", remedy=f"z runs from 0 to {tiles.MAX_ZOOM}, x and y below 2^z.")
    own = who.crew_id if who.role == "crew" else None
    body = tiles.tile(session, layer, z, x, y, crew_id=own, addresses=who.role != "analyst")
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=TILE_TYPE, headers=headers)
