"""The event stream: who hears it, that nothing committed late is skipped, how it resumes, how it ends."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub import changes
from tests.conftest import Live, ServerThread

PATIENCE_S = 60.0


class Stream:
    """An open event stream, read event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is wanted, as its fields; others are passed over."""
        event: dict[str, Any] = {}
        deadline = time.monotonic() + PATIENCE_S
        for line in self.lines:
            assert time.monotonic() < deadline, "the event did not come"
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
            elif event:
                event["json"] = json.loads(event.get("data", "null"))
                if wanted(event):
                    return event
                event = {}
        raise AssertionError("the stream ended")

    def change(self, subject: str) -> dict[str, Any]:
        """The event about `subject`."""
        return self.until(lambda e: "event" not in e and (e["json"] or {}).get("id") == subject)


@contextmanager
def stream(live: Live, *, url: str | None = None, **headers: str) -> Iterator[Stream]:
    """A dispatcher's stream."""
    token = live.token("dispatcher")
    with (
        httpx.Client(timeout=PATIENCE_S) as client,
        client.stream(
            "GET", f"{url or live.url}/api/v1/events", headers={"Authorization": f"Bearer {token}", **headers}
        ) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


def tell(session: Session, subject: str) -> None:
    """One line in the change log."""
    changes.record(session, actor="user:t", subject_type="work_order", subject_id=subject, verb="tried", rev=7)


def beat(event: dict[str, Any]) -> bool:
    """Whether an event is a beat."""
    return event.get("event") == "beat"


def test_only_office_roles_hear_it(live: Live) -> None:
    assert live.client().get("/api/v1/events").status_code == 401
    with live.database.transaction() as session:
        from tests import factories

        crew = factories.crew(session).id
    assert live.client("crew", crew_id=crew).get("/api/v1/events").status_code == 403


def test_a_change_arrives_with_its_revision_and_the_stream_resumes_after_it(live: Live) -> None:
    with stream(live) as first:
        assert first.until(beat)["json"]["rate"] == 1.0
        with live.database.transaction() as session:
            tell(session, "one")
        heard = first.change("one")
        assert heard["json"] == {"type": "work_order", "id": "one", "rev": 7}
    with live.database.transaction() as session:
        tell(session, "two")
    with live.database.transaction() as session:
        tell(session, "three")
    with stream(live, **{"Last-Event-ID": heard["id"]}) as again:
        told = [again.until(lambda e: "event" not in e and bool(e["json"]))["json"]["id"] for _ in range(2)]
    assert told == ["two", "three"]


def test_a_change_committed_late_is_not_skipped(live: Live) -> None:
    with stream(live) as listening:
        listening.until(beat)
        slow = live.database.engine.connect()
        slow_session = Session(slow)
        tell(slow_session, "late")
        with live.database.transaction() as session:
            tell(session, "early")
        # while the older transaction runs, the younger one's change has to wait
        listening.until(beat)
        slow_session.commit()
        slow_session.close()
        slow.close()
        told = [listening.until(lambda e: "event" not in e and bool(e["json"]))["json"]["id"] for _ in range(2)]
    assert told == ["late", "early"]


def test_a_position_of_another_database_is_reset(live: Live) -> None:
    for unknown in ("gone-1-1", "nonsense", "--", "0-9" * 400):
        with stream(live, **{"Last-Event-ID": unknown}) as listening:
            assert listening.until(lambda e: e.get("event") == "reset")["id"].count("-") == 2


def test_a_restore_resets_open_streams(live: Live) -> None:
    with stream(live) as listening:
        listening.until(beat)
        with live.database.transaction() as session:
            session.execute(text("UPDATE hub_epoch SET id = gen_random_uuid()"))
            tell(session, "after")
        assert listening.until(lambda e: e.get("event") == "reset")


def test_an_open_stream_ends_when_the_server_stops(live: Live) -> None:
    server = ServerThread(live.settings, live.database)
    url = server.started()
    with stream(live, url=url) as listening:
        listening.until(beat)
        server.stop()
        assert not server.is_alive()
        assert list(listening.lines) is not None
