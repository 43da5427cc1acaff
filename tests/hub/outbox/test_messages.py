"""Putting, replaying and counting outbound messages, inside one transaction."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update

from hub import clock, outbox
from hub.errors import NotFound
from hub.models import BillingSource, Change, OutboundMessage
from tests import factories
from tests.hub.outbox.orders import order


def rows(session):
    return session.scalars(select(OutboundMessage).order_by(OutboundMessage.seq)).all()


def test_a_message_goes_to_the_source_of_its_order_and_says_what_all_say(session):
    factories.source(session, "other", endpoint="https://other.example/in")
    city = factories.source(session, "city", endpoint="https://city.example/in")
    made = order(session, source=city, reference="REF-7")
    ids = outbox.put(session, type="work_order.opened", data={"due_by": made.opened_at}, order_id=made.id)
    (row,) = rows(session)
    assert [row.id] == ids
    assert (row.source_id, row.order_id, row.status, row.tries) == (city.id, made.id, "pending", 0)
    assert row.body["type"] == "work_order.opened"
    data = row.body["data"]
    assert data["work_order"] == str(made.id)
    assert (data["work_type"], data["account"], data["service_point"]) == ("shutoff", "A1", "SP1")
    assert data["reference"] == "REF-7"
    assert data["at"] == row.body["timestamp"]
    assert data["due_by"].endswith("Z")


def test_what_the_caller_says_wins_over_what_the_order_says(session):
    city = factories.source(session)
    made = order(session, source=city)
    at = datetime(2026, 3, 1, 8, tzinfo=UTC)
    outbox.put(session, type="x", data={"account": "A9", "at": at, "work_type": "move_in"}, order_id=made.id)
    data = rows(session)[0].body["data"]
    assert (data["account"], data["at"], data["work_type"]) == ("A9", "2026-03-01T08:00:00Z", "move_in")


def test_without_an_order_the_account_decides_and_without_both_every_endpoint_gets_it(session):
    city = factories.source(session, "city", endpoint="https://city.example/in")
    county = factories.source(session, "county", endpoint="https://county.example/in")
    factories.source(session, "silent")
    factories.service_point(session)
    factories.account(session, "A1", source_id=city.id)
    outbox.put(session, type="x", data={}, account="A1")
    outbox.put(session, type="y", data={})
    outbox.put(session, type="z", data={}, source_id=county.id, account="A1")
    assert [(row.type, row.source_id) for row in rows(session)] == [
        ("x", city.id),
        ("y", city.id),
        ("y", county.id),
        ("z", county.id),
    ]


def test_without_any_destination_nothing_is_owed(session):
    factories.source(session, "silent")
    assert outbox.put(session, type="x", data={}) == []
    assert rows(session) == []


def test_money_is_a_decimal_string_and_odd_text_can_be_kept(session):
    city = factories.source(session)
    data = {"amount": Decimal("1E+2"), "lines": [Decimal("35.00")], "note": "a\x00b\ud800", "id": uuid4()}
    outbox.put(session, type="charge.created", data=data, source_id=city.id)
    kept = rows(session)[0].body["data"]
    assert kept["amount"] == "100"
    assert kept["lines"] == ["35.00"]
    assert kept["note"] == "a\ufffdb\ufffd"
    assert kept["id"] == str(data["id"])


def test_messages_tell_business_time(session):
    city = factories.source(session)
    monday = datetime(2026, 6, 1, 7, 30, tzinfo=UTC)
    clock.set_clock(session, business_at=monday)
    outbox.put(session, type="x", data={}, source_id=city.id)
    row = rows(session)[0]
    assert abs(row.at - monday) < timedelta(hours=1)
    assert row.body["timestamp"].startswith("2026-06-01T")


def test_an_order_owes_until_delivered_but_not_for_its_own_closing(session):
    city = factories.source(session, endpoint="https://city.example/in")
    made = order(session, source=city)
    assert outbox.owing(session, [made.id]) == set()
    outbox.put(session, type="work_order.completed", data={}, order_id=made.id)
    assert outbox.owing(session, [made.id]) == {made.id}
    for status, expected in (("parked", {made.id}), ("delivered", set())):
        session.execute(update(OutboundMessage).values(status=status))
        assert outbox.owing(session, [made.id]) == expected
    outbox.put(session, type="work_order.closed", data={}, order_id=made.id)
    assert outbox.owing(session, [made.id]) == set()


def test_nothing_is_owed_to_a_source_that_only_asks(session):
    city = factories.source(session)
    made = order(session, source=city)
    outbox.put(session, type="work_order.completed", data={}, order_id=made.id)
    assert outbox.owing(session, [made.id]) == set()


def test_replay_keeps_the_id_starts_the_schedule_anew_and_is_on_record(session):
    city = factories.source(session, endpoint="https://city.example/in")
    made = order(session, source=city)
    (id_,) = outbox.put(session, type="x", data={}, order_id=made.id)
    session.execute(
        update(OutboundMessage).values(
            status="parked", tries=11, attempt=11, reason="no", next_attempt_at=text("now() + interval '1 day'")
        )
    )
    session.execute(update(BillingSource).values(parked_at=text("now()")))
    outbox.replay(session, id_, by="user:pat@example.org", reason="endpoint mended")
    session.expire_all()
    row = rows(session)[0]
    assert (row.id, row.status, row.tries, row.attempt, row.reason) == (id_, "pending", 0, 12, None)
    assert session.scalar(select(BillingSource.parked_at)) is None
    change = session.scalars(select(Change).where(Change.verb == "message_replayed")).one()
    assert (change.actor, change.order_id, change.detail["reason"]) == (
        "user:pat@example.org",
        made.id,
        "endpoint mended",
    )


def test_a_source_may_replay_its_own_messages_only(session):
    city, county = factories.source(session, "city"), factories.source(session, "county")
    (id_,) = outbox.put(session, type="x", data={}, source_id=city.id)
    with pytest.raises(NotFound):
        outbox.replay(session, id_, by="token:county", source_id=county.id)
    outbox.replay(session, id_, by="token:city", source_id=city.id)
    with pytest.raises(NotFound):
        outbox.replay(session, uuid4(), by="token:city")
