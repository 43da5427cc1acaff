"""Asks gateways over MQTT, on `curbstop/v1/{gateway}/resend`, to send again what is missing.

Marks the gaps as asked in a transaction of its own, then publishes: a request that is lost is repeated later, each time
after twice as long. What the gateway sends again closes the gap by itself.
"""

import ssl
from urllib.parse import unquote, urlsplit

import orjson
import structlog
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from hub.db import Database
from hub.metering import network
from hub.models import SequenceGap
from hub.settings import Settings

log = structlog.get_logger()


def ask_for_missing(database: Database, settings: Settings) -> None:
    """Publish one request per open gap that is due to be asked for; nothing without a broker."""
    if settings.mqtt_url is None:
        return
    with database.transaction() as session:
        messages = [request(gap) for gap in network.to_ask(session)]
    if messages:
        _publish(settings.mqtt_url.get_secret_value(), messages)
        log.info("asked gateways to send again", gaps=len(messages))


def request(gap: SequenceGap) -> dict[str, object]:
    """The message that asks for a gap; `device` is null where the gateway's own counter has the gap."""
    device = gap.subject if gap.kind == "device" else None
    body = {"device": device, "first": gap.first_missing, "last": gap.last_missing}
    return {"topic": f"{gap.gateway or gap.subject}/resend", "payload": orjson.dumps(body), "qos": 1}


def _publish(url: str, messages: list[dict[str, object]]) -> None:
    parts = urlsplit(url)
    secure = parts.scheme in ("mqtts", "ssl")
    login = {"username": unquote(parts.username), "password": unquote(parts.password or "")} if parts.username else None
    publish.multiple(
        messages,  # type: ignore[arg-type]
        hostname=parts.hostname or "localhost",
        port=parts.port or (8883 if secure else 1883),
        auth=login,  # type: ignore[arg-type]
        tls=ssl.create_default_context() if secure else None,  # type: ignore[arg-type]
        protocol=MQTTv5,
    )
