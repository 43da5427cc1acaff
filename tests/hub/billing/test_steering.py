"""Shutoffs and reconnects against crews on the road, cut lists, changes of tenancy and of meter."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text, update

from hub import accounts
from hub.models import Charge, Crew, MeterInstallation, OrderException, WorkOrder
from hub.work import orders, places, shutoffs
from tests import factories
from tests.hub.billing.conftest import NOW, Town, delinquent, event

AGO = NOW - timedelta(hours=1)
SOON = NOW + timedelta(minutes=10)


def drive(town: Town, order: WorkOrder) -> None:
    """Let the crew have the order and leave for it."""
    crew = town.session.scalars(select(Crew)).one()
    orders.assign(town.session, order.id, crew_id=crew.id, by="user:d")
    orders.start_travel(town.session, order.id, by="crew:North", crew_id=crew.id)


def cut(town: Town, code: str = "cut", **more: Any) -> WorkOrder:
    """The water of A1 is off for nonpayment."""
    town.send(delinquent(at=AGO))
    order = town.one()
    drive(town, order)
    answers = {"code": code, "reading": {"value": "100", "unit": "m3", "how": "seen"}, "meter_serial": "M-SP1"}
    orders.complete(town.session, order.id, by="crew:North", answers=answers | more, at=NOW, via="device")
    assert places.facts(town.session, "SP1")["valve"].state == "closed"
    return order


def paid(at: datetime = SOON, **more: Any) -> bytes:
    """Everything that was past due."""
    return event("account.payment_received", at=at, **({"amount": "120.00", "past_due": "0.00"} | more))


def exceptions(town: Town) -> list[str]:
    """The kinds of what a person has to look at."""
    return list(town.session.scalars(select(OrderException.kind).order_by(OrderException.id)))


# ------------------------------------------------------------------------------------------------------- on the road


def test_a_crew_that_has_not_left_loses_the_order_at_once(town: Town) -> None:
    town.send(delinquent(at=AGO))
    crew = town.session.scalars(select(Crew)).one()
    orders.assign(town.session, town.one().id, crew_id=crew.id, by="user:d")
    town.send(paid(NOW))
    assert (town.one().status, town.one().crew_id) == ("cancelled", None)


def test_a_crew_on_the_road_is_asked_back(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    town.send(paid(NOW))
    order = town.one()
    assert order.status == "en_route"
    assert order.cancel_requested is not None and order.cancel_requested["ends"] == "cancelled"
    assert town.send(paid(SOON, payment="P2")).status == "applied"
    orders.cancel_acknowledge(town.session, order.id, by="crew:North")
    assert town.one().status == "cancelled"


def test_a_cut_wanted_anew_while_its_crew_is_asked_back_is_opened_once_it_has_answered(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    town.send(paid(NOW))
    assert town.send(delinquent(at=SOON, amount="140.00", notices_attested_by="J. Doe")).status == "applied"
    order = town.one()
    assert order.cancel_requested is not None and order.cancel_requested["ends"] == "cancelled"
    shutoffs.judge_due(town.session)
    assert town.one().id == order.id
    orders.cancel_acknowledge(town.session, order.id, by="crew:North")
    shutoffs.judge_due(town.session)
    shutoffs.judge_due(town.session)
    town.session.expire_all()
    first, second = town.orders("shutoff")
    assert (first.status, second.amount_due) == ("cancelled", Decimal(140))
    assert second.status in ("ready", "held") and second.cancel_requested is None


def test_a_hold_that_reaches_a_crew_on_the_road_ends_held(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    town.send(event("account.hold_placed", hold="medical"))
    flag = town.one().cancel_requested
    assert flag is not None and flag["ends"] == "held"
    orders.cancel_acknowledge(town.session, town.one().id, by="crew:North")
    assert (town.one().status, [r["code"] for r in town.one().reasons]) == ("held", ["hold_medical"])
    town.send(event("account.hold_lifted", at=SOON, hold="medical"))
    assert town.one().status == "ready"


def test_a_part_payment_leaves_the_crew_on_its_way(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    town.send(event("account.payment_received", amount="20", past_due="100"))
    order = town.one()
    assert (order.status, order.cancel_requested, order.amount_due) == ("en_route", None, Decimal(100))


def test_cut_offline_after_the_payment_is_undone_at_once(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    town.send(paid(NOW))
    answers = {"code": "cut", "reading": {"value": "100", "unit": "m3", "how": "seen"}}
    orders.complete(
        town.session, town.one().id, by="crew:North", answers=answers, at=NOW + timedelta(minutes=1), via="device",
        offline=True,
    )  # fmt: skip
    again = town.one("reconnect")
    assert (again.status, again.priority, again.details["free"]) == ("ready", 1, True)
    assert sum(town.session.scalars(select(Charge.amount)), Decimal(0)) == 0
    # A returned cheque does not keep that water off.
    town.send(event("account.payment_reversed", at=SOON, past_due="120.00"))
    assert town.one("reconnect").status == "ready"


def test_a_payment_that_was_still_waiting_when_the_crew_cut(town: Town) -> None:
    town.send(delinquent(at=AGO))
    drive(town, town.one())
    stopped_at = NOW - timedelta(minutes=30)
    answers = {"code": "cut", "reading": {"value": "100", "unit": "m3", "how": "seen"}}
    orders.complete(town.session, town.one().id, by="crew:North", answers=answers, at=NOW, via="device")
    # The hub opened the order late, after that payment: what counts is that it followed billing's wish.
    assert town.one().opened_at > stopped_at
    town.send(paid(stopped_at))
    again = town.one("reconnect")
    assert (again.priority, again.details["free"]) == (1, True)
    assert sum(town.session.scalars(select(Charge.amount)), Decimal(0)) == 0


def test_a_word_from_before_the_debt_makes_no_cut_free(town: Town) -> None:
    town.send(paid(AGO - timedelta(days=300)))
    town.send(event("account.hold_placed", at=AGO - timedelta(days=9), hold="dispute", until=(AGO.date()).isoformat()))
    town.send(event("account.hold_lifted", at=AGO - timedelta(days=8), hold="dispute"))
    cut(town)
    town.send(paid(past_due="20.00", to_restore="0.00"))
    assert town.one("reconnect").details == {}


# --------------------------------------------------------------------------------------------------------- reconnect


def test_payment_after_the_cut_opens_a_reconnect(town: Town) -> None:
    cut(town)
    row = town.send(paid())
    order = town.one("reconnect")
    assert (row.status, order.status, order.account, order.service_point) == ("applied", "ready", "A1", "SP1")
    assert order.details == {}
    # Told twice, opened once.
    town.send(paid(SOON + timedelta(minutes=1)))
    assert len(town.orders("reconnect")) == 1


@pytest.mark.parametrize(
    ("body", "opened"),
    [
        (event("account.payment_received", at=SOON, past_due="20.00"), False),
        (event("account.payment_received", at=SOON, past_due="20.00", to_restore="0.00"), True),
        (event("account.payment_received", at=SOON, past_due="0.00", to_restore="45.00"), False),
        (event("account.delinquency_cleared", at=SOON, reason="pledge"), True),
        (event("account.hold_placed", at=SOON, hold="medical"), True),
        (event("account.hold_lifted", at=SOON, hold="medical"), False),
        (event("account.payment_reversed", at=SOON, past_due="240.00"), False),
    ],
)
def test_what_gives_the_water_back(town: Town, body: bytes, opened: bool) -> None:
    cut(town)
    town.send(body)
    assert [o.status for o in town.orders("reconnect")] == (["ready"] if opened else [])


def test_a_returned_cheque_holds_a_reconnect_that_nobody_drives_yet(town: Town) -> None:
    cut(town)
    town.send(paid())
    town.send(event("account.payment_reversed", at=SOON + timedelta(minutes=1), past_due="120.00"))
    order = town.one("reconnect")
    assert (order.status, [r["code"] for r in order.reasons]) == ("held", ["payment_reversed"])
    town.send(paid(SOON + timedelta(minutes=2)))
    assert town.one("reconnect").status == "ready"


def test_a_returned_cheque_lets_a_crew_on_the_road_go_on(town: Town) -> None:
    cut(town)
    town.send(paid())
    drive(town, town.one("reconnect"))
    town.send(event("account.payment_reversed", at=SOON + timedelta(minutes=1), past_due="120.00"))
    order = town.one("reconnect")
    assert (order.status, order.cancel_requested) == ("en_route", None)


def test_a_vacant_house_stays_off(town: Town) -> None:
    cut(town)
    town.send(event("account.closed", at=SOON, effective_date="2026-11-16", read_required=False))
    town.send(paid(SOON + timedelta(minutes=1)))
    assert town.orders("reconnect") == []
    assert exceptions(town) == ["reconnect_in_doubt"]
    town.send(paid(SOON + timedelta(minutes=2)))
    assert exceptions(town) == ["reconnect_in_doubt"]


def test_water_off_for_another_reason_stays_off(town: Town) -> None:
    places.note(town.session, "SP1", "valve", "closed", since=NOW, reason="leak")
    town.send(delinquent(at=AGO), paid())
    assert (town.orders("reconnect"), exceptions(town)) == ([], [])


def test_no_second_cut_while_the_water_is_off(town: Town) -> None:
    cut(town)
    town.send(delinquent(at=SOON, amount="150.00"))
    assert len(town.orders("shutoff")) == 1


# --------------------------------------------------------------------------------------------- who lives there, meter


def test_another_meter_is_judged_anew(town: Town) -> None:
    town.send(delinquent(at=AGO))
    town.session.execute(update(MeterInstallation).where(MeterInstallation.serial == "M-SP1").values(removed_at=NOW))
    factories.meter(town.session, "M-NEW", at="SP1")
    town.send(event("account.notice_sent", channel="mail", sent_at=NOW.isoformat()))
    assert [(o.meter, o.status) for o in town.orders("shutoff")] == [("M-SP1", "cancelled"), ("M-NEW", "ready")]


def test_a_move_out_that_was_announced_counts_when_its_day_comes(town: Town) -> None:
    town.send(delinquent(at=AGO))
    town.send(event("account.closed", effective_date="2026-11-18", read_required=False))
    assert town.one().status == "ready"
    assert shutoffs.judge_due(town.session) == 0
    town.at(NOW + timedelta(days=2))
    assert shutoffs.judge_due(town.session) == 1
    assert town.one().status == "cancelled"


def test_an_order_that_a_person_ended_is_not_opened_again_by_the_same_wish(town: Town) -> None:
    town.send(delinquent(at=AGO))
    orders.cancel(town.session, town.one().id, by="user:d", reason="known hardship")
    town.send(event("account.notice_sent", channel="mail", sent_at=NOW.isoformat()))
    assert town.one().status == "cancelled"
    town.send(delinquent(at=SOON))
    assert [o.status for o in town.orders()] == ["cancelled", "ready"]


def test_a_person_s_hold_is_not_released_by_the_policy(town: Town) -> None:
    town.send(delinquent(at=AGO))
    reasons = [{"code": "dispatcher", "text": "Talk to them first.", "citation": None}]
    orders.hold(town.session, town.one().id, by="user:d", reasons=reasons)
    town.send(event("account.hold_placed", hold="medical"))
    assert [r["code"] for r in town.one().reasons] == ["dispatcher", "hold_medical"]
    town.send(event("account.hold_lifted", at=SOON, hold="medical"))
    assert (town.one().status, [r["code"] for r in town.one().reasons]) == ("held", ["dispatcher"])


# --------------------------------------------------------------------------------------------------------- held, time


def test_a_held_shutoff_is_released_when_its_hour_comes(town: Town) -> None:
    town.at(NOW.replace(hour=19))
    town.send(delinquent(at=AGO))
    order = town.one()
    assert (order.status, [r["code"] for r in order.reasons]) == ("held", ["outside_hours"])
    assert order.earliest_at == datetime(2026, 11, 17, 14, 0, tzinfo=UTC)
    assert shutoffs.judge_due(town.session) == 0
    town.at(datetime(2026, 11, 17, 14, 0, tzinfo=UTC))
    town.session.execute(text("UPDATE account_fact SET at = business_now() WHERE fact = 'debt'"))
    assert shutoffs.judge_due(town.session) == 1
    assert town.one().status == "ready"


def test_a_balance_from_a_file_withdraws_and_gives_the_water_back(town: Town) -> None:
    town.send(delinquent(at=AGO))
    accounts.record_balance(town.session, "A1", past_due=Decimal(0), as_of=NOW)
    assert shutoffs.judge_due(town.session) == 1
    assert town.one().status == "cancelled"
    assert shutoffs.judge_due(town.session) == 0


def test_a_file_after_the_cut_opens_the_reconnect(town: Town) -> None:
    cut(town)
    accounts.record_balance(town.session, "A1", past_due=Decimal(0), as_of=SOON)
    assert shutoffs.judge_due(town.session) == 1
    assert town.one("reconnect").status == "ready"
    assert shutoffs.judge_due(town.session) == 0


# ---------------------------------------------------------------------------------------------------------- cut lists


def listed(account: str, place: str, at: datetime, **more: Any) -> bytes:
    """An account on the list of the week."""
    return delinquent(account=account, service_point=place, at=at, **({"cut_list": "week-47"} | more))


def quiet(town: Town) -> None:
    """Let the list have been quiet for a while."""
    town.session.execute(
        text(
            "UPDATE work_order SET details = jsonb_set(details, '{cut_list,kept_at}', '\"2020-01-01T00:00:00+00:00\"')"
            " WHERE details -> 'cut_list' ->> 'id' IS NOT NULL"
        )
    )


def test_a_list_sent_again_withdraws_who_is_missing(town: Town) -> None:
    town.send(listed("A1", "SP1", AGO), listed("A2", "SP2", AGO + timedelta(seconds=1)))
    quiet(town)
    assert shutoffs.judge_due(town.session) == 0
    row = town.send(listed("A2", "SP2", NOW))
    assert row.status == "joined"
    assert shutoffs.judge_due(town.session) == 0, "the list may still be on its way"
    missing, named = town.orders("shutoff")
    crew = town.session.scalars(select(Crew)).one()
    with pytest.raises(orders.CutRefused) as refused:
        orders.assign(town.session, missing.id, crew_id=crew.id, by="user:d")
    assert [r["code"] for r in refused.value.extra["reasons"]] == ["cut_list_resent"]
    quiet(town)
    assert shutoffs.judge_due(town.session) == 1
    assert [(o.account, o.status) for o in town.orders("shutoff")] == [("A1", "cancelled"), ("A2", "ready")]
    # Back on a later list, it is wanted again.
    town.send(listed("A1", "SP1", SOON, notices_attested_by="J. Doe"))
    assert town.orders("shutoff")[-1].status == "ready"
    assert named.id == town.orders("shutoff")[1].id


def test_a_list_sent_again_as_it_was_changes_nothing(town: Town) -> None:
    both = [("A1", "SP1"), ("A2", "SP2")]
    town.send(*(listed(account, place, AGO) for account, place in both))
    town.send(*(listed(account, place, NOW) for account, place in reversed(both)))
    quiet(town)
    assert shutoffs.judge_due(town.session) == 0
    assert [o.status for o in town.orders("shutoff")] == ["ready", "ready"]


def test_a_list_may_say_when_it_was_sent(town: Town) -> None:
    first, second = ({"id": "week-47", "sent_at": at.isoformat()} for at in (AGO, NOW))
    town.send(listed("A1", "SP1", AGO, cut_list=first), listed("A2", "SP2", NOW, cut_list=second))
    quiet(town)
    assert shutoffs.judge_due(town.session) == 1
    assert [(o.account, o.status) for o in town.orders("shutoff")] == [("A1", "cancelled"), ("A2", "ready")]
