"""Faults of the map, for whoever keeps the utility's GIS."""

from typing import Annotated

from fastapi import APIRouter, Query

from gis import topology
from hub.auth import Principal
from hub.errors import BadInput
from hub.web import Json, Tx, allow

router = APIRouter(prefix="/api/v1", tags=["water loss"])


@router.get("/topology")
def list_topology_faults(
    session: Tx,
    kind: Annotated[list[str] | None, Query(description="kinds of faults; default: all")] = None,
    who: Principal = allow("admin", "supervisor", "dispatcher", "analyst"),
) -> Json:
    """Where the map is wrong: overlapping zones, gaps, places in no zone or far from every main, loose mains."""
    for one in kind or ():
        if one not in topology.KINDS:
            raise BadInput(
                "There is no such kind of fault.", field="kind", value=one[:40], remedy=f"Use {topology.KINDS}."
            )
    found = topology.faults(session, kind or topology.KINDS)
    counts = {one: sum(fault.kind == one for fault in found) for one in kind or topology.KINDS}
    return Json({"items": [fault.document() for fault in found], "counts": counts, "next_cursor": None})
