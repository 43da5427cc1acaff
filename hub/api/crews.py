"""Crews over HTTP."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from hub.api.once import remember, replaying
from hub.auth import Principal
from hub.errors import Malformed
from hub.models import Crew
from hub.web import Json, Tx, allow, decode_cursor, encode_cursor
from hub.work import crews

router = replaying(prefix="/api/v1/crews", tags=["work"])
READERS = ("admin", "supervisor", "dispatcher")
WRITERS = ("admin", "supervisor", "dispatcher")
Short = Annotated[str, Field(max_length=200)]


class Skills(BaseModel):
    """What may be said of a crew."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    phone: Short | None = None
    skills: list[Short] = Field(default_factory=list, max_length=100)
    members: list[Short | dict[str, Any]] = Field(default_factory=list, max_length=100)
    shifts: list[dict[str, Any]] = Field(default_factory=list, max_length=100)


class NewCrew(Skills):
    """A crew to be made."""

    name: Annotated[str, Field(min_length=1, max_length=100)]


class CrewChanges(Skills):
    """What is to change of a crew; what is not named stays."""

    active: bool = True


@router.get("", name="list_crews")
def list_crews(
    session: Tx,
    who: Principal = allow(*READERS),
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Crews by name."""
    after = decode_cursor(cursor, 1)[0] if cursor is not None else ""
    if not isinstance(after, str):
        raise Malformed("The cursor is not one of ours.", field="cursor", remedy="Start without a cursor.")
    found = crews.listed(session, after=after, limit=limit + 1)
    following = encode_cursor(found[limit - 1].name) if len(found) > limit else None
    return Json({"items": [crew_json(crew) for crew in found[:limit]], "next_cursor": following})


@router.post("", status_code=201, name="add_crew")
def add_crew(session: Tx, body: NewCrew, who: Principal = allow(*WRITERS)) -> Json:
    """A new crew."""
    crew = crews.add(session, by=who.actor, **body.model_dump())
    headers = {"Location": f"/api/v1/crews/{crew.id}"}
    return remember(session, Json(crew_json(crew), status_code=201, headers=headers))


@router.get("/{id}", name="get_crew")
def get_crew(session: Tx, id: str, who: Principal = allow(*READERS)) -> Json:
    """One crew, by id or name."""
    return Json(crew_json(crews.get(session, id)))


@router.patch("/{id}", name="change_crew")
def change_crew(session: Tx, id: str, body: CrewChanges, who: Principal = allow(*WRITERS)) -> Json:
    """Change phone, skills, members, shifts, or whether the crew is active."""
    crew = crews.get(session, id)
    changed = crews.update(session, crew.id, by=who.actor, **body.model_dump(exclude_unset=True))
    return remember(session, Json(crew_json(changed)))


def crew_json(crew: Crew) -> dict[str, Any]:
    """A crew as dispatchers see it."""
    return {
        "id": str(crew.id),
        "name": crew.name,
        "phone": crew.phone,
        "skills": list(crew.skills),
        "members": crew.members,
        "shifts": crew.shifts,
        "active": crew.active,
        "last_sync_at": crew.last_sync_at,
        "position": crew.position,
    }
