"""Exports of head-end systems, bridged to MQTT or dropped as files. Pure.

Badger Beacon and Aclara as CSV with a header (one row per read), Sensus as CMEP (one line per meter and channel),
Sentryx and Subeca as JSON. Beacon, Sentryx and Sensus write local times without a zone: they count once the registry
states the device's time zone; of two reads of a meter at the same local time the later row is of the hour that passed
twice. Aclara writes UTC beside local time, and its unit only into free text: its reads stay raw
until the registry knows the unit. Estimated reads are marked; the use of an hour beside the register is a register of
its own. Layouts: the exports as read by the California Data Collaborative's ami-connect; CMEP 4.1.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    VOLUME,
    VOLUME_INTERVAL,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
)
from adapters.units import canonical

_BEACON = ("Meter_ID", "Read", "Read_Time", "Read_Unit")
_ACLARA = ("MeterSN", "MTUID", "ScaledRead", "ReadingTime")
_CMEP = "MEPMD01"
_CMEP_HEAD = 14
_CMEP_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)", re.ASCII)
_ESTIMATED = frozenset({"1", "true", "y", "yes", "e"})
_HOUR_S = 3600


def recognises(topic: str, payload: bytes) -> bool:
    """By the column names or members of the exports we know."""
    head = payload[:4000]
    return (
        head.startswith(_CMEP.encode() + b",")
        or any(all(name.encode() in head for name in names) for names in (_BEACON, _ACLARA))
        or all(name in head for name in (b'"meters"', b'"units"', b'"data"'))
        or all(name in head for name in (b'"accountId"', b'"latestReading"'))
    )


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per meter, per line of CMEP. Raises Malformed for an export we do not know."""
    if payload.lstrip()[:1] in (b"{", b"["):
        return _json(strict.json_value(payload))
    try:
        said = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("not_utf8", "the export is not UTF-8") from None
    try:
        if said.startswith(_CMEP):
            lines = list(csv.reader(io.StringIO(said), strict=True))
            return [_cmep_line(line) for line in _few(lines) if line]
        rows = list(csv.DictReader(io.StringIO(said), strict=True))
    except csv.Error as error:
        raise Malformed("not_csv", f"the export is not CSV: {error}") from None
    layouts: dict[tuple[str, ...], Callable[[dict[str, Any]], Envelope]] = {_BEACON: _beacon_row, _ACLARA: _aclara_row}
    row = next((layout for names, layout in layouts.items() if rows and all(name in rows[0] for name in names)), None)
    if row is None:
        known = " or ".join(", ".join(names) for names in layouts)
        raise Malformed("unknown_export", f"the export lacks one of the columns {known}")
    by_meter: dict[tuple[str | None, tuple[str, ...]], Envelope] = {}
    for one in map(row, _few(rows)):
        same = by_meter.setdefault((one.device, one.aliases), one)
        if same is not one:
            same.fields += one.fields
    return list(by_meter.values())


def _few(rows: list[Any]) -> list[Any]:
    if len(rows) > strict.MAX_ITEMS:
        raise Malformed("too_many", f"{len(rows)} rows; the limit is {strict.MAX_ITEMS}")
    return rows


def _envelope(device: Any, entries: list[dict[str, Any]], others: tuple[str, ...] = ()) -> Envelope:
    try:
        name = strict.text(device, "the meter's number", longest=80)
    except Malformed:
        # nobody's read does not spoil those of others
        name = None
    return Envelope("headend_export", name, fields=entries, decoder="headend_export", aliases=others)


def _beacon_row(row: dict[str, Any]) -> Envelope:
    others = tuple(str(row[name]) for name in ("Endpoint_SN", "Account_ID") if row.get(name))
    entry = {
        "value": row["Read"],
        "unit": row["Read_Unit"],
        "time": row["Read_Time"],
        "estimated": str(row.get("Estimated_Flag") or "").strip().lower() in _ESTIMATED,
    }
    return _envelope(row["Meter_ID"] or (others[0] if others else None), [entry], others)


def _aclara_row(row: dict[str, Any]) -> Envelope:
    others = tuple(str(row[name]) for name in ("MTUID", "AccountNumber") if row.get(name))
    stamp = row["ReadingTime"]
    entry = {"value": row["ScaledRead"], "unit": None, "time": f"{stamp}Z" if stamp else None}
    return _envelope(row["MeterSN"] or (others[0] if others else None), [entry], others)


def _cmep_line(line: list[str]) -> Envelope:
    """A meter's reads on one channel: `…REG` units count the register, bare ones the use of an interval."""
    if line[0] != _CMEP or len(line) < _CMEP_HEAD:
        raise Malformed("unknown_export", f"a line is no {_CMEP} record")
    purpose, commodity, units, constant, interval = line[8], line[9], line[10].upper(), line[11], line[12]
    if commodity != "W" or purpose not in ("OK", "RESEND"):
        return Envelope("headend_export", strict.text(line[7], "meter", longest=80), kind="other_commodity")
    cumulative = units.endswith("REG")
    known = canonical(units.removesuffix("REG").strip())
    # a constant beside the counts is a multiplier nobody explained: such counts are not in the unit they name
    unit = known if constant in ("", "1", "1.0") else None
    entries = []
    for at in range(_CMEP_HEAD, len(line) - 2, 3):
        stamp = _CMEP_TIME.fullmatch(line[at])
        entries.append(
            {
                "register": VOLUME if cumulative else VOLUME_INTERVAL,
                "value": line[at + 2],
                "unit": unit,
                "time": "{}-{}-{}T{}:{}".format(*stamp.groups()) if stamp else line[at],
                "estimated": line[at + 1].upper().startswith("E"),
                "interval_s": None if cumulative else _interval_s(interval),
            }
        )
    return _envelope(line[7], entries[: strict.MAX_ITEMS], (line[4],) if line[4] else ())


def _interval_s(text: str) -> int | None:
    """Seconds of a CMEP interval, MMDDhhmm; None for months or anything else."""
    if not re.fullmatch(r"00\d{6}", text, re.ASCII):
        return None
    return 86_400 * int(text[2:4]) + _HOUR_S * int(text[4:6]) + 60 * int(text[6:8]) or None


def _json(message: Any) -> list[Envelope]:
    if isinstance(message, dict) and isinstance(message.get("meters"), list):
        return list(_sentryx(message["meters"]))
    accounts = message if isinstance(message, list) else [message]
    if accounts and all(isinstance(one, dict) and "accountId" in one for one in accounts):
        return [_subeca(one) for one in _few(accounts)]
    raise Malformed("unknown_export", "the export has no list of meters and is no account")


def _sentryx(meters: list[Any]) -> Iterator[Envelope]:
    for meter in _few(meters):
        data = meter.get("data") if isinstance(meter, dict) else None
        if not isinstance(data, list):
            raise Malformed("unknown_export", "a meter of the export has no data")
        entries = [
            {"value": one.get("reading"), "unit": meter.get("units"), "time": one.get("timeStamp")}
            for one in data[: strict.MAX_ITEMS]
            if isinstance(one, dict)
        ]
        yield _envelope(meter.get("deviceId"), entries)


def _subeca(account: dict[str, Any]) -> Envelope:
    device = account.get("device")
    inner: dict[str, Any] = device if isinstance(device, dict) else {}
    latest = inner.get("latestReading")
    names = (inner.get("deviceId"), account.get("registerSerial"), account.get("meterSerial"))
    others = tuple(str(name) for name in names[1:] if name)
    entries = []
    if isinstance(latest, dict) and latest.get("value") not in (None, ""):
        entries.append({"value": latest["value"], "unit": latest.get("unit"), "time": latest.get("date")})
    return _envelope(names[0] or (others[0] if others else account["accountId"]), entries, others)


def _said_again(entries: list[dict[str, Any]]) -> set[int]:
    """Positions of entries whose local time stands there twice with different values, and that are the later one."""
    stamps = [str(entry.get("time")) for entry in entries]
    order = range(len(entries)) if stamps[0] <= stamps[-1] else range(len(entries) - 1, -1, -1)
    first: dict[tuple[Any, str], Any] = {}
    return {
        position
        for position in order
        if first.setdefault((entries[position].get("register"), stamps[position]), entries[position].get("value"))
        != entries[position].get("value")
    }


def _entry(device: str | None, entry: dict[str, Any], zone: str | None, again: bool) -> MeterReading:
    at: datetime | None = strict.instant(entry.get("time"), "time", zone=zone, again=again)
    stated = entry.get("unit")
    unit = stated if isinstance(stated, str) and stated.strip() else None
    register = entry.get("register", VOLUME if unit else INDEX_RAW)
    if register == VOLUME and unit is None:
        register = INDEX_RAW
    flags = ("q:estimated",) if entry.get("estimated") else ()
    value = strict.number(entry.get("value"))
    return MeterReading(device, register, value, unit, at, "headend", flags, interval_s=entry.get("interval_s"))


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Every entry's register in the unit stated beside it."""
    if not isinstance(envelope.fields, list):
        raise Malformed("unknown_export", "not the entries of an export")
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    if not all(isinstance(entry, dict) for entry in envelope.fields):
        raise Malformed("unknown_export", "an entry is not an object")
    again = _said_again(envelope.fields) if envelope.fields and config.time_zone else set()
    for position, entry in enumerate(envelope.fields):
        try:
            readings.append(_entry(envelope.device, entry, config.time_zone, position in again))
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, envelope.device, VOLUME))
    if readings:
        return Decoded("readings", readings, refused)
    if refused:
        return Decoded("quarantine", [], refused, refused[0].reason, refused[0].detail)
    return Decoded("no_reading", reason="no_register", detail="the export holds no read of the meter")


ADAPTER = EnvelopeAdapter("headend_export", "Head-end exports", ("headend/+/+",), recognises, read)
DECODER = DeviceDecoder("headend_export", "3", "Beacon, Aclara, Sensus, Sentryx and Subeca exports", None, decode)
