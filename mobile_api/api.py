"""Routes under `/mobile/v1`: schemas and permissions; a token of role crew acts for its one crew."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from hub.auth import Principal
from hub.web import Tx, allow, database_of
from mobile_api import feed, mutations
from mobile_api.schemas import ChangePage, Commands, Results

router = APIRouter(prefix="/mobile/v1", tags=["crew"])


@router.get("/sync/changes", response_model=None, responses={200: {"model": ChangePage}})
def sync_changes(
    session: Tx,
    who: Principal = allow("crew"),
    cursor: Annotated[str | None, Query(description="from the last answer; none: everything", max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """What changed for this crew since `cursor`. 410 `cursor-expired` means: ask again without a cursor."""
    assert who.crew_id is not None
    return feed.read(session, who.crew_id, cursor, limit)


@router.post("/sync/mutations", response_model=None, responses={200: {"model": Results}})
def sync_mutations(request: Request, batch: Commands, session: Tx, who: Principal = allow("crew")) -> dict[str, Any]:
    """Do what the crew's device queued; every command has its own result and its own transaction."""
    # The caller is known by now: give the connection back before the commands take theirs.
    session.close()
    return {"results": mutations.apply(database_of(request), who, batch.commands)}
