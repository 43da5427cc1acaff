"""`curbstop policy explain ORDER`: why an order may not be cut, and when it may. Reads, writes nothing."""

from typing import Annotated

import typer
from sqlalchemy.orm import Session

from hub import clock, settings
from hub.cli.transaction import command_transaction
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
    with command_transaction(configured) as session:
        lines = _explained(session, order, configured)
    typer.echo("\n".join(lines))


def _explained(session: Session, order: str, configured: settings.Settings) -> list[str]:
    found = search.get(session, search.id_of(session, order)).order
    if found.type_snapshot.get("gate") != "cut":
        return [f"{found.number} ({found.type}) turns no water off; the policy does not concern it."]
    decision = policy.may_cut(session, account=found.account, service_point=found.service_point, stage="start")
    now = clock.now(session).astimezone(configured.zone)
    lines = [
        f"{found.number}, account {found.account}, {now:%A %Y-%m-%d %H:%M} {configured.time_zone}",
        f"Policy pack: {policy.pack_name()}",
    ]
    if decision.allowed:
        return [*lines, "The water may be turned off now."]
    lines.append("The water may not be turned off now:")
    for reason in decision.reasons:
        lines.append(f"  - {reason.text} [{reason.code}]")
        if reason.citation:
            lines.append(f"    {reason.citation}")
    if decision.earliest_at is None:
        return [*lines, "Earliest lawful time: never, unless billing or a person changes one of these facts."]
    local = decision.earliest_at.astimezone(configured.zone)
    return [*lines, f"Earliest lawful time: {local:%A %Y-%m-%d %H:%M} {configured.time_zone}"]
