"""The `curbstop` command: one module per group of commands, each with `register(app)`."""

import sys
from importlib import import_module
from importlib.util import find_spec

import structlog
import typer

from hub.errors import CurbstopError

MODULES = ("run", "people", "data", "report", "decode", "catalogue", "policy", "demo")


def build() -> typer.Typer:
    """The command with all its groups."""
    app = typer.Typer(
        name="curbstop",
        help=(
            "The hub between a water utility's billing and its field work.\n\n"
            "Start with `curbstop up` on one machine without servers, or `curbstop demo` to see a town's whole day."
        ),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    for name in MODULES:
        if find_spec(f"hub.cli.{name}"):
            import_module(f"hub.cli.{name}").register(app)
    return app


def main() -> None:
    """Run the command; a refusal is one clear sentence on standard error and exit status 1."""
    # Standard output carries answers (a token, a report, the line that says `ready`), so what happens goes beside.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        build()()
    except CurbstopError as error:
        remedy = error.extra.get("remedy")
        print(f"curbstop: {error.detail}{' ' + remedy if remedy else ''}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
