"""The `curbstop` command: one module per group of commands, each with `register(app)`."""

import sys
from importlib import import_module

import structlog
import typer

from hub.errors import CurbstopError

# Each module with the words it answers to, so that one command does not load what the others need.
MODULES = {
    "run": ("up", "serve", "work", "ingest", "migrate", "doctor"),
    "people": ("user", "token", "crew", "source"),
    "data": ("import", "archive"),
    "readings": ("readings",),
    "report": ("report",),
    "decode": ("decode",),
    "catalogue": ("catalogue",),
    "rules": ("rules",),
    "policy": ("policy",),
    "demo": ("demo", "demo-story"),
}


def build(word: str | None = None) -> typer.Typer:
    """The command with all its groups; with a known first `word`, with the one group that answers to it."""
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
    # without a callback typer would take a group of one command for the command itself
    app.callback()(lambda: None)
    needed = [name for name, words in MODULES.items() if word in words] or list(MODULES)
    for name in needed:
        import_module(f"hub.cli.{name}").register(app)
    return app


def main() -> None:
    """Run the command; a refusal is one clear sentence on standard error and exit status 1."""
    # Standard output carries answers (a token, a report, the line that says `ready`), so what happens goes beside.
    # Tracebacks are plain: pretty ones print every local variable, secrets and customers among them, and take minutes.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except CurbstopError as error:
        remedy = error.extra.get("remedy")
        print(f"curbstop: {error.detail}{' ' + remedy if remedy else ''}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
