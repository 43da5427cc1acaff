"""Commands for those who use the hub: users, API tokens, crews, billing systems. Each runs one transaction."""

import sys
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import auth, changes
from hub.billing import sources
from hub.cli.transaction import command_transaction
from hub.errors import BadInput
from hub.models import Crew
from hub.models.people import ROLES
from hub.settings import load
from hub.work import crews

ACTOR = "command line"
RoleOption = Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")]


def register(app: typer.Typer) -> None:
    """Add the groups `user`, `token`, `crew` and `source`."""
    user = typer.Typer(help="People who sign in to the console.", no_args_is_help=True)
    user.command("add")(add_user)
    user.command("disable")(disable_user)
    token = typer.Typer(help="Keys for programs and crews' phones.", no_args_is_help=True)
    token.command("create")(create_token)
    token.command("revoke")(revoke_token)
    crew = typer.Typer(help="Crews.", no_args_is_help=True)
    crew.command("add")(add_crew)
    source = typer.Typer(help="Billing systems.", no_args_is_help=True)
    source.command("add")(add_source)
    for name, group in (("user", user), ("token", token), ("crew", crew), ("source", source)):
        app.add_typer(group, name=name)


def add_user(
    email: Annotated[str, typer.Argument(help="The address the person signs in with.")],
    role: RoleOption,
    name: Annotated[str, typer.Option(help="How pages show the person.")] = "",
) -> None:
    """Add a person. The password is read from standard input, so it never stands in the shell's history.

    Example: curbstop user add kim@water.example --role dispatcher
    """
    auth.check_role(role)
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    with command_transaction(load()) as session:
        person = auth.add_user(session, email=email, name=name, role=role, password=password)
        changes.record(
            session, actor=ACTOR, subject_type="user", subject_id=person.email, verb="added", detail={"role": role}
        )
    typer.echo(f"Added {person.email} as {role}.")


def disable_user(email: Annotated[str, typer.Argument(help="Who may no longer sign in.")]) -> None:
    """Let a person sign in no more; their open sessions end."""
    with command_transaction(load()) as session:
        auth.disable_user(session, email)
        changes.record(session, actor=ACTOR, subject_type="user", subject_id=email, verb="disabled")
    typer.echo(f"Disabled {email}.")


def create_token(
    role: RoleOption,
    name: Annotated[str, typer.Option(help="What the token is for; shown in the change log.")],
    crew: Annotated[str | None, typer.Option(help="The crew a token of role crew acts for.")] = None,
    source: Annotated[str | None, typer.Option(help="The billing system a token of role billing acts for.")] = None,
) -> None:
    """Make an API token. It is printed once, alone on the last line, and cannot be shown again.

    Example: curbstop token create --role crew --name "North's tablet" --crew North
    """
    with command_transaction(load()) as session:
        token = auth.create_token(
            session,
            name=name,
            role=role,
            crew_id=_crew_id(session, crew) if crew else None,
            source_id=sources.by_name(session, source).id if source else None,
        )
        changes.record(
            session, actor=ACTOR, subject_type="token", subject_id=name, verb="created", detail={"role": role}
        )
    typer.echo(f"A token of role {role}; keep it, it is not shown again:", err=True)
    typer.echo(token)


def _crew_id(session: Session, name: str) -> UUID:
    crew_id = session.scalar(select(Crew.id).where(Crew.name == name))
    if crew_id is None:
        raise BadInput(
            f"There is no crew {name}.", field="crew", value=name, remedy=f'Add it: curbstop crew add "{name}".'
        )
    return crew_id


def revoke_token(prefix: Annotated[str, typer.Argument(help="The first 11 characters of the token.")]) -> None:
    """Refuse a token from now on."""
    with command_transaction(load()) as session:
        count = auth.revoke_token(session, prefix[:11])
        if not count:
            raise BadInput("No live token begins so.", field="prefix", value=prefix)
        changes.record(session, actor=ACTOR, subject_type="token", subject_id=prefix[:11], verb="revoked")
    typer.echo("Revoked.")


def add_crew(
    name: Annotated[str, typer.Argument(help="How dispatchers call the crew.")],
    phone: Annotated[str | None, typer.Option(help="Where a dispatcher reaches it by voice.")] = None,
    skill: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
) -> None:
    """Add a crew.

    Example: curbstop crew add North --phone "+1 555 0100" --skill shutoff
    """
    with command_transaction(load()) as session:
        crew = crews.add(session, name=name, phone=phone, skills=skill or [], by=ACTOR)
        typer.echo(f"Added crew {crew.name}.")


def add_source(
    name: Annotated[str, typer.Argument(help="Short name; it becomes part of the webhook address.")],
    adapter: Annotated[str, typer.Option(help="How its messages are understood.")] = "standard",
    secret: Annotated[str | None, typer.Option(help="Its signing secret (whsec_…); made when left out.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Where our messages to it go.")] = None,
    balance_url: Annotated[str | None, typer.Option(help="Where a balance can be asked for before a cut.")] = None,
) -> None:
    """Add a billing system and print how to reach the hub from it.

    Example: curbstop source add city-billing --endpoint https://billing.example.org/hooks
    """
    settings = load()
    with command_transaction(settings) as session:
        source, made = sources.add(
            session,
            name=name,
            adapter=adapter,
            secret=secret,
            endpoint=endpoint,
            balance_url=balance_url,
            by=ACTOR,
            allow_private=settings.allow_private_endpoints,
        )
    typer.echo(
        f"Added {source.name}. It sends its events to {settings.base_url or ''}/webhooks/billing/{source.name}",
        err=True,
    )
    if made:
        typer.echo("Its signing secret, shown once:", err=True)
        typer.echo(made)
