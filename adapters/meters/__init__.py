"""Meter formats: envelope adapters (one network or publisher each) and device decoders, by name. Pure.

A new format is one module here with an `ADAPTER`, a `DECODER` or `DECODERS`: every module of this package is looked
into once, at import.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from adapters.contracts import DeviceDecoder, Envelope, EnvelopeAdapter


def _formats() -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        yield importlib.import_module(f"{__name__}.{found.name}")


def _decoders(module: ModuleType) -> tuple[DeviceDecoder, ...]:
    single = (module.DECODER,) if hasattr(module, "DECODER") else ()
    return (*single, *getattr(module, "DECODERS", ()))


_MODULES = tuple(_formats())

ADAPTERS: dict[str, EnvelopeAdapter] = {
    module.ADAPTER.name: module.ADAPTER for module in _MODULES if hasattr(module, "ADAPTER")
}

# From narrow to wide: the first that recognises an envelope decodes it when the registry names nobody.
DECODERS: dict[str, DeviceDecoder] = {
    decoder.name: decoder
    for decoder in sorted(
        (decoder for module in _MODULES for decoder in _decoders(module)), key=lambda decoder: decoder.wide
    )
}


_RECOGNISING = [(decoder, decoder.recognises) for decoder in DECODERS.values() if decoder.recognises is not None]


def adapter_named(name: str) -> EnvelopeAdapter | None:
    """The adapter of that name; hyphens and underscores are the same."""
    return ADAPTERS.get(name) or ADAPTERS.get(name.strip().lower().replace("-", "_"))


def decoder_named(name: str) -> DeviceDecoder | None:
    """The decoder of that name; hyphens and underscores are the same."""
    return DECODERS.get(name) or DECODERS.get(name.strip().lower().replace("-", "_"))


def recognise_adapter(topic: str, payload: bytes) -> EnvelopeAdapter | None:
    """The one adapter that claims the message, or None when none or several do."""
    found = [adapter for adapter in ADAPTERS.values() if adapter.recognises(topic, payload)]
    return found[0] if len(found) == 1 else None


def recognise_decoder(envelope: Envelope) -> DeviceDecoder | None:
    """The first decoder that knows the envelope's inside; the order above goes from narrow to wide."""
    for decoder, recognises in _RECOGNISING:
        if recognises(envelope):
            return decoder
    return None
