"""Crews: people who drive out together, their phone, skills and shifts. Writes crews and the change log in the caller's
transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import changes
from hub.errors import BadInput, Conflict, NotFound, storable, storable_text
from hub.models import Crew


def add(
    session: Session,
    *,
    name: str,
    by: str,
    phone: str | None = None,
    skills: Sequence[str] = (),
    members: Sequence[Any] = (),
    shifts: Sequence[Any] = (),
) -> Crew:
    """A new crew. Raises BadInput for an empty name, Conflict when the name is taken."""
    name = storable_text(name).strip()
    if not name:
        raise BadInput("A crew needs a name.", field="name", remedy='For example "North".')
    if session.scalar(select(Crew.id).where(Crew.name == name)) is not None:
        raise Conflict(f"There is already a crew {name}.", field="name", value=name, remedy="Choose another name.")
    crew = Crew(
        name=name,
        phone=storable_text(phone).strip() or None if phone else None,
        skills=[storable_text(skill).strip() for skill in skills if skill.strip()],
        members=storable(list(members)),
        shifts=storable(list(shifts)),
        active=True,
    )
    session.add(crew)
    session.flush()
    _log(session, crew, by, "crew_added")
    return crew


def update(session: Session, crew_id: UUID, *, by: str, **values: Any) -> Crew:
    """Change phone, skills, members, shifts or `active` of a crew. Raises NotFound."""
    crew = get(session, crew_id)
    for name, value in values.items():
        setattr(crew, name, storable(value))
    session.flush()
    _log(session, crew, by, "crew_changed")
    return crew


def get(session: Session, crew_id: UUID | str) -> Crew:
    """A crew by its id or its name. Raises NotFound."""
    found = session.scalars(select(Crew).where(_named(crew_id))).one_or_none()
    if found is None:
        raise NotFound(
            "There is no such crew.", field="crew", value=str(crew_id)[:80], remedy="GET /api/v1/crews lists them."
        )
    return found


def listed(session: Session, *, after: str = "", limit: int = 100) -> list[Crew]:
    """Crews by name, those after `after`."""
    return list(session.scalars(select(Crew).where(Crew.name > after).order_by(Crew.name).limit(limit)))


def _named(crew_id: UUID | str) -> Any:
    if isinstance(crew_id, UUID):
        return Crew.id == crew_id
    try:
        return Crew.id == UUID(crew_id)
    except ValueError:
        return Crew.name == storable_text(crew_id)


def _log(session: Session, crew: Crew, by: str, verb: str) -> None:
    detail = {"name": crew.name, "skills": list(crew.skills), "active": crew.active}
    changes.record(
        session, actor=by, subject_type="crew", subject_id=str(crew.id), verb=verb, detail=detail, crew_id=crew.id
    )
