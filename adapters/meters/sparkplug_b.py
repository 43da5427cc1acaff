"""Sparkplug B: `spBv1.0/{group}/{type}/{node}[/{device}]`, Protobuf. Pure.

A metric is a register when the registry names it (`config.metrics`: {"Volume": {"unit": "m3"}}), when its `engUnit`
property is a unit of volume, or when its name states one (`Water/Total_m3`). Births give names, aliases, datatypes and
units; data may name a metric by its alias alone and leaves the rest out. So what a birth said is remembered per edge
node, with the sequence number of the newest message. Where that number leaps, or data comes without a birth, whatever
can be read is read, and the node should be asked for a rebirth. A death counts when its `bdSeq` is that of the birth; a
null, bad or stale metric is no register. Layout: Eclipse Sparkplug 3.0, chapters 5 and 6.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from adapters import sparkplug, strict
from adapters.contracts import (
    HISTORIC,
    VOLUME,
    VOLUME_REVERSE,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
    Session,
)
from adapters.meters import mapping, volume_names
from adapters.units import canonical

_TOPIC = re.compile(r"spBv1\.0/([^/]+)/([ND](?:DATA|BIRTH|DEATH|CMD))/([^/]+)(?:/([^/]+))?")
_GOOD = 192
_SEQUENCE = 256


class _Birth(NamedTuple):
    """What a birth said of a metric."""

    alias: int | None
    datatype: int | None
    unit: str | None


def recognises(topic: str, payload: bytes) -> bool:
    """By topic."""
    return topic.startswith("spBv1.0/")


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the device is `{group}/{node}[/{device}]`, the session that of the node."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        if topic.startswith("spBv1.0/STATE/"):
            return [Envelope("sparkplug_b", None, kind="STATE")]
        raise Malformed("no_device", "the topic is not spBv1.0/{group}/{type}/{node}")
    node = strict.text(f"{found[1]}/{found[3]}", "topic")
    device = strict.text("/".join(part for part in (node, found[4]) if part), "topic")
    if found[2].endswith("CMD"):
        return [Envelope("sparkplug_b", device, kind=found[2])]
    return [
        Envelope(
            "sparkplug_b",
            device,
            fields={"type": found[2], "scope": found[4] or ""},
            data=payload,
            time_source="gateway",
            decoder="sparkplug_b",
            session=node,
        )
    ]


def _instant(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else strict.epoch(Decimal(milliseconds) / 1000)


def _bd_seq(payload: sparkplug.Payload) -> int | None:
    found = next((m.value for m in payload.metrics if m.name == "bdSeq" and m.value is not None), None)
    return None if found is None else int(found)


def _born(payload: sparkplug.Payload) -> dict[str, list[Any]]:
    return {
        metric.name: [metric.alias, metric.datatype, metric.unit]
        for metric in payload.metrics
        if metric.name is not None and not metric.name.startswith("Node Control/") and metric.name != "bdSeq"
    }


def _after(
    kind: str, scope: str, payload: sparkplug.Payload, before: Session | None
) -> tuple[Session | None, str | None]:
    """(what is remembered after the message, what is wrong with the sequence)."""
    if kind == "NBIRTH":
        return Session({"bd": _bd_seq(payload), "metrics": {"": _born(payload)}}, payload.seq), None
    if kind == "NDEATH":
        # its sequence number is not one of the session's: the broker sends it for the node
        theirs, ours = _bd_seq(payload), before.known.get("bd") if before else None
        return (Session({**before.known, "dead": True}) if before and theirs == ours else None), None
    fault = None
    if before is None or "bd" not in before.known or before.known.get("dead"):
        fault = f"{kind} without a birth of the node"
    elif payload.seq is None or before.seq is None or payload.seq != (before.seq + 1) % _SEQUENCE:
        fault = f"{kind} has the number {payload.seq}, {before.seq} came before it"
    known: dict[str, Any] = dict(before.known) if before else {}
    metrics: dict[str, Any] = known.get("metrics") or {}
    if kind == "DBIRTH":
        known["metrics"] = {**metrics, scope: _born(payload)}
    elif kind == "DDEATH":
        known["metrics"] = {name: born for name, born in metrics.items() if name != scope}
    elif kind == "DDATA" and scope not in metrics:
        fault = fault or "data of a device without its birth"
    return Session(known, payload.seq), fault


def _names(remembered: Session | None, scope: str) -> tuple[dict[str, _Birth], dict[int, str]]:
    """What births said, by name in this scope, and the names by alias (an alias is unique within a node)."""
    metrics: Mapping[str, Any] = remembered.known.get("metrics", {}) if remembered else {}
    here = {name: _Birth(*born) for name, born in metrics.get(scope, {}).items()}
    own = {born.alias: name for name, born in here.items() if born.alias is not None}
    return here, own


def _kind(name: str, unit: str | None, declared: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """(register, unit) of a metric that counts water, else None."""
    entry = declared.get(name)
    if isinstance(entry, dict):
        return str(entry.get("register") or VOLUME), entry.get("unit") or unit
    named = volume_names.stated(name.rpartition("/")[2])
    if canonical(unit) is not None:
        if volume_names.says_no_register(name):
            return None
        return (named[0] if named else VOLUME_REVERSE if volume_names.says_reverse(name) else VOLUME), unit
    return named


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Metrics in a unit of volume, or named in the registry; with what to remember of the node."""
    payload = sparkplug.parse(envelope.data or b"")
    fields: dict[str, Any] = envelope.fields if isinstance(envelope.fields, dict) else {}
    kind, scope = str(fields.get("type", "NDATA")), str(fields.get("scope", ""))
    session, fault = _after(kind, scope, payload, envelope.remembered)
    decoded = Decoded("no_reading", reason="no_register", detail="no metric is a volume")
    if not kind.endswith("DEATH"):
        decoded = _metrics(envelope, payload, session or envelope.remembered, scope, config)
    decoded.session, decoded.fault = session, fault
    return decoded


def _metrics(
    envelope: Envelope, payload: sparkplug.Payload, remembered: Session | None, scope: str, config: DeviceConfig
) -> Decoded:
    named = config.options.get("metrics")
    declared: dict[str, Any] = named if isinstance(named, dict) else {}
    births, names = _names(remembered, scope)
    found: list[MeterReading] = []
    refused: list[Refused] = []
    unknown = 0
    for metric in payload.metrics:
        name = metric.name if metric.name is not None else names.get(metric.alias) if metric.alias is not None else None
        if name is None:
            unknown += metric.alias is not None
            continue
        birth = births.get(name, _Birth(None, None, None))
        counted = _kind(name, metric.unit or birth.unit, declared)
        if counted is None or metric.value is None:
            continue
        at = _instant(metric.timestamp if metric.timestamp is not None else payload.timestamp)
        if metric.quality not in (None, _GOOD):
            detail = f"the node says of {name[:60]}: quality {metric.quality}"
            refused.append(Refused("bad_quality", detail, envelope.device, counted[0], at, str(metric.value)))
            continue
        value = sparkplug.signed(metric.value, metric.datatype or birth.datatype)
        flags = (HISTORIC,) if metric.historical else ()
        found.append(MeterReading(envelope.device, counted[0], value, counted[1], at, "gateway", flags, name[:80]))
    if not found and not refused and unknown:
        detail = f"{unknown} metrics named by an alias that no birth explained"
        return Decoded("no_reading", reason="alias_without_birth", detail=detail)
    decoded = mapping.settled(envelope, found, refused, (), None, "gateway")
    # a node sends what changed only: its birth says what else there is
    counting = {name: _kind(name, birth.unit, declared) for name, birth in births.items()}
    decoded.channels = frozenset(name[:80] for name, kind in counting.items() if kind and kind[0] == VOLUME)
    return decoded


def restart(session: str, at: datetime) -> tuple[str, bytes]:
    """The command that asks a node for its births."""
    group, _, node = session.partition("/")
    return f"spBv1.0/{group}/NCMD/{node}", sparkplug.rebirth_command(int(at.timestamp() * 1000))


ADAPTER = EnvelopeAdapter("sparkplug_b", "Sparkplug B", ("spBv1.0/#",), recognises, read, restart)
DECODER = DeviceDecoder("sparkplug_b", "2", "Sparkplug B metrics", None, decode)
