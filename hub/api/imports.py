"""Files in over HTTP: the body is the file, its format is recognised by its content."""

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from hub import imports
from hub.auth import Principal
from hub.errors import TooLarge
from hub.web import Config, Json, Tx, allow

router = APIRouter(prefix="/api/v1", tags=["imports"])
MAX_BYTES = 256 << 20
ANY_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}


async def _whole_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge("The file is larger than 256 MiB.", remedy="Use `curbstop import` on the server.")
    return bytes(body)


@router.post("/imports/{kind}", openapi_extra=ANY_FILE)
def import_file(
    kind: str,
    body: Annotated[bytes, Depends(_whole_body)],
    session: Tx,
    config: Config,
    who: Principal = allow("admin", "supervisor", "billing"),
) -> Json:
    """Import a GeoJSON, GeoPackage, zipped Shapefile or CSV; all its rows or none. 422 names every bad row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(body)
        outcome = imports.run(session, kind, path, actor=who.actor, zone=config.zone)
    return Json(outcome.document())
