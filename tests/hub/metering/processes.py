"""A publisher and a killable ingest process for the tests of delivery."""

import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from hub import ingest
from hub.settings import Settings
from tests.forks import fork


def start_ingest(database_url: str, mqtt_url: str, *, name: str, topics: list[str]) -> ForkServerProcess:
    """An ingest in a process of its own."""
    settings = Settings(database_url=SecretStr(database_url), mqtt_url=SecretStr(mqtt_url))
    return fork(ingest.run, settings, name, topics)


def publisher(mqtt_url: str) -> mqtt.Client:
    """A connected QoS 1 publisher that loses nothing by itself."""
    host, _, port = mqtt_url.removeprefix("mqtt://").partition(":")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(1000)
    client.connect(host, int(port))
    client.loop_start()
    return client


def message(*items: dict[str, Any]) -> bytes:
    """Our own plain JSON."""
    return json.dumps({"readings": items}).encode()


def reading(device: str, value: Any, at: datetime, **more: Any) -> dict[str, Any]:
    """One item of a plain message, in m³."""
    return {"device": device, "value": value, "unit": "m3", "measured_at": at.isoformat()} | more


def publish_all(client: mqtt.Client, topic: str, payloads: Iterable[bytes], *, pause: float = 0.0) -> None:
    """Publish at QoS 1 and wait until the broker has acknowledged everything."""
    infos = []
    for payload in payloads:
        infos.append(client.publish(topic, payload, qos=1))
        if pause:
            time.sleep(pause)
    for info in infos:
        info.wait_for_publish(60)


def until(condition: Callable[[], bool], patience: float = 90.0) -> None:
    """Wait for `condition`; an AssertionError when it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
