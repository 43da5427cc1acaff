"""The crews' change feed: complete, scoped, and never skipping what commits late."""

from datetime import timedelta

from sqlalchemy import select, text, update

from hub.models import Account, Change, Crew, HubEpoch, ServicePoint, WorkOrder
from hub.work import orders
from tests.hub.work.conftest import BY
from tests.mobile_api.conftest import Field

URL = "/mobile/v1/sync/changes"


def test_a_device_without_a_cursor_gets_its_orders_with_their_form(town: Field):
    mine = town.assigned()
    other = town.assigned("move_out", crew=town.south_id, service_point="SP2", account="A1")
    (change,) = town.north.pull()
    assert (change["type"], change["id"], change["op"], change["reason"]) == ("work_order", mine, "upsert", None)
    assert change["rev"] == change["data"]["rev"] == town.order(mine).rev
    order = change["data"]
    assert (order["type"], order["status"], order["service_point"]) == ("reread", "assigned", "SP1")
    assert order["address"].endswith("Main Street")
    assert (order["meter"], order["position"]) == ("M1", {"lon": 0.5, "lat": 0.5})
    form = order["work_type"]["form"]
    assert {"code", "reading", "meter_serial", "valve_before", "valve_after", "remark"} <= set(form["properties"])
    assert {c["code"] for c in order["work_type"]["completion_codes"]} >= {"confirmed", "corrected"}
    assert order["work_type"]["unable_codes"]
    assert [c["id"] for c in town.south.pull()] == [other]


def test_later_changes_arrive_once_each(town: Field):
    assert town.north.pull() == []
    id_ = town.assigned()
    assert [c["id"] for c in town.north.pull()] == [id_]
    assert town.north.pull() == []
    town.north.do("acknowledge", id_)
    town.north.do("start_travel", id_)
    (change,) = town.north.pull()
    assert (change["op"], change["data"]["status"]) == ("upsert", "en_route")
    assert town.north.pull() == []


def test_an_order_taken_away_is_removed_with_its_reason(town: Field):
    lost, withdrawn = town.assigned(), town.assigned("move_out", service_point="SP2", account="A1")
    town.north.pull()
    with town.office() as cast:
        orders.unassign(cast.session, town.order(lost).id, by=BY)
        orders.cancel(cast.session, town.order(withdrawn).id, by=BY, reason="not wanted")
    town.north.pull()
    assert town.north.removed == {lost: "unassigned", withdrawn: "out_of_scope"}
    with town.office() as cast:
        orders.assign(cast.session, town.order(lost).id, crew_id=town.south_id, by=BY)
    assert town.north.pull() == []
    assert [c["id"] for c in town.south.pull()] == [lost]


def test_a_late_commit_is_not_skipped(town: Field):
    first = town.assigned()
    second = town.assigned(service_point="SP2", account="A2")
    town.north.pull()
    with town.database.transaction() as late:
        orders.note(late, town.order(first).id, by=BY, text="written first, committed last")
        with town.database.transaction() as early:
            orders.note(early, town.order(second).id, by=BY, text="written last, committed first")
        assert town.north.pull() == []
    assert [c["id"] for c in town.north.pull()] == [first, second]


def test_pages_are_small_when_asked_and_lose_nothing(town: Field):
    ids = [town.assigned()]
    with town.office() as cast:
        for number in range(3, 9):
            point = f"SP{number}"
            session = cast.session
            session.add(ServicePoint(id=point, address=point, geometry="SRID=4326;POINT(0.5 0.5)"))
            session.flush()
            made = orders.open_order(session, type="reread", by=BY, service_point=point).order
            orders.assign(session, made.id, crew_id=town.north_id, by=BY)
            ids.append(str(made.id))
    page = town.north.client.get(URL, params={"limit": 3}).json()
    assert page["has_more"] is True
    assert len(page["changes"]) == 3
    assert sorted(c["id"] for c in town.north.pull(limit=3)) == sorted(ids)
    for id_ in ids:
        town.north.do("acknowledge", id_)
        town.north.do("start_travel", id_)
    assert {c["id"] for c in town.north.pull(limit=2)} == set(ids)
    assert all(order["status"] == "en_route" for order in town.north.orders.values())


def test_what_changes_during_the_first_load_comes_after_it(town: Field):
    for number in range(3):
        kind, place = (("reread", "SP1"), ("move_out", "SP1"), ("reread", "SP2"))[number]
        town.assigned(kind, service_point=place)
    first = town.north.client.get(URL, params={"limit": 1}).json()
    shown = first["changes"][0]["id"]
    with town.office() as cast:
        orders.unassign(cast.session, town.order(shown).id, by=BY)
    town.north.cursor = first["cursor"]
    town.north.pull(limit=1)
    assert shown not in town.north.orders
    assert len(town.north.orders) == 2


def test_a_cursor_of_another_history_is_gone(town: Field):
    town.assigned()
    town.north.pull()
    with town.database.transaction() as session:
        session.execute(update(HubEpoch).values(id=text("gen_random_uuid()")))
    answer = town.north.client.get(URL, params={"cursor": town.north.cursor})
    assert (answer.status_code, answer.json()["type"]) == (410, "cursor-expired")
    town.north.cursor = None
    assert len(town.north.pull()) == 1


def test_a_broken_cursor_or_limit_is_refused(town: Field):
    for cursor in ("x", "W10", "ww", "WzEsMiwzLDRd", "\U0001f600", "W251bGwsMSwxLG51bGxd"):
        assert town.north.client.get(URL, params={"cursor": cursor}).status_code in (400, 410), cursor
    for limit in (0, -1, 1001, "many"):
        assert town.north.client.get(URL, params={"limit": limit}).status_code == 422, limit


def test_only_crews_may_ask(town: Field, live):
    assert live.client().get(URL).status_code == 401
    for role in ("admin", "supervisor", "dispatcher", "billing", "analyst"):
        assert live.client(role).get(URL).status_code == 403
        assert live.client(role).post("/mobile/v1/sync/mutations", json={"commands": []}).status_code == 403


def test_of_the_customer_a_crew_sees_what_the_work_needs(town: Field):
    with town.database.transaction() as session:
        session.execute(update(Account).where(Account.number == "A1").values(name="Canary Name", phone="+15550142"))
        session.add(Account(number="ACC-998877-4711", name="Long Number", phone="+15550143"))
    plain = town.assigned(account="ACC-998877-4711", service_point="SP2")
    town.assigned("shutoff")
    text_of_all = town.north.client.get(URL).text
    assert "998877" not in text_of_all
    assert "Long Number" not in text_of_all
    assert "180.00" not in text_of_all
    town.north.pull()
    assert town.north.orders[plain]["account_ends_with"] == "4711"
    assert "contact" not in town.north.orders[plain]
    (cut,) = [order for order in town.north.orders.values() if order["type"] == "shutoff"]
    assert cut["contact"] == {"name": "Canary Name", "phone": "+15550142", "language": None}
    town.north.do("complete", cut["id"], answers={"code": "cut"})
    town.north.pull()
    assert "contact" not in town.north.orders[cut["id"]]


def test_finished_work_leaves_the_view_after_two_days(town: Field):
    id_ = town.assigned()
    done = town.north.do("complete", id_, answers={"code": "confirmed", "reading": {"value": "12"}})
    assert done["status"] == "applied"
    town.north.pull()
    assert town.north.orders[id_]["status"] == "completed"
    with town.database.transaction() as session:
        session.execute(update(WorkOrder).values(ended_at=WorkOrder.ended_at - timedelta(hours=49)))
        orders.note(session, town.order(id_).id, by=BY, text="late remark", crew_id=town.north_id)
    town.north.cursor = None
    assert town.north.pull() == []


def test_a_sync_tells_the_office_that_the_crew_knows(town: Field):
    id_ = town.assigned()

    def unconfirmed() -> bool:
        with town.database.transaction() as session:
            synced = session.scalar(select(Crew.last_sync_at).where(Crew.id == town.north_id))
            return orders.unconfirmed(session.get_one(WorkOrder, town.order(id_).id), synced)

    town.north.pull()
    with town.office() as cast:
        orders.cancel(cast.session, town.order(id_).id, by=BY, reason="paid")
    assert unconfirmed()
    town.south.pull()
    assert unconfirmed()
    town.north.pull()
    assert not unconfirmed()


def test_a_sync_that_an_older_writer_holds_back_confirms_nothing(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.database.transaction() as slow:
        slow.execute(update(Crew).where(Crew.id == town.south_id).values(phone="+15550000"))
        with town.office() as cast:
            orders.cancel(cast.session, town.order(id_).id, by=BY, reason="paid")
        assert town.north.pull() == []
        with town.database.transaction() as session:
            synced = session.scalar(select(Crew.last_sync_at).where(Crew.id == town.north_id))
            assert orders.unconfirmed(session.get_one(WorkOrder, town.order(id_).id), synced)
    assert [c["op"] for c in town.north.pull()] == ["remove"]


def test_the_cursor_follows_transactions_not_insertions(town: Field):
    """The reader's position is (transaction, cursor): rows of one transaction stay together, whatever came between."""
    id_ = town.order(town.assigned()).id
    town.north.pull()
    with town.database.transaction() as first:
        orders.note(first, id_, by=BY, text="one")
        first_xid = first.scalar(select(text("pg_current_xact_id()::text::bigint")))
    with town.database.transaction() as session:
        last = session.execute(
            select(text("xid::text::bigint"), Change.cursor).select_from(Change).order_by(Change.cursor.desc()).limit(1)
        ).one()
    assert last[0] == first_xid
    assert [c["id"] for c in town.north.pull()] == [str(id_)]
