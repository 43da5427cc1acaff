"""A publisher and a killable ingest process for the tests of delivery."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr
from sqlalchemy import text

from hub import ingest
from hub.db import Database
from hub.settings import Settings
from tests.forks import fork

# What a publisher may keep waiting: MQTT has 65,535 packet ids, and the client drops what finds none free.
MOST_WAITING = 20_000


def start_ingest(
    database_url: str, mqtt_url: str, *, name: str, topics: list[str], subscribed: Event | None = None
) -> ForkServerProcess:
    """An ingest in a process of its own, which sets `subscribed` as soon as messages may come."""
    settings = Settings(database_url=SecretStr(database_url), mqtt_url=SecretStr(mqtt_url))
    return fork(ingest.run, settings, name, topics, None if subscribed is None else subscribed.set)


def publisher(mqtt_url: str, *, inflight: int = 1000) -> mqtt.Client:
    """A connected QoS 1 publisher that loses nothing by itself; `inflight` messages await acknowledgement at once."""
    host, _, port = mqtt_url.removeprefix("mqtt://").partition(":")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(inflight)
    client.connect(host, int(port))
    client.loop_start()
    return client


def await_subscription(mqtt_url: str, topic: str, database: Database) -> None:
    """Wait until an ingest takes what is sent to `topic`, and leave no message of it behind."""
    client = publisher(mqtt_url)

    def arrived() -> bool:
        publish_all(client, topic, [message()])
        return count(database, "raw_message") > 0

    until(arrived)
    client.disconnect()
    client.loop_stop()
    until(lambda: settled(database))
    with database.transaction() as session:
        session.execute(text("DELETE FROM raw_message"))


def settled(database: Database) -> bool:
    """Whether nothing arrives for a while."""
    before = count(database, "raw_message")
    time.sleep(0.3)
    return count(database, "raw_message") == before


def count(database: Database, table: str) -> int:
    """Rows of `table`."""
    with database.transaction() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def hour(number: int) -> datetime:
    """The full hour `number` hours ago."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=number)


def message(*items: dict[str, Any], **more: Any) -> bytes:
    """Our own plain JSON; `seq` among `more` is the gateway's own counter."""
    return json.dumps({"readings": items} | more).encode()


def reading(device: str, value: Any, at: datetime, **more: Any) -> dict[str, Any]:
    """One item of a plain message, in m³."""
    return {"device": device, "value": value, "unit": "m3", "measured_at": at.isoformat()} | more


def publish_all(client: mqtt.Client, topic: str, payloads: Iterable[bytes], *, pause: float = 0.0) -> None:
    """Publish at QoS 1 and wait until the broker has acknowledged everything."""
    infos: deque[mqtt.MQTTMessageInfo] = deque()
    for payload in payloads:
        if len(infos) == MOST_WAITING:
            infos.popleft().wait_for_publish(60)
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
