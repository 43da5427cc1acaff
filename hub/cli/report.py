"""Commands that report: `curbstop report water-balance` and `audit`, to standard output or a file."""

import csv
import io
import sys
import tomllib
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gis import audit
from hub.cli.people import ACTOR
from hub.cli.transaction import command_transaction
from hub.errors import BadInput
from hub.leakage import balances, exports, night_flows, revenue, tables
from hub.settings import load


class Format(StrEnum):
    """How a report is written."""

    json = "json"
    csv = "csv"
    xlsx = "xlsx"
    html = "html"
    pdf = "pdf"
    geojson = "geojson"


class Plain(StrEnum):
    """How a report without a map is written."""

    json = "json"
    csv = "csv"
    html = "html"


FromOption = Annotated[str, typer.Option("--from", help="First local day, e.g. 2026-01-01.")]
ToOption = Annotated[str, typer.Option("--to", help="The local day after the last one.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")]


def register(app: typer.Typer) -> None:
    """Add the group `report`."""
    group = typer.Typer(help="Reports of lost water.", no_args_is_help=True)
    group.command("water-balance")(water_balance)
    group.command("night-flow")(night_flow)
    group.command("revenue-gap")(revenue_gap)
    group.command("audit")(annual_audit)
    group.command("leakage")(leakage)
    app.add_typer(group, name="report")


def water_balance(
    begins: FromOption,
    to: ToOption,
    zone: Annotated[str | None, typer.Option(help="Code of one zone; default: all, and the whole system.")] = None,
    format: Annotated[Format, typer.Option(help="json, csv, xlsx, html, pdf or geojson.")] = Format.json,
    defaults: Annotated[
        str | None, typer.Option(help="Shares for what nobody measured: none, fwas_v5, fwas_v6; default: the setting.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """The water balance of each zone over local days [from, to): input, billed, losses, 95 % limits, data coverage.

    Example: curbstop report water-balance --from 2026-01-01 --to 2026-02-01 --format csv
    """
    first, last = day(begins, "--from"), day(to, "--to")
    settings = load()
    if format in (Format.xlsx, Format.pdf) and output is None and sys.stdout.isatty():
        raise BadInput(f"A terminal cannot show {format}.", field="--format", remedy="Name a file with -o.")
    with command_transaction(settings) as session:
        found = balances.report(
            session,
            first,
            last,
            zone=settings.zone,
            actor=ACTOR,
            codes=None if zone is None else [zone],
            assumptions=balances.assumed(settings, defaults),
        )
        written = exports.written(session, found, first, last, format=format, utility=settings.utility_name)
    put(written, output)


def night_flow(
    begins: FromOption,
    to: ToOption,
    zone: Annotated[str | None, typer.Option(help="Code of one zone; default: all, and the whole system.")] = None,
    method: Annotated[str, typer.Option(help="mean_02_04 or lowest_hour.")] = "mean_02_04",
    n1: Annotated[float | None, typer.Option(help="Leakage exponent; default: by material.")] = None,
    format: Annotated[Plain, typer.Option(help="json, csv or html.")] = Plain.json,
    output: OutputOption = None,
) -> None:
    """Night flow of each zone over local days [from, to): minimum, legitimate use, background, excess, bursts.

    Example: curbstop report night-flow --from 2026-01-01 --to 2026-02-01 --zone A
    """
    first, last = day(begins, "--from"), day(to, "--to")
    settings = load()
    with command_transaction(settings) as session:
        codes = [*balances.codes(session), None] if zone is None else [zone]
        assumed = balances.assumed(settings)
        found = [
            night_flows.report(
                session, code, first, last, zone=settings.zone, assumptions=assumed, method=method, n1=n1
            )
            for code in codes
        ]
    if format is Plain.json:
        whole = found[0] if zone is not None else {"zones": found[:-1], "system": found[-1]}
        put(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n", output)
    elif format is Plain.csv:
        put(tables.rows_as_csv(tables.NIGHT_COLUMNS, found).encode(), output)
    else:
        page = tables.page("night_flow.html", found=found, first=first, last=last, utility=settings.utility_name)
        put(page.encode(), output)


def revenue_gap(
    begins: FromOption,
    to: ToOption,
    format: Annotated[Plain, typer.Option(help="json, csv or html.")] = Plain.json,
    output: OutputOption = None,
) -> None:
    """Meters whose water earned nothing over local days [from, to): no bill, a bill of zero, a closed valve, stopped.

    Money needs CURBSTOP_RETAIL_PRICE_M3.

    Example: curbstop report revenue-gap --from 2026-01-01 --to 2026-02-01 --format csv
    """
    first, last = day(begins, "--from"), day(to, "--to")
    settings = load()
    with command_transaction(settings) as session:
        found = revenue.gap(
            session, first, last, zone=settings.zone, price_m3=settings.retail_price_m3, currency=settings.currency
        )
    if format is Plain.json:
        put(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n", output)
    elif format is Plain.csv:
        put(tables.rows_as_csv(tables.GAP_COLUMNS, found["items"]).encode(), output)
    else:
        page = tables.page("revenue_gap.html", found=found, utility=settings.utility_name, zone=settings.zone)
        put(page.encode(), output)


def leakage(
    month: Annotated[str, typer.Argument(help="The month, e.g. 2026-01.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PDF to write.")] = Path("leakage.pdf"),
) -> None:
    """The leakage report of a month as one PDF: balances, leaks, repairs and what they saved, surveys, mains.

    Example: curbstop report leakage 2026-01 -o january.pdf
    """
    from hub.leakage import monthly  # the printing library takes a while to load

    settings = load()
    with command_transaction(settings) as session:
        written = monthly.report(session, month, settings, actor=ACTOR)
    put(written, output)


def annual_audit(
    file: Annotated[
        Path,
        typer.Argument(help="Inputs as JSON or TOML: method = …, and a table `inputs`; or CSV, one audit per line."),
    ],
    method: Annotated[str | None, typer.Option(help="easycalc, fwas_v5 or fwas_v6; default: the file's own.")] = None,
    output: OutputOption = None,
) -> None:
    """The annual M36 audit of plain inputs: balance, indicators, costs; with 95 % limits by method easycalc.

    A CSV of many audits, its columns named as the inputs, needs --method and gives a JSON list in its order.

    Example: curbstop report audit audit-2025.toml
    """
    if file.suffix.lower() == ".csv":
        put(orjson.dumps(_many_audits(file, method), option=orjson.OPT_INDENT_2) + b"\n", output)
        return
    given = _audit_file(file)
    chosen = method or given.get("method")
    if not isinstance(chosen, str):
        raise BadInput("The file names no method.", field="method", remedy=f"Use {', '.join(audit.METHODS)}.")
    inputs = given.get("inputs", {name: value for name, value in given.items() if name != "method"})
    if not isinstance(inputs, dict):
        raise BadInput("`inputs` is not a table.", field="inputs", remedy="Write [inputs] and name = value lines.")
    put(orjson.dumps(audit.audit(chosen, inputs), option=orjson.OPT_INDENT_2) + b"\n", output)


def _many_audits(file: Path, method: str | None) -> list[dict[str, Any]]:
    """Every line's audit; raises BadInput naming the first lines that are at fault, with nothing computed half."""
    if method is None:
        raise BadInput("A CSV names no method.", field="method", remedy=f"Add --method: {', '.join(audit.METHODS)}.")
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{file} cannot be read as CSV: {error}.", remedy="Save it as UTF-8 CSV.") from error
    found, faults = [], []
    for number, row in enumerate(rows, start=2):
        try:
            found.append(audit.audit(method, {name: value for name, value in row.items() if name}))
        except BadInput as refused:
            faults.append(f"line {number}: {refused.detail}")
    if faults:
        more = f" … and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise BadInput("; ".join(faults[:10]) + more, remedy="Mend these lines; nothing was written.")
    return found


def _audit_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        given = tomllib.loads(text) if file.suffix.lower() == ".toml" else orjson.loads(text)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.", remedy="Check the path.") from error
    except ValueError as error:
        raise BadInput(f"{file} is neither TOML nor JSON: {error}.", remedy="Name TOML files .toml.") from error
    if not isinstance(given, dict):
        raise BadInput(f"{file} is not a table of inputs.", remedy='Write {"method": …, "inputs": {…}}.')
    return given


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
