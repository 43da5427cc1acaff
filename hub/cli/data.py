"""Bring files in, each in one transaction: `curbstop import <kind> FILE`, `curbstop archive restore FILE`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hub import imports
from hub.cli.people import ACTOR
from hub.cli.transaction import command_database
from hub.imports import Fault, ImportRefused, runs
from hub.metering import retention
from hub.settings import load

FileArgument = Annotated[Path, typer.Argument(help="The file; its format is recognised by its content.")]


def register(app: typer.Typer) -> None:
    """Add the group `import`."""
    group = typer.Typer(
        help="Bring files in: GeoJSON, GeoPackage, zipped Shapefile or CSV; all rows of a file or none.",
        no_args_is_help=True,
    )
    for kind, importer in imports.IMPORTERS.items():
        required = ", ".join(column.name for column in importer.columns if column.required)
        optional = ", ".join(column.name for column in importer.columns if not column.required)
        shape = " and a geometry (CSV: lon and lat, or wkt)" if importer.geometry else ""
        text = f"Import {kind.replace('-', ' ')}.\n\nRequired columns: {required}{shape}.\n\nOptional: {optional}."
        group.command(kind, help=text)(_command(kind))
    app.add_typer(group, name="import")
    archive = typer.Typer(help="Months of readings and raw messages that left the database.", no_args_is_help=True)
    archive.command("restore")(restore_archive)
    app.add_typer(archive, name="archive")


def restore_archive(file: Annotated[Path, typer.Argument(help="A Parquet file from the archive folder.")]) -> None:
    """Bring an archived month back into the database; what is there already stays as it is.

    Example: curbstop archive restore .curbstop/archive/reading_2024_01.parquet
    """
    settings = load()
    with command_database(settings) as database:
        found = retention.restore(database, file, _show_restored if sys.stderr.isatty() else None)
    what = found.table.replace("_", " ") + "s"
    months = ", ".join(f"{month:%Y-%m}" for month in found.months)
    others = "" if found.new == found.rows else "; the others were there already"
    typer.echo(f"Brought {found.new:,} of {found.rows:,} {what} of {months} back{others}.")
    if found.table == "reading":
        typer.echo("Consumption is rolled up anew by the worker.")
    name = f"retention_{found.table}_months"
    if (kept := getattr(settings, name)) is not None:
        typer.echo(
            f"CURBSTOP_{name.upper()} is {kept}: what is older leaves again within the hour. Raise it, or leave it"
            " unset, for as long as you need the month."
        )


def _show_restored(done: int, total: int) -> None:
    typer.echo(f"\r  {done:,} of {total:,} rows read".ljust(60), err=True, nl=done == total)


def _command(kind: str) -> Callable[[Path], None]:
    def run(file: FileArgument) -> None:
        settings = load()
        try:
            with command_database(settings) as database:
                size = file.stat().st_size if file.is_file() else 0
                run_id = runs.begin(database, kind, file=file.name, size=size, by=ACTOR)
                shown = _show if sys.stderr.isatty() else None
                outcome = runs.carry_out(database, run_id, file, zone=settings.zone, progress=shown)
        except ImportRefused as refused:
            _explain(refused)
            raise typer.Exit(1) from None
        typer.echo(
            f"Imported {outcome.rows:,} {kind.replace('-', ' ')}: {outcome.inserted:,} new, "
            f"{outcome.updated:,} changed, {outcome.unchanged:,} as before."
        )
        for note in outcome.notes:
            typer.echo(f"  {note}")

    return run


def _show(what: str, done: int, total: int) -> None:
    # padded, so that nothing of a longer line before it stays
    typer.echo("\r" + f"  {done:,} of {total:,} rows {what}".ljust(60), err=True, nl=done == total)


def _explain(refused: ImportRefused) -> None:
    """Every fault as one line of a table on standard error."""
    rows = [("row", "column", "value", "problem")] + [_cells(fault) for fault in refused.faults]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    count = len(refused.faults)
    typer.echo(f"curbstop: nothing was imported; {count} fault{'s' if count != 1 else ''}:", err=True)
    for row in rows:
        typer.echo(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[3]}",
            err=True,
        )
    typer.echo("Correct the named rows and import the whole file again.", err=True)


def _cells(fault: Fault) -> tuple[str, str, str, str]:
    where = "file" if fault.row is None else str(fault.row)
    return where, fault.column or "", fault.value or "", f"{fault.problem}. {fault.remedy}"
