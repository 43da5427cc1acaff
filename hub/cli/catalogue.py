"""`curbstop catalogue check`: are the work types and policy packs well made? Reads files, writes nothing."""

from pathlib import Path
from typing import Annotated

import typer

from hub import settings
from hub.work import catalogue


def register(app: typer.Typer) -> None:
    """Add the group `catalogue`."""
    group = typer.Typer(help="Work types and policy packs.", no_args_is_help=True)
    group.command("check")(check)
    # a group of one command must stay a group
    group.callback()(lambda: None)
    app.add_typer(group, name="catalogue")


def check(
    folder: Annotated[Path | None, typer.Argument(help="A folder with your own TOML files.")] = None,
) -> None:
    """Validate work types and packs, and explain every mistake with file, key and what was expected.

    Without a folder: the shipped ones, with those of CURBSTOP_TYPES_DIR and CURBSTOP_PACKS_DIR over them.
    """
    configured = settings.load()
    types, mistakes = catalogue.check(folder or configured.types_dir)
    for line in mistakes:
        typer.echo(line, err=True)
    if mistakes:
        raise typer.Exit(1)
    typer.echo(f"{len(types)} work types, no mistakes: {', '.join(sorted(types))}")
