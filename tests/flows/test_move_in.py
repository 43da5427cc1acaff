"""A move-in, from the event to the first read and the invoice line."""

from datetime import timedelta

from tests.flows.conftest import MORNING, Story, eventually, rfc3339


def test_a_move_in_from_event_to_first_read_and_invoice_line(story: Story) -> None:
    # The house at 7 Oak stands empty.
    story.house("7 Oak", None)
    north = story.crew("North")

    # Billing opens an account for Mr. Osei and promises him Tuesday between ten and twelve.
    story.billing.says(
        "account.opened",
        at=rfc3339(MORNING),
        account="OSEI",
        service_point="7 Oak",
        effective_date=MORNING.date().isoformat(),
        customer={"name": "Kofi Osei", "phone": "+15550142", "email": "kofi@example.org", "language": "en"},
        appointment={"from": rfc3339(MORNING + timedelta(hours=1)), "to": rfc3339(MORNING + timedelta(hours=3))},
        read_required=True,
        reference="MI-1",
    )
    order = story.sees_order("move_in", "OSEI", "ready")
    assert order["service_point"] == "7 Oak"
    assert order["reference"] == "MI-1"
    assert order["appointment"]["from"] == rfc3339(MORNING + timedelta(hours=1))

    # North reads the meter and leaves the water on.
    story.assigns(order, north)
    north.sees(order["id"])
    for step in ("acknowledge", "start_travel", "arrive"):
        assert north.does(step, order["id"])["status"] == "applied"
    done = north.does(
        "complete",
        order["id"],
        at=MORNING + timedelta(hours=1, minutes=20),
        answers={
            "code": "on",
            "reading": {"value": "318.4", "unit": "m3", "how": "dial"},
            "meter_serial": "M-7 Oak",
            "valve_before": "closed",
            "valve_after": "open",
        },
    )
    assert done["status"] == "applied", done

    # Billing gets the start read and the invoice line, once each; the meter's page shows the read.
    read = eventually("the start read", lambda: story.billing.events("reading.captured", account="OSEI"))
    assert [(r["meter"], float(r["value"]), r["unit"]) for r in read] == [("M-7 Oak", 318.4, "m3")]
    story.sees_status(order["id"], "closed")
    assert len(story.billing.events("charge.created", account="OSEI")) == 1
    assert story.billing.invoice("OSEI") > 0
    readings = story.dispatcher.get("/api/v1/meters/M-7 Oak/readings").json()["items"]
    assert [float(r["value"]) for r in readings] == [318.4]
    place = story.dispatcher.get("/api/v1/service-points/7 Oak").json()
    assert place["valve"]["state"] == "open"

    # The timeline tells the whole of it, in order.
    verbs = [line["verb"] for line in story.order(order["id"])["timeline"]]
    assert [v for v in verbs if v in ("opened", "assigned", "completed", "closed")] == [
        "opened",
        "assigned",
        "completed",
        "closed",
    ]
