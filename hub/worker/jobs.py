"""Scheduled jobs: one table of what runs how often, a clock that ticks, and a runner that takes the ticks up.

A tick is a row (job, scheduled_for); its key lets any number of schedulers write it once. A run is a lease of 30 s that
a heartbeat prolongs, so the run of a worker that died is taken up within 40 s. Writes `job_run` in transactions of its
own; each job opens those it needs.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub.db import Database
from hub.metering import partitions, retention, validation
from hub.outbox import delivery
from hub.settings import Settings
from hub.work import findings, orders, shutoffs
from hub.worker.leaks import judge_month, verify_repairs, watch_zones
from hub.worker.resends import ask_for_missing

log = structlog.get_logger()
LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 10.0
# A run that killed three workers is not tried on a fourth.
MOST_ATTEMPTS = 3
REVIEW_SECONDS = 20.0


@dataclass(frozen=True)
class Job:
    """Something done every `every_s` seconds of real time, by one worker at a time."""

    name: str
    every_s: int
    run: Callable[[Database, Settings], None]


def judge_held_shutoffs(database: Database, settings: Settings) -> None:
    """Shutoffs held by the policy whose earliest lawful time has come, or whose facts have changed, are judged anew."""
    with database.transaction() as session:
        shutoffs.judge_due(session)


def release_lapsed_holds(database: Database, settings: Settings) -> None:
    """Other work whose every reason to wait has come to its end is ready again."""
    with database.transaction() as session:
        orders.release_lapsed(session)


def make_partitions(database: Database, settings: Settings) -> None:
    """Next months' partitions of readings, before a live batch needs them."""
    with database.transaction() as session:
        partitions.ensure_ahead(session)


def review_readings(database: Database, settings: Settings) -> None:
    """The validation rules look at what was read lately, until nothing waits or others want their turn."""
    until = time.monotonic() + REVIEW_SECONDS
    while time.monotonic() < until:
        with database.transaction() as session:
            if not validation.review(session, settings.zone):
                return


def turn_facts_into_work(database: Database, settings: Settings) -> None:
    """Alarms, exceptions and silence become notices and orders by the declared rules, one order per transaction."""
    with database.transaction() as session:
        findings.notice(session)
    with database.transaction() as session:
        due = findings.due(session, settings.zone)
    for finding_id in due:
        with database.transaction() as session:
            findings.open_due(session, finding_id)


def archive_months(database: Database, settings: Settings) -> None:
    """Months older than the settings keep go to Parquet files; nothing goes unless they say so."""
    retention.run(database, settings)


def clean_up(database: Database, settings: Settings) -> None:
    """Remove what has no more use: ended sessions, old attempts and job runs, bad rows of old imports, receipts."""
    statements = (
        "DELETE FROM web_session WHERE expires_at < clock_timestamp()",
        "DELETE FROM sign_in_attempt WHERE at < clock_timestamp() - interval '1 day'",
        "DELETE FROM job_run WHERE finished_at < clock_timestamp() - interval '2 days'",
        # never the newest: ingest tells states of the registry apart by these rows
        "DELETE FROM registry_change WHERE at < clock_timestamp() - interval '1 day'"
        " AND id < (SELECT max(id) FROM registry_change)",
        "DELETE FROM import_fault f USING import_run r WHERE r.id = f.import_id"
        " AND r.finished_at < business_now() - interval '90 days'",
        "DELETE FROM delivery_attempt WHERE at < clock_timestamp() - interval '400 days'",
        "DELETE FROM mutation_receipt WHERE received_at < clock_timestamp() - interval '400 days'",
    )
    for statement in statements:
        with database.transaction() as session:
            session.execute(text(statement))


def watch_endpoints(database: Database, settings: Settings) -> None:
    """Park endpoints that took nothing for five days while something was owed, and say again which are parked."""
    with database.transaction() as session:
        delivery.park_silent_endpoints(session)
        for (name,) in session.execute(text("SELECT name FROM billing_source WHERE parked_at IS NOT NULL")):
            log.warning("endpoint is parked, messages accumulate", source=name)


JOBS = (
    Job("judge_held_shutoffs", 5, judge_held_shutoffs),
    Job("release_lapsed_holds", 10, release_lapsed_holds),
    Job("review_readings", 5, review_readings),
    Job("turn_facts_into_work", 30, turn_facts_into_work),
    Job("make_partitions", 3600, make_partitions),
    Job("clean_up", 3600, clean_up),
    Job("archive_months", 3600, archive_months),
    Job("watch_endpoints", 3600, watch_endpoints),
    Job("ask_for_missing", 30, ask_for_missing),
    Job("watch_zones", 60, watch_zones),
    Job("judge_month", 3600, judge_month),
    Job("verify_repairs", 600, verify_repairs),
)

_TICK = text(
    """
    INSERT INTO job_run (job, scheduled_for)
    SELECT :job, to_timestamp(floor(extract(epoch FROM clock_timestamp()) / :every) * :every)
    ON CONFLICT DO NOTHING
    """
)
# The newest tick of a job stands for all that were missed; a job never runs beside itself.
_CLAIM = text(
    """
    WITH next AS (
        SELECT job, scheduled_for FROM job_run r
        WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until <= clock_timestamp())
          AND job = ANY(:jobs)
          AND NOT EXISTS (SELECT 1 FROM job_run running WHERE running.job = r.job AND running.finished_at IS NULL
                          AND running.leased_until > clock_timestamp())
          AND NOT EXISTS (SELECT 1 FROM job_run later WHERE later.job = r.job AND later.finished_at IS NULL
                          AND later.scheduled_for > r.scheduled_for)
        ORDER BY scheduled_for LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE job_run r SET attempt = r.attempt + 1, leased_until = clock_timestamp() + make_interval(secs => :lease)
    FROM next WHERE r.job = next.job AND r.scheduled_for = next.scheduled_for
    RETURNING r.job, r.scheduled_for, r.attempt
    """
)
_MISSED = text(
    """
    UPDATE job_run SET finished_at = clock_timestamp(), error = 'missed; a later run stands for it'
    WHERE job = :job AND scheduled_for < :scheduled_for AND finished_at IS NULL
    """
)
_BEAT = text(
    """
    UPDATE job_run SET leased_until = clock_timestamp() + make_interval(secs => :lease)
    WHERE job = :job AND scheduled_for = :scheduled_for AND attempt = :attempt AND finished_at IS NULL
    """
)
_FINISH = text(
    """
    UPDATE job_run SET finished_at = clock_timestamp(), leased_until = NULL, error = :error
    WHERE job = :job AND scheduled_for = :scheduled_for AND attempt = :attempt AND finished_at IS NULL
    """
)


def tick(database: Database, job: Job) -> None:
    """Write that `job` is due; nothing when another scheduler has written this tick already."""
    try:
        with database.transaction() as session:
            session.execute(_TICK, {"job": job.name, "every": job.every_s})
    except SQLAlchemyError as error:
        log.warning("tick lost", job=job.name, error=type(error).__name__)


def schedule(database: Database, jobs: tuple[Job, ...] = JOBS) -> BackgroundScheduler:
    """A running scheduler that ticks every job, the first time at once."""
    scheduler = BackgroundScheduler(timezone="UTC")
    for job in jobs:
        tick(database, job)
        scheduler.add_job(
            tick,
            IntervalTrigger(seconds=job.every_s, timezone="UTC"),
            args=[database, job],
            id=job.name,
            coalesce=True,
            misfire_grace_time=job.every_s,
            max_instances=1,
        )
    scheduler.start()
    return scheduler


class Runner:
    """Takes up due runs, one at a time."""

    def __init__(self, database: Database, settings: Settings, jobs: tuple[Job, ...] = JOBS) -> None:
        self._database, self._settings = database, settings
        self._jobs = {job.name: job for job in jobs}

    def run_next(self) -> int:
        """Run what is due next; 0 when nothing is."""
        with self._database.transaction() as session:
            found = session.execute(_CLAIM, {"jobs": list(self._jobs), "lease": LEASE_SECONDS}).one_or_none()
            if found is None:
                return 0
            session.execute(_MISSED, {"job": found.job, "scheduled_for": found.scheduled_for})
        error: str | None = f"given up after {MOST_ATTEMPTS} attempts"
        if found.attempt <= MOST_ATTEMPTS:
            error = self._run(self._jobs[found.job], found.scheduled_for, found.attempt)
        self._write(_FINISH, job=found.job, scheduled_for=found.scheduled_for, attempt=found.attempt, error=error)
        return 1

    def _run(self, job: Job, scheduled_for: datetime, attempt: int) -> str | None:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                try:
                    self._write(_BEAT, job=job.name, scheduled_for=scheduled_for, attempt=attempt, lease=LEASE_SECONDS)
                except SQLAlchemyError as error:
                    log.warning("heartbeat lost", job=job.name, error=type(error).__name__)

        heart = threading.Thread(target=beat, name=f"heartbeat {job.name}", daemon=True)
        heart.start()
        try:
            job.run(self._database, self._settings)
        except Exception as error:
            log.error("job failed", job=job.name, exc_info=error)
            return f"{type(error).__name__}: {error}".split("\n")[0][:500]
        finally:
            ended.set()
            heart.join()
        return None

    def _write(self, statement: Any, **values: Any) -> None:
        with self._database.transaction() as session:
            session.execute(statement, values)
