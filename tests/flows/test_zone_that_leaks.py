"""A zone that leaks: meters report over MQTT, billing tells what was sold, and the difference is found."""

import json
from datetime import datetime, timedelta

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import insert

from hub.models import Device, Meter, MeterInstallation
from hub.private.broker import PrivateBroker
from tests.flows.conftest import LOCAL, MORNING, Story, eventually, rfc3339

MONTH_BEGINS = datetime(2026, 2, 1, tzinfo=LOCAL)
MONTH_ENDS = datetime(2026, 3, 1, tzinfo=LOCAL)


def test_a_zone_that_leaks(story: Story, broker: PrivateBroker) -> None:
    # Two houses and one inlet: its meter speaks plain JSON, theirs speak through a LoRa network server.
    story.house("1 Quay", "ANN", serial="W1")
    story.house("2 Quay", "BEN", serial="W2", step=1)
    with story.database.transaction() as session:
        session.add(Meter(serial="INLET", unit="m3", dials=8))
        session.flush()
        session.add(
            MeterInstallation(serial="INLET", zone="Z1", direction="in", installed_at=MONTH_BEGINS - timedelta(days=99))
        )
        session.execute(
            insert(Device),
            [
                {"device": "inlet-1", "meter": "INLET", "unit": "m3", "valid_from": MONTH_BEGINS - timedelta(days=99)},
                {
                    "device": "aa00000000000001",
                    "meter": "W1",
                    "unit": "l",
                    "valid_from": MONTH_BEGINS - timedelta(days=99),
                },
                {
                    "device": "aa00000000000002",
                    "meter": "W2",
                    "unit": "l",
                    "valid_from": MONTH_BEGINS - timedelta(days=99),
                },
            ],
        )

    publisher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    publisher.connect("127.0.0.1", broker.port)
    publisher.loop_start()
    sent = []
    # The zone was fed 1,000 m³ over February; the houses' registers moved by 310 and 290 m³.
    for moment, inlet in ((MONTH_BEGINS, "50000"), (MONTH_ENDS, "51000")):
        body = {"readings": [{"device": "inlet-1", "value": inlet, "unit": "m3", "measured_at": rfc3339(moment)}]}
        sent.append(publisher.publish("curbstop/v1/scada/readings", json.dumps(body), qos=1))
    for eui, first, last in (("aa00000000000001", 1_000_000, 1_310_000), ("aa00000000000002", 2_000_000, 2_290_000)):
        for moment, litres in ((MONTH_BEGINS, first), (MONTH_ENDS, last)):
            body = {
                "deduplicationId": f"{eui}-{litres}",
                "time": rfc3339(moment),
                "deviceInfo": {"devEui": eui, "deviceName": eui, "applicationId": "app"},
                "fCnt": litres,
                "fPort": 1,
                "data": "",
                "object": {"volume_l": litres},
            }
            sent.append(publisher.publish(f"application/app/device/{eui}/event/up", json.dumps(body), qos=1))
    for message in sent:
        message.wait_for_publish(30)
    publisher.loop_stop()
    publisher.disconnect()

    def all_there() -> bool:
        counts = [
            len(story.dispatcher.get(f"/api/v1/meters/{serial}/readings").json()["items"])
            for serial in ("INLET", "W1", "W2")
        ]
        return counts == [2, 2, 2]

    eventually("six readings", all_there)

    # Billing sold 300 + 280 m³.
    for account, place, meter, volume in (("ANN", "1 Quay", "W1", "300"), ("BEN", "2 Quay", "W2", "280")):
        story.billing.says(
            "consumption.billed",
            at=rfc3339(MORNING),
            account=account,
            service_point=place,
            meter=meter,
            **{"from": "2026-02-01", "to": "2026-03-01"},
            volume=volume,
            unit="m3",
            bill=f"B-{account}",
        )
    story.quiet()

    # 420 m³, 42 % of what was fed in, never reached a bill; all inputs were there.
    balance = story.dispatcher.get("/api/v1/zones/Z1/balance", params={"from": "2026-02-01", "to": "2026-03-01"}).json()
    assert balance["system_input"] == pytest.approx(1000)
    assert balance["billed"] == pytest.approx(580)
    assert balance["nrw"] == pytest.approx(420)
    assert balance["loss_pct"] == pytest.approx(42, abs=0.5)
    assert balance["coverage"]["overall"] == pytest.approx(1)
    assert balance["billed_sources"]["bills"]["points"] == 2
    assert balance["billed_sources"]["registers"]["points"] == 0
