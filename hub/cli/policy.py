"""`curbstop policy explain ORDER`: why an order may not be cut, and when it may. Reads, writes nothing."""

from typing import Annotated

import typer

from hub import clock, settings
from hub.db import Database
from hub.private import database_for
from hub.work import in_force, policy, search


def register(app: typer.Typer) -> None:
    """Add the group `policy`."""
    group = typer.Typer(help="The shutoff policy.", no_args_is_help=True)
    group.command("explain")(explain)
    # a group of one command must stay a group
    group.callback()(lambda: None)
    app.add_typer(group, name="policy")


def explain(order: Annotated[str, typer.Argument(help="Number or id of a work order.")]) -> None:
    """Say whether the water may be turned off now, and if not: every reason with its source, and the earliest time.

    Example: curbstop policy explain WO-2026-000123
    """
    configured = settings.load()
    in_force.use(configured)
    with database_for(configured) as url, Database(url).transaction() as session:
        found = search.get(session, search.id_of(session, order)).order
        if found.type_snapshot.get("gate") != "cut":
            typer.echo(f"{found.number} ({found.type}) turns no water off; the policy does not concern it.")
            return
        decision = policy.may_cut(session, account=found.account, service_point=found.service_point, stage="start")
        now = clock.now(session).astimezone(configured.zone)
        typer.echo(f"{found.number}, account {found.account}, {now:%A %Y-%m-%d %H:%M} {configured.time_zone}")
        typer.echo(f"Policy pack: {policy.pack_name()}")
        if decision.allowed:
            typer.echo("The water may be turned off now.")
            return
        typer.echo("The water may not be turned off now:")
        for reason in decision.reasons:
            typer.echo(f"  - {reason.text} [{reason.code}]" + (f"\n    {reason.citation}" if reason.citation else ""))
        if decision.earliest_at is None:
            typer.echo("Earliest lawful time: never, unless billing or a person changes one of these facts.")
        else:
            local = decision.earliest_at.astimezone(configured.zone)
            typer.echo(f"Earliest lawful time: {local:%A %Y-%m-%d %H:%M} {configured.time_zone}")
