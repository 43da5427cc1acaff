"""`curbstop doctor`: looks at database, broker, clock, disk and configuration, and says how to mend each.

Reads only.
"""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as mqtt
import psycopg
import typer
from paho.mqtt.enums import CallbackAPIVersion

from hub import broker_url, migrations
from hub.db import psycopg_url, shown
from hub.errors import ConfigurationError, CurbstopError
from hub.private import broker, cluster, shared_broker, shared_database, supervisor
from hub.private.folder import ROOT_PLACE, prepare
from hub.settings import Settings, load

LOW_DISK_BYTES = 2 * 2**30
CLOCK_TOLERANCE_S = 2.0
OLDEST_SERVER = 130000
ANSWER_S = 10.0
# Brokers without such figures, or that do not show them, are not waited for longer.
FIGURES_S = 5.0
DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: fine, worth a thought, or broken with its remedy."""

    part: str
    state: str
    text: str


def ok(part: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(part, "ok", text)


def warn(part: str, text: str) -> Finding:
    """Works, but should be looked at."""
    return Finding(part, "warn", text)


def bad(part: str, text: str) -> Finding:
    """Does not work; the text ends with the remedy."""
    return Finding(part, "FAIL", text)


def doctor() -> None:
    """Check configuration, database, broker, clock and disk, and say how to mend each. Ends with 1 if one is broken.

    Example: curbstop doctor
    """
    failed = False
    for finding in examine():
        failed = failed or finding.state == "FAIL"
        typer.echo(f"{finding.state:<5} {finding.part:<14} {finding.text}")
    raise typer.Exit(1 if failed else 0)


def examine() -> Iterator[Finding]:
    """Everything there is to say, the configuration first: nothing else can be looked at without it."""
    try:
        settings = load()
    except CurbstopError as error:
        yield bad("configuration", error.detail)
        return
    for look in (configuration, disk, database, mqtt_broker, clock):
        yield from _looked(look, settings)


def _looked(look: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    try:
        yield from look(settings)
    except CurbstopError as error:
        yield bad(look.__name__.replace("mqtt_", ""), error.detail)


def configuration(settings: Settings) -> Iterator[Finding]:
    """Settings that load and still cannot be meant so."""
    part = "configuration"
    unknown = _unknown_variables()
    if unknown:
        yield warn(part, f"No setting is called {', '.join(unknown)}: look for a typing error in the name.")
    for name, path in (
        ("PACKS_DIR", settings.packs_dir),
        ("TYPES_DIR", settings.types_dir),
        ("RULES_DIR", settings.rules_dir),
    ):
        if path is not None and not path.is_dir():
            yield bad(part, f"CURBSTOP_{name} names {path}, which is no folder: correct it or unset it.")
    for name, path in (("TLS_CERT", settings.tls_cert), ("TLS_KEY", settings.tls_key)):
        if path is not None and not os.access(path, os.R_OK):
            yield bad(part, f"CURBSTOP_{name} names {path}, which cannot be read: correct the path or its rights.")
    if settings.time_zone == "UTC":
        yield warn(part, "CURBSTOP_TIME_ZONE is UTC: legal hours and days are counted in it; set your own zone.")
    if settings.base_url is None:
        yield ok(part, "loads; CURBSTOP_BASE_URL is unset, so the hub is for this machine alone")
    else:
        yield ok(part, f"loads; people reach the hub at {settings.base_url}")


def _unknown_variables() -> list[str]:
    known = {f"CURBSTOP_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known} | {"CURBSTOP_SAMPLES", supervisor.READY_FD}
    return sorted(name for name in os.environ if name.startswith("CURBSTOP_") and name not in known)


def disk(settings: Settings) -> Iterator[Finding]:
    """Free space where the hub writes."""
    home = prepare(settings.data_dir)
    if not os.access(home, os.W_OK):
        yield bad("disk", f"{home} cannot be written: give this user the right, or set CURBSTOP_DATA_DIR.")
    places = {home, *([ROOT_PLACE] if os.geteuid() == 0 and ROOT_PLACE.exists() else [])}
    for place in sorted(places):
        free = shutil.disk_usage(place).free
        text = f"{place}: {free / 2**30:.1f} GiB free"
        if free < cluster.RUNNING_BYTES:
            yield bad("disk", f"{text}; storage full: free some space, or move the data folder (CURBSTOP_DATA_DIR)")
        elif free < LOW_DISK_BYTES:
            yield warn("disk", f"{text}; free some before it is needed: a full disk stops the hub")
        else:
            yield ok("disk", text)


def database(settings: Settings) -> Iterator[Finding]:
    """Reachable, PostGIS present, schema up to date, the database's clock near ours."""
    if settings.database_url is not None:
        yield from _database_at(settings.database_url.get_secret_value(), "CURBSTOP_DATABASE_URL")
        return
    programs = cluster.binaries(None)
    running = shared_database(settings)
    if running is None:
        yield ok("database", f"private, not running; `curbstop up` starts it with {programs / 'postgres'}")
    else:
        socket_dir = parse_qs(urlsplit(running).query)["host"][0]
        yield from _database_at(running, f"the private cluster (psql --host {socket_dir} --username {cluster.USER})")


def _database_at(url: str, named: str) -> Iterator[Finding]:
    part = "database"
    try:
        with psycopg.connect(psycopg_url(url), connect_timeout=10, autocommit=True) as connection:
            version = connection.info.server_version
            before = datetime.now(UTC)
            row = connection.execute(
                "SELECT clock_timestamp(), current_setting('server_encoding'), "
                "(SELECT installed_version FROM pg_available_extensions WHERE name = 'postgis'), "
                "to_regclass('alembic_version') IS NOT NULL, current_setting('synchronous_commit')"
            ).fetchone()
            assert row is not None
            at, encoding, postgis, migrated, synchronous = row
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone() if migrated else None
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1]
        yield bad(part, f"{named} does not answer ({reason}): start the server, or correct the address and password.")
        return
    if version < OLDEST_SERVER:
        yield bad(part, f"PostgreSQL {version // 10000} is too old: upgrade to 15 or newer.")
    if encoding != "UTF8":
        yield bad(part, f"the database's encoding is {encoding}: create it anew with ENCODING 'UTF8'.")
    if postgis is None:
        yield bad(part, "PostGIS is missing: as a superuser, CREATE EXTENSION postgis in this database.")
    if synchronous == "off":
        yield warn(part, "synchronous_commit is off: a crash loses what was acknowledged; switch it on.")
    if revision is None or revision[0] != migrations.head():
        yield bad(part, "the schema is not up to date: run `curbstop migrate`.")
    else:
        yield ok(part, f"{named}: PostgreSQL {version // 10000}, PostGIS {postgis}, schema {revision[0]}")
    apart = abs((at - before).total_seconds())
    if apart > CLOCK_TOLERANCE_S:
        yield bad(
            "clock", f"the database's clock is {apart:.0f} s from this machine's: run a time service (NTP) on both."
        )


def mqtt_broker(settings: Settings) -> Iterator[Finding]:
    """Whether the broker takes this hub's connection."""
    named, url = "CURBSTOP_MQTT_URL", settings.mqtt_url.get_secret_value() if settings.mqtt_url else None
    if url is None:
        program = broker.binary()
        named, url = "the private broker", shared_broker(settings)
        if url is None:
            yield ok("broker", f"private, not running; `curbstop up` starts it with {program}")
            return
    dropped: list[int] = []
    refusal = connection_refused(url, dropped)
    if refusal is not None:
        yield bad("broker", f"{named} ({shown(url)}) {refusal}")
    elif dropped and dropped[-1]:
        yield warn(
            "broker",
            f"{named} ({shown(url)}) answers, and has dropped {dropped[-1]} messages since it started: its queue was "
            "full. Keep an ingest running, and ask the gateways to send the missing days again.",
        )
    else:
        yield ok("broker", f"{named} ({shown(url)}) answers")


def connection_refused(url: str, dropped: list[int] | None = None) -> str | None:
    """None when an MQTT client may connect to `url`, else why not, with the remedy.

    What the broker says it has dropped (Mosquitto tells it under $SYS, to those who may read that) goes into `dropped`.
    """
    try:
        at = broker_url.broker(url)
    except ConfigurationError as error:
        return f"cannot be used: {error.detail} {error.extra.get('remedy', '')}".rstrip()
    answer: list[str] = []
    done = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"curbstop-doctor-{os.getpid()}-{time.monotonic_ns()}")

    def connected(_client: mqtt.Client, _data: object, _flags: object, reason: object, _properties: object) -> None:
        answer.append(str(reason))
        if dropped is None or str(reason) != "Success":
            done.set()
        else:
            client.subscribe(DROPPED_TOPIC)

    def counted(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if dropped is not None and message.payload.isdigit():
            dropped.append(int(message.payload))
        done.set()

    client.on_connect = connected
    client.on_message = counted
    if at.user is not None:
        client.username_pw_set(at.user, at.password)
    if at.tls is not None:
        client.tls_set_context(at.tls)
    try:
        client.connect(at.host, at.port)
    except (OSError, socket.gaierror) as error:
        return f"does not answer ({error}): start the broker, or correct the address."
    client.loop_start()
    done.wait(ANSWER_S if dropped is None else FIGURES_S)
    client.disconnect()
    client.loop_stop()
    if not answer:
        return "takes connections and does not speak MQTT: correct the address."
    return None if answer[0] == "Success" else f"refuses us ({answer[0]}): correct user and password."


def clock(settings: Settings) -> Iterator[Finding]:
    """Whether a time service keeps this machine's clock right: signatures and permits depend on it."""
    del settings
    timedatectl = shutil.which("timedatectl")
    done = None
    if timedatectl and Path("/run/systemd/system").exists():
        words = [timedatectl, "show", "--property=NTPSynchronized", "--value"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done is None or done.returncode != 0:
        yield ok("clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; nothing here tells whether a time service runs")
    elif done.stdout.strip() == "yes":
        yield ok("clock", "a time service keeps it right")
    else:
        yield warn("clock", "no time service keeps it right: install one (apt-get install systemd-timesyncd).")
