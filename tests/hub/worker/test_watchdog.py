"""A worker that the database no longer answers ends itself, so that a supervisor starts it anew."""

import threading
import time

from hub.db import Database
from hub.settings import Settings
from hub.worker import WATCHDOG_SECONDS, Worker


def test_a_silent_database_ends_the_worker_and_an_answering_one_does_not(database: Database):
    ended = threading.Event()
    worker = Worker(Settings(database_url=database.url), database, stalled=ended.set)
    running = threading.Thread(target=worker.run)
    running.start()
    try:
        worker._answered = time.monotonic() - WATCHDOG_SECONDS + 30
        assert not ended.wait(2.5)
        worker._answered = time.monotonic() - WATCHDOG_SECONDS - 1
        assert ended.wait(30)
    finally:
        worker.stopping.set()
        running.join(60)
    assert not running.is_alive()
