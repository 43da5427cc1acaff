"""`curbstop rules check`: are the rules for readings and for work well made? Reads files, writes nothing."""

from pathlib import Path
from typing import Annotated

import typer

from hub import settings
from hub.metering import validation_rules
from hub.work import catalogue, opening_rules


def register(app: typer.Typer) -> None:
    """Add the group `rules`."""
    group = typer.Typer(help="Rules that validate readings and open work from them.", no_args_is_help=True)
    group.command("check")(check)
    # a group of one command must stay a group
    group.callback()(lambda: None)
    app.add_typer(group, name="rules")


def check(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder with your own validation.toml and openings.toml.")
    ] = None,
) -> None:
    """Validate the rules, and explain every mistake with file, key and what was expected.

    Without a folder: the shipped rules, or those of CURBSTOP_RULES_DIR. A file there replaces the shipped one as a
    whole; copy it first.
    """
    configured = settings.load()
    folder = folder or configured.rules_dir
    found, mistakes = validation_rules.check(folder)
    openings, wrong = opening_rules.check(folder, catalogue.check(configured.types_dir)[0])
    for line in [*mistakes, *wrong]:
        typer.echo(line, err=True)
    if mistakes or wrong or found is None or openings is None:
        raise typer.Exit(1)
    typer.echo(f"{len(found.rule)} validation rules, no mistakes: {', '.join(rule.name for rule in found.rule)}")
    typer.echo(f"{len(openings.rule)} rules open work, no mistakes: {', '.join(rule.name for rule in openings.rule)}")
