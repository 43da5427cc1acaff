"""Short stories around the valve: a house sold with debt on it, a vacant house, a cut made offline after paying."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.flows.conftest import MORNING, Phone, Story, eventually, rfc3339

CUT = {
    "code": "cut_and_locked",
    "reading": {"value": "1042", "unit": "m3", "how": "dial"},
    "valve_before": "open",
    "valve_after": "closed",
    "final_contact": "nobody_answered",
    "lock_number": "L77",
}


def cut(story: Story, phone: Phone, account: str, place: str) -> dict[str, Any]:
    """The account owes, the crew cuts, billing knows."""
    story.billing_knows(account, place, past_due="240.00")
    order = story.sees_order("shutoff", account, "ready")
    story.assigns(order, phone)
    phone.sees(order["id"])
    phone.does("start_travel", order["id"])
    phone.does("arrive", order["id"])
    done = phone.does("complete", order["id"], answers={**CUT, "meter_serial": f"M-{place}"})
    assert done["status"] == "applied", done
    eventually("billing knows it is off", lambda: story.billing.events("service.disconnected", account=account))
    return order


def test_a_house_sold_with_debt_on_it(story: Story) -> None:
    # Mr. Old owes; a shutoff is ready. Then he sells: his account closes and Ms. New's opens at the same place.
    story.house("3 Pine", "OLD")
    story.billing_knows("OLD", "3 Pine", past_due="310.00")
    order = story.sees_order("shutoff", "OLD", "ready")
    today = MORNING.date().isoformat()
    story.billing.says(
        "account.closed",
        at=rfc3339(MORNING + timedelta(hours=1)),
        account="OLD",
        service_point="3 Pine",
        effective_date=today,
    )
    story.billing.says(
        "account.opened",
        at=rfc3339(MORNING + timedelta(hours=1, minutes=1)),
        account="NEW",
        service_point="3 Pine",
        effective_date=today,
        customer={"name": "Ada New"},
        read_required=True,
    )

    # She is not cut for his debt, and one visit reads the meter for both.
    story.sees_order("shutoff", "OLD", "closed")
    story.quiet()
    assert story.orders(type="shutoff", account="NEW") == []
    cancelled = story.order(order["id"])
    assert cancelled["status"] == "closed"
    assert "cancelled" in [line["verb"] for line in cancelled["timeline"]]

    # Even if billing repeats the old demand, nothing is cut at a place that is now hers.
    story.billing_knows("OLD", "3 Pine", past_due="310.00", at=MORNING + timedelta(hours=2))
    story.quiet()
    assert [o for o in story.orders(type="shutoff", account="OLD") if o["status"] in ("ready", "assigned")] == []


def test_a_vacant_house_stays_off(story: Story) -> None:
    # Mr. Gone is cut for debt, then moves out of the house.
    story.house("9 Ash", "GONE")
    north = story.crew("North")
    cut(story, north, "GONE", "9 Ash")
    story.billing.says(
        "account.closed",
        at=rfc3339(MORNING + timedelta(hours=2)),
        account="GONE",
        service_point="9 Ash",
        effective_date=MORNING.date().isoformat(),
    )
    # Weeks later he pays his old bill. Nobody lives there: the water stays off.
    story.billing.says(
        "account.payment_received",
        at=rfc3339(MORNING + timedelta(hours=3)),
        account="GONE",
        payment="P9",
        amount="240.00",
        past_due="0.00",
    )
    story.quiet()
    assert story.orders(type="reconnect", account="GONE") == []
    assert story.dispatcher.get("/api/v1/service-points/9 Ash").json()["valve"]["state"] == "closed"


def test_a_cut_done_offline_after_the_payment(story: Story) -> None:
    story.house("5 Fir", "LEE")
    north = story.crew("North")
    story.billing_knows("LEE", "5 Fir", past_due="120.00")
    order = story.sees_order("shutoff", "LEE", "ready")
    story.assigns(order, north)
    north.sees(order["id"])
    north.does("start_travel", order["id"])

    # The crew drives into a valley without signal. Ms. Lee pays; the recall cannot reach them; they cut.
    north.online = False
    story.billing.says(
        "account.payment_received",
        at=rfc3339(MORNING + timedelta(minutes=10)),
        account="LEE",
        payment="P5",
        amount="120.00",
        past_due="0.00",
    )
    eventually("the recall", lambda: story.order(order["id"])["cancel_requested"])
    north.does("arrive", order["id"], at=MORNING + timedelta(minutes=15))
    north.does("complete", order["id"], at=MORNING + timedelta(minutes=20), answers={**CUT, "meter_serial": "M-5 Fir"})

    # Back in signal, all they did is kept, and made good: a free reconnect of highest priority opens at once,
    # and she is charged nothing for the visit.
    north.online = True
    results = north.send()
    arrived, cut_anyway = (r["status"] for r in results)
    assert cut_anyway == "merged", results
    assert arrived in ("applied", "conflict")
    reconnect = story.sees_order("reconnect", "LEE", "ready")
    assert reconnect["priority"] == 1
    story.quiet()
    assert story.billing.invoice("LEE") == 0
    assert story.dispatcher.get("/api/v1/service-points/5 Fir").json()["valve"]["state"] == "closed"

    # North turns back and restores the water, free of charge.
    story.assigns(reconnect, north)
    north.sees(reconnect["id"])
    north.does("start_travel", reconnect["id"])
    north.does("arrive", reconnect["id"])
    restored = north.does(
        "complete",
        reconnect["id"],
        at=MORNING + timedelta(minutes=50),
        answers={
            "code": "restored",
            "reading": {"value": "1042", "unit": "m3", "how": "dial"},
            "meter_serial": "M-5 Fir",
            "valve_before": "closed",
            "valve_after": "open",
            "leak_check": True,
            "adult_present": True,
        },
    )
    assert restored["status"] == "applied", restored
    eventually("billing knows it is on", lambda: story.billing.events("service.restored", account="LEE"))
    story.sees_status(reconnect["id"], "closed")
    assert story.billing.invoice("LEE") == Decimal(0)
    assert story.dispatcher.get("/api/v1/service-points/5 Fir").json()["valve"]["state"] == "open"
