"""Work types over HTTP: what kinds of work there are, their forms and codes. Reads the catalogue of this process."""

from fastapi import APIRouter

from hub.auth import Principal
from hub.web import Json, allow
from hub.work import catalogue, forms

router = APIRouter(prefix="/api/v1/work-types", tags=["work"])
READERS = ("admin", "supervisor", "dispatcher", "crew", "billing", "analyst")


@router.get("", name="list_work_types")
def list_work_types(who: Principal = allow(*READERS)) -> Json:
    """All work types."""
    items = [forms.described(found) for _, found in sorted(catalogue.types().items())]
    return Json({"items": items, "next_cursor": None})


@router.get("/{type}", name="get_work_type")
def get_work_type(type: str, who: Principal = allow(*READERS)) -> Json:
    """One work type: its form as JSON Schema, its completion and `unable` codes."""
    return Json(forms.described(catalogue.work_type(type)))
