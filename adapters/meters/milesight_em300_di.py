"""Milesight EM300-DI pulse counter (also with Hall sensor), channel/type/value frames on port 85. Pure.

Pulses are counts; the converted water value's unit is a setting of the device reported elsewhere, so it stays an index.
Stored records (channels 0x20, 0x21) carry their own time. Layout: the vendor's EM300-DI decoder.
"""

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from adapters import strict
from adapters.contracts import (
    HISTORIC,
    INDEX_RAW,
    PULSE_COUNT,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    Malformed,
    MeterReading,
    Refused,
)
from adapters.meters import mapping

_HISTORIC = (HISTORIC,)
_ALARMS = {3: ("continuous_flow",)}


class _Channel(NamedTuple):
    length: int
    read: Callable[[Envelope, bytes], MeterReading] | None


def _float(data: bytes) -> Decimal:
    """A 32-bit float with the seven digits it holds."""
    (value,) = struct.unpack("<f", data)
    return strict.number(Decimal(f"{value:.7g}"))


def _pulses(envelope: Envelope, value: bytes) -> MeterReading:
    count = Decimal(strict.count(value, "little", "counter"))
    return MeterReading(envelope.device, PULSE_COUNT, count, "count", envelope.time, envelope.time_source)


def _water(envelope: Envelope, value: bytes) -> MeterReading:
    flags = _ALARMS.get(value[8], ()) if len(value) > 8 else ()
    return MeterReading(
        envelope.device, INDEX_RAW, _float(value[4:8]), None, envelope.time, envelope.time_source, flags
    )


def _stored_pulses(envelope: Envelope, value: bytes) -> MeterReading:
    count = Decimal(strict.count(value[9:13], "little", "counter"))
    at = strict.epoch(int.from_bytes(value[:4], "little"))
    return MeterReading(envelope.device, PULSE_COUNT, count, "count", at, "meter", _HISTORIC)


def _stored_water(envelope: Envelope, value: bytes) -> MeterReading:
    at = strict.epoch(int.from_bytes(value[:4], "little"))
    return MeterReading(envelope.device, INDEX_RAW, _float(value[-4:]), None, at, "meter", _HISTORIC)


_CHANNELS: dict[tuple[int, int], _Channel] = {
    (0x01, 0x75): _Channel(1, None),
    (0x03, 0x67): _Channel(2, None),
    (0x83, 0x67): _Channel(3, None),
    (0x04, 0x68): _Channel(1, None),
    (0x05, 0x00): _Channel(1, None),
    (0x85, 0x00): _Channel(2, None),
    (0x05, 0xC8): _Channel(4, _pulses),
    (0x05, 0xE1): _Channel(8, _water),
    (0x85, 0xE1): _Channel(9, _water),
    # the same on the channels that the vendor's table gives for the model with Hall sensor
    (0x06, 0xE1): _Channel(8, _water),
    (0x86, 0xE1): _Channel(9, _water),
    (0x20, 0xCE): _Channel(13, _stored_pulses),
    (0x21, 0xCE): _Channel(18, _stored_water),
    # what the device says of itself when it joins: versions, serial number, class, power
    (0xFF, 0x01): _Channel(1, None),
    (0xFF, 0x09): _Channel(2, None),
    (0xFF, 0x0A): _Channel(2, None),
    (0xFF, 0x0B): _Channel(1, None),
    (0xFF, 0x0F): _Channel(1, None),
    (0xFF, 0x16): _Channel(8, None),
    (0xFF, 0xFE): _Channel(1, None),
    (0xFF, 0xFF): _Channel(2, None),
}
# Answers to commands: what was set, on either of two channels.
_ANSWERS = {0x02: 2, 0x03: 2, 0x06: 9, 0x10: 1, 0x17: 2, 0x27: 1, 0x28: 1, 0x35: 8, 0x4A: 1, 0x4E: 2, 0x68: 1,
            0x69: 1, 0x6A: 3, 0x79: 4, 0x92: 5, 0xA1: 7, 0xA2: 9, 0xA3: 2, 0xA4: 2, 0xC3: 1}  # fmt: skip
_CHANNELS |= {(channel, kind): _Channel(size, None) for channel in (0xFE, 0xFF) for kind, size in _ANSWERS.items()}
# A stored record that was made in switch mode has no pulses in it; here stands the mode.
_SWITCH_MODE, _MODE_AT = 0x01, {0x20: 7, 0x21: 8}


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The channels one after the other.

    An unknown or cut one ends what can be read, because its length is unknown; what stood before it counts.
    """
    data = envelope.data
    if not data:
        raise Malformed("no_bytes", "the message carries no bytes of the device")
    found: list[MeterReading] = []
    refused: list[Refused] = []
    at = 0
    while at < len(data):
        channel = _CHANNELS.get((data[at], data[at + 1])) if at + 1 < len(data) else None
        if channel is None or at + 2 + channel.length > len(data):
            detail = f"no known channel at byte {at}"
            refused.append(Refused("implausible_frame", detail, envelope.device))
            break
        value = data[at + 2 : at + 2 + channel.length]
        switch = data[at] in _MODE_AT and value[_MODE_AT[data[at]]] == _SWITCH_MODE
        if channel.read is not None and not switch:
            try:
                found.append(channel.read(envelope, value))
            except Malformed as error:
                refused.append(Refused(error.reason, error.detail, envelope.device))
        at += 2 + channel.length
    return mapping.settled(envelope, found, refused, (), None, envelope.time_source)


def _never(envelope: Envelope) -> bool:
    """Bytes on port 85 may be any of the vendor's devices: the registry says which."""
    return False


DECODERS = (
    DeviceDecoder("milesight_em300_di", "3", "Milesight EM300-DI", _never, decode),
    DeviceDecoder("milesight_em300_di_hall", "3", "Milesight EM300-DI with Hall sensor", _never, decode),
)
