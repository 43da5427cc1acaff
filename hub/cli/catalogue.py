"""`curbstop catalogue check`: are the work types and policy packs well made? Reads files, writes nothing."""

from pathlib import Path
from typing import Annotated

import typer

from hub import settings
from hub.work import catalogue, policy_packs


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

    Without a folder: the shipped ones, with those of CURBSTOP_TYPES_DIR and CURBSTOP_PACKS_DIR over them. Packs of a
    folder are looked for in its sub-folder `packs`.
    """
    configured = settings.load()
    packs_at = folder / "packs" if folder and (folder / "packs").is_dir() else configured.packs_dir
    types, mistakes = catalogue.check(folder or configured.types_dir)
    packs, wrong = policy_packs.check(packs_at)
    for line in [*mistakes, *wrong]:
        typer.echo(line, err=True)
    if mistakes or wrong:
        raise typer.Exit(1)
    typer.echo(f"{len(types)} work types, no mistakes: {', '.join(sorted(types))}")
    typer.echo(f"{len(packs)} policy packs, no mistakes: {', '.join(sorted(packs))}")
