"""Month partitions: made by whoever needs one first, while others need the same."""

import threading
import time
from datetime import date

from hub.db import Database
from hub.metering import partitions


def test_two_writers_make_the_same_month_at_once(database: Database) -> None:
    month = date(2031, 7, 1)
    failed: list[Exception] = []

    second_one = database.listener()

    def make() -> None:
        try:
            with second_one.transaction():
                partitions.ensure(second_one, "reading", [month])
        except Exception as error:
            failed.append(error)

    with second_one.transaction():
        # a connection that has made one before has everything in its caches
        partitions.ensure(second_one, "reading", [date(2031, 6, 1)])
    with database.raw() as first:
        partitions.ensure(first, "reading", [month])
        second = threading.Thread(target=make)
        second.start()
        # it has looked, found no table, and waits for us
        with database.raw() as watcher:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while (watcher.execute(waiting).fetchone() or (0,))[0] == 0 and second.is_alive():
                time.sleep(0.01)
    second.join(30)
    second_one.close()
    assert failed == []
    assert [name for name, when in partitions.existing(database, "reading") if when == month] == ["reading_2031_07"]
