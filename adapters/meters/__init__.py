"""Meter formats: envelope adapters (one network or publisher each) and device decoders, by name. Pure.

A new format is one module with an `ADAPTER` or a `DECODER` and one line here.
"""

from adapters.contracts import DeviceDecoder, Envelope, EnvelopeAdapter
from adapters.meters import (
    ai_on_the_edge,
    axioma_w1,
    chirpstack_v3,
    chirpstack_v4,
    headend_export,
    loriot,
    mapping,
    milesight_em300_di,
    netmore,
    plain_json,
    rtl433,
    rtlamr,
    rtlamr2mqtt,
    scalar_topics,
    senml,
    sparkplug_b,
    tasmota,
    thingpark,
    thingsboard,
    tts_v3,
    tuya_dps,
    wmbusmeters,
    zigbee2mqtt,
)

ADAPTERS: dict[str, EnvelopeAdapter] = {
    adapter.name: adapter
    for adapter in (
        plain_json.ADAPTER,
        chirpstack_v3.ADAPTER,
        chirpstack_v4.ADAPTER,
        tts_v3.ADAPTER,
        thingpark.ADAPTER,
        loriot.ADAPTER,
        netmore.ADAPTER,
        wmbusmeters.ADAPTER,
        rtlamr.ADAPTER,
        rtlamr2mqtt.ADAPTER,
        rtl433.ADAPTER,
        ai_on_the_edge.ADAPTER,
        senml.ADAPTER,
        sparkplug_b.ADAPTER,
        zigbee2mqtt.ADAPTER,
        tuya_dps.ADAPTER,
        tasmota.ADAPTER,
        thingsboard.ADAPTER,
        scalar_topics.ADAPTER,
        headend_export.ADAPTER,
    )
}

# From narrow to wide: the first that recognises an envelope decodes it when the registry names nobody.
DECODERS: dict[str, DeviceDecoder] = {
    decoder.name: decoder
    for decoder in (
        plain_json.DECODER,
        wmbusmeters.DECODER,
        rtlamr.DECODER,
        rtlamr2mqtt.DECODER,
        rtl433.DECODER,
        ai_on_the_edge.DECODER,
        senml.DECODER,
        sparkplug_b.DECODER,
        zigbee2mqtt.DECODER,
        tuya_dps.DECODER,
        tasmota.DECODER,
        scalar_topics.DECODER,
        headend_export.DECODER,
        axioma_w1.DECODER,
        *milesight_em300_di.DECODERS,
        *mapping.DECODERS,
    )
}


def adapter_named(name: str) -> EnvelopeAdapter | None:
    """The adapter of that name; hyphens and underscores are the same."""
    return ADAPTERS.get(name.strip().lower().replace("-", "_"))


def decoder_named(name: str) -> DeviceDecoder | None:
    """The decoder of that name; hyphens and underscores are the same."""
    return DECODERS.get(name.strip().lower().replace("-", "_"))


def recognise_adapter(topic: str, payload: bytes) -> EnvelopeAdapter | None:
    """The one adapter that claims the message, or None when none or several do."""
    found = [adapter for adapter in ADAPTERS.values() if adapter.recognises(topic, payload)]
    return found[0] if len(found) == 1 else None


def recognise_decoder(envelope: Envelope) -> DeviceDecoder | None:
    """The first decoder that knows the envelope's inside; the order above goes from narrow to wide."""
    return next((decoder for decoder in DECODERS.values() if decoder.recognises(envelope)), None)
