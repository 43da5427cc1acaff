"""The judge of samples is strict itself: whatever a decoder adds, leaves out or changes is a difference."""

from typing import Any

import pytest

from adapters import meters
from adapters.contracts import Decoded, DeviceConfig, DeviceDecoder, Envelope, MeterReading
from tests.adapters.meters import scoring

SAMPLE: dict[str, Any] = {
    "adapter": "wmbusmeters",
    "topic": "wmbusmeters/11223344",
    "payload": {
        "media": "water", "meter": "x", "id": "11223344", "total_m3": 5.5, "backflow_m3": 0.5, "status": "LEAK",
        "timestamp": "2026-03-04T05:06:07Z",
    },
    "payload_encoding": "json",
    "disposition": "readings",
    "expected": [
        {"device_id": "11223344", "register": register, "unit": "m3", "value": value, "flags": ["leak"],
         "timestamp": "2026-03-04T05:06:07Z", "timestamp_source": "gateway"}
        for register, value in (("volume", 5.5), ("volume_reverse", 0.5))
    ],
}  # fmt: skip


def _spoilt(monkeypatch: pytest.MonkeyPatch, change: Any) -> list[str]:
    honest = meters.DECODERS["wmbusmeters"]

    def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
        return change(honest.decode(envelope, config))

    spoilt = DeviceDecoder(honest.name, honest.version, honest.title, honest.recognises, decode)
    monkeypatch.setitem(meters.DECODERS, "wmbusmeters", spoilt)
    return scoring.differences(SAMPLE)


def _first(decoded: Decoded, **changes: Any) -> Decoded:
    decoded.readings[0] = decoded.readings[0]._replace(**changes)
    return decoded


def _with(decoded: Decoded, reading: MeterReading) -> Decoded:
    decoded.readings.append(reading)
    return decoded


def test_an_honest_decoder_differs_in_nothing() -> None:
    assert scoring.differences(SAMPLE) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda d: _first(d, value=d.readings[0].value * 1000),
        lambda d: _first(d, value=d.readings[0].value + type(d.readings[0].value)("0.0001")),
        lambda d: _first(d, unit="l"),
        lambda d: _first(d, unit=None),
        lambda d: _first(d, register="volume_interval"),
        lambda d: _first(d, device="11223345"),
        lambda d: _first(d, flags=()),
        lambda d: _first(d, flags=("leak", "burst")),
        lambda d: _first(d, measured_at=None),
        lambda d: _first(d, measured_at=d.readings[0].measured_at.replace(second=8)),
        lambda d: _first(d, time_source="meter"),
        lambda d: _with(d, d.readings[0]),
        lambda d: _with(d, d.readings[0]._replace(register="alarm", value=None)),
        lambda d: Decoded("readings", d.readings[:1]),
        lambda d: Decoded("no_reading"),
        lambda d: Decoded("quarantine", reason="x"),
    ],
)
def test_every_deviation_shows(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _spoilt(monkeypatch, change) != []


def test_a_flag_that_must_not_be_there_shows_even_when_flags_are_open() -> None:
    assert scoring.differences(SAMPLE | {"flags_open": True, "must_not_flags": ["leak"]}) != []
