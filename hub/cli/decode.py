"""`curbstop decode`: what a payload becomes, step by step, without a database. Reads one file, writes nothing."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.errors import BadInput
from hub.metering import decode as decoding

# When messages arrive; beyond it even the reckoning of how old a reading is leaves the calendar.
YEARS = range(1900, 2200)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("decode")(decode)


def decode(
    topic: Annotated[str, typer.Argument(help="The MQTT topic it was published under.")],
    file: Annotated[str, typer.Argument(help="File with the payload's bytes; - for standard input.")],
    adapter: Annotated[str | None, typer.Option(help="Envelope adapter; without it the message is recognised.")] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help='What the registry would say, e.g. {"decoder": "axioma_w1", "unit": "gal", "multiplier": 10}.'
        ),
    ] = None,
    received_at: Annotated[str | None, typer.Option(help="Arrival, RFC 3339; clocks are held against it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Show what a payload becomes: its envelope, its readings, or why it would be put aside. Needs no database.

    A payload is opened by an adapter (the network or program that published it) and read by a decoder (the device);
    what neither says, the registry would: --config stands in for its entry. Clocks are held against --received-at.

    Examples:

    curbstop decode curbstop/v1/north/readings sample.json

    mosquitto_sub -t 'wmbusmeters/#' -C 1 | curbstop decode wmbusmeters/kitchen - --json

    curbstop decode application/1/device/0102030405060708/event/up up.json --config '{"decoder": "axioma_w1"}'
    """
    if adapter is not None and decoding.adapter_name(adapter) is None:
        raise BadInput(
            f"There is no adapter {adapter!r}.",
            field="adapter",
            remedy=f"Use one of {', '.join(decoding.adapter_names())}.",
        )
    found = decoding.described(
        topic,
        _payload(file),
        adapter=adapter,
        config=decoding.config_from(_object(config)),
        received_at=_time(received_at),
    )
    if as_json:
        typer.echo(json.dumps({name: found[name] for name in ("disposition", "readings", "reason")} | _detail(found)))
        return
    for step in found["steps"]:
        typer.echo(step)
    for reading in found["readings"]:
        value = "" if reading["value"] is None else f" {reading['value']} {reading['unit'] or '(unit unknown)'}"
        flags = f"  [{', '.join(reading['flags'])}]" if reading["flags"] else ""
        typer.echo(
            f"{reading['timestamp'] or 'on arrival':<24} {reading['device_id']} {reading['register']}{value}{flags}"
        )
    typer.echo(f"disposition: {found['disposition']}" + (f" ({found['reason']})" if found["reason"] else ""))


def _detail(found: dict[str, Any]) -> dict[str, Any]:
    return {"detail": found["detail"]} if found.get("detail") else {}


def _payload(file: str) -> bytes:
    # one byte more than a message may have is enough to refuse it
    most = decoding.MAX_MQTT_BYTES + 1
    if file == "-":
        return sys.stdin.buffer.read(most)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(most)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "Name a file with the payload's bytes, or - for standard input."
        raise BadInput(f"{ascii(file)[1:-1]} cannot be read: {why}.", field="file", remedy=remedy) from None


def _object(config: str | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInput("--config is not a JSON object.", field="config", remedy='Write e.g. {"unit": "m3"}.')
    return found


def _time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadInput("--received-at is not a time with an offset.", field="received-at", value=value[:60])
    if found.year not in YEARS:
        raise BadInput("--received-at is no time at which a message arrives.", field="received-at", value=value[:60])
    return found
