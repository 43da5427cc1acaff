"""Commands that run the hub: everything in one, the three processes on their own, the schema, and the doctor.

They wire and run; what they start opens its own transactions.
"""

import socket
from ipaddress import ip_address
from typing import Annotated

import typer
from pydantic import SecretStr
from sqlalchemy import select

from hub import migrations
from hub.cli import doctor
from hub.db import Database
from hub.errors import ConfigurationError
from hub.models import User
from hub.private import SchemaMissing, database_for, require_schema, shared_broker, shared_database, supervisor
from hub.private.folder import CannotStart
from hub.settings import Settings, load

HostOption = Annotated[str, typer.Option(help="Address to listen on; beyond loopback only with TLS.")]
PortOption = Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.", min=0, max=65535)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for verb in (up, serve, work, ingest, migrate):
        app.command()(verb)
    app.command("doctor")(doctor.doctor)


def up(host: HostOption = "127.0.0.1", port: PortOption = 8000) -> None:
    """Run everything in one: web, worker and ingest, and a database and broker where none are configured.

    Prints a line that begins with `ready` and ends on Ctrl-C or SIGTERM.

    Example: CURBSTOP_DATA_DIR=/srv/curbstop curbstop up --port 8080
    """
    settings = load()
    require_private_or_tls(settings, host)
    supervisor.Supervisor(settings, host=host, port=port).run(_say_ready)


def _say_ready(hub: supervisor.Hub) -> None:
    if not _anybody(hub.database_url):
        typer.echo("Nobody can sign in yet. Add the first person: curbstop user add YOU@EXAMPLE --role admin", err=True)
    typer.echo(f"MQTT broker: {_without_password(hub.mqtt_url)}", err=True)
    typer.echo(f"ready {hub.address}")


def _anybody(url: str) -> bool:
    database = Database(url, pool_size=1)
    try:
        with database.transaction() as session:
            return session.scalar(select(User.id).limit(1)) is not None
    finally:
        database.dispose()


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    fd: Annotated[int | None, typer.Option(hidden=True, help="An inherited listening socket.")] = None,
) -> None:
    """Run one web process. Any number may run beside each other. Prints a line that begins with `ready`.

    Example: curbstop serve --port 8001
    """
    settings = _with_database(load())
    require_private_or_tls(settings, host)
    listener = socket.socket(fileno=fd) if fd is not None else supervisor.listen(host, port)
    # Loads what the other processes do not need.
    from hub.cli import web_server

    address = supervisor.address_of(settings, host, listener)
    with listener:
        web_server.run(settings, listener, lambda: None if fd is not None else typer.echo(f"ready {address}"))


def work() -> None:
    """Run one worker: applies billing events, delivers messages, keeps schedules. Any number may run.

    Example: curbstop work
    """
    settings = _with_database(load())
    from hub import worker

    worker.run(settings)


def ingest(
    name: Annotated[str, typer.Option(help="MQTT client id; a second ingest of the same name stands by.")] = "curbstop",
    topics: Annotated[list[str] | None, typer.Option(help="Topic filter, or filter=adapter; repeat for more.")] = None,
) -> None:
    """Take meter readings from the MQTT broker.

    Example: curbstop ingest --name north --topics "curbstop/v1/north/readings"
    """
    settings = _with_broker(_with_database(load()))
    from hub import ingest as process

    process.run(settings, name, topics, on_subscribed=lambda: supervisor.tell_ready("ingest"))


def migrate() -> None:
    """Bring the schema of the database up to date.

    Example: CURBSTOP_DATABASE_URL=postgresql://hub@db.example.org/curbstop curbstop migrate
    """
    with database_for(load(), migrate=False) as url:
        supervisor.require_answer(url)
        migrations.upgrade(url)
    typer.echo(f"The schema is at {migrations.head()}.")


def require_private_or_tls(settings: Settings, host: str) -> None:
    """Raise ConfigurationError when passwords and customers' data would cross a network in the clear."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigurationError("CURBSTOP_TLS_CERT and CURBSTOP_TLS_KEY belong together: set both or neither.")
    encrypted = settings.tls_cert is not None or (settings.base_url or "").startswith("https://")
    if not encrypted and not _is_loopback(host):
        raise ConfigurationError(
            f"The hub does not listen on {host} without encryption: set CURBSTOP_TLS_CERT and CURBSTOP_TLS_KEY, or, "
            "behind a proxy that does TLS, CURBSTOP_BASE_URL=https://… to the address people type."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_database(settings: Settings) -> Settings:
    """`settings` with a database address: the configured one, or that of the hub running on the data folder.

    A process waits for a database that is away; one that was never migrated is refused, for no waiting would help.
    """
    if settings.database_url is not None:
        try:
            require_schema(settings.database_url.get_secret_value())
        except SchemaMissing:
            raise
        except CannotStart as away:
            typer.echo(f"curbstop: {away.detail} Until then this process waits.", err=True)
        return settings
    found = shared_database(settings)
    if found is None:
        raise CannotStart(
            "This process needs a database: set CURBSTOP_DATABASE_URL, or run `curbstop up`, which brings its own."
        )
    return settings.model_copy(update={"database_url": SecretStr(found)})


def _with_broker(settings: Settings) -> Settings:
    """`settings` with a broker address, likewise."""
    if settings.mqtt_url is not None:
        return settings
    found = shared_broker(settings)
    if found is None:
        raise CannotStart(
            "This process needs an MQTT broker: set CURBSTOP_MQTT_URL, or run `curbstop up`, which brings its own."
        )
    return settings.model_copy(update={"mqtt_url": SecretStr(found)})
