"""One-off messages from the hub to devices and gateways: asks for missing messages and for births. Writes nothing."""

from collections.abc import Iterable
from typing import NamedTuple

from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from hub.broker_url import broker


class Outgoing(NamedTuple):
    """A message to publish, never retained."""

    topic: str
    payload: bytes
    qos: int = 1


def send(mqtt_url: str, messages: Iterable[Outgoing]) -> None:
    """Publish over a connection of its own. Raises OSError, ValueError or MQTTException when the broker is away."""
    at = broker(mqtt_url)
    login = None if at.user is None else {"username": at.user, "password": at.password or ""}
    publish.multiple(
        [(message.topic, message.payload, message.qos, False) for message in messages],
        hostname=at.host,
        port=at.port,
        auth=login,  # type: ignore[arg-type]
        tls=at.tls,  # type: ignore[arg-type]
        protocol=MQTTv5,
    )
