"""The Things Stack v3 application events in JSON, from MQTT or (wrapped in `data`) from webhooks. Pure.

Topic `v3/{application}@{tenant}/devices/{device}/up`. The network's `received_at` of the uplink is the time; decoded
members whose value is zero may be left out by the sender; `simulated` uplinks are rehearsals.
"""

import re

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed

_TOPIC = re.compile(r"v3/[^/]+/devices/([^/]+)/(.+)")


def recognises(topic: str, payload: bytes) -> bool:
    """By the member every event has."""
    return b'"end_device_ids"' in payload


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per event. Raises Malformed when the device is not named."""
    message = strict.members(payload)
    if "end_device_ids" not in message:
        message = message.inner("data") or message
    ids = message.inner("end_device_ids")
    if ids is None:
        raise Malformed("no_device", "the event has no end_device_ids")
    name = strict.text(ids.get("device_id"), "device_id")
    device = strict.eui(ids.get("dev_eui"), "dev_eui") if ids.get("dev_eui") else name
    found, uplink = _TOPIC.fullmatch(topic), message.inner("uplink_message")
    if (found and found[2] != "up") or uplink is None:
        return [Envelope("tts_v3", device, kind=found[2] if found and found[2] != "up" else "event", aliases=(name,))]
    if message.get("simulated") is True:
        return [Envelope("tts_v3", device, kind="simulated", aliases=(name,))]
    at = uplink.get("received_at") or message.get("received_at")
    port, counter, data = uplink.get("f_port"), uplink.get("f_cnt"), uplink.get("frm_payload")
    return [
        Envelope(
            "tts_v3",
            device,
            fields=uplink.get("decoded_payload"),
            data=strict.from_base64(data, "frm_payload") if data else None,
            port=port if type(port) is int else None,
            counter=counter if type(counter) is int else None,
            time=strict.instant(at) if at else None,
            aliases=(name,),
        )
    ]


ADAPTER = EnvelopeAdapter("tts_v3", "The Things Stack v3", ("v3/+/devices/+/up",), recognises, read)
