"""Which zone a place lies in and when, and how zones form a tree.

Writes `service_point.zone`, `former_boundary` and `zone_membership`, in the caller's transaction.
"""

from collections.abc import Collection
from datetime import date

from sqlalchemy import text
from sqlalchemy.orm import Session

# Local days beyond any boundary; PostgreSQL's infinite dates cannot be read back as days.
FIRST_DAY, LAST_DAY = date(1, 1, 1), date(9999, 12, 31)


def keep_former_boundaries(session: Session, today: date, present: Collection[str]) -> int:
    """Close the versions of zones that `import_stage` is about to replace; the number closed.

    A version is a boundary with its parent, pressure and private pipes; `present` are the columns the stage has. Its
    `valid_from` becomes the day what it says holds from: as given, or `today` where something differs from what is
    stored. What was blank before and is filled in without a day has always been so. What holds from the same day as
    the stored version, or an earlier one, replaces what was known from then on; the same file again closes nothing.
    """
    session.execute(text("ALTER TABLE import_stage ADD COLUMN differs boolean"))
    named = [name for name in ("parent", "pressure_m", "private_pipe_m") if name in present]
    differs = " OR ".join(
        ["ST_Multi(s.geometry) IS DISTINCT FROM z.geometry"]
        + [f"(s.{n} IS DISTINCT FROM z.{n} AND (z.{n} IS NOT NULL OR s.valid_from IS NOT NULL))" for n in named]
    )
    session.execute(
        text(
            f"UPDATE import_stage s SET differs = {differs} FROM zone z WHERE z.code = s.code"  # noqa: S608  (own text)
        )
    )
    session.execute(
        text(
            "UPDATE import_stage s SET valid_from = coalesce(s.valid_from, CASE WHEN s.differs"
            " THEN CAST(:today AS date) ELSE z.valid_from END) FROM zone z WHERE z.code = s.code"
        ),
        {"today": today},
    )
    session.execute(
        text(
            "DELETE FROM former_boundary f USING import_stage s WHERE s.differs AND f.zone = s.code"
            " AND coalesce(f.valid_from, CAST(:first AS date)) >= s.valid_from"
        ),
        {"first": FIRST_DAY},
    )
    session.execute(
        text(
            "UPDATE former_boundary f SET valid_to = s.valid_from FROM import_stage s"
            " WHERE s.differs AND f.zone = s.code AND f.valid_to > s.valid_from"
        )
    )
    closed = session.execute(
        text(
            "INSERT INTO former_boundary (zone, valid_from, valid_to, parent, pressure_m, private_pipe_m, geometry)"
            " SELECT z.code, z.valid_from, s.valid_from, z.parent, z.pressure_m, z.private_pipe_m, z.geometry"
            " FROM import_stage s JOIN zone z ON z.code = s.code"
            " WHERE s.differs AND (z.valid_from IS NULL OR z.valid_from < s.valid_from) RETURNING zone"
        )
    ).all()
    return len(closed)


def assign_points(session: Session) -> int:
    """Give every service point the smallest zone that covers it, or none; the number of points that changed.

    Where zones had other boundaries, or end, the memberships of former days are found too (`zone_membership`).
    Membership follows from geometry, never from a billing code (codes are wrong for a few per cent of customers).
    """
    # Driven from the zones, so that each polygon is prepared once and meets its points through their index.
    result = session.execute(
        text(
            """
            WITH found AS (
                SELECT DISTINCT ON (p.id) p.id, z.code
                FROM zone z JOIN service_point p ON ST_Covers(z.geometry, p.geometry)
                WHERE z.valid_to IS NULL
                ORDER BY p.id, ST_Area(z.geometry), z.code
            )
            UPDATE service_point p SET zone = f.code
            FROM service_point q LEFT JOIN found f ON f.id = q.id
            WHERE p.id = q.id AND p.zone IS DISTINCT FROM f.code
            RETURNING p.id
            """
        )
    )
    moved = len(result.all())
    _assign_former_days(session)
    return moved


def _assign_former_days(session: Session) -> None:
    """Rebuild `zone_membership`: the smallest zone over each place on each day, where that is not always the same."""
    session.execute(text("DELETE FROM zone_membership"))
    dated = session.execute(
        text(
            "SELECT EXISTS (SELECT FROM former_boundary)"
            " OR EXISTS (SELECT FROM zone WHERE valid_from IS NOT NULL OR valid_to IS NOT NULL)"
        )
    ).scalar_one()
    if not dated:
        return
    session.execute(
        text(
            """
            WITH version AS (
                SELECT code, coalesce(valid_from, :first) AS since, coalesce(valid_to, :last) AS until, geometry
                FROM zone
                UNION ALL
                SELECT zone, coalesce(valid_from, :first), valid_to, geometry FROM former_boundary
            ),
            bound AS (
                SELECT since AS day FROM version UNION SELECT until FROM version
                UNION SELECT CAST(:first AS date) UNION SELECT CAST(:last AS date)
            ),
            slice AS (SELECT day AS since, lead(day) OVER (ORDER BY day) AS until FROM bound),
            held AS (
                SELECT DISTINCT ON (p.id, s.since) p.id, s.since, s.until, v.code
                FROM version v
                JOIN service_point p ON ST_Covers(v.geometry, p.geometry)
                JOIN slice s ON s.since >= v.since AND s.until <= v.until
                ORDER BY p.id, s.since, ST_Area(v.geometry), v.code
            ),
            begun AS (
                SELECT held.*, (lag(until) OVER w = since AND lag(code) OVER w = code) IS NOT TRUE AS begins
                FROM held WINDOW w AS (PARTITION BY id ORDER BY since)
            ),
            stay AS (
                SELECT id, code, min(since) AS since, max(until) AS until
                FROM (
                    SELECT begun.*, count(*) FILTER (WHERE begins) OVER (PARTITION BY id ORDER BY since) AS n FROM begun
                ) b
                GROUP BY id, code, n
            )
            INSERT INTO zone_membership (service_point, zone, valid_from, valid_to)
            SELECT id, code, since, until FROM stay WHERE since > :first OR until < :last
            """
        ),
        {"first": FIRST_DAY, "last": LAST_DAY},
    )


def circular_parent(session: Session) -> str | None:
    """A zone that is, or on some former day was, part of itself through its parents; None where there is none."""
    found: str | None = session.execute(
        text(
            """
            WITH RECURSIVE version AS (
                SELECT code, parent, daterange(valid_from, valid_to) AS days FROM zone
                UNION ALL
                SELECT zone, parent, daterange(valid_from, valid_to) FROM former_boundary
            ),
            up(code, parent, days) AS (
                SELECT code, parent, days FROM version WHERE parent IS NOT NULL
                UNION
                SELECT up.code, v.parent, up.days * v.days
                FROM up JOIN version v ON v.code = up.parent AND v.days && up.days
                WHERE v.parent IS NOT NULL AND up.code <> up.parent
            )
            SELECT code FROM up WHERE code = parent ORDER BY code LIMIT 1
            """
        )
    ).scalar_one_or_none()
    return found
