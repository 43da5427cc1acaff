"""Asks gateways over MQTT, on `curbstop/v1/{gateway}/resend`, to send again what is missing.

Marks the gaps as asked in a transaction of its own, then publishes: a request that is lost is repeated later, each time
after twice as long. What the gateway sends again closes the gap by itself.
"""

import orjson
import structlog

from hub import publish
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
        publish.send(settings.mqtt_url.get_secret_value(), messages)
        log.info("asked gateways to send again", gaps=len(messages))


def request(gap: SequenceGap) -> publish.Outgoing:
    """The message that asks for a gap; `device` is null where the gateway's own counter has the gap."""
    device = gap.subject if gap.kind == "device" else None
    body = {"device": device, "first": gap.first_missing, "last": gap.last_missing}
    return publish.Outgoing(f"{gap.gateway or gap.subject}/resend", orjson.dumps(body))
