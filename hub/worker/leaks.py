"""Jobs of leakage: look at zones whose meters were heard, judge the last month, verify repairs.

One transaction per zone or repair, so that one that fails costs no other its turn. Writes `daily_run` for what is
done once a day.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from sqlalchemy import text

from hub import clock
from hub.db import Database
from hub.leakage import ledger, watch
from hub.settings import Settings

log = structlog.get_logger()
MORNING = timedelta(hours=7)


def watch_zones(database: Database, settings: Settings) -> None:
    """Look at all zones together when one of their meters reported new hours."""
    with database.transaction() as session:
        now, flows = clock.now(session), watch.inflows(session, watch.zones_due(session), settings)
    for sight in watch.look_over(flows, now, settings):
        with database.transaction() as session:
            for event in watch.take_note(session, sight, settings):
                log.info("leak seen", zone=sight.code, kind=event.kind, size_m3h=float(event.size_m3h))


def judge_month(database: Database, settings: Settings) -> None:
    """Have zones surveyed that lost more than the threshold in the last whole month; looked at once a local day."""
    with _once_a_day(database, settings, "judge_month") as due:
        if due:
            with database.transaction() as session:
                watch.judge_month(session, settings)


def verify_repairs(database: Database, settings: Settings) -> None:
    """Write what finished repairs saved, as far as the nights tell by now; looked at once a local day."""
    with _once_a_day(database, settings, "verify_repairs") as due:
        repairs = []
        if due:
            with database.transaction() as session:
                repairs = ledger.repairs_due(session)
        for repair in repairs:
            with database.transaction() as session:
                ledger.verify(session, repair, settings)


@contextmanager
def _once_a_day(database: Database, settings: Settings, job: str) -> Iterator[bool]:
    """Whether a job is still to be done in this local day; it is noted as done when it ends without an error.

    A day begins in the morning here, when the night's flows are known. Days are those of business time.
    """
    with database.transaction() as session:
        today = (clock.now(session) - MORNING).astimezone(settings.zone).date()
        done = session.scalar(text("SELECT day FROM daily_run WHERE job = :job"), {"job": job})
    yield done != today
    if done != today:
        with database.transaction() as session:
            session.execute(
                text(
                    "INSERT INTO daily_run (job, day) VALUES (:job, :day)"
                    " ON CONFLICT (job) DO UPDATE SET day = excluded.day"
                ),
                {"job": job, "day": today},
            )
