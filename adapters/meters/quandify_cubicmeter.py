"""Quandify CubicMeter: a status report of 28 bytes on port 1 (2: for an alarm), or the objects its codecs make. Pure.

The total is in litres, in one codec as a text that says so. Codecs nest it under `decoded` and spell it two ways. Leak
states: 2 medium and 3 large in one firmware, 3 and 4 in another; 384 among the error codes is reverse flow. Layout: the
vendor's codecs.
"""

from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import VOLUME, Decoded, DeviceConfig, DeviceDecoder, Envelope, Malformed, MeterReading
from adapters.meters import mapping

_LEAKS = (2, 3, 4)
_REVERSE = 384
_REPORT_PORTS, _REPORT_BYTES = (1, 2), 28


def _layout(inside: str, total: str, leak: str, error: str) -> mapping.JsonMapping:
    path = f"{inside}." if inside else ""
    return mapping.JsonMapping(
        "quandify_cubicmeter",
        "Quandify CubicMeter (total in litres)",
        (mapping.Field(path + total, unit="l"),),
        (
            mapping.Alarm(path + leak, "leak", values=(*_LEAKS, "medium", "large", "Medium", "Large")),
            mapping.Alarm(path + error, "backflow", values=(_REVERSE, "Reverse flow", "reverseFlow")),
        ),
        requires=(path + total, path + leak),
    )


_LAYOUTS = tuple(
    _layout(inside, *names)
    for inside in ("decoded", "")
    for names in (("totalVolume", "leakState", "errorCode"), ("total_volume", "leak_status", "error_code"))
)


def _fitting(fields: Any) -> mapping.JsonMapping | None:
    return next((layout for layout in _LAYOUTS if mapping.fits(layout, fields)), None)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The codec's object, else the report."""
    layout = _fitting(envelope.fields)
    if layout is not None:
        return mapping.apply(layout, envelope, config)
    data = envelope.data
    if not data or envelope.port not in _REPORT_PORTS:
        return Decoded("no_reading", reason="other_frame", detail=f"port {envelope.port} carries no register")
    if len(data) != _REPORT_BYTES:
        raise Malformed("implausible_frame", f"a status report has {_REPORT_BYTES} bytes, this one {len(data)}")
    value = Decimal(strict.count(data[6:10], "little"))
    found = ((data[22] in _LEAKS, "leak"), (int.from_bytes(data[4:6], "little") == _REVERSE, "backflow"))
    at, source = envelope.time, envelope.time_source
    reading = MeterReading(envelope.device, VOLUME, value, "l", at, source, seq=envelope.counter)
    return mapping.settled(envelope, [reading], [], tuple(flag for holds, flag in found if holds), at, source)


DECODER = DeviceDecoder(
    "quandify_cubicmeter", "3", "Quandify CubicMeter", lambda envelope: _fitting(envelope.fields) is not None, decode
)
