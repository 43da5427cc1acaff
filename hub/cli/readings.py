"""`curbstop readings replay`: kept messages read again, after an adapter or a decoder has changed."""

import sys
from typing import Annotated

import typer

from hub.api.reading_shapes import moment
from hub.cli.people import ACTOR
from hub.cli.transaction import command_database
from hub.errors import BadInput
from hub.metering import decode, replays
from hub.settings import load

# Each count of an outcome and what it means.
MEANINGS = (
    ("stored", "booked that were not before"),
    ("corrected", "corrected; what they were is kept as revisions"),
    ("removed", "taken out, for their message no longer tells them; kept as revisions"),
    ("revised", "replaced, as their device revises or a unit was learnt"),
    ("duplicate", "as they stand"),
    ("conflict", "told differently while the booked one stands (value_conflict); --correct WHY revises it"),
    ("quarantined", "put aside"),
    ("unclaimed", "of devices nobody registered"),
)


def register(app: typer.Typer) -> None:
    """Add the group `readings`."""
    group = typer.Typer(help="Readings and the messages they came with.", no_args_is_help=True)
    group.command("replay")(replay)
    # a group of one command must stay a group
    group.callback()(lambda: None)
    app.add_typer(group, name="readings")


def replay(
    device: Annotated[str | None, typer.Option(help="Messages about this device.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Messages that this adapter opened.")] = None,
    reason: Annotated[str | None, typer.Option(help="Messages of which something was put aside so.")] = None,
    since: Annotated[str | None, typer.Option(help="Arrived from then on: a local day or an RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option(help="Arrived before then.")] = None,
    correct: Annotated[
        str | None,
        typer.Option(help="Why booked readings are revised where their own message now tells another value."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
) -> None:
    """Read kept messages again under today's registry, adapters and decoders.

    What could not be read before is booked, and what was put aside is settled. A booked reading is never replaced
    silently: where its message now tells another value, that is put aside as value_conflict, or, with --correct WHY,
    the reading is revised and its former state kept. What a person edited stays in any case.

    Five hundred messages are read in a transaction; stopped half way, the same command goes on with the rest.

    Examples:

    curbstop readings replay --adapter loriot --since 2026-05-01 --dry-run

    curbstop readings replay --reason no_decoder

    curbstop readings replay --device a1b2c3 --correct "the decoder took litres for cubic metres"
    """
    settings = load()
    if adapter is not None and (known := decode.adapter_name(adapter)) is None:
        raise BadInput(
            f"There is no adapter {adapter!r}.",
            field="adapter",
            remedy=f"Use one of {', '.join(decode.adapter_names())}.",
        )
    if correct is not None and not correct.strip():
        raise BadInput("It is not said why.", field="correct", remedy="Say why readings are revised.")
    chosen = replays.Chosen(
        device=device,
        adapter=None if adapter is None else known,
        reason=reason,
        since=moment(since, "since", settings.zone),
        until=moment(until, "until", settings.zone),
    )
    if chosen == replays.Chosen():
        raise BadInput("It is not said which messages.", remedy="Name --device, --adapter, --reason or --since.")
    with command_database(settings) as database:
        shown = _show if sys.stderr.isatty() else None
        outcome = replays.run(database, chosen, by=ACTOR, correct=correct, dry_run=dry_run, progress=shown)
    _tell(outcome, dry_run)


def _show(done: int, total: int) -> None:
    typer.echo(f"\r  {done:,} of {total:,} messages read again".ljust(60), err=True, nl=done == total)


def _tell(outcome: replays.Outcome, dry_run: bool) -> None:
    if not outcome.messages:
        typer.echo("No kept message is of that kind.")
        return
    head = "Nothing was changed; it would be so:" if dry_run else "Done:"
    typer.echo(f"{head} {outcome.messages:,} messages read again, {outcome.settled:,} quarantine entries settled.")
    for name, meaning in MEANINGS:
        if outcome.counts[name]:
            typer.echo(f"{outcome.counts[name]:>10,} readings {meaning}")
    for why, count in outcome.put_aside.most_common():
        typer.echo(f"{count:>20,} {why}")
    for line in outcome.told:
        typer.echo(f"  {line}")
    if len(outcome.told) == replays.TOLD:
        typer.echo("  …")
