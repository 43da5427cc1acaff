"""`curbstop rules check`: are the rules for readings and for work well made? Reads files, writes nothing."""

from pathlib import Path
from typing import Annotated

import typer

from hub import settings
from hub.metering import validation_rules


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
    found, mistakes = validation_rules.check(folder or settings.load().rules_dir)
    for line in mistakes:
        typer.echo(line, err=True)
    if mistakes or found is None:
        raise typer.Exit(1)
    typer.echo(f"{len(found.rule)} validation rules, no mistakes: {', '.join(rule.name for rule in found.rule)}")
