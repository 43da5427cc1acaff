"""Objects of any codec whose member names state the unit (`total_volume_m3`), or that carry one beside. Pure.

A name is read as words. It is a register when its last word is a unit of volume, one of the others says so (volume,
total, reading, index, …) and none says that it is something else (a flow, a day's use, a limit). Of several registers
the one that says "total" counts. A value whose unit stands nowhere stays raw.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from adapters import strict, units
from adapters.contracts import (
    INDEX_RAW,
    PULSE_COUNT,
    VOLUME,
    VOLUME_REVERSE,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    Malformed,
    MeterReading,
    Refused,
    TimeSource,
)
from adapters.meters import mapping
from adapters.units import canonical

_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_NUMBER = re.compile(r"[+-]?\d{1,18}([.,]\d{1,18})?", re.ASCII)
_REGISTER = frozenset({"volume", "total", "totalizer", "totaliser", "cumulative", "cumulated", "reading", "index",
                       "register", "meter", "counter", "odometer"})  # fmt: skip
_BARE = frozenset({"volume", "total", "totalvolume", "watervolume", "reading", "meterreading", "index", "register"})
_REVERSE = frozenset({"reverse", "backward", "backwards", "backflow", "negative", "return"})
_FORWARD_FIRST = ("total", "totalizer", "totaliser", "cumulative", "cumulated", "current", "forward", "positive")
_OTHER = frozenset({
    "flow", "rate", "max", "min", "avg", "average", "daily", "day", "hourly", "hour", "weekly", "week", "monthly",
    "month", "yearly", "year", "today", "yesterday", "last", "previous", "prev", "log", "logged", "history",
    "historical", "delta", "interval", "increment", "period", "target", "due", "set", "limit", "threshold", "alarm",
    "leak", "leakage", "consumption", "usage", "used", "tariff", "tank", "per", "unit", "batch", "capacity", "at",
    "cold", "hot", "energy", "gas", "air", "rain", "net",
})  # fmt: skip
# A word before the unit that makes it another one: which of them counts, no name settles.
_SCALES = frozenset({"kilo", "hundred", "hundreds", "thousand", "thousands", "million", "millions", "mega", "hecto",
                     "deca", "deci", "centi", "milli", "tens", "tenths", "imperial", "imp", "uk", "x"})  # fmt: skip
# Words that make a volume no register even where its unit stands beside it: use of some time, a bound, another medium.
_NO_REGISTER = frozenset({
    "max", "min", "avg", "average", "rate", "daily", "day", "hourly", "hour", "weekly", "week", "monthly", "month",
    "yearly", "year", "today", "yesterday", "last", "previous", "prev", "delta", "interval", "increment", "period",
    "target", "limit", "threshold", "tank", "per", "batch", "capacity", "net", "energy", "gas", "rain",
})  # fmt: skip
_PULSES = frozenset({"pulses", "pulsecount", "pulsecounter", "totalpulse", "totalpulses", "pulsetotal"})
_INNER_IN_ORDER = ("decoded", "data", "payload", "measurements", "water")
_INNER = frozenset(_INNER_IN_ORDER)
_TIMES = ("measured_at", "measuredAt", "meter_time", "reading_time", "readingTime", "read_at")
_TIME_NAMES = frozenset(_TIMES)
_ALARMS = {
    "leak": ("leak", "leakage", "leak_detected", "leakDetected", "leaking", "leak_alarm", "leakage_alarm"),
    "burst": ("burst", "pipe_burst", "burst_alarm"),
    "backflow": ("backflow", "reverse_flow", "reverseFlow", "backflow_alarm", "back_flow"),
    "tamper": ("tamper", "tampered", "tamper_alarm", "magnetic_tamper", "tamper_detected"),
    "low_battery": ("low_battery", "lowBattery", "battery_low", "batteryLow", "low_battery_alarm"),
    "dry": ("dry", "pipe_empty", "empty_pipe", "emptyPipe", "air_in_pipe"),
    "blocked": ("blocked", "meter_blocked"),
}
_LAYOUT = mapping.JsonMapping(
    "volume_m3", "", (), tuple(mapping.Alarm(path, flag) for flag, paths in _ALARMS.items() for path in paths)
)


class _Found(NamedTuple):
    name: str
    words: tuple[str, ...]
    register: str
    value: Any
    unit: str | None


class _Said(NamedTuple):
    """What a member's name says by itself; codecs send the same few names in every message."""

    words: tuple[str, ...]
    plain: str
    unit: str | None
    register: str | None
    possible: bool


@lru_cache(maxsize=4096)
def _said_by(name: str) -> _Said:
    words = tuple(word.lower() for word in _WORD.findall(name))
    unit, said = _unit_in(name, words), set(words)
    register = None
    if unit is not None and not said & (_OTHER - {"flow"} if "total" in said else _OTHER):
        register = VOLUME_REVERSE if said & _REVERSE else VOLUME if said & _REGISTER else None
    plain = "".join(words)
    return _Said(words, plain, unit, register, register is not None or plain in _PULSES or plain in _BARE)


def _unit_in(name: str, words: tuple[str, ...]) -> str | None:
    """The unit at the end of a name: one word, or two (`ft_3`)."""
    for length in (2, 1):
        parts = words[-length:]
        found = (canonical("".join(parts)) or canonical(" ".join(parts))) if len(words) > length else None
        if found is not None:
            before = words[-length - 1]
            return None if before in _SCALES or before.lstrip("x").isdigit() else found
    tail = re.search(r"(m³|ft³)$", name)
    return canonical(tail[1]) if tail else None


def says_reverse(name: str) -> bool:
    """Whether a name speaks of water that flowed back."""
    return bool(_REVERSE & set(_said_by(name[:200]).words))


def says_no_register(name: str) -> bool:
    """Whether a name speaks of a volume that is no register (a day's use, a limit, a tank)."""
    return bool(_NO_REGISTER & set(_said_by(name[:200]).words))


def stated(name: str) -> tuple[str, str] | None:
    """(register, unit) that a member's name states by itself, or None."""
    found = _member(name, None, {})
    return (found.register, found.unit) if found is not None and found.unit is not None else None


def _member(name: str, value: Any, fields: dict[str, Any]) -> _Found | None:
    words, plain, unit, register, _ = _said_by(name)
    if plain in _PULSES:
        return _Found(name, words, PULSE_COUNT, value, "count")
    if isinstance(value, dict):
        stated = value.get("unit")
        if plain in _BARE and "value" in value and isinstance(stated, str):
            return _Found(name, words, VOLUME, value["value"], stated.strip() or None)
        return None
    if register is not None:
        return _Found(name, words, register, value, unit)
    said = units.split(value)[1]
    if plain in _BARE and said is not None:
        return _Found(name, words, VOLUME, value, said)
    if plain in _BARE and (isinstance(value, int | Decimal) or _NUMBER.fullmatch(str(value).strip())):
        beside = fields.get("unit")
        stated = beside.strip() if isinstance(beside, str) and beside.strip() else None
        return _Found(name, words, VOLUME, value, stated)
    return None


def _objects(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object itself, and the one a codec may have put into it."""
    yield fields
    if not _INNER.isdisjoint(fields):
        yield from (fields[name] for name in _INNER_IN_ORDER if isinstance(fields.get(name), dict))


def _rank(found: _Found) -> tuple[bool, int]:
    said = next((place for place, word in enumerate(_FORWARD_FIRST) if word in found.words), len(_FORWARD_FIRST))
    return found.unit is None, said


def _registers(fields: Any) -> list[_Found]:
    """The likeliest of each kind, the forward register before pulses, from the first object that holds any."""
    if not isinstance(fields, dict):
        return []
    for inner in _objects(fields):
        found = [
            one
            for name, value in inner.items()
            if len(name) <= 60
            and _said_by(name).possible
            and value is not None
            and not isinstance(value, bool | list)
            and (one := _member(name, value, inner)) is not None
        ]
        if len(found) == 1:
            return found
        chosen: list[_Found] = []
        for register in (VOLUME, VOLUME_REVERSE, PULSE_COUNT):
            of_kind = [one for one in found if one.register == register]
            if of_kind and not (register == PULSE_COUNT and chosen):
                best = min(map(_rank, of_kind))
                chosen += [one for one in of_kind if _rank(one) == best]
        if chosen:
            return chosen
    return []


def _check_one_of_each(found: list[_Found]) -> None:
    """Raise Malformed where an object says two things of one register: of two meters, which is the device's?"""
    said: dict[str, _Found] = {}
    for one in found:
        other = said.setdefault(one.register, one)
        if (one.value, one.unit) != (other.value, other.unit):
            detail = f"{other.name[:60]} and {one.name[:60]} both are a {one.register}; a mapping must say which counts"
            raise Malformed("ambiguous_register", detail)


def _time(fields: dict[str, Any], envelope: Envelope, zone: str | None) -> tuple[Any, TimeSource]:
    for inner in _objects(fields):
        for name in () if _TIME_NAMES.isdisjoint(inner) else _TIMES:
            if isinstance(inner.get(name), str):
                return strict.instant(inner[name], name, zone=zone), "meter"
            if type(inner.get(name)) is int:
                return strict.epoch(inner[name], name), "meter"
    return envelope.time, envelope.time_source


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The registers whose names say what they are, with the alarms beside them."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("no_object", "the message carries no decoded object")
    at, source = _time(envelope.fields, envelope, config.time_zone)
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    registers = _registers(envelope.fields)
    _check_one_of_each(registers)
    for one in {one.register: one for one in reversed(registers)}.values():
        register = INDEX_RAW if one.unit is None and one.register == VOLUME else one.register
        try:
            bare, said = units.split(one.value)
            value: Decimal = strict.number(bare, one.name[:60])
            if said is not None and one.unit is not None and canonical(said) != canonical(one.unit):
                raise Malformed(
                    "ambiguous_unit", f"{one.name[:60]} is in {one.unit} by its name and in {said} by its value"
                )
            if value in mapping.SENTINELS:
                raise Malformed("sentinel", f"{one.name[:60]} holds the device's word for 'no value'")
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, envelope.device, register))
            continue
        readings.append(MeterReading(envelope.device, register, value, one.unit, at, source, seq=envelope.counter))
    alarms: list[str] = []
    for inner in _objects(envelope.fields):
        alarms += mapping.alarms_in(_LAYOUT, inner)
    return mapping.settled(envelope, readings, refused, tuple(dict.fromkeys(alarms)), at, source)


DECODER = DeviceDecoder(
    "volume_m3",
    "3",
    "Objects whose member names state the unit, or that carry one beside the value",
    lambda envelope: bool(_registers(envelope.fields)),
    decode,
    wide=True,
)
