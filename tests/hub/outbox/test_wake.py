"""Listeners are woken after a commit, never by what was rolled back."""

from hub import outbox
from hub.db import Database, wake


def test_a_commit_wakes_and_a_rollback_does_not(database: Database):
    def commit() -> None:
        with database.transaction() as session:
            wake(session, "curbstop_test")

    def roll_back() -> None:
        try:
            with database.transaction() as session:
                wake(session, "curbstop_test")
                raise KeyError
        except KeyError:
            pass

    with database.listener() as listener:
        listener.execute("LISTEN curbstop_test")
        listener.execute("LISTEN curbstop_tested")
        roll_back()
        with database.transaction() as session:
            wake(session, "curbstop_tested")
        first = list(listener.notifies(timeout=60.0, stop_after=1))
        commit()
        second = list(listener.notifies(timeout=60.0, stop_after=1))
    assert [n.channel for n in first + second] == ["curbstop_tested", "curbstop_test"]


def test_what_is_due_is_sent_before_the_database_is_left(database: Database):
    other = Database(database.url)
    with database.listener() as listener:
        listener.execute(f"LISTEN {outbox.CHANNEL}")
        with other.transaction() as session:
            wake(session, outbox.CHANNEL)
        other.dispose()
        assert [n.channel for n in listener.notifies(timeout=30.0, stop_after=1)] == [outbox.CHANNEL]
