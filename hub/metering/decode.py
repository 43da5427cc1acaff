"""From bytes to readings, step by step, without a database: what ingest, the HTTP door and `curbstop decode` share.

Adapters and decoders are strangers' formats in code: whatever they raise becomes a refusal with a reason, never an
exception of the pipeline.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from adapters import meters, units
from adapters.contracts import ALARM, VOLUME, Decoded, DeviceConfig, Envelope, EnvelopeAdapter, Malformed, MeterReading
from hub.errors import BadInput, storable_text

# A live reading may be this much older or newer than its arrival; what lies outside is the clock's fault, not a fact.
OLDEST = timedelta(days=400)
NEWEST = timedelta(minutes=15)
# Without an arrival time only clocks that never were set can be told: before water meters had radios.
_NEVER_SET = datetime(2000, 1, 2, tzinfo=UTC)

_LARGEST_MULTIPLIER = Decimal(10) ** 9

# Halves of characters and NUL, escaped or not: texts of JSON that no database takes.
_DOUBTFUL = re.compile(rb"\\u(?:d[89a-f]|0000)|\x00", re.IGNORECASE)
# Counters are kept as whole numbers of 64 bits; what lies beyond counts nothing.
_COUNTERS = 2**63

# What one message may weigh: a radio's uplink or a concentrator's minute, not a file. HTTP takes batches.
MAX_MQTT_BYTES = 256 * 1024
MAX_BATCH_BYTES = 10 * 1024 * 1024
# MQTT allows 65,535; what looks for a device in a topic may go through it once for each of its levels.
MAX_TOPIC = 1_000

CLOCK_SUSPECT, CLOCK_AHEAD, CLOCK_BEHIND = "q:clock_suspect", "clock_ahead", "clock_behind"
UNIT_UNKNOWN, HISTORIC, ESTIMATED = "q:unit_unknown", "q:historic", "q:estimated"


@dataclass(slots=True)
class Opened:
    """A message whose envelopes could be read, or the reason why not."""

    adapter: str | None
    envelopes: list[Envelope] = field(default_factory=list)
    reason: str | None = None
    detail: str | None = None


def adapter_name(name: str) -> str | None:
    """The adapter's own spelling of `name`, or None when there is no such adapter."""
    adapter = meters.adapter_named(name)
    return None if adapter is None else adapter.name


def adapter_names() -> list[str]:
    """Every adapter there is."""
    return sorted(meters.ADAPTERS)


def open_message(adapter_name: str | None, topic: str, payload: bytes, *, max_bytes: int = MAX_MQTT_BYTES) -> Opened:
    """Apply the adapter of that name (or the one that recognises the message) to its bytes."""
    if len(payload) > max_bytes:
        detail = f"{len(payload)} bytes; the limit is {max_bytes}"
        return Opened(adapter_name, reason="too_large", detail=detail)
    if len(topic) > MAX_TOPIC:
        detail = f"a topic of {len(topic)} characters; the limit is {MAX_TOPIC}"
        return Opened(adapter_name, reason="topic_too_long", detail=detail)
    adapter: EnvelopeAdapter | None
    if adapter_name is None:
        adapter = meters.recognise_adapter(topic, payload)
        if adapter is None:
            return Opened(None, reason="not_recognised", detail="no adapter, or more than one, recognises the message")
    else:
        adapter = meters.adapter_named(adapter_name)
        if adapter is None:
            return Opened(None, reason="no_adapter", detail=f"there is no adapter {adapter_name[:60]!r}")
    try:
        envelopes = adapter.read(topic, payload)
        # our own JSON refuses such texts itself, by the name of their field
        if adapter.name != "plain" and (b"\\u" in payload or b"\0" in payload) and _DOUBTFUL.search(payload):
            for envelope in envelopes:
                _clean(envelope)
        for envelope in envelopes:
            if envelope.counter is not None and not 0 <= envelope.counter < _COUNTERS:
                envelope.counter = None
        return Opened(adapter.name, envelopes)
    except Malformed as error:
        return Opened(adapter.name, reason=error.reason, detail=error.detail)
    except Exception as error:
        return Opened(adapter.name, reason="adapter_error", detail=f"{type(error).__name__} in {adapter.name}")


def _clean(envelope: Envelope) -> None:
    """Make every text of an envelope one that a database can keep."""
    envelope.fields = _cleaned(envelope.fields)
    envelope.device = None if envelope.device is None else storable_text(envelope.device)
    envelope.aliases = tuple(storable_text(name) for name in envelope.aliases)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(name): _cleaned(inner) for name, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def decode_envelope(envelope: Envelope, config: DeviceConfig) -> tuple[str | None, Decoded]:
    """The decoder's name and what it made of the envelope. The registry's decoder goes first, recognition second."""
    if envelope.kind != "uplink":
        return None, Decoded("no_reading", reason="other_event", detail=f"a {envelope.kind} event holds no register")
    if envelope.fields is None and not envelope.data:
        return None, Decoded("no_reading", reason="empty_frame", detail="the uplink carries nothing of the device")
    name = config.decoder or envelope.decoder
    decoder = meters.decoder_named(name) if name else meters.recognise_decoder(envelope)
    if decoder is None:
        detail = (
            f"there is no decoder {name[:60]!r}" if name else "no decoder is named for the device, none recognises it"
        )
        return name, Decoded("quarantine", reason="no_decoder", detail=detail)
    try:
        return decoder.name, decoder.decode(envelope, config)
    except Malformed as error:
        return decoder.name, Decoded("quarantine", reason=error.reason, detail=error.detail)
    except Exception as error:
        return decoder.name, Decoded(
            "quarantine", reason="decoder_error", detail=f"{type(error).__name__} in {decoder.name}"
        )


def restart(envelope: Envelope, at: datetime) -> tuple[str, bytes] | None:
    """The message (topic, payload) that asks the envelope's sender to begin anew; None where its network has none."""
    adapter = meters.adapter_named(envelope.network)
    if adapter is None or adapter.restart is None or envelope.session is None:
        return None
    return adapter.restart(envelope.session, at)


def dated(readings: list[MeterReading], received_at: datetime | None) -> list[MeterReading]:
    """The readings with what was "so many seconds ago" counted back from the arrival."""
    if received_at is None or all(reading.age_s is None for reading in readings):
        return readings
    return [
        reading
        if reading.age_s is None
        else reading._replace(measured_at=received_at - timedelta(seconds=float(reading.age_s)), age_s=None)
        for reading in readings
    ]


def clock_flag(measured_at: datetime, received_at: datetime | None) -> str | None:
    """`clock_ahead` or `clock_behind` when the claimed time cannot be true at arrival, else None."""
    if received_at is None:
        return CLOCK_BEHIND if measured_at < _NEVER_SET else None
    if measured_at - received_at > NEWEST:
        return CLOCK_AHEAD
    if received_at - measured_at > OLDEST:
        return CLOCK_BEHIND
    return None


def cubic_metres(reading: MeterReading, unit: str | None, multiplier: Decimal) -> Decimal | None:
    """The register in m³. A stated unit is the whole truth; a bare number takes the registry's unit × multiplier."""
    if reading.value is None:
        return None
    if reading.unit is None or reading.unit == "count":
        return units.to_m3(reading.value, unit, multiplier)
    return units.to_m3(reading.value, reading.unit)


def config_from(fields: Mapping[str, Any]) -> DeviceConfig:
    """A device's configuration from plain values; members the registry has no column for go to the decoder.

    Raises BadInput for a decoder, unit, multiplier, zone or config that cannot be.
    """
    known = {"decoder", "unit", "multiplier", "time_zone", "config"}
    decoder, zone, unit = (fields.get(name) for name in ("decoder", "time_zone", "unit"))
    if decoder is not None and not isinstance(decoder, str):
        raise BadInput("decoder is no name.", field="decoder", remedy=f"Use one of {', '.join(decoder_names())}.")
    if zone is not None and (not isinstance(zone, str) or zone not in available_timezones()):
        raise BadInput("time_zone is no IANA time zone.", field="time_zone", remedy="Write e.g. America/Chicago.")
    if unit is not None and (not isinstance(unit, str) or units.canonical(unit) is None):
        raise BadInput("unit is no unit of volume.", field="unit", remedy="Use m3, l, gal, kgal, cf or ccf.")
    try:
        multiplier = Decimal(str(fields.get("multiplier", 1)))
        if not (multiplier.is_finite() and 0 < multiplier < _LARGEST_MULTIPLIER):
            raise ArithmeticError
    except ArithmeticError:
        remedy = "Write what one count means in the unit, e.g. 10 for ten litres a pulse."
        raise BadInput("multiplier is not a positive number.", field="multiplier", remedy=remedy) from None
    inner = fields.get("config")
    if inner is not None and not isinstance(inner, Mapping):
        raise BadInput("config is not an object.", field="config", remedy='Write e.g. {"mapping": {"fields": []}}.')
    options = {name: value for name, value in fields.items() if name not in known} | dict(inner or {})
    return DeviceConfig(decoder, unit, multiplier, zone, options)


def decoder_names() -> list[str]:
    """Every decoder there is."""
    return sorted(meters.DECODERS)


def _envelope_said(envelope: Envelope) -> str:
    """What an adapter found in a message, in one line."""
    parts = [f"device {envelope.device or '(not named)'}"]
    if envelope.aliases:
        parts.append(f"also known as {', '.join(envelope.aliases)}")
    if envelope.kind != "uplink":
        parts.append(f"a {envelope.kind} event")
    if envelope.port is not None:
        parts.append(f"port {envelope.port}")
    if envelope.data:
        parts.append(f"{len(envelope.data)} bytes {envelope.data[:24].hex()}{'…' if len(envelope.data) > 24 else ''}")
    if isinstance(envelope.fields, dict):
        names = [ascii(str(name))[1:-1][:40] for name in list(envelope.fields)[:8]]
        parts.append(f"an object with {', '.join(names) or 'nothing'}{' …' if len(envelope.fields) > 8 else ''}")
    elif isinstance(envelope.fields, list):
        parts.append(f"a list of {len(envelope.fields)}")
    if envelope.time is not None:
        parts.append(f"time {envelope.time.isoformat()} of the {envelope.time_source}")
    return ascii("; ".join(parts))[1:-1].replace("\\u2026", "…")


def _decoder_said(envelope: Envelope, config: DeviceConfig, name: str | None) -> str:
    decoder = meters.decoder_named(name) if name else None
    if decoder is None:
        return "decoder: none"
    why = (
        "named in the configuration"
        if config.decoder
        else "brought by the format"
        if envelope.decoder
        else "recognised by what the object holds"
    )
    return f"decoder {decoder.name}, version {decoder.version} ({decoder.title}): {why}"


def described(
    topic: str,
    payload: bytes,
    *,
    adapter: str | None,
    config: DeviceConfig | Callable[[Envelope, MeterReading | None], DeviceConfig],
    received_at: datetime | None,
    max_bytes: int = MAX_MQTT_BYTES,
) -> dict[str, Any]:
    """What a payload becomes, as `curbstop decode --json` prints it, with the steps that led there.

    `config` is what the registry says of the device, or how to find it for an envelope and for each of its readings.
    """
    steps: list[str] = []
    opened = open_message(adapter, topic, payload, max_bytes=max_bytes)
    result: dict[str, Any] = {"disposition": "quarantine", "readings": [], "reason": None, "steps": steps}
    if opened.reason is not None:
        steps.append(f"adapter {opened.adapter or '-'}: refused, {opened.detail}")
        return result | {"reason": opened.reason, "detail": opened.detail}
    how = "as told" if adapter is not None else "recognised by topic and content"
    steps.append(f"adapter {opened.adapter}, {how}: {len(opened.envelopes)} envelope(s)")
    dispositions: list[str] = []
    for envelope in opened.envelopes:
        told = config if isinstance(config, DeviceConfig) else config(envelope, None)
        name, decoded = decode_envelope(envelope, told)
        decoded.readings = dated(decoded.readings, received_at)
        steps += [f"envelope: {_envelope_said(envelope)}", _decoder_said(envelope, told, name)]
        steps.append(f"{decoded.disposition}: {decoded.detail or f'{len(decoded.readings)} value(s)'}")
        steps += [f"refused: {bad.reason}, {bad.detail}" for bad in decoded.refused]
        if decoded.fault is not None:
            steps.append(f"sequence: {decoded.fault}; the hub would ask the sender to begin anew")
        dispositions.append(decoded.disposition)
        below = [reading for reading in decoded.readings if reading.value is not None and reading.value < 0]
        steps += [f"refused: negative_value, {reading.register} {reading.value}" for reading in below]
        kept = [
            _shown(reading, told if isinstance(config, DeviceConfig) else config(envelope, reading), received_at)
            for reading in decoded.readings
            if reading not in below
        ]
        steps += [step for reading in kept if (step := _doubt_said(reading))]
        result["readings"] += kept
        if decoded.disposition == "readings" and not kept:
            dispositions[-1], result["reason"] = "quarantine", "negative_value"
        elif decoded.disposition != "readings":
            result["reason"] = decoded.reason
    result["disposition"] = _overall(dispositions)
    if result["disposition"] == "readings":
        result["reason"] = None
    return result


def _doubt_said(reading: dict[str, Any]) -> str | None:
    """What keeps a shown reading from being booked as it stands, with the remedy."""
    if UNIT_UNKNOWN in reading["flags"]:
        return 'unit: not in the payload; kept raw until the registry says it (here: --config \'{"unit": "l"}\')'
    if CLOCK_SUSPECT in reading["flags"]:
        return "clock: the time cannot be true at that arrival; the arrival stands in for it, the reading is suspect"
    if reading["timestamp"] is None and reading["timestamp_source"] != "receipt":
        return "time: local, without a zone; counts once the registry says it (here: --config '{\"time_zone\": …}')"
    return None


def _overall(dispositions: list[str]) -> str:
    """One word for a message with several envelopes: the most that any of them held."""
    for word in ("readings", "event_only", "ambiguous", "quarantine"):
        if word in dispositions:
            return word
    return "no_reading"


def _shown(reading: MeterReading, config: DeviceConfig, received_at: datetime | None) -> dict[str, Any]:
    volume = cubic_metres(reading, config.unit, config.multiplier)
    flags = list(reading.flags)
    register, unit, value = reading.register, reading.unit, reading.value
    if volume is not None:
        unit, value = "m3", volume
        register = "volume" if register in ("pulse_count", "index_raw") else register
    elif register not in (ALARM, "pulse_count"):
        register, unit = "index_raw" if register == VOLUME else register, None
        flags.append(UNIT_UNKNOWN)
    at = reading.measured_at
    if at is not None and clock_flag(at, received_at):
        flags.append(CLOCK_SUSPECT)
        at = received_at
    return {
        "device_id": reading.device or reading.meter,
        "register": register,
        "unit": unit,
        "value": None if value is None else float(value),
        "timestamp": None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "timestamp_source": reading.time_source if at is reading.measured_at else "receipt",
        "flags": sorted(set(flags)),
        "channel": reading.channel,
    }
