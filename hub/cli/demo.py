"""`curbstop demo`: the hub on a data folder of its own, with a simulated town living in it.

The command starts everything and keeps it running; a hidden command beside it (`demo-story`) prepares the town, fills
the months before in, lets the town's clock run, and keeps the tank's levels coming. Here, unlike in `hub.demo`, the
hub's own parts are used: people, tokens, the clock and the importers, each in a transaction of its own.
"""

import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from sqlalchemy.orm import Session

from hub import auth, clock, imports
from hub.billing import sources
from hub.cli.people import ACTOR
from hub.db import Database
from hub.demo import calendar
from hub.demo.businesstime import BusinessClock
from hub.demo.settings import FIRST_FILES, LATER_FILES, DemoSettings, write_document
from hub.errors import ConfigurationError
from hub.private import process, supervisor
from hub.private.folder import CannotStart
from hub.settings import Settings, load
from hub.work import crews

SOURCE = "ltown-billing"
CREWS = (("North", "+12025550191"), ("South", "+12025550192"), ("Harbour", "+12025550193"), ("Hill", "+12025550194"))
LOGINS = ("dispatcher", "supervisor", "analyst", "billing", "admin")
FASTEST = 3600.0
TICK_S = 2.0
STOPS_WITHIN_S = 15.0
TANK_AREA_M2 = "201.06"  # tank T1 is 16 m wide
# How the town's hub differs from one with default settings.
TOWN_SETTINGS = {
    "CURBSTOP_TIME_ZONE": calendar.TIME_ZONE,
    "CURBSTOP_CURRENCY": "EUR",
    "CURBSTOP_UNITS": "m3",
    "CURBSTOP_UTILITY_NAME": "L-Town Water",
    "CURBSTOP_PRODUCTION_COST_M3": "0.45",
    "CURBSTOP_SURVEY_COST_KM": "260",
    "CURBSTOP_ALLOW_PRIVATE_ENDPOINTS": "127.0.0.1/32",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(demo)
    app.command("demo-story", hidden=True)(demo_story)


def demo(
    port: Annotated[
        int, typer.Option(help="Port of the hub; billing and tour take free ports after it.", min=1, max=65533)
    ] = 8000,
    speed: Annotated[float, typer.Option(help="How many times faster than real the town's time runs.")] = 60.0,
    data_dir: Annotated[Path, typer.Option(help="Where the town lives; a second start goes on there.")] = Path(
        ".curbstop-demo"
    ),
) -> None:
    """Show a utility's whole day in a simulated town: billing events, crews, invoice lines, meters, lost water.

    Prints the addresses and sign-ins. Ctrl-C stops everything.

    Example: curbstop demo --port 8000 --speed 60
    """
    if not 1 <= speed <= FASTEST:
        raise ConfigurationError(f"--speed {speed:g} is out of range: choose 1 to {FASTEST:g}.")
    _own_settings(data_dir)
    settings = load()

    def on_ready(hub: supervisor.Hub) -> list[supervisor.Child]:
        folder = settings.data_dir.resolve() / "demo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        billing_port, guide_port = _free_ports(port)
        told = DemoSettings(folder, hub.address, hub.mqtt_url, SOURCE, billing_port, guide_port, os.getpid())
        with contextlib.closing(_Opened(hub.database_url)) as opened, opened.database.transaction() as session:
            clock.set_clock(session, business_at=_resume_at(session, told), rate=0)
            keys = _found(session, told)
        (folder / "story.json").unlink(missing_ok=True)
        hub.environment.update(told.environment(), CURBSTOP_DEMO_SPEED=str(speed), CURBSTOP_DEMO_TERMINAL=str(terminal))
        threading.Thread(target=_introduce, args=(hub.address, told, keys), daemon=True).start()
        parts = [supervisor.Child(name, _part(name)) for name in ("guide", "billing", "meters")]
        return [*parts, supervisor.Child("story", supervisor.command("demo-story"), inherits=[terminal])]

    with _logging_to(data_dir / "demo.log") as terminal:
        supervisor.Supervisor(settings, host="127.0.0.1", port=port, command="demo").run(on_ready)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[int]:
    """What the hub's processes log goes to a file; gives a handle on the terminal for the story's own words."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    terminal = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    try:
        yield terminal
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(log)


class _Opened:
    """A small pool that is given back at the end."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pool_size=1)

    def close(self) -> None:
        self.database.dispose()


def _own_settings(data_dir: Path) -> None:
    """Forget every setting of a real hub: the demo must never meet its database, its broker or its keys."""
    for name in [name for name in os.environ if name.startswith("CURBSTOP_")]:
        del os.environ[name]
    os.environ.update(TOWN_SETTINGS, CURBSTOP_DATA_DIR=str(data_dir))


def _part(name: str) -> list[str]:
    return [sys.executable, "-P", "-m", "hub.demo", name]


def _free_ports(port: int) -> tuple[int, int]:
    """Two free ports on loopback: those after `port`, or any."""
    with contextlib.ExitStack() as held:
        found = []
        for wanted in (port + 1, port + 2):
            try:
                listener = socket.create_server(("127.0.0.1", wanted))
            except OSError:
                listener = socket.create_server(("127.0.0.1", 0))
            held.enter_context(listener)
            found.append(int(listener.getsockname()[1]))
    return found[0], found[1]


def _found(session: Session, told: DemoSettings) -> dict[str, Any]:
    """People, tokens, crews and the billing system: made at the first start, with passwords and keys of its own."""
    path = told.folder / "keys.json"
    endpoint, balance_url = f"{told.billing_url}/hooks", f"{told.billing_url}/balance"
    if path.is_file():
        source = sources.by_name(session, SOURCE)
        source.endpoint, source.balance_url, source.parked_at = endpoint, balance_url, None
        return told.keys()
    logins = []
    for role in LOGINS:
        login = {"role": role, "email": f"{role}@l-town.example", "password": secrets.token_urlsafe(12)}
        auth.add_user(session, email=login["email"], name=f"L-Town {role}", role=role, password=login["password"])
        logins.append(login)
    trucks = []
    for name, phone in CREWS:
        crew = crews.add(session, name=name, phone=phone, by=ACTOR)
        token = auth.create_token(session, name=f"{name}'s phone", role="crew", crew_id=crew.id)
        trucks.append({"id": str(crew.id), "name": name, "token": token})
    _, secret = sources.add(
        session,
        name=SOURCE,
        adapter="standard",
        secret=None,
        endpoint=endpoint,
        balance_url=balance_url,
        by=ACTOR,
        allow_private=["127.0.0.1/32"],
    )
    keys = {
        "webhook_secret": secret,
        "dispatcher": auth.create_token(session, name="dispatcher who never sleeps", role="dispatcher"),
        "analyst": auth.create_token(session, name="tour", role="analyst"),
        "crews": trucks,
        "logins": logins,
    }
    write_document(path, keys, mode=0o600)
    return keys


def _introduce(address: str, told: DemoSettings, keys: dict[str, Any]) -> None:
    """Print where to go, once the tour answers there."""
    while not _answers(told.guide_url):
        time.sleep(0.2)
    lines = [
        "",
        "  L-Town is being prepared; everything answers already.",
        "",
        f"  Tour      {told.guide_url}    start here",
        f"  Curbstop  {address}",
        f"  Billing   {told.billing_url}    the town's billing system, with its Pay buttons",
        "",
        "  Sign in to Curbstop as",
        *(f"    {login['email']:<28}{login['password']}" for login in keys["logins"]),
        "",
        f"  Everything lives in {told.folder.parent}; Ctrl-C stops it.",
        "",
        f"ready {address}",
    ]
    typer.echo("\n".join(lines))
    sys.stdout.flush()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


# --- the story ----------------------------------------------------------------------------------------------------


def demo_story() -> None:
    """Prepare the town, fill in its past, and let its clock run. Started by `curbstop demo`."""
    settings, told = load(), DemoSettings.from_environment()
    # From here on "standard error" is the visitor's terminal, and the log stays with the hub's own processes.
    os.dup2(int(os.environ["CURBSTOP_DEMO_TERMINAL"]), 2)
    preparing = process.spawn(_part("prepare"), dies_with=signal.SIGTERM, log=2, environment=os.environ)
    if preparing.wait() != 0:
        raise CannotStart("The town could not be prepared: see above, then start the demo again.")
    story = _Story(settings, told, float(os.environ["CURBSTOP_DEMO_SPEED"]))
    story.bring_in(FIRST_FILES)
    story.begin()
    story.bring_in(LATER_FILES)
    story.go_on()


class _Story:
    """What has been brought in already, and the town's clock; kept in `state.json`, so that a second start goes on."""

    def __init__(self, settings: Settings, told: DemoSettings, speed: float) -> None:
        assert settings.database_url is not None
        self.settings = settings
        self.told = told
        self.speed = speed
        self.database = Database(settings.database_url.get_secret_value(), pool_size=2)
        self.state: dict[str, Any] = told.document("state.json", {"files": []})
        self.bars = [
            {"label": label, "done": 1 if file in self.state["files"] else 0, "total": 1}
            for _, file, label in FIRST_FILES + LATER_FILES
        ]
        self._levels_until = 0

    def bring_in(self, files: tuple[tuple[str, str, str], ...]) -> None:
        """Import each file that is not in yet, one transaction each, with a bar on the tour and on the terminal."""
        for kind, file, label in files:
            if file in self.state["files"]:
                continue
            bar = next(bar for bar in self.bars if bar["label"] == label)
            with self.database.transaction() as session:
                zone, shown = self.settings.zone, partial(self._show, bar)
                imports.run(session, kind, self.told.town / file, actor=ACTOR, zone=zone, progress=shown)
            self._show(bar, "over", 1, 1)
            typer.echo(err=True)
            self.state["files"].append(file)
            self._save()

    def _show(self, bar: dict[str, Any], step: str, done: int, total: int) -> None:
        """Rows are read, checked, staged and written; a bar is full only when the file's transaction is over."""
        shares = {"read": (0, 5), "checked": (5, 40), "staged": (45, 25), "written": (70, 25), "over": (0, 100)}
        begins, spans = shares[step]
        bar["done"], bar["total"] = begins + round(spans * done / max(total, 1)), 100
        write_document(self.told.folder / "progress.json", self.bars)
        share = bar["done"] / bar["total"]
        filled = round(share * 30)
        typer.echo(f"\r  {bar['label']:<40}[{'█' * filled}{' ' * (30 - filled)}] {share:4.0%}", err=True, nl=False)

    def begin(self) -> None:
        """Let the town's clock run: from Monday 07:30, or from where it stood when the demo was stopped."""
        if self.told.clock() is not None:
            return
        with self.database.transaction() as session:
            business_at = clock.now(session)
            clock.set_clock(session, business_at=business_at, rate=self.speed)
        running = BusinessClock(datetime.now(UTC), business_at, self.speed)
        write_document(self.told.folder / "story.json", {"clock": running.text()})
        typer.echo(
            f"  The town's clock runs from {business_at.astimezone(calendar.LOCAL):%A %d %B %Y %H:%M}.", err=True
        )

    def go_on(self) -> None:
        """Note the town's time now and then, and bring in the tank's level every hour."""
        running = self.told.clock()
        assert running is not None
        while True:
            # read anew each time: a repaired leak leaves more water in the tank
            levels = dict(enumerate(self.told.document("town/tank.json", [])))
            now = running.now()
            self.state |= {"business_at": now.isoformat(), "speed": running.rate}
            self._save()
            hour = min(int(calendar.hours_since_start(now)), len(levels) - 1)
            if hour > self._levels_until and levels:
                self._store_levels({h: levels[h] for h in levels if self._levels_until <= h <= hour})
                self._levels_until = hour
            time.sleep(TICK_S)

    def _store_levels(self, levels: dict[int, float]) -> None:
        first = int(calendar.hours_since_start(calendar.STORY))
        rows = [
            f"T1,{calendar.utc_text(calendar.at_hour(h))},{level:.3f},{TANK_AREA_M2},C"
            for h, level in levels.items()
            if h > first
        ]
        if not rows:
            return
        with tempfile.TemporaryDirectory(prefix="curbstop-tank-") as folder:
            path = Path(folder) / "tank-levels.csv"
            path.write_text("\n".join(["tank,read_at,level_m,area_m2,zone", *rows]) + "\n", encoding="utf-8")
            with self.database.transaction() as session:
                imports.run(session, "tank-levels", path, actor=ACTOR, zone=self.settings.zone)

    def _save(self) -> None:
        write_document(self.told.folder / "state.json", self.state)


def _resume_at(session: Session, told: DemoSettings) -> datetime:
    """The story's first morning, or, at a second start, just after the last instant that the town has lived.

    The clock in the database ran on while nobody lived by it; what was noted lags behind by one tick and the time it
    took to stop. So the town's time never goes back, and no night is lost to a stop.
    """
    state = told.document("state.json", {})
    if "business_at" not in state:
        return calendar.STORY
    noted = datetime.fromisoformat(state["business_at"])
    return min(noted + timedelta(seconds=STOPS_WITHIN_S * state["speed"]), max(noted, clock.now(session)))
