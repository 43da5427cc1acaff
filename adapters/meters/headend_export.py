"""Exports of head-end systems, bridged to MQTT or dropped as files. Pure.

Badger Beacon as CSV (one row per read; register and interval flow in different units side by side) and Sentryx as JSON.
Times are local without a zone: they count once the registry states the device's time zone. Estimated reads are marked.
"""

import csv
import io
from datetime import datetime
from typing import Any

from adapters import strict
from adapters.contracts import (
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
)

_BEACON = ("Meter_ID", "Read", "Read_Time", "Read_Unit")
_ESTIMATED = frozenset({"1", "true", "y", "yes", "e"})


def recognises(topic: str, payload: bytes) -> bool:
    """By the column names or members of the exports we know."""
    head = payload[:4000]
    return all(name.encode() in head for name in _BEACON) or (
        b'"meters"' in head and b'"units"' in head and b'"data"' in head
    )


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per meter (JSON) or per row (CSV). Raises Malformed for an export we do not know."""
    if payload.lstrip()[:1] in (b"{", b"["):
        return _sentryx(strict.json_object(payload))
    try:
        said = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("not_utf8", "the export is not UTF-8") from None
    try:
        rows = list(csv.DictReader(io.StringIO(said), strict=True))
    except csv.Error as error:
        raise Malformed("not_csv", f"the export is not CSV: {error}") from None
    if not rows or not all(name in rows[0] for name in _BEACON):
        raise Malformed("unknown_export", f"the export lacks one of the columns {', '.join(_BEACON)}")
    if len(rows) > strict.MAX_ITEMS:
        raise Malformed("too_many", f"{len(rows)} rows; the limit is {strict.MAX_ITEMS}")
    return [_beacon_row(row) for row in rows]


def _beacon_row(row: dict[str, Any]) -> Envelope:
    others = tuple(str(row[name]) for name in ("Endpoint_SN", "Account_ID") if row.get(name))
    entry = {
        "value": row["Read"],
        "unit": row["Read_Unit"],
        "time": row["Read_Time"],
        "estimated": str(row.get("Estimated_Flag") or "").strip().lower() in _ESTIMATED,
    }
    device = strict.text(row["Meter_ID"] or (others[0] if others else None), "Meter_ID", longest=80)
    return Envelope("headend_export", device, fields=[entry], decoder="headend_export", aliases=others)


def _sentryx(message: dict[str, Any]) -> list[Envelope]:
    meters = message.get("meters")
    if not isinstance(meters, list):
        raise Malformed("unknown_export", "the export has no list of meters")
    found = []
    for meter in meters[: strict.MAX_ITEMS]:
        data = meter.get("data") if isinstance(meter, dict) else None
        if not isinstance(data, list):
            raise Malformed("unknown_export", "a meter of the export has no data")
        entries = [
            {"value": one.get("reading"), "unit": meter.get("units"), "time": one.get("timeStamp"), "estimated": False}
            for one in data[: strict.MAX_ITEMS]
            if isinstance(one, dict)
        ]
        device = strict.text(meter.get("deviceId"), "deviceId", longest=80)
        found.append(Envelope("headend_export", device, fields=entries, decoder="headend_export"))
    return found


def _entry(device: str | None, entry: dict[str, Any], zone: str | None) -> MeterReading:
    at: datetime | None = strict.instant(entry.get("time"), "time", zone=zone)
    unit = entry.get("unit")
    flags = ("q:estimated",) if entry.get("estimated") else ()
    value = strict.number(entry.get("value"))
    return MeterReading(device, VOLUME, value, unit if isinstance(unit, str) else None, at, "headend", flags)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Every entry's register in the unit stated beside it."""
    if not isinstance(envelope.fields, list):
        raise Malformed("unknown_export", "not the entries of an export")
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    for entry in envelope.fields:
        if not isinstance(entry, dict):
            raise Malformed("unknown_export", "an entry is not an object")
        try:
            readings.append(_entry(envelope.device, entry, config.time_zone))
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, envelope.device, VOLUME))
    if readings or not refused:
        return Decoded("readings" if readings else "no_reading", readings, refused)
    return Decoded("quarantine", [], refused, refused[0].reason, refused[0].detail)


ADAPTER = EnvelopeAdapter("headend_export", "Head-end exports", ("headend/+/+",), recognises, read)
DECODER = DeviceDecoder("headend_export", "1", "Beacon and Sentryx exports", lambda envelope: False, decode)
