"""What each event changes: facts, orders, volumes."""

from datetime import date, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from hub import accounts
from hub.billing import effects
from hub.models import Account, BilledConsumption, Charge, Occupancy, OrderException, OrderTrigger
from hub.work import catalogue, orders
from tests import factories
from tests.hub.billing.conftest import NOW, Town, delinquent, event

LATER = NOW + timedelta(minutes=5)


def test_every_type_of_the_adapter_has_an_effect() -> None:
    from adapters.billing import standard

    assert set(effects.EFFECTS) == set(standard.TYPES)


def test_delinquent_at_stage_cut_opens_a_shutoff(town: Town) -> None:
    row = town.send(delinquent(reference="CUT-7", cut_list="2026-11-16"))
    order = town.one()
    assert (row.status, order.status, order.account, order.service_point) == ("applied", "ready", "A1", "SP1")
    assert (order.amount_due, order.currency, order.reference, order.meter) == (Decimal(120), "USD", "CUT-7", "M-SP1")
    assert row.outcome is not None
    assert row.outcome["orders"] == [{"id": str(order.id), "number": order.number, "type": "shutoff", "how": "opened"}]
    triggers = town.session.scalars(select(OrderTrigger.how).where(OrderTrigger.event_id == row.id)).all()
    assert triggers == ["opened"]


def test_delinquent_at_stage_notice_opens_no_shutoff(town: Town) -> None:
    assert town.send(delinquent(stage="notice")).status == "applied"
    assert town.orders() == []


def test_delinquent_without_a_place_means_where_the_account_lives(town: Town) -> None:
    town.send(delinquent(service_point=None))
    assert town.one().service_point == "SP1"


def test_an_attested_list_needs_no_single_notice(town: Town) -> None:
    town.send(delinquent(notices=[], notices_attested_by="J. Doe"))
    assert town.one().status == "ready"


def test_a_notice_told_by_itself_counts(town: Town) -> None:
    town.send(delinquent(notices=[]))
    assert [r["code"] for r in town.one().reasons] == ["notice_missing"]
    row = town.send(event("account.notice_sent", channel="mail", sent_at="2026-10-30"))
    assert row.status == "applied"
    assert town.one().status == "ready"


def test_payment_that_settles_withdraws_the_shutoff(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=1)))
    row = town.send(event("account.payment_received", payment="P1", amount="120.00", past_due="0.00"))
    assert (row.status, town.one().status) == ("applied", "cancelled")
    assert row.outcome is not None
    assert row.outcome["orders"][0]["how"] == "withdrew"


def test_payment_without_past_due_is_judged_by_the_balance(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=1)), event("account.payment_received", balance="-3.10"))
    assert town.one().status == "cancelled"


def test_part_payment_only_lowers_the_amount(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=1)))
    town.send(event("account.payment_received", amount="50.00", past_due="70.00", balance="170.00"))
    order = town.one()
    assert (order.status, order.amount_due) == ("ready", Decimal(70))


def test_reversed_payment_revives_nothing(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=2)))
    town.send(event("account.payment_received", at=NOW - timedelta(hours=1), past_due="0"))
    row = town.send(event("account.payment_reversed", payment="P1", past_due="120.00", reason="returned cheque"))
    assert row.status == "applied"
    assert town.one().status == "cancelled"
    facts = accounts.facts(town.session, "A1")
    assert facts is not None
    assert (facts.past_due, facts.live) == (Decimal(120), False)
    # Only a new word of billing asks for a cut again.
    town.send(delinquent(at=LATER, notices_attested_by="J. Doe"))
    assert [o.status for o in town.orders()] == ["cancelled", "ready"]


def test_delinquency_cleared_withdraws(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=1)), event("account.delinquency_cleared", reason="arrangement"))
    assert town.one().status == "cancelled"


def test_hold_holds_and_lifting_releases(town: Town) -> None:
    town.send(delinquent())
    town.send(event("account.hold_placed", hold="medical"))
    order = town.one()
    assert (order.status, [r["code"] for r in order.reasons], order.earliest_at) == ("held", ["hold_medical"], None)
    town.send(event("account.hold_lifted", at=LATER, hold="medical"))
    assert (town.one().status, town.one().reasons) == ("ready", [])


def test_hold_up_to_a_day_counts_to_its_end(town: Town) -> None:
    town.send(delinquent())
    town.send(event("account.hold_placed", hold="dispute", until="2026-11-17"))
    earliest = town.one().earliest_at
    assert earliest is not None
    # the 17th is a Tuesday; after its end the next opening is Wednesday at eight
    assert earliest.isoformat() == "2026-11-18T14:00:00+00:00"


def test_a_hold_of_an_unknown_kind_blocks(town: Town) -> None:
    town.send(delinquent(), event("account.hold_placed", hold="zoning_appeal"))
    assert [r["code"] for r in town.one().reasons] == ["hold_unknown"]


def test_account_opened_makes_a_customer_and_a_move_in(town: Town) -> None:
    factories.service_point(town.session, "SP3")
    row = town.send(
        event(
            "account.opened",
            account="A3",
            service_point="SP3",
            effective_date="2026-11-18",
            customer={"name": "Ada", "phone": "+15550103", "email": "ada@example.org", "language": "en"},
            appointment={"from": "2026-11-18T14:00:00Z", "to": "2026-11-18T18:00:00Z"},
        )
    )
    order = town.one("move_in")
    assert (row.status, order.account, order.service_point) == ("applied", "A3", "SP3")
    assert order.appointment_from is not None and order.appointment_from.isoformat() == "2026-11-18T14:00:00+00:00"
    account = town.session.get_one(Account, "A3")
    assert (account.name, account.source_id) == ("Ada", town.source_id)
    assert accounts.lives_at(town.session, "A3", "SP3", date(2026, 11, 18))
    assert not accounts.lives_at(town.session, "A3", "SP3", date(2026, 11, 17))


def test_no_read_no_visit(town: Town) -> None:
    factories.service_point(town.session, "SP3")
    town.send(
        event("account.opened", account="A3", service_point="SP3", effective_date="2026-11-16", read_required=False)
    )
    assert town.orders() == []


def test_account_closed_ends_the_stay_and_withdraws_the_shutoff(town: Town) -> None:
    town.send(delinquent())
    town.send(event("account.closed", effective_date="2026-11-16"))
    assert {o.type: o.status for o in town.orders()} == {"shutoff": "cancelled", "move_out": "ready"}
    assert town.session.scalar(select(Occupancy.until).where(Occupancy.account == "A1")) == date(2026, 11, 16)
    assert town.session.get_one(Account, "A1", populate_existing=True).status == "closed"


def test_back_to_back_is_one_visit(town: Town) -> None:
    town.send(event("account.closed", seq=1, effective_date="2026-11-17"))
    row = town.send(event("account.opened", account="A9", seq=1, service_point="SP1", effective_date="2026-11-17"))
    assert row.status == "joined"
    order = town.one("move_out")
    assert [j["account"] for j in order.details["joined"]] == ["A9"]


def test_house_sold_with_debt_on_it(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=1)))
    town.send(event("account.opened", account="A9", service_point="SP1", effective_date="2026-11-16"))
    assert town.one().status == "cancelled"
    # The list still bears the old account: no cut for it where somebody else lives.
    row = town.send(delinquent(amount="130.00"))
    assert row.status == "applied"
    assert town.one().status == "cancelled"


@pytest.mark.parametrize("type", ["reading.rejected", "reading.disputed"])
def test_a_doubted_reading_is_read_again(town: Town, type: str) -> None:
    reading = {"value": "123.4", "unit": "m3", "read_at": "2026-11-10T08:00:00Z"}
    row = town.send(event(type, meter="M-SP1", reading=reading, reason="too high"))
    order = town.one("reread")
    assert (row.status, order.service_point, order.account) == ("applied", "SP1", "A1")
    assert order.details["doubted"]["value"] == "123.4"
    assert town.send(event(type, meter="M-SP1", reason="still too high")).status == "joined"


def test_an_exchange_that_is_due_opens_one(town: Town) -> None:
    row = town.send(event("meter.exchange_due", service_point="SP1", meter="M-SP1", reason="age"))
    order = town.one("meter_exchange")
    assert (row.status, order.service_point, order.meter, order.note) == ("applied", "SP1", "M-SP1", "age")


def test_work_that_is_not_installed_is_parked(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(catalogue.types(), "meter_exchange")
    row = town.send(event("meter.exchange_due", service_point="SP1", meter="M-SP1", reason="age"))
    assert row.status == "parked"
    assert row.outcome is not None and row.outcome["code"] == "work_type_missing"
    # It was understood, so it stands in nobody's way.
    town.send(delinquent())
    assert town.one().status == "ready"


def test_service_requested_and_cancelled(town: Town) -> None:
    wanted = {"from": "2026-11-17T14:00:00Z", "to": "2026-11-17T16:00:00Z"}
    body = event(
        "service.requested", service_point="SP1", work_type="reread", reference="R1", wanted=wanted, note="dog"
    )
    assert town.send(body).status == "applied"
    order = town.one("reread")
    assert order.not_before is not None and order.not_before.isoformat() == "2026-11-17T14:00:00+00:00"
    again = {"from": "2026-11-18T14:00:00Z", "to": "2026-11-18T16:00:00Z"}
    row = town.send(
        event("service.requested", at=LATER, service_point="SP1", work_type="reread", reference="R1", wanted=again)
    )
    assert row.outcome is not None and row.outcome["orders"][0]["how"] == "rescheduled"
    moved = town.one("reread").not_before
    assert moved is not None and moved.isoformat() == "2026-11-18T14:00:00+00:00"
    assert town.send(event("service.cancelled", at=LATER + timedelta(minutes=1), reference="R1")).status == "applied"
    assert town.one("reread").status == "cancelled"


def test_cancelled_before_requested_leaves_no_order(town: Town) -> None:
    town.send(event("service.cancelled", seq=2, reference="R1"))
    row = town.send(event("service.requested", seq=1, service_point="SP1", work_type="reread", reference="R1"))
    assert row.status == "superseded"
    assert town.orders() == []


def test_cancelled_before_requested_without_an_account(town: Town) -> None:
    town.send(event("service.cancelled", account=None, at=LATER, reference="R1"))
    row = town.send(event("service.requested", account=None, service_point="SP1", work_type="reread", reference="R1"))
    assert (row.status, town.orders()) == ("superseded", [])


def test_work_at_a_position(town: Town) -> None:
    position = {"lon": 0.55, "lat": 0.5}
    row = town.send(event("service.requested", account=None, position=position, work_type="reread"))
    assert row.status == "applied"
    assert (town.one("reread").service_point, town.one("reread").zone) == (None, "Z1")


def test_billed_volume_is_stored_and_rebilled(town: Town) -> None:
    fields = {"service_point": "SP1", "meter": "M-SP1", "from": "2026-10-01", "to": "2026-11-01", "unit": "m3"}
    assert town.send(event("consumption.billed", volume="12.5", bill="B1", **fields)).status == "applied"
    assert town.send(event("consumption.billed", volume="12.5", bill="B1", **fields)).status == "superseded"
    town.send(event("consumption.billed", volume="11.0", bill="B2", replaces="B1", **fields))
    standing = select(BilledConsumption.bill, BilledConsumption.volume_m3).where(
        BilledConsumption.replaced_by.is_(None)
    )
    assert [tuple(row) for row in town.session.execute(standing)] == [("B2", Decimal("11.0"))]


def test_a_rebill_may_come_before_what_it_replaces(town: Town) -> None:
    fields = {"service_point": "SP1", "from": "2026-10-01", "to": "2026-11-01", "unit": "m3"}
    town.send(event("consumption.billed", volume="11.0", bill="B2", replaces="B1", **fields))
    town.send(event("consumption.billed", volume="12.5", bill="B1", **fields))
    standing = select(BilledConsumption.bill).where(BilledConsumption.replaced_by.is_(None))
    assert town.session.scalars(standing).all() == ["B2"]


def test_charges_are_posted_or_rejected(town: Town) -> None:
    order = orders.open_order(town.session, type="reread", by="test", service_point="SP1").order
    charge = uuid4()
    town.session.execute(
        insert(Charge).values(
            id=charge, order_id=order.id, account="A1", code="trip", quantity=1, amount=Decimal("35.00"),
            currency="USD", bill_to="account", at=NOW,
        )
    )  # fmt: skip
    assert town.send(event("charge.posted", charge=str(charge), invoice="I-1")).status == "applied"
    posting = town.session.get_one(Charge, charge).posting
    assert posting is not None and (posting["state"], posting["invoice"]) == ("posted", "I-1")
    assert town.send(event("charge.rejected", at=LATER, charge=str(charge), reason="unknown fee")).status == "applied"
    assert town.session.scalars(select(OrderException.kind)).all() == ["charge_rejected"]
    assert town.send(event("charge.posted", charge=str(charge))).status == "superseded"
    assert town.send(event("charge.posted", charge=str(uuid4()))).status == "parked"


def test_heartbeat_keeps_balances_fresh(town: Town) -> None:
    town.send(delinquent(at=NOW - timedelta(hours=30)))
    assert "balance_stale" in [r["code"] for r in town.one().reasons]
    town.send(event("source.heartbeat", account=None, as_of=NOW.isoformat()))
    facts = accounts.facts(town.session, "A1")
    assert facts is not None and facts.as_of == NOW
    from hub.work import shutoffs

    assert shutoffs.judge_due(town.session) == 1
    assert town.one().status == "ready"
