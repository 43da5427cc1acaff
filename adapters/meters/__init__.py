"""Meter formats: envelope adapters (one network or publisher each) and device decoders, by name. Pure.

A new format is one module with an `ADAPTER` or a `DECODER` and one line here.
"""

from adapters.contracts import DeviceDecoder, Envelope, EnvelopeAdapter
from adapters.meters import axioma_w1, chirpstack_v4, mapping, plain_json

ADAPTERS: dict[str, EnvelopeAdapter] = {module.ADAPTER.name: module.ADAPTER for module in (plain_json, chirpstack_v4)}

DECODERS: dict[str, DeviceDecoder] = {
    decoder.name: decoder for decoder in (plain_json.DECODER, axioma_w1.DECODER, *mapping.DECODERS)
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
