"""One-off messages from the hub to devices and gateways: asks for missing messages and for births. Writes nothing."""

import ssl
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from paho.mqtt import publish
from paho.mqtt.client import MQTTv5


class Outgoing(NamedTuple):
    """A message to publish, never retained."""

    topic: str
    payload: bytes
    qos: int = 1


def send(mqtt_url: str, messages: Iterable[Outgoing]) -> None:
    """Publish over a connection of its own. Raises OSError, ValueError or MQTTException when the broker is away."""
    parts = urlsplit(mqtt_url)
    secure = parts.scheme in ("mqtts", "ssl")
    login = {"username": unquote(parts.username), "password": unquote(parts.password or "")} if parts.username else None
    publish.multiple(
        [(message.topic, message.payload, message.qos, False) for message in messages],
        hostname=parts.hostname or "localhost",
        port=parts.port or (8883 if secure else 1883),
        auth=login,  # type: ignore[arg-type]
        tls=ssl.create_default_context() if secure else None,  # type: ignore[arg-type]
        protocol=MQTTv5,
    )
