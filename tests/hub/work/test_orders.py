"""Orders from opening to closing, one rule of the life cycle after the other, on a real database."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from hub import accounts, clock
from hub.accounts import Stamp
from hub.errors import BadInput, Conflict, IllegalTransition, NotFound, StaleRevision
from hub.models import Charge, OutboundMessage, Reading, WorkOrder
from hub.work import orders, places
from hub.work.orders import CutRefused
from tests import factories
from tests.hub.work.conftest import BY, Cast

OFF_READ = {"reading": {"value": "123.4", "unit": "m3", "how": "visual"}}


def test_a_shutoff_is_opened_driven_completed_and_invoiced(cast: Cast) -> None:
    order = cast.shutoff(reference="R1")
    assert (order.status, order.zone, order.meter) == ("ready", "Z1", "M1")
    cast.on_site(order)
    done = orders.complete(
        cast.session, order.id, by="crew:North", answers={"code": "cut_and_locked", **OFF_READ}, crew_id=cast.north.id
    )
    assert done.status == "completed"
    assert cast.told(order) == [
        "work_order.opened",
        "work_order.assigned",
        "work_order.completed",
        "reading.captured",
        "service.disconnected",
        "charge.created",
    ]
    read = cast.message(order, "reading.captured")
    assert (read["meter"], read["value"], read["unit"], read["kind"]) == ("M1", "123.4", "m3", "off")
    assert read["reference"] == "R1" and read["account"] == "A1" and read["service_point"] == "SP1"
    charge = cast.message(order, "charge.created")
    assert (charge["amount"], charge["currency"], charge["bill_to"]) == ("35.00", "USD", "account")
    assert cast.billed() == Decimal("35.00")
    valve = places.facts(cast.session, "SP1")["valve"]
    assert (valve.state, valve.reason, valve.account, valve.order_id) == ("closed", "nonpayment", "A1", order.id)
    assert places.facts(cast.session, "SP1")["lock"].state == "on"
    assert cast.session.scalars(select(Reading.value)).all() == [Decimal("123.4")]


def test_a_second_trigger_joins_and_a_repeated_reference_reschedules(cast: Cast) -> None:
    first = cast.order("reread", reference="R1")
    again = orders.open_order(cast.session, type="reread", by=BY, service_point="SP1", source_id=cast.source_id)
    assert (again.how, again.order.id) == ("joined", first.id)
    later = clock.now(cast.session) + timedelta(days=3)
    moved = orders.open_order(
        cast.session,
        type="reread",
        by=BY,
        service_point="SP1",
        source_id=cast.source_id,
        reference="R1",
        not_before=later,
    )
    assert (moved.how, moved.order.id, moved.order.not_before) == ("rescheduled", first.id, later)
    assert moved.order.due_by is not None and moved.order.due_by > later
    assert cast.verbs(first) == ["opened", "joined", "rescheduled"]
    assert cast.told(first) == ["work_order.opened"]


def test_what_is_not_known_is_refused_with_its_name(cast: Cast) -> None:
    for asked, error in (
        ({"type": "dance", "service_point": "SP1"}, NotFound),
        ({"type": "reread", "service_point": "SP9"}, NotFound),
        ({"type": "reread", "account": "A9", "service_point": "SP1"}, NotFound),
        ({"type": "reread", "account": "A2"}, BadInput),
        ({"type": "reread", "position": (500.0, 0.0)}, BadInput),
    ):
        with pytest.raises(error):
            orders.open_order(cast.session, by=BY, **asked)


def test_an_order_at_a_position_finds_its_zone(cast: Cast) -> None:
    opened = orders.open_order(cast.session, type="reread", by=BY, position=(0.25, 0.25))
    assert (opened.order.zone, opened.order.service_point, opened.order.account) == ("Z1", None, None)


def test_a_shutoff_that_the_policy_forbids_is_opened_held_with_reasons(cast: Cast) -> None:
    accounts.record_hold(cast.session, "A1", "medical", stamp=Stamp(clock.now(cast.session)), placed=True)
    order = cast.shutoff()
    assert order.status == "held"
    assert order.reasons and all(r["code"] and r["text"] for r in order.reasons)
    assert cast.told(order) == ["work_order.opened", "work_order.held"]
    with pytest.raises(CutRefused) as refused:
        orders.release(cast.session, order.id, by=BY)
    assert refused.value.extra["reasons"]
    with pytest.raises(IllegalTransition):
        orders.assign(cast.session, order.id, crew_id=cast.north.id, by=BY)


def test_a_shutoff_is_judged_again_when_it_is_given_out_and_driven_to(cast: Cast) -> None:
    order = cast.shutoff()
    accounts.record_hold(cast.session, "A1", "medical", stamp=Stamp(clock.now(cast.session)), placed=True)
    with pytest.raises(CutRefused):
        orders.assign(cast.session, order.id, crew_id=cast.north.id, by=BY)
    accounts.record_hold(
        cast.session, "A1", "medical", stamp=Stamp(clock.now(cast.session) + timedelta(seconds=1)), placed=False
    )
    cast.assigned(order)
    accounts.record_hold(
        cast.session, "A1", "medical", stamp=Stamp(clock.now(cast.session) + timedelta(seconds=2)), placed=True
    )
    for verb in (orders.start_travel, orders.arrive):
        with pytest.raises(CutRefused):
            verb(cast.session, order.id, by="crew:North", crew_id=cast.north.id)
    assert order.status == "assigned"


def test_a_crew_that_has_not_left_loses_a_withdrawn_order_at_once(cast: Cast) -> None:
    order = cast.assigned(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid")
    assert (order.status, order.crew_id, order.cancel_requested) == ("cancelled", None, None)
    assert cast.told(order)[-1] == "work_order.cancelled"
    north = cast.session.get_one(type(cast.north), cast.north.id)
    assert orders.unconfirmed(order, north.last_sync_at)
    orders.confirm_told_by_radio(cast.session, order.id, by=BY)
    assert not orders.unconfirmed(order, None)


@pytest.mark.parametrize(("ends", "final"), [("cancelled", "cancelled"), ("held", "held")])
def test_a_crew_on_the_road_is_asked_and_answers(cast: Cast, ends: str, final: str) -> None:
    order = cast.on_site(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid", ends=ends)  # type: ignore[arg-type]
    assert order.status == "on_site" and order.cancel_requested is not None
    assert {"reason", "since", "ends"} <= order.cancel_requested.keys() and order.cancel_requested["ends"] == ends
    assert orders.unconfirmed(order, clock.now(cast.session))
    orders.cancel_acknowledge(cast.session, order.id, by="crew:North", crew_id=cast.north.id)
    assert (order.status, order.cancel_requested, order.crew_id) == (final, None, None)
    assert not orders.unconfirmed(order, None)


def test_a_weaker_wish_does_not_lower_the_flag(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    orders.cancel(cast.session, order.id, by=BY, reason="paid")
    orders.hold(cast.session, order.id, by=BY, reasons=[{"code": "by_hand", "text": "wait"}])
    assert order.cancel_requested is not None and order.cancel_requested["ends"] == "cancelled"


def test_a_cut_after_the_payment_is_undone_at_our_cost(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid")
    orders.complete(cast.session, order.id, by="crew:North", answers={"code": "cut", **OFF_READ}, crew_id=cast.north.id)
    assert order.status == "completed" and order.cancel_requested is None
    assert cast.told(order)[-2:] == ["charge.created", "charge.reversed"]
    assert cast.billed() == 0
    assert cast.exceptions() == ["cut_after_stop"]
    again = cast.session.scalars(select(WorkOrder).where(WorkOrder.type == "reconnect")).one()
    assert (again.priority, again.details["free"], again.status) == (1, True, "ready")
    cast.on_site(again)
    orders.complete(cast.session, again.id, by="crew:North", answers={"code": "restored"}, crew_id=cast.north.id)
    assert "service.restored" in cast.told(again) and "charge.created" not in cast.told(again)
    assert places.facts(cast.session, "SP1")["valve"].reason is None


def test_an_offline_cut_on_an_order_cancelled_meanwhile_is_kept_and_undone(cast: Cast) -> None:
    order = cast.assigned(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid")
    done_at = clock.now(cast.session) - timedelta(minutes=1)
    orders.complete(
        cast.session,
        order.id,
        by="crew:North",
        answers={"code": "cut", **OFF_READ},
        crew_id=cast.north.id,
        at=done_at,
        offline=True,
    )
    assert order.status == "cancelled"
    assert cast.exceptions() == ["late_report", "cut_after_stop"]
    assert places.facts(cast.session, "SP1")["valve"].state == "closed"
    assert cast.billed() == 0
    assert cast.session.scalars(select(WorkOrder.status).where(WorkOrder.type == "reconnect")).all() == ["ready"]
    assert "work_order.completed" not in cast.told(order)


def test_a_cut_that_arrives_after_the_cancelled_order_was_closed_is_undone_too(cast: Cast) -> None:
    order = cast.assigned(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid")
    cast.session.execute(update(OutboundMessage).values(status="delivered"))
    assert orders.close_settled(cast.session) == 1
    orders.complete(
        cast.session, order.id, by="crew:North", answers={"code": "cut"}, crew_id=cast.north.id, offline=True
    )
    assert order.status == "closed" and cast.billed() == 0
    assert cast.exceptions() == ["late_report", "cut_after_stop"]
    assert cast.session.scalars(select(WorkOrder.priority).where(WorkOrder.type == "reconnect")).all() == [1]


def test_a_lawful_cut_by_the_crew_that_had_the_order_before_is_for_a_person_to_judge(cast: Cast) -> None:
    order = cast.assigned(cast.shutoff())
    orders.unassign(cast.session, order.id, by=BY)
    orders.complete(
        cast.session, order.id, by="crew:North", answers={"code": "cut"}, crew_id=cast.north.id, offline=True
    )
    assert order.status == "ready" and cast.exceptions() == ["late_report"]
    assert places.facts(cast.session, "SP1")["valve"].state == "closed"
    assert cast.session.scalars(select(WorkOrder.id).where(WorkOrder.type == "reconnect")).all() == []


def test_another_crew_never_learns_of_an_order(cast: Cast) -> None:
    order = cast.on_site(cast.order())
    for verb in (orders.acknowledge, orders.pause, orders.cancel_acknowledge):
        with pytest.raises(NotFound):
            verb(cast.session, order.id, by="crew:South", crew_id=cast.south.id)
    with pytest.raises(NotFound):
        orders.complete(
            cast.session, order.id, by="crew:South", answers={"code": "stopped_meter"}, crew_id=cast.south.id
        )
    with pytest.raises(NotFound):
        orders.note(cast.session, order.id, by="crew:South", text="hello", crew_id=cast.south.id)


@pytest.mark.parametrize(
    ("code", "claim"),
    [
        ("paid_at_door", "paid"),
        ("medical_claimed", "medical"),
        ("dispute_claimed", "dispute"),
        ("tenant_claimed", "tenant"),
    ],
)
def test_a_claim_at_the_door_means_not_cut(cast: Cast, code: str, claim: str) -> None:
    order = cast.on_site(cast.shutoff())
    orders.complete(
        cast.session,
        order.id,
        by="crew:North",
        answers={"code": code, "remark": "shows a letter"},
        crew_id=cast.north.id,
    )
    assert (order.status, order.crew_id) == ("held", None)
    assert [r["code"] for r in order.reasons] == [f"claim_{claim}"]
    assert order.earliest_at is not None and order.earliest_at > clock.now(cast.session)
    told = cast.message(order, "customer.claimed")
    assert told["claim"] == claim and told["evidence"]["remark"] == "shows a letter"
    assert places.facts(cast.session, "SP1")["valve"].state == "open"
    assert cast.billed() == 0


def test_steps_that_nobody_tapped_are_recorded_as_skipped(cast: Cast) -> None:
    order = cast.assigned(cast.order())
    orders.complete(cast.session, order.id, by=BY, answers={"code": "confirmed", **OFF_READ}, via="radio")
    assert order.completion is not None and order.completion["skipped"] == ["start_travel", "arrive"]
    assert order.completion["via"] == "radio" and order.completion["crew"] == str(cast.north.id)
    assert cast.billed() == Decimal("25.00")


def test_unable_retries_until_the_attempts_are_used_then_escalates(cast: Cast) -> None:
    order = cast.order()
    for attempt in (1, 2, 3):
        cast.assigned(order)
        orders.unable(cast.session, order.id, by="crew:North", code="locked_gate", crew_id=cast.north.id)
        assert order.status == "unable"
        follow_up = cast.session.scalars(select(WorkOrder).where(WorkOrder.follow_up_of == order.id)).one_or_none()
        assert cast.message(order, "work_order.unable")["then"] == ("retry" if attempt < 3 else "escalate")
        if attempt < 3:
            assert follow_up is not None and follow_up.not_before is not None and follow_up.status == "ready"
            order = follow_up
        else:
            assert follow_up is None
    assert cast.exceptions() == ["escalated"]


def test_reopening_an_order_that_is_to_be_tried_again_takes_the_new_try_back(cast: Cast) -> None:
    order = cast.on_site(cast.order())
    orders.unable(cast.session, order.id, by="crew:North", code="dog", crew_id=cast.north.id)
    again = cast.session.scalars(select(WorkOrder).where(WorkOrder.follow_up_of == order.id)).one()
    assert orders.reopen(cast.session, order.id, by=BY, reason="dog is gone").status == "ready"
    assert again.status == "cancelled"


def test_a_device_that_lost_its_clock_is_not_believed(cast: Cast) -> None:
    order = cast.on_site(cast.order())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    orders.complete(
        cast.session,
        order.id,
        by="crew:North",
        answers={"code": "confirmed", **OFF_READ},
        crew_id=cast.north.id,
        at=epoch,
    )
    assert order.completion is not None and order.completion["device_at"].startswith("1970")
    assert order.ended_at == clock.now(cast.session)


def test_unable_with_the_flag_up_ends_where_the_flag_says(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    orders.withdraw(cast.session, order.id, by="billing:city", reason="paid")
    orders.unable(cast.session, order.id, by="crew:North", code="dog", crew_id=cast.north.id)
    assert order.status == "cancelled"
    assert "work_order.unable" not in cast.told(order)


def test_unable_refuses_a_code_of_another_type(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    with pytest.raises(BadInput):
        orders.unable(cast.session, order.id, by="crew:North", code="nobody_home", crew_id=cast.north.id)


def test_reopening_takes_charges_and_place_back_until_billing_was_told(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    orders.complete(cast.session, order.id, by="crew:North", answers={"code": "cut"}, crew_id=cast.north.id)
    back = orders.reopen(cast.session, order.id, by=BY, reason="wrong house")
    assert back.id == order.id and back.status == "ready" and back.crew_id is None and back.completion is None
    assert cast.billed() == 0
    assert places.facts(cast.session, "SP1")["valve"].state == "open"
    assert cast.told(order)[-2:] == ["charge.reversed", "work_order.opened"]
    cast.on_site(order)
    orders.complete(cast.session, order.id, by="crew:North", answers={"code": "cut"}, crew_id=cast.north.id)
    assert cast.billed() == Decimal("35.00")
    cast.session.execute(update(OutboundMessage).values(status="delivered"))
    follow_up = orders.reopen(cast.session, order.id, by=BY, reason="water still runs")
    assert follow_up.id != order.id and follow_up.follow_up_of == order.id and order.status == "completed"


def test_an_order_closes_when_billing_has_everything(cast: Cast) -> None:
    order = cast.assigned(cast.order())
    orders.complete(cast.session, order.id, by=BY, answers={"code": "confirmed", **OFF_READ}, via="paper")
    assert orders.close_settled(cast.session) == 0
    cast.session.execute(update(OutboundMessage).values(status="delivered"))
    assert orders.close_settled(cast.session) == 1
    assert order.status == "closed" and cast.told(order)[-1] == "work_order.closed"
    assert orders.close_settled(cast.session) == 0
    follow_up = orders.reopen(cast.session, order.id, by=BY, reason="customer calls again")
    assert follow_up.follow_up_of == order.id


def test_a_hold_with_an_end_ends_by_itself(cast: Cast) -> None:
    order, other = cast.order(), cast.order("move_in", service_point="SP2", account="A2")
    until = clock.now(cast.session) + timedelta(hours=2)
    wait = {"code": "by_hand", "text": "wait", "until": until.isoformat()}
    orders.hold(cast.session, order.id, by=BY, reasons=[wait], earliest_at=until)
    orders.hold(cast.session, other.id, by=BY, reasons=[wait, {"code": "x", "text": "no end"}], earliest_at=until)
    assert orders.release_lapsed(cast.session) == 0
    clock.set_clock(cast.session, business_at=until + timedelta(minutes=1))
    assert orders.release_lapsed(cast.session) == 1
    assert (order.status, order.reasons, other.status) == ("ready", [], "held")


def test_a_stale_revision_is_told_what_is_true_now(cast: Cast) -> None:
    order = cast.order()
    rev = order.rev
    orders.hold(cast.session, order.id, by=BY, reasons=[{"code": "by_hand", "text": "wait"}], rev=rev)
    with pytest.raises(StaleRevision) as stale:
        orders.release(cast.session, order.id, by=BY, rev=rev)
    assert stale.value.extra["current"] == {"rev": rev + 1, "status": "held"}


def test_bulk_assign_answers_for_every_item(cast: Cast) -> None:
    one = cast.order()
    held = cast.order("move_in", service_point="SP2", account="A2")
    orders.hold(cast.session, held.id, by=BY, reasons=[{"code": "by_hand", "text": "wait"}])
    results = orders.bulk_assign(
        cast.session, [(one.id, one.rev), (held.id, None), (cast.source_id, None)], crew_id=cast.north.id, by=BY
    )
    assert [type(r.error).__name__ for r in results] == ["NoneType", "IllegalTransition", "NotFound"]
    assert one.status == "assigned"


def test_a_move_out_and_a_move_in_become_one_visit_with_two_reads(cast: Cast) -> None:
    order = cast.order("move_out", reference="OUT")
    joined = orders.open_order(
        cast.session,
        type="move_in",
        by="billing:city",
        account="A2",
        service_point="SP1",
        source_id=cast.source_id,
        reference="IN",
    )
    assert (joined.how, joined.order.id) == ("joined", order.id)
    cast.on_site(order)
    orders.complete(
        cast.session, order.id, by="crew:North", answers={"code": "read_left_on", **OFF_READ}, crew_id=cast.north.id
    )
    bodies = cast.session.scalars(
        select(OutboundMessage.body).where(OutboundMessage.order_id == order.id).order_by(OutboundMessage.seq)
    ).all()
    reads = {b["data"]["account"]: b["data"]["kind"] for b in bodies if b["type"] == "reading.captured"}
    assert reads == {"A1": "final", "A2": "start"}
    ended = {b["data"]["account"]: b["data"]["code"] for b in bodies if b["type"] == "work_order.completed"}
    assert ended == {"A1": "read_left_on", "A2": "on"}
    assert cast.billed("A1") == 0 and cast.billed("A2") == Decimal("20.00")


def test_withdrawing_one_half_of_a_joint_visit_leaves_the_other(cast: Cast) -> None:
    order = cast.order("move_out", reference="OUT")
    cast.order("move_in", account="A2", reference="IN")
    orders.withdraw_reference(
        cast.session, source_id=cast.source_id, reference="OUT", by="billing:city", reason="stays after all"
    )
    assert (order.type, order.account, order.reference, order.status) == ("move_in", "A2", "IN", "ready")
    orders.withdraw_reference(cast.session, source_id=cast.source_id, reference="IN", by="billing:city", reason="no")
    assert order.status == "cancelled"


@pytest.mark.parametrize("first", ["ONE", "TWO"])
def test_work_asked_for_twice_goes_on_until_both_requests_are_withdrawn(cast: Cast, first: str) -> None:
    order = cast.order("reread", reference="ONE")
    assert cast.order("reread", reference="TWO").id == order.id
    cast.order("reread", reference="TWO")
    last = {"ONE": "TWO", "TWO": "ONE"}[first]
    for account, reference in (("A2", first), (None, first)):
        orders.withdraw_reference(
            cast.session, source_id=cast.source_id, reference=reference, by="b", reason="no", account=account
        )
        assert order.status == "ready"
    assert order.reference == last
    orders.withdraw_reference(cast.session, source_id=cast.source_id, reference=last, by="b", reason="no")
    assert order.status == "cancelled"


def test_another_accounts_order_gives_way_unless_it_is_on_the_road(cast: Cast) -> None:
    order = cast.order("reconnect")
    taken = cast.order("reconnect", account="A2")
    assert taken.id != order.id and order.status == "cancelled"
    cast.on_site(taken)
    with pytest.raises(Conflict):
        cast.order("reconnect")


def test_an_earlier_report_does_not_overwrite_a_later_fact(cast: Cast) -> None:
    now = clock.now(cast.session)
    assert places.note(cast.session, "SP1", "valve", "closed", since=now, reason="leak")
    assert not places.note(cast.session, "SP1", "valve", "open", since=now - timedelta(hours=1))
    known = places.facts(cast.session, "SP1")["valve"]
    assert (known.state, known.reason) == ("closed", "leak")
    assert places.note(cast.session, "SP1", "valve", "closed", since=now + timedelta(minutes=1))
    assert places.facts(cast.session, "SP1")["valve"].reason == "leak"


def test_contradictory_answers_are_refused(cast: Cast) -> None:
    order = cast.on_site(cast.shutoff())
    with pytest.raises(BadInput) as refused:
        orders.complete(
            cast.session,
            order.id,
            by="crew:North",
            answers={"code": "cut", "valve_after": "open"},
            crew_id=cast.north.id,
        )
    assert refused.value.extra["field"] == "answers.valve_after"


def test_an_order_without_a_listener_is_still_done(cast: Cast) -> None:
    factories.service_point(cast.session, "SP3")
    order = orders.open_order(cast.session, type="reread", by=BY, service_point="SP3").order
    cast.assigned(order)
    orders.complete(cast.session, order.id, by=BY, answers={"code": "stopped_meter"}, via="paper")
    assert order.status == "completed" and cast.exceptions() == ["stopped_meter"]
    assert cast.session.scalars(select(Charge)).all() == []
