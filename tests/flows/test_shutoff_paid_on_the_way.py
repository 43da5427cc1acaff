"""A shutoff that is paid while the crew drives; one that is paid in part; one whose payment is returned."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.flows.conftest import MORNING, Phone, Story, eventually, rfc3339


def on_the_road(story: Story) -> tuple[dict[str, Any], Phone]:
    """Ms. Rivera owes; North drives to cut."""
    story.house("12 Elm", "RIVERA")
    north = story.crew("North")
    story.billing_knows("RIVERA", "12 Elm", past_due="184.20")
    order = story.sees_order("shutoff", "RIVERA", "ready")
    assert story.owed(order) == Decimal("184.20")
    story.assigns(order, north)
    north.sees(order["id"])
    assert north.does("start_travel", order["id"])["status"] == "applied"
    story.sees_status(order["id"], "en_route")
    return order, north


def test_a_shutoff_that_is_paid_while_the_crew_drives(story: Story) -> None:
    order, north = on_the_road(story)

    # She pays all of it at the counter.
    paid_at = MORNING + timedelta(minutes=20)
    story.billing.says(
        "account.payment_received",
        at=rfc3339(paid_at),
        account="RIVERA",
        payment="P1",
        amount="184.20",
        past_due="0.00",
        balance="0.00",
        paid_at=rfc3339(paid_at),
    )

    # The truck is recalled: the crew must acknowledge, and until it has, the order says so.
    eventually("the recall", lambda: story.order(order["id"])["cancel_requested"])
    assert story.order(order["id"])["status"] == "en_route"
    eventually("the recall on the phone", lambda: north.sees(order["id"]).get("cancel_requested"))
    assert north.does("cancel_acknowledge", order["id"])["status"] == "applied"
    story.sees_status(order["id"], "cancelled")

    # Billing hears of it, once, and is charged nothing; the order closes when all is delivered.
    eventually("billing hears", lambda: story.billing.events("work_order.cancelled", work_order=order["id"]))
    story.sees_status(order["id"], "closed")
    assert story.billing.events("service.disconnected") == []
    assert story.billing.invoice("RIVERA") == 0
    assert story.orders(type="reconnect", account="RIVERA") == []


def test_a_part_payment_only_lowers_the_amount(story: Story) -> None:
    order, _ = on_the_road(story)
    story.billing.says(
        "account.payment_received",
        at=rfc3339(MORNING + timedelta(minutes=5)),
        account="RIVERA",
        payment="P1",
        amount="100.00",
        past_due="84.20",
        balance="84.20",
    )
    eventually("the lower amount", lambda: story.owed(order) == Decimal("84.20"))
    assert story.order(order["id"])["cancel_requested"] is None
    assert story.order(order["id"])["status"] == "en_route"


def test_a_returned_payment_revives_nothing_and_holds_the_reconnect(story: Story) -> None:
    order, north = on_the_road(story)
    north.does("arrive", order["id"])
    cut = north.does(
        "complete",
        order["id"],
        at=MORNING + timedelta(minutes=30),
        answers={
            "code": "cut_and_locked",
            "reading": {"value": "1042", "unit": "m3", "how": "dial"},
            "meter_serial": "M-12 Elm",
            "valve_before": "open",
            "valve_after": "closed",
            "final_contact": "nobody_answered",
            "lock_number": "L77",
        },
    )
    assert cut["status"] == "applied", cut
    eventually("billing knows it is off", lambda: story.billing.events("service.disconnected", account="RIVERA"))
    assert story.billing.invoice("RIVERA") > 0

    story.billing.says(
        "account.payment_received",
        at=rfc3339(MORNING + timedelta(hours=1)),
        account="RIVERA",
        payment="P2",
        amount="184.20",
        past_due="0.00",
    )
    reconnect = story.sees_order("reconnect", "RIVERA", "ready")

    # The cheque bounces before anybody drives: the reconnect waits, and no new shutoff appears by itself.
    story.billing.says(
        "account.payment_reversed",
        at=rfc3339(MORNING + timedelta(hours=2)),
        account="RIVERA",
        payment="P2",
        amount="184.20",
        past_due="184.20",
        reason="returned cheque",
    )
    held = story.sees_order("reconnect", "RIVERA", "held")
    assert held["id"] == reconnect["id"]
    assert held["reasons"]
    story.quiet()
    assert [o["status"] for o in story.orders(type="shutoff", account="RIVERA")] in (["completed"], ["closed"])
