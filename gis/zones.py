"""Which zone a place lies in, and how zones form a tree. Writes `service_point.zone`, in the caller's transaction."""

from sqlalchemy import text
from sqlalchemy.orm import Session


def assign_points(session: Session) -> int:
    """Give every service point the smallest zone that covers it, or none; the number of points that changed.

    Membership follows from geometry, never from a billing code (codes are wrong for a few per cent of customers).
    """
    # Driven from the zones, so that each polygon is prepared once and meets its points through their index.
    result = session.execute(
        text(
            """
            WITH found AS (
                SELECT DISTINCT ON (p.id) p.id, z.code
                FROM zone z JOIN service_point p ON ST_Covers(z.geometry, p.geometry)
                ORDER BY p.id, ST_Area(z.geometry), z.code
            )
            UPDATE service_point p SET zone = f.code
            FROM service_point q LEFT JOIN found f ON f.id = q.id
            WHERE p.id = q.id AND p.zone IS DISTINCT FROM f.code
            RETURNING p.id
            """
        )
    )
    return len(result.all())


def circular_parent(session: Session) -> str | None:
    """A zone that is part of itself through its parents, or None."""
    found: str | None = session.execute(
        text(
            """
            WITH RECURSIVE up(code, parent) AS (
                SELECT code, parent FROM zone WHERE parent IS NOT NULL
                UNION
                SELECT up.code, z.parent FROM up JOIN zone z ON z.code = up.parent WHERE z.parent IS NOT NULL
            )
            SELECT code FROM up WHERE code = parent ORDER BY code LIMIT 1
            """
        )
    ).scalar_one_or_none()
    return found


def overlaps(session: Session, limit: int = 10) -> list[tuple[str, str]]:
    """Pairs of zones of the same parent that share ground: water used there would be anybody's."""
    found = session.execute(
        text(
            "SELECT a.code, b.code FROM zone a JOIN zone b ON a.code < b.code"
            " AND a.parent IS NOT DISTINCT FROM b.parent AND a.geometry && b.geometry"
            " AND ST_Relate(a.geometry, b.geometry, '2********') ORDER BY 1, 2 LIMIT :limit"
        ),
        {"limit": limit},
    )
    return [(first, second) for first, second in found]
