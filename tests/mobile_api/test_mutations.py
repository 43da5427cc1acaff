"""Crew commands: once each, in order, merged or kept in conflict, and never a fact lost."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from hub import accounts, clock
from hub.accounts import Stamp
from hub.models import Change, Charge, Crew, MutationReceipt, OrderException, OutboundMessage, Reading, WorkOrder
from hub.work import orders
from mobile_api import mutations
from tests import factories
from tests.hub.work.conftest import BY, TUESDAY
from tests.mobile_api.conftest import Field

URL = "/mobile/v1/sync/mutations"
CONFIRMED = {"code": "confirmed", "reading": {"value": "1234.5", "unit": "m3", "how": "visual"}, "meter_serial": "M1"}


def test_a_visit_from_acknowledgement_to_completion(town: Field):
    id_ = town.assigned()
    town.north.pull()
    at = (TUESDAY + timedelta(minutes=1)).isoformat()
    names = ["acknowledge", "start_travel", "arrive", "pause", "resume"]
    commands = [town.north.command(name, id_, observed_at=at, app={"version": "1"}) for name in names]
    commands.append(town.north.command("complete", id_, answers=CONFIRMED, position={"lon": 0.5, "lat": 0.5}))
    results = town.north.push(*commands)
    assert [r["status"] for r in results] == ["applied"] * 6
    assert [r["problem"] for r in results] == [None] * 6
    revs = [r["rev"] for r in results]
    assert revs == sorted(set(revs))
    order = town.order(id_)
    assert (order.status, order.rev) == ("completed", revs[-1])
    assert order.completion["answers"]["reading"]["value"] == "1234.5"
    assert order.completion["position"]["lon"] == 0.5
    assert order.completion["offline"] is False
    with town.database.transaction() as session:
        told = list(session.scalars(select(OutboundMessage.type).order_by(OutboundMessage.seq)))
        assert session.scalar(select(func.count()).select_from(Reading)) == 1
    assert {"work_order.completed", "reading.captured"} <= set(told)


def test_the_same_command_again_gets_the_first_answer(town: Field):
    id_ = town.assigned()
    command = town.north.command("complete", id_, answers=CONFIRMED)
    (first,) = town.north.push(command)
    (second,) = town.north.push(command)
    assert (first["status"], second["status"], second["first"]) == ("applied", "duplicate", "applied")
    assert second["rev"] == first["rev"]
    assert town.exceptions() == []
    (third,) = town.north.push(dict(reversed(command.items())))
    assert third["status"] == "duplicate"


def test_a_refusal_too_is_remembered(town: Field):
    id_ = town.assigned()
    command = town.north.command("resume", id_)
    (first,) = town.north.push(command)
    assert (first["status"], first["problem"]["type"], first["problem"]["status"]) == (
        "rejected",
        "illegal-transition",
        409,
    )
    with town.office() as cast:
        orders.note(cast.session, UUID(id_), by=BY, text="nothing changes by this")
    (second,) = town.north.push(command)
    assert (second["status"], second["first"], second["problem"]) == ("duplicate", "rejected", first["problem"])


def test_another_body_under_the_same_id_is_refused(town: Field):
    id_ = town.assigned()
    command = town.north.command("note", id_, answers={"text": "dog"})
    town.north.push(command)
    (again,) = town.north.push(command | {"answers": {"text": "no dog"}})
    assert (again["status"], again["problem"]["status"], again["problem"]["type"]) == ("rejected", 422, "id-reused")
    town.assigned("move_out", crew=town.south_id, service_point="SP2", account="A1")
    (theirs,) = town.south.push(command)
    assert (theirs["status"], theirs["problem"]["status"]) == ("rejected", 422)
    with town.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Change).where(Change.verb == "noted")) == 1


def test_one_failure_stops_only_what_depends_on_it(town: Field):
    id_ = town.assigned()
    bad = town.north.command("resume", id_)
    after = town.north.command("pause", id_, depends_on=[bad["id"]])
    other = town.north.command("acknowledge", id_)
    results = town.north.push(bad, after, other)
    assert [r["status"] for r in results] == ["rejected", "deferred", "applied"]
    assert results[1]["problem"]["type"] == "dependency-failed"


def test_a_command_waits_for_one_that_has_not_arrived(town: Field):
    id_ = town.assigned()
    first = town.north.command("start_travel", id_)
    second = town.north.command("arrive", id_, depends_on=first["id"])
    (waiting,) = town.north.push(second)
    assert (waiting["status"], waiting["rev"]) == ("deferred", None)
    assert town.order(id_).status == "assigned"
    assert [r["status"] for r in town.north.push(first, second)] == ["applied", "applied"]
    assert town.order(id_).status == "on_site"


def test_the_report_of_finished_work_goes_on_when_a_step_before_it_failed(town: Field):
    id_ = town.assigned()
    bad = town.north.command("resume", id_)
    done = town.north.command("complete", id_, answers=CONFIRMED, depends_on=[bad["id"]])
    assert [r["status"] for r in town.north.push(bad, done)] == ["rejected", "applied"]


def test_what_others_changed_elsewhere_merges(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.office() as cast:
        cast.order(amount_due=Decimal("7.00"))
    assert town.order(id_).rev > town.north.orders[id_]["rev"]
    result = town.north.do("start_travel", id_)
    assert (result["status"], result["rev"]) == ("merged", town.order(id_).rev)


def test_a_step_on_an_order_that_others_moved_is_a_conflict_with_both_sides_kept(town: Field):
    id_ = town.assigned()
    town.north.do("start_travel", id_)
    town.north.pull()
    with town.office() as cast:
        orders.cancel(cast.session, UUID(id_), by=BY, reason="paid")
    result = town.north.do("arrive", id_)
    assert (result["status"], result["problem"]["status"]) == ("conflict", 409)
    assert result["problem"]["current"]["cancel_requested"]["ends"] == "cancelled"
    assert town.order(id_).status == "en_route"
    with town.database.transaction() as session:
        kept = session.scalars(select(OrderException)).one()
    assert (kept.kind, kept.theirs["type"], kept.ours["status"]) == ("conflict", "arrive", "en_route")
    assert town.north.do("cancel_acknowledge", id_)["status"] == "applied"
    assert town.order(id_).status == "cancelled"


def test_a_step_on_an_order_that_was_taken_away_is_a_conflict(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.office() as cast:
        orders.unassign(cast.session, UUID(id_), by=BY)
        orders.assign(cast.session, UUID(id_), crew_id=town.south_id, by=BY)
    assert town.north.do("start_travel", id_)["status"] == "conflict"
    assert town.order(id_).status == "assigned"


def test_a_crews_own_commands_do_not_make_its_base_stale(town: Field):
    id_ = town.assigned()
    town.north.pull()
    base = town.north.orders[id_]["rev"]
    for name in ("acknowledge", "start_travel", "arrive"):
        assert town.north.do(name, id_, base_rev=base)["status"] == "applied"


def test_field_work_on_a_cancelled_order_is_kept_as_an_exception(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.office() as cast:
        orders.cancel(cast.session, UUID(id_), by=BY, reason="not wanted")
    result = town.north.do("complete", id_, answers=CONFIRMED)
    assert (result["status"], result["problem"]["type"]) == ("applied", "accepted-as-exception")
    assert town.order(id_).status == "cancelled"
    assert town.exceptions() == ["late_report"]
    unable = town.north.do("unable", id_, answers={"code": "dog"})
    assert unable["status"] == "applied"


def test_two_reports_of_the_same_end_are_a_conflict(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.office() as cast:
        orders.complete(cast.session, UUID(id_), by=BY, answers=CONFIRMED, via="radio")
    result = town.north.do("complete", id_, answers={"code": "corrected", "reading": {"value": "99"}})
    assert (result["status"], result["problem"]["type"]) == ("conflict", "conflict")
    assert town.order(id_).completion["code"] == "confirmed"
    assert town.exceptions() == ["late_report"]


def test_a_cut_done_offline_after_the_payment_is_booked_undone_and_costs_nothing(town: Field):
    """The crew left, lost its signal, and cut; meanwhile the customer had paid."""
    id_ = town.assigned("shutoff")
    town.north.pull()
    for name in ("acknowledge", "start_travel"):
        assert town.north.do(name, id_)["status"] == "applied"
    with town.office() as cast:
        now = clock.now(cast.session)
        accounts.record_debt(cast.session, "A1", past_due=Decimal(0), stamp=Stamp(now))
        orders.withdraw(cast.session, UUID(id_), by="billing:city", reason="paid")
    assert town.order(id_).cancel_requested is not None
    at = (TUESDAY + timedelta(seconds=1)).isoformat()
    offline = {"observed_at": at, "app": {"offline": True}}
    arrive = town.north.command("arrive", id_, **offline)
    cut = town.north.command("complete", id_, answers={"code": "cut"}, depends_on=[arrive["id"]], **offline)
    arrived, done = town.north.push(arrive, cut)
    assert arrived["status"] in ("conflict", "rejected")
    assert done["status"] in ("applied", "merged")
    order = town.order(id_)
    assert (order.status, order.completion["offline"]) == ("completed", True)
    with town.database.transaction() as session:
        again = session.scalars(select(WorkOrder).where(WorkOrder.type == "reconnect")).one()
        assert (again.priority, again.status) == (1, "ready")
        total = session.scalar(select(func.sum(Charge.amount)).where(Charge.account == "A1"))
        assert total is None or total == 0
    assert "cut_after_stop" in town.exceptions()


def test_an_unable_visit_names_its_reason(town: Field):
    id_ = town.assigned()
    result = town.north.do("unable", id_, answers={"code": "locked_gate", "remark": "key with neighbour"})
    assert result["status"] == "applied"
    assert town.order(id_).status == "unable"
    assert town.order(id_).completion["answers"]["remark"] == "key with neighbour"
    other = town.assigned("move_out", service_point="SP2", account="A1")
    for answers in ({}, {"code": "alligator"}, {"code": 7}):
        refused = town.north.do("unable", other, answers=answers)
        assert (refused["status"], refused["problem"]["status"]) == ("rejected", 422)


def test_notes_readings_and_positions_never_conflict(town: Field):
    id_ = town.assigned()
    town.north.pull()
    with town.office() as cast:
        orders.cancel(cast.session, UUID(id_), by=BY, reason="not wanted")
    note = town.north.do("note", id_, answers={"text": "gate \u0000 is \U0001f600 red"})
    fields = town.north.do("note", id_, fields={"text": {"from": None, "to": "by field"}})
    reading = {"value": "1234.5", "unit": "m3", "how": "visual"}
    read = town.north.do("reading", id_, answers={"reading": reading})
    loose = town.north.do("reading", answers={"reading": reading | {"value": "1235"}, "meter_serial": "M1"})
    where = town.north.do("position", position={"lon": 0.51, "lat": 0.52, "accuracy_m": 8})
    assert [r["status"] for r in (note, fields, read, loose, where)] == ["applied"] * 5
    with town.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Change).where(Change.verb == "noted")) == 2
        crew = session.get_one(Crew, town.north_id)
        assert (crew.position["lon"], crew.position["accuracy_m"]) == (0.51, 8)
        told = session.scalars(select(OutboundMessage.body).where(OutboundMessage.type == "reading.captured")).all()
    assert [body["data"]["value"] for body in told] == ["1234.5"]


def test_an_older_position_does_not_replace_a_newer_one(town: Field):
    early, late = TUESDAY - timedelta(hours=2), TUESDAY - timedelta(hours=1)
    town.north.do("position", position=[0.2, 0.2], observed_at=late.isoformat())
    town.north.do("position", position=[0.1, 0.1], observed_at=early.isoformat())
    with town.database.transaction() as session:
        assert session.get_one(Crew, town.north_id).position["lon"] == 0.2


def test_work_that_a_crew_found_is_opened_or_put_before_a_dispatcher(town: Field):
    opened = town.north.do("report", answers={"text": "reads backwards", "work_type": "reread", "service_point": "SP2"})
    assert opened["status"] == "applied"
    assert town.order(opened["work_order"]).service_point == "SP2"
    told = town.north.do("report", answers={"text": "water on the road"}, position=[0.5, 0.5])
    assert (told["status"], town.exceptions()) == ("applied", ["crew_report"])
    for answers in (
        {"text": ""},
        {"text": "no place"},
        {"text": "cut him off", "work_type": "shutoff", "service_point": "SP1"},
        {"text": "x", "work_type": "moon_landing", "service_point": "SP1"},
        {"text": "x", "service_point": "nowhere"},
        {"text": 5, "service_point": "SP1"},
    ):
        assert town.north.do("report", answers=answers)["status"] == "rejected"


def test_another_crews_order_does_not_exist(town: Field):
    id_ = town.assigned(crew=town.south_id)
    for type_, answers in (
        ("acknowledge", {}),
        ("arrive", {}),
        ("complete", CONFIRMED),
        ("unable", {"code": "dog"}),
        ("note", {"text": "hello"}),
        ("reading", {"reading": {"value": "1"}}),
        ("cancel_acknowledge", {}),
    ):
        theirs = town.north.do(type_, id_, answers=answers)
        nobodys = town.north.do(type_, uuid4(), answers=answers)
        assert theirs["status"] == nobodys["status"] == "rejected"
        assert theirs["problem"]["status"] == nobodys["problem"]["status"] == 404
        assert theirs["problem"]["detail"] == nobodys["problem"]["detail"]
    assert town.order(id_).status == "assigned"
    assert town.exceptions() == []


def test_a_shutoff_that_may_not_start_says_why(town: Field):
    id_ = town.assigned("shutoff")
    town.north.pull()
    with town.office() as cast:
        now = clock.now(cast.session)
        accounts.record_hold(cast.session, "A1", "medical", stamp=Stamp(now), placed=True)
    result = town.north.do("start_travel", id_)
    assert (result["status"], result["problem"]["type"]) == ("rejected", "cut-refused")
    assert any("medical" in reason["text"].lower() for reason in result["problem"]["reasons"])
    assert town.order(id_).status == "assigned"


MALFORMED: list[dict[str, object]] = [
    {"id": "not a uuid"}, {"id": None}, {"type": "explode"}, {"type": None}, {"target": "WO-1"}, {"target": 5},
    {"base_rev": "three"}, {"base_rev": -1}, {"observed_at": "2026-03-10T10:00:00"}, {"observed_at": "soon"},
    {"position": {"lon": 500, "lat": 0}}, {"position": [1, 2, 3]}, {"answers": "cut"}, {"fields": []},
    {"depends_on": "x"}, {"device_seq": -1}, {"answers": {"text": 10**40}}, {"answers": {"text": None}},
    {"base_rev": 10**30}, {"device_seq": 10**30}, {"position": {"lon": "nan", "lat": 0}},
]  # fmt: skip


def test_a_malformed_command_is_rejected_alone(town: Field):
    id_ = town.assigned()
    for change in MALFORMED:
        bad = town.north.command("note", id_, answers={"text": "x"}) | change
        answer = town.north.client.post(URL, json={"commands": [bad, town.north.command("acknowledge", id_)]})
        assert answer.status_code == 200, change
        first, second = answer.json()["results"]
        assert (first["status"], first["problem"]["status"], second["status"]) == ("rejected", 422, "applied"), change
    for entry in (None, 5, "x", [], {}, {"id": {"a": 1}}):
        answer = town.north.client.post(URL, json=[entry])
        assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "rejected"), entry
    for body in ({}, {"commands": "x"}, "x", 5, {"commands": [{}] * 101}, [{}] * 101):
        assert town.north.client.post(URL, json=body).status_code == 422


def test_hostile_answers_change_nothing_and_break_nothing(town: Field):
    id_ = town.assigned()
    for answers in (
        {},
        {"code": "confirmed\x00", "reading": {"value": "1"}},
        {"code": "confirmed", "reading": {"value": "1e400"}},
        {"code": "confirmed", "reading": {"value": 10**30}},
        {"code": "confirmed", "reading": {"value": "12"}, "surprise": True},
        {"code": ["confirmed"]},
    ):
        result = town.north.do("complete", id_, answers=answers)
        assert (result["status"], result["problem"]["status"]) == ("rejected", 422), answers
    ids = f'"id":"{uuid4()}","target":"{id_}"'
    lone = '{"commands":[{' + ids + ',"type":"note","answers":{"text":"a\\ud800\\u0000b"}}]}'
    answer = town.north.client.post(URL, content=lone, headers={"content-type": "application/json"})
    assert answer.json()["results"][0]["status"] == "applied"
    assert town.order(id_).status == "assigned"


def test_a_hundred_commands_at_once_and_many_devices_at_the_same_time(town: Field):
    id_ = town.assigned()
    many = [town.north.command("note", id_, answers={"text": f"note {n}"}) for n in range(100)]
    assert {r["status"] for r in town.north.push(*many)} == {"applied"}
    command = town.north.command("complete", id_, answers=CONFIRMED)
    barrier = threading.Barrier(8)

    def send() -> str:
        barrier.wait()
        return str(town.north.client.post(URL, json=[command]).json()["results"][0]["status"])

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(f.result() for f in [pool.submit(send) for _ in range(8)])
    assert statuses == ["applied"] + ["duplicate"] * 7
    with town.database.transaction() as session:
        completed = OutboundMessage.type == "work_order.completed"
        assert session.scalar(select(func.count()).select_from(OutboundMessage).where(completed)) == 1
        assert session.scalar(select(func.count()).select_from(MutationReceipt)) == 101


def test_a_command_on_an_order_that_somebody_holds_is_deferred_and_works_later(
    town: Field, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mutations, "LOCK_TIMEOUT_MS", 100)
    id_ = town.assigned()
    command = town.north.command("start_travel", id_)
    with town.office() as cast:
        orders.lock(cast.session, UUID(id_))
        (held,) = town.north.push(command)
    assert (held["status"], held["problem"]["status"]) == ("deferred", 503)
    assert town.count("mutation_receipt") == 0
    assert town.north.push(command)[0]["status"] == "applied"


def test_an_offline_report_is_marked_by_its_age(town: Field):
    id_ = town.assigned()
    with town.database.transaction() as session:
        earlier = clock.now(session) - timedelta(hours=3)
    town.north.do("complete", id_, answers=CONFIRMED, observed_at=earlier.isoformat())
    order = town.order(id_)
    assert order.completion["offline"] is True
    assert datetime.fromisoformat(order.completion["at"]).astimezone(UTC) == earlier.astimezone(UTC)


def test_an_inactive_crew_may_not_report(town: Field):
    with town.database.transaction() as session:
        session.execute(update(Crew).where(Crew.id == town.north_id).values(active=False))
        factories.crew(session, "East")
    assert town.north.client.post(URL, json=[]).status_code == 401
