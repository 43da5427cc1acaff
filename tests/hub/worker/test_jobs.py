"""Scheduled jobs: one run per tick however many workers there are, and none lost with a worker that dies."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from hub import clock
from hub.db import Database
from hub.leakage import watch
from hub.models import DeliveryAttempt, JobRun, WebSession
from hub.settings import Settings
from hub.worker import jobs, leaks
from hub.worker.jobs import Job, Runner, tick


@pytest.fixture
def settings(database: Database) -> Settings:
    return Settings(database_url=database.url)


class Counted:
    """A job that counts its runs."""

    def __init__(self, fails: int = 0) -> None:
        self.runs, self._fails, self._lock = 0, fails, threading.Lock()

    def __call__(self, database: Database, settings: Settings) -> None:
        with self._lock:
            self.runs += 1
            if self.runs <= self._fails:
                raise RuntimeError("a canary that failed")


def rows(database: Database) -> list[JobRun]:
    with database.transaction() as session:
        return list(session.scalars(select(JobRun).order_by(JobRun.scheduled_for)))


def missed(database: Database, job: Job, ago: timedelta) -> None:
    """A tick from some time ago that nobody has taken."""
    with database.transaction() as session:
        session.add(JobRun(job=job.name, scheduled_for=session.scalar(select(func.now())) - ago, notes=[]))


def test_a_tick_is_written_once_by_any_number_of_schedulers(database: Database, settings: Settings):
    counted = Counted()
    job = Job("count", 86_400, counted)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: tick(database, job), range(24)))
    assert len(rows(database)) == 1
    runners = [Runner(database, settings, (job,)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda runner: runner.run_next(), runners)) == 1
    assert counted.runs == 1
    (row,) = rows(database)
    assert (row.attempt, row.error, row.leased_until) == (1, None, None)
    assert row.finished_at is not None


def test_the_newest_tick_stands_for_those_that_were_missed(database: Database, settings: Settings):
    counted = Counted()
    job = Job("count", 60, counted)
    for hours in range(1, 6):
        missed(database, job, timedelta(hours=hours))
    runner = Runner(database, settings, (job,))
    assert [runner.run_next(), runner.run_next()] == [1, 0]
    assert counted.runs == 1
    assert [row.error for row in rows(database)][:4] == ["missed; a later run stands for it"] * 4
    assert rows(database)[-1].error is None


def test_a_job_never_runs_beside_itself_and_is_retaken_when_its_worker_died(database: Database, settings: Settings):
    counted = Counted()
    job = Job("count", 60, counted)
    missed(database, job, timedelta(hours=2))
    with database.transaction() as session:
        session.execute(
            text("UPDATE job_run SET attempt = 1, leased_until = clock_timestamp() + interval '30 seconds'")
        )
    missed(database, job, timedelta(hours=1))
    runner = Runner(database, settings, (job,))
    assert runner.run_next() == 0
    with database.transaction() as session:
        session.execute(text("UPDATE job_run SET leased_until = clock_timestamp() WHERE leased_until IS NOT NULL"))
    assert runner.run_next() == 1
    assert counted.runs == 1
    assert all(row.finished_at is not None for row in rows(database))


def test_a_run_that_killed_three_workers_is_given_up(database: Database, settings: Settings):
    counted = Counted()
    job = Job("count", 60, counted)
    missed(database, job, timedelta(hours=1))
    with database.transaction() as session:
        session.execute(text("UPDATE job_run SET attempt = 3, leased_until = clock_timestamp()"))
    assert Runner(database, settings, (job,)).run_next() == 1
    assert counted.runs == 0
    assert rows(database)[0].error == "given up after 3 attempts"


def test_a_failure_is_written_down_and_the_next_tick_runs(database: Database, settings: Settings):
    counted = Counted(fails=1)
    job = Job("count", 60, counted)
    runner = Runner(database, settings, (job,))
    missed(database, job, timedelta(hours=2))
    assert runner.run_next() == 1
    missed(database, job, timedelta(hours=1))
    assert runner.run_next() == 1
    assert [row.error for row in rows(database)] == ["RuntimeError: a canary that failed", None]


def test_a_long_run_keeps_its_lease(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "HEARTBEAT_SECONDS", 0.05)
    seen = []

    def long(database: Database, settings: Settings) -> None:
        first = rows(database)[0].leased_until
        for _ in range(600):
            if rows(database)[0].leased_until > first:
                seen.append(True)
                return
            threading.Event().wait(0.05)

    job = Job("long", 60, long)
    missed(database, job, timedelta(hours=1))
    assert Runner(database, settings, (job,)).run_next() == 1
    assert seen == [True]


def test_the_real_jobs_run_on_an_empty_hub(database: Database, settings: Settings):
    for job in jobs.JOBS:
        tick(database, job)
    runner = Runner(database, settings)
    assert sum(runner.run_next() for _ in jobs.JOBS) == len(jobs.JOBS)
    assert {row.job: row.error for row in rows(database)} == {job.name: None for job in jobs.JOBS}


def test_cleaning_up_removes_what_is_over(database: Database, settings: Settings):
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO user_account (id, email, name, role, password_hash)"
                " VALUES (gen_random_uuid(), 'pat@example.org', 'Pat', 'admin', 'x')"
            )
        )
        for name, hours in (("old", -1), ("live", 1)):
            session.execute(
                text(
                    "INSERT INTO web_session (token_hash, user_id, csrf_token, expires_at)"
                    " SELECT convert_to(:name, 'UTF8'), id, 'x', now() + make_interval(hours => :hours)"
                    " FROM user_account"
                ),
                {"name": name, "hours": hours},
            )
    jobs.clean_up(database, settings)
    with database.transaction() as session:
        assert session.scalars(select(WebSession.token_hash)).all() == [b"live"]
        assert session.scalar(select(func.count()).select_from(DeliveryAttempt)) == 0


def test_a_month_is_judged_once_a_local_day(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Counted(fails=1)
    monkeypatch.setattr(watch, "judge_month", judged)

    def at(moment: str) -> int:
        with database.transaction() as session:
            clock.set_clock(session, business_at=datetime.fromisoformat(moment), rate=0)
        leaks.judge_month(database, settings)
        return judged.runs

    # one that failed is tried again; a day begins at seven, when the night's flows are known
    with pytest.raises(RuntimeError):
        at("2026-03-02T08:00:00+00:00")
    assert at("2026-03-02T08:10:00+00:00") == 2
    assert at("2026-03-02T23:50:00+00:00") == at("2026-03-03T06:59:00+00:00") == 2
    assert at("2026-03-03T07:01:00+00:00") == 3
