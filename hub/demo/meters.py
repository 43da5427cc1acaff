"""The town's meters on the air: LoRaWAN uplinks as ChirpStack v4 publishes them, and gateways with plain JSON.

Publishes at QoS 1 and keeps nothing: what a meter shows at a business instant follows from the simulated water. A few
messages come twice or late, as they do.
"""

import base64
import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from hub.demo import calendar
from hub.demo.businesstime import BusinessClock, pause
from hub.demo.calendar import at_hour, hours_since_start
from hub.demo.consumption import Meters, ZoneMeters
from hub.demo.files import ZONE_GATEWAY, ZONE_METERS, zone_meter_device
from hub.demo.ground import Ground
from hub.demo.town import Customer

ZONE_EVERY = timedelta(minutes=15)
_APPLICATION = "52f14cd4-c6f1-4fbd-8f87-4025e1d49242"
_GATEWAYS = 4
_TWICE_PER_THOUSAND, _LATE_PER_THOUSAND = 10, 4
_LATE_BY = timedelta(minutes=50)


@dataclass(frozen=True)
class Publication:
    """One message on its way to the broker."""

    topic: str
    payload: bytes


def _draw(customer: Customer, hour: int) -> int:
    """A number from 0 to 999 that is the same whenever this meter's message of this hour is made."""
    digest = hashlib.blake2b(f"{customer.index}/{hour}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 1000


def minute_of(customer: Customer) -> int:
    """The minute of the day at which a radio reports; an hourly one reports at that minute of every hour."""
    spread = customer.index * 7919
    return spread % 60 if customer.hourly else spread % 1440


class Schedule:
    """Which radios report at which minute of the day; a table, so that a tick costs nothing."""

    def __init__(self, customers: list[Customer]) -> None:
        self.daily: list[list[Customer]] = [[] for _ in range(1440)]
        self.hourly: list[list[Customer]] = [[] for _ in range(60)]
        for customer in customers:
            if customer.device:
                (self.hourly if customer.hourly else self.daily)[minute_of(customer)].append(customer)

    def between(self, after: datetime, until: datetime) -> Iterator[tuple[datetime, list[Customer]]]:
        """Minutes in (after, until] with the radios that report in them."""
        first = int((after - calendar.START).total_seconds() // 60) + 1
        last = int((until - calendar.START).total_seconds() // 60)
        for minute in range(first, last + 1):
            reporting = self.daily[minute % 1440] + self.hourly[minute % 60]
            if reporting:
                yield calendar.START + timedelta(minutes=minute), reporting


def uplink(customer: Customer, at: datetime, register_m3: float) -> Publication:
    """A ChirpStack v4 `up` event: the codec's object, and the bytes on the air (litres, little endian)."""
    device = str(customer.device)
    counter = int(hours_since_start(at)) if customer.hourly else int(hours_since_start(at) // 24)
    message = {
        "deduplicationId": hashlib.md5(f"{device}{at}".encode(), usedforsecurity=False).hexdigest(),
        "time": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "deviceInfo": {
            "tenantId": _APPLICATION,
            "tenantName": "L-Town Water",
            "applicationId": _APPLICATION,
            "applicationName": "meters",
            "deviceProfileName": "ultrasonic DN15",
            "deviceName": customer.serial,
            "devEui": device,
            "tags": {},
        },
        "devAddr": device[-8:],
        "adr": True,
        "dr": 3,
        "fCnt": counter,
        "fPort": 2,
        "confirmed": False,
        "data": base64.b64encode(struct.pack("<Q", round(register_m3 * 1000))).decode(),
        "object": {"total_volume_m3": round(register_m3, 3), "leak": False, "low_battery": False},
        "rxInfo": [{"gatewayId": "0016c001f1500812", "rssi": -70 - customer.index % 40, "snr": 7.5}],
        "txInfo": {"frequency": 868100000},
    }
    return Publication(f"application/{_APPLICATION}/device/{device}/event/up", json.dumps(message).encode())


def plain(gateway: str, readings: list[dict[str, Any]]) -> Publication:
    """Our own JSON from a gateway."""
    return Publication(f"curbstop/v1/{gateway}/readings", json.dumps({"readings": readings}).encode())


def _item(device: str, at: datetime, value_m3: float) -> dict[str, Any]:
    return {
        "device": device,
        "register": "volume",
        "value": f"{value_m3:.3f}",
        "unit": "m3",
        "measured_at": calendar.utc_text(at),
    }


class Air:
    """What is published when: call `until` with ever later instants."""

    def __init__(self, meters: Meters, zone_meters: ZoneMeters, start: datetime) -> None:
        self.meters = meters
        self.zone_meters = zone_meters
        self.schedule = Schedule(meters.town.customers)
        self.at = start
        self._late: list[tuple[datetime, Publication]] = []

    def until(self, now: datetime) -> Iterator[Publication]:
        """Everything that leaves a meter between the last call and `now`."""
        end = min(now, at_hour(self.meters.hours))
        for minute, reporting in self.schedule.between(self.at, end):
            yield from self._minute(minute, reporting)
        yield from self._zones(self.at, end)
        for due_at, publication in [entry for entry in self._late if entry[0] <= now]:
            self._late.remove((due_at, publication))
            yield publication
        self.at = max(self.at, end)

    def _minute(self, at: datetime, reporting: list[Customer]) -> Iterator[Publication]:
        registers = self.meters.registers(hours_since_start(at))
        by_gateway: dict[str, list[dict[str, Any]]] = {}
        for customer in reporting:
            value = float(registers[customer.index])
            if customer.read_by == "gateway":
                gateway = f"gateway-{customer.index % _GATEWAYS + 1}"
                by_gateway.setdefault(gateway, []).append(_item(str(customer.device), at, value))
                continue
            publication = uplink(customer, at, value)
            draw = _draw(customer, int(hours_since_start(at)))
            if draw < _LATE_PER_THOUSAND:
                self._late.append((at + _LATE_BY, publication))
                continue
            yield publication
            if draw >= 1000 - _TWICE_PER_THOUSAND:
                yield publication
        for gateway, items in by_gateway.items():
            yield plain(gateway, items)

    def _zones(self, after: datetime, until: datetime) -> Iterator[Publication]:
        step = ZONE_EVERY.total_seconds()
        first = int((after - calendar.START).total_seconds() // step) + 1
        last = int((until - calendar.START).total_seconds() // step)
        for number in range(first, last + 1):
            at = calendar.START + number * ZONE_EVERY
            hour = hours_since_start(at)
            yield plain(
                ZONE_GATEWAY,
                [_item(zone_meter_device(m), at, self.zone_meters.register(m, hour)) for m, *_ in ZONE_METERS],
            )


def connect(mqtt_url: str) -> Client:
    """A client that keeps what it could not send and connects again by itself."""
    parts = urlsplit(mqtt_url)
    client = Client(CallbackAPIVersion.VERSION2, client_id="ltown-meters")
    if parts.username:
        client.username_pw_set(parts.username, parts.password)
    client.max_inflight_messages_set(200)
    client.connect_async(parts.hostname or "127.0.0.1", parts.port or 1883)
    client.loop_start()
    return client


def run(mqtt_url: str, clock: BusinessClock, meters: Meters, ground: Ground) -> None:
    """Publish until the process is told to stop."""
    client = connect(mqtt_url)
    air = Air(meters, ZoneMeters(ground.water), clock.now())
    while True:
        if ground.take_over(not_before=math.ceil(hours_since_start(air.at))):
            air.zone_meters = ZoneMeters(ground.water)
        for publication in air.until(clock.now()):
            client.publish(publication.topic, publication.payload, qos=1)
        pause(0.5)
