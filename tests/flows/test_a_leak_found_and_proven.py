"""A leak found and proven: seen in the flow, searched, pinpointed, repaired, and the water saved written down."""

import csv
import io
import json
import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hub.models import Device, Meter, MeterInstallation
from hub.private.broker import PrivateBroker
from tests.flows.conftest import LOCAL, Story, eventually, rfc3339

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# midnight before a Tuesday in February; the town's habits are known since November
BEGINS = datetime(2025, 11, 3, tzinfo=LOCAL).astimezone(UTC)
LEAK_BEGINS = datetime(2026, 2, 10, 3, tzinfo=LOCAL).astimezone(UTC)
SEEN = datetime(2026, 2, 12, 8, tzinfo=LOCAL).astimezone(UTC)
REPAIRED = datetime(2026, 2, 12, 14, tzinfo=LOCAL).astimezone(UTC)
PROVEN = REPAIRED + 10 * DAY
LEAK_M3H = 5.0
VALVE = {"lon": 0.5021, "lat": 0.5, "accuracy_m": 4}


class Inlet:
    """The one meter through which the zone is fed: some 20 m³/h, more by day, and what leaks besides."""

    def __init__(self) -> None:
        self.dice = random.Random(11)
        self.at, self.register = BEGINS, Decimal(70_000)

    def until(self, moment: datetime) -> list[tuple[datetime, Decimal]]:
        """The register at every hour up to then."""
        told = []
        while self.at < moment:
            day = self.at.astimezone(LOCAL)
            flow = 20 + 9 * math.sin((day.hour - 9) / 24 * 2 * math.pi) + (2 if day.weekday() > 4 else 0)
            flow = flow * (1 + self.dice.gauss(0, 0.03)) + (LEAK_M3H if LEAK_BEGINS <= self.at < REPAIRED else 0)
            self.at += HOUR
            self.register += Decimal(f"{flow:.3f}")
            told.append((self.at, self.register))
        return told


def test_a_leak_found_and_proven(story: Story, broker: PrivateBroker) -> None:
    story.house("1 Quay", "ANN")
    story.house("9 Well", "BEN", step=2)
    crew = story.crew("North")
    with story.database.transaction() as session:
        session.add(Meter(serial="INLET", unit="m3", dials=8))
        session.flush()
        session.add(MeterInstallation(serial="INLET", zone="Z1", direction="in", installed_at=BEGINS - DAY))
        session.add(Device(device="inlet-1", meter="INLET", unit="m3", valid_from=BEGINS - DAY))
    inlet = Inlet()

    # Three months of hourly readings come as a file. So far nothing is wrong.
    story.it_is(LEAK_BEGINS)
    story.imports("readings", readings_file(inlet.until(LEAK_BEGINS)))
    story.job_is_due("watch_zones")
    assert events(story) == [] and story.orders(type="leak_survey") == []

    # In the night of a Tuesday a main begins to leak. The meter goes on telling every hour, over MQTT.
    story.it_is(SEEN)
    publish(broker, inlet.until(SEEN - HOUR))
    eventually("the newest hour", lambda: newest(story) == SEEN - HOUR)
    story.job_is_due("watch_zones")
    [event] = events(story)
    assert (event["zone"], event["status"], event["kind"]) == ("Z1", "open", "burst")
    assert abs(datetime.fromisoformat(event["onset_at"]) - LEAK_BEGINS) < 8 * HOUR
    assert abs(event["size_m3h"] - LEAK_M3H) < LEAK_M3H / 3

    # The zone is to be searched, once, however often it is looked at; nobody knows yet where to dig.
    story.job_is_due("watch_zones")
    [survey] = story.orders(type="leak_survey")
    assert (survey["status"], survey["zone"]) == ("ready", "Z1")
    [dig] = story.dispatcher.get("/api/v1/dig-list").json()["items"]
    assert (dig["work_order"], dig["pinpointed"]) == (survey["number"], False)

    # A crew listens through the zone and stands on the leak: there the repair is ordered.
    story.assigns(survey, crew)
    crew.sees(survey["id"])
    crew.does("arrive", survey["id"], at=SEEN)
    told = {"code": "found", "surveyed_km": "1.4", "located_at": rfc3339(SEEN), "method": "correlator"}
    assert crew.does("complete", survey["id"], at=SEEN, position=VALVE, answers=told)["status"] == "applied"
    [repair] = story.orders(type="leak_repair")
    assert repair["position"] == [VALVE["lon"], VALVE["lat"]]
    [dig] = story.dispatcher.get("/api/v1/dig-list").json()["items"]
    assert (dig["work_order"], dig["pinpointed"], dig["street"]) == (repair["number"], True, "9 Well Main Street")

    # It is dug up and repaired the same day; billing hears of the leak.
    story.it_is(REPAIRED)
    story.assigns(repair, crew)
    crew.sees(repair["id"])
    crew.does("arrive", repair["id"], at=REPAIRED)
    told = {
        "code": "repaired", "locate_ticket": "T-77", "locate_valid_from": rfc3339(SEEN), "pipe": "main",
        "flow_m3_h": "4.8", "stopped_at": rfc3339(REPAIRED),
    }  # fmt: skip
    assert crew.does("complete", repair["id"], at=REPAIRED, position=VALVE, answers=told)["status"] == "applied"
    eventually("leak.confirmed at billing", lambda: story.billing.events("leak.confirmed", work_order=repair["id"]))

    # Ten days later the flow is what it was: the event is over, nothing is left to dig, and the saving is proven.
    story.it_is(PROVEN)
    publish(broker, inlet.until(PROVEN - HOUR))
    eventually("the newest hour", lambda: newest(story) == PROVEN - HOUR)
    story.job_is_due("watch_zones")
    story.job_is_due("verify_repairs")
    [event] = events(story)
    assert event["status"] == "closed"
    assert story.dispatcher.get("/api/v1/dig-list").json()["items"] == []
    ledger = story.dispatcher.get("/api/v1/loss-ledger").json()
    [entry] = ledger["items"]
    assert (entry["number"], entry["leak_event"], entry["verdict"]) == (repair["number"], event["id"], "verified")
    assert not entry["provisional"] and entry["limits_95"][0] < LEAK_M3H < entry["limits_95"][1]
    lost = LEAK_M3H * (REPAIRED - LEAK_BEGINS) / HOUR
    assert abs(entry["lost_m3"] - lost) < lost / 4
    assert abs(entry["predicted_m3h"] - LEAK_M3H) < LEAK_M3H / 3 and entry["found_m3h"] == 4.8
    assert ledger["totals"]["verified"] == 1


def events(story: Story) -> list[dict[str, Any]]:
    answer = story.dispatcher.get("/api/v1/leak-events")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def newest(story: Story) -> datetime | None:
    items = story.dispatcher.get("/api/v1/meters/INLET/readings", params={"limit": 1}).json()["items"]
    return datetime.fromisoformat(items[0]["measured_at"]) if items else None


def readings_file(told: list[tuple[datetime, Decimal]]) -> bytes:
    """The readings as a file of the importer's columns."""
    file = io.StringIO()
    csv.writer(file).writerows(
        [("meter", "read_at", "value", "unit"), *(("INLET", rfc3339(at), value, "m3") for at, value in told)]
    )
    return file.getvalue().encode()


def publish(broker: PrivateBroker, told: list[tuple[datetime, Decimal]]) -> None:
    """The readings as the gateway sends them, a day in a message."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for first in range(0, len(told), 24):
        items = [
            {"device": "inlet-1", "value": str(value), "unit": "m3", "measured_at": rfc3339(at)}
            for at, value in told[first : first + 24]
        ]
        sent = client.publish("curbstop/v1/scada/readings", json.dumps({"readings": items}), qos=1)
        sent.wait_for_publish(30)
    client.loop_stop()
    client.disconnect()
