"""What the demo's meters publish is understood by the hub's adapters, and says what the dials show."""

import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal

from adapters import meters
from adapters.contracts import DeviceConfig
from adapters.meters import chirpstack_v4, plain_json
from hub.demo import calendar
from hub.demo.calendar import hours_since_start
from hub.demo.consumption import Meters, ZoneMeters
from hub.demo.files import LORA_DECODER
from hub.demo.hydraulics import Water
from hub.demo.meters import Air, uplink
from hub.demo.town import Town

DAY = timedelta(days=1)


def air(hamlet_meters: Meters, water: Water) -> Air:
    return Air(hamlet_meters, ZoneMeters(water), calendar.STORY)


def test_an_uplink_is_the_register(hamlet: Town, hamlet_meters: Meters) -> None:
    customer = next(c for c in hamlet.customers if c.read_by == "lorawan")
    at = calendar.STORY + timedelta(minutes=12)
    register = hamlet_meters.register_of(customer, hours_since_start(at))
    sent = uplink(customer, at, register)
    assert chirpstack_v4.recognises(sent.topic, sent.payload)
    [envelope] = chirpstack_v4.read(sent.topic, sent.payload)
    decoder = meters.DECODERS[LORA_DECODER]
    [reading] = decoder.decode(envelope, DeviceConfig()).readings
    assert (reading.device, reading.unit, reading.value) == (customer.device, "m3", Decimal(str(round(register, 3))))
    assert reading.measured_at == at


def test_a_gateways_message_is_understood_whole(hamlet_meters: Meters, still_water: Water) -> None:
    sent = [p for p in air(hamlet_meters, still_water).until(calendar.STORY + DAY) if p.topic.startswith("curbstop/")]
    assert sent
    for publication in sent:
        [envelope] = plain_json.read(publication.topic, publication.payload)
        decoded = plain_json.decode(envelope, DeviceConfig())
        assert not decoded.refused
        assert len(decoded.readings) == len(json.loads(publication.payload)["readings"])


def test_every_radio_reports_in_a_day_and_the_zones_each_quarter_hour(
    hamlet: Town, hamlet_meters: Meters, still_water: Water
) -> None:
    devices: Counter[str] = Counter()
    for publication in air(hamlet_meters, still_water).until(calendar.STORY + DAY):
        message = json.loads(publication.payload)
        for item in message.get("readings", []):
            devices[item["device"]] += 1
        if "deviceInfo" in message:
            devices[message["deviceInfo"]["devEui"]] += 1
    radios = {c.device for c in hamlet.customers if c.device}
    assert radios | {f"ltown-zone-m{n}" for n in "1234"} == set(devices)
    assert devices["ltown-zone-m1"] == 96
    assert all(devices[str(c.device)] >= 23 for c in hamlet.customers if c.hourly and c.device)


def test_nothing_is_published_twice_by_a_second_look(hamlet_meters: Meters, still_water: Water) -> None:
    flow = air(hamlet_meters, still_water)
    assert list(flow.until(calendar.STORY + timedelta(hours=1)))
    assert not list(flow.until(calendar.STORY + timedelta(hours=1)))


def test_the_air_falls_silent_when_the_simulated_weeks_are_over(hamlet_meters: Meters, still_water: Water) -> None:
    flow = Air(hamlet_meters, ZoneMeters(still_water), calendar.END - timedelta(hours=1))
    assert list(flow.until(calendar.END + DAY))
    assert not list(flow.until(calendar.END + 3 * DAY))
