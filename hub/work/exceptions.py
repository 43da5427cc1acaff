"""What only a person can settle: late reports, cuts after a stop, reconnects in doubt, an unexpected meter.

Writes exceptions and the change log in the caller's transaction.
"""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import changes, clock
from hub.errors import BadInput, Conflict, NotFound, storable_text
from hub.models import OrderException


def listed(
    session: Session, *, open_only: bool = True, after: UUID | None = None, limit: int = 100
) -> list[OrderException]:
    """Exceptions, newest first."""
    statement = select(OrderException).order_by(OrderException.id.desc()).limit(limit)
    if open_only:
        statement = statement.where(OrderException.resolved_at.is_(None))
    if after is not None:
        statement = statement.where(OrderException.id < after)
    return list(session.scalars(statement))


def resolve(session: Session, exception_id: UUID, *, by: str, text: str) -> OrderException:
    """A person says what was done about it. Raises NotFound, BadInput without words, Conflict when settled already."""
    text = storable_text(text).strip()
    if not text:
        raise BadInput("It is not said what was done.", field="text", remedy="Say how it was settled.")
    found = session.scalars(
        select(OrderException).where(OrderException.id == exception_id).with_for_update(key_share=True)
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such exception.", field="id", value=str(exception_id))
    if found.resolved_at is not None:
        raise Conflict("This was settled already.", resolution=found.resolution)
    found.resolved_at = clock.now(session)
    found.resolution = {"by": by, "text": text[:4000]}
    session.flush()
    changes.record(
        session,
        actor=by,
        subject_type="order_exception",
        subject_id=str(found.id),
        verb="exception_resolved",
        detail={"kind": found.kind, "text": text[:4000]},
        order_id=found.order_id,
    )
    return found
