"""Files in over HTTP: the body is the file, its format is recognised by its content; and how far each import is."""

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from hub.api.network import after_id
from hub.auth import Principal
from hub.errors import Malformed, TooLarge
from hub.imports import runs
from hub.leakage import tables
from hub.web import AllowedBeforehand, Config, Json, Tx, allow, database_of, decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1", tags=["imports"])
WRITERS = ("admin", "supervisor", "billing")
MAX_BYTES = 256 << 20
ANY_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}
# Bad rows that come with an import; the rest by pages.
FIRST_FAULTS = 100
UPLOAD = "curbstop-import-"
ABANDONED_SECONDS = 86_400


@dataclass(slots=True)
class Upload:
    """A body that has arrived whole, as a file; it is removed after the request unless somebody took it over."""

    path: Path
    size: int
    taken: bool = False


async def _upload(request: Request) -> AsyncIterator[Upload]:
    """The body in a file of its own. Raises TooLarge."""
    _forget_abandoned()
    with tempfile.NamedTemporaryFile(prefix=UPLOAD, delete=False) as file:
        upload = Upload(Path(file.name), 0)
        try:
            async for chunk in request.stream():
                upload.size += len(chunk)
                if upload.size > MAX_BYTES:
                    raise TooLarge("The file is larger than 256 MiB.", remedy="Use `curbstop import` on the server.")
                file.write(chunk)
            file.flush()
            yield upload
        finally:
            if not upload.taken:
                upload.path.unlink(missing_ok=True)


def _forget_abandoned() -> None:
    """Remove what a process left that was killed in the midst of an import; no import takes a day."""
    for left in Path(tempfile.gettempdir()).glob(f"{UPLOAD}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()


@router.post("/imports/{kind}", openapi_extra=ANY_FILE)
def import_file(
    kind: str,
    request: Request,
    config: Config,
    who: Annotated[Principal, Depends(AllowedBeforehand(*WRITERS))],
    upload: Annotated[Upload, Depends(_upload)],
    file: Annotated[str, Query(max_length=200, description="the name people know the file by")] = "upload",
    prefer: Annotated[str | None, Header()] = None,
) -> Json:
    """Import a GeoJSON, GeoPackage, zipped Shapefile or CSV; all its rows or none. 422 names every bad row.

    With `Prefer: respond-async` (RFC 7240) the answer is 202 as soon as the file has arrived; `Location` tells how far
    the import is and what became of it. Either way it goes on when the caller hangs up.
    """
    database, stopping = database_of(request), request.app.state.stopping.is_set
    waits = "respond-async" not in [word.strip().lower() for word in (prefer or "").split(",")]
    run_id = runs.begin(
        database, kind, file=file, size=upload.size, by=who.actor, state="running" if waits else "waiting"
    )
    if waits:
        outcome = runs.carry_out(database, run_id, upload.path, zone=config.zone, stopping=stopping)
        return Json(outcome.document() | {"id": str(run_id)})
    upload.taken = True
    try:
        runs.start(database, run_id, upload.path, zone=config.zone, stopping=stopping)
    except Exception:
        upload.taken = False
        raise
    with database.transaction() as session:
        found = runs.one(session, run_id)
    headers = {"Location": f"/api/v1/import-runs/{run_id}", "Preference-Applied": "respond-async"}
    return Json(found, status_code=202, headers=headers)


@router.get("/import-runs")
def list_import_runs(
    session: Tx,
    who: Principal = allow(*WRITERS),
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Json:
    """Imports, newest first, with how far each is: `done` of `total` rows `read`, `checked`, `staged` or `written`.

    `state` is `waiting`, `running`, `done`, `refused` (bad rows), `failed`, or `interrupted`: its process was killed.
    """
    found = runs.listed(session, after=after_id(cursor), limit=limit + 1)
    following = encode_cursor(found[limit - 1]["id"]) if len(found) > limit else None
    return Json({"items": found[:limit], "next_cursor": following})


@router.get("/import-runs/{id}")
def get_import_run(id: UUID, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """One import: how far it is, what it did, or the first of its bad rows (`faults` counts them all)."""
    return Json(runs.one(session, id) | {"errors": runs.faults(session, id, limit=FIRST_FAULTS)})


@router.get("/import-runs/{id}/faults")
def list_import_faults(
    id: UUID,
    session: Tx,
    who: Principal = allow(*WRITERS),
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    format: Literal["json", "csv"] = "json",
) -> Response:
    """Every bad row of a refused import: row, column, value, problem and remedy; as `csv` all of them at once."""
    run = runs.one(session, id)
    if format == "csv":
        headers = {"Content-Disposition": f'attachment; filename="faults-{run["kind"]}-{id}.csv"'}
        body = tables.list_as_csv(runs.faults(session, id))
        return Response(body, media_type="text/csv; charset=utf-8", headers=headers)
    after = decode_cursor(cursor, 1)[0] if cursor else -1
    if type(after) is not int or not -1 <= after < 2**31:
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")
    found = runs.faults(session, id, after=after, limit=limit + 1)
    # positions count from nought without a gap
    following = encode_cursor(after + limit) if len(found) > limit else None
    return Json({"items": found[:limit], "next_cursor": following})
