"""Commands that report: `curbstop report water-balance`. Reports go to standard output, or to a file with --output."""

import sys
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hub.cli.people import ACTOR
from hub.db import Database
from hub.errors import BadInput
from hub.leakage import balances, tables
from hub.private import database_for
from hub.settings import load


class Format(StrEnum):
    """How a report is written."""

    json = "json"
    csv = "csv"
    html = "html"
    geojson = "geojson"


FromOption = Annotated[str, typer.Option("--from", help="First local day, e.g. 2026-01-01.")]
ToOption = Annotated[str, typer.Option("--to", help="The local day after the last one.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")]


def register(app: typer.Typer) -> None:
    """Add the group `report`."""
    group = typer.Typer(help="Reports of lost water.", no_args_is_help=True)
    group.command("water-balance")(water_balance)
    app.add_typer(group, name="report")


def water_balance(
    begins: FromOption,
    to: ToOption,
    zone: Annotated[str | None, typer.Option(help="Code of one zone; default: all, and the whole system.")] = None,
    format: Annotated[Format, typer.Option(help="json, csv, html or geojson.")] = Format.json,
    output: OutputOption = None,
) -> None:
    """The water balance of each zone over local days [from, to): input, billed, losses, 95 % limits, data coverage.

    Example: curbstop report water-balance --from 2026-01-01 --to 2026-02-01 --format csv
    """
    first, last = day(begins, "--from"), day(to, "--to")
    settings = load()
    with database_for(settings) as url, Database(url).transaction() as session:
        found = balances.report(
            session, first, last, zone=settings.zone, actor=ACTOR, codes=None if zone is None else [zone]
        )
        if format is Format.json:
            document = balances.table(found, first, last)
            written = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n"
        elif format is Format.csv:
            written = tables.as_csv(found).encode()
        elif format is Format.html:
            written = tables.as_html(found, first, last, utility=settings.utility_name).encode()
        else:
            written = tables.as_geojson(session, found) + b"\n"
    put(written, output)


def put(written: bytes, output: Path | None) -> None:
    """Write a report to its file, or to standard output."""
    if output is None:
        sys.stdout.buffer.write(written)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(written)
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}.", remedy="Name another file.") from error


def day(value: str, option: str) -> date:
    """A day of the command line. Raises BadInput."""
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise BadInput(f"{option} {value!r} is not a day.", field=option, remedy="Write it as 2026-01-31.") from None
