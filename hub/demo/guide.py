"""The tour: a page that shows the town's truth beside the hub's figures, and lets the visitor take part.

Runs the crews and the dispatcher (threads), and serves pages on loopback. It asks the hub only over HTTP; the one thing
it does otherwise is what the visitor asks for by name: killing the hub's worker process with SIGKILL.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from hub.demo import calendar
from hub.demo.businesstime import BusinessClock, pause
from hub.demo.calendar import LOCAL, hours_since_start
from hub.demo.consumption import Meters, truth
from hub.demo.crews import Crew
from hub.demo.dispatcher import Dispatcher
from hub.demo.fieldwork import Visit
from hub.demo.hydraulics import ZONES, Water
from hub.demo.network import ZONE_NAMES
from hub.demo.settings import DemoSettings
from hub.demo.webpages import page, prepare

BALANCES_EVERY_S = 15.0


@dataclass
class Story:
    """What exists once the town is prepared."""

    clock: BusinessClock
    water: Water
    meters: Meters
    crews: list[Crew]
    dispatcher: Dispatcher


@dataclass
class Guide:
    """The tour's state: the story (None while the town is being prepared) and what was asked of the hub lately."""

    settings: DemoSettings
    analyst: httpx.Client
    billing: httpx.Client
    story: Story | None = None
    kills: list[tuple[datetime, int]] = field(default_factory=list)
    _balances: list[dict[str, Any]] = field(default_factory=list)

    def now(self) -> datetime:
        """The town's time; its first morning before the story begins."""
        return self.story.clock.now() if self.story else calendar.STORY

    def crew(self, name: str) -> Crew | None:
        """A crew by name."""
        return next((crew for crew in self.story.crews if crew.name == name), None) if self.story else None

    def cuts(self) -> list[dict[str, Any]]:
        """Shutoffs in crews' hands, each with the account that a payment would save."""
        if self.story is None:
            return []
        now, found = self.now(), []
        for crew in self.story.crews:
            order = crew.order()
            if order is not None and order["type"] == "shutoff":
                account = self.story.dispatcher.accounts.get(order["id"])
                found.append({"crew": crew, "order": order, "account": account, "online": crew.online(now)})
        return found

    def balances(self) -> list[dict[str, Any]]:
        """Each zone's last full month and running month, the hub's figures beside the truth, as last asked."""
        return self._balances

    def watch(self) -> None:
        """The thread that asks the hub for balances, so that no page waits for it."""
        while True:
            self._balances = [self._balance(zone, start, end) for start, end in self.periods() for zone in ZONES]
            pause(BALANCES_EVERY_S)

    def periods(self) -> list[tuple[date, date]]:
        """The last full month of the back-filled past, then the days of the running month that are over."""
        today = self.now().astimezone(LOCAL).date()
        months = [(calendar.MONTHS[1].date(), calendar.MONTHS[2].date())]
        first = calendar.MONTHS[2].date()
        if today > first:
            months.append((first, min(today, calendar.END.date())))
        return months

    def _balance(self, zone: str, start: date, end: date) -> dict[str, Any]:
        assert self.story is not None
        hours = [hours_since_start(datetime(d.year, d.month, d.day, tzinfo=LOCAL)) for d in (start, end)]
        real = truth(self.story.water, self.story.meters, *hours)[zone]
        try:
            answer = self.analyst.get(
                f"/api/v1/zones/{zone}/balance", params={"from": start.isoformat(), "to": end.isoformat()}
            )
            answer.raise_for_status()
            hub: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError):
            hub = {}
        return {"zone": zone, "name": ZONE_NAMES[zone], "from": start, "to": end, "truth": real, "hub": hub}

    def billing_totals(self) -> dict[str, Any]:
        """The billing system's counts; empty while it does not answer."""
        try:
            found: dict[str, Any] = self.billing.get("/state.json").json()
        except (httpx.HTTPError, ValueError):
            return {}
        return found

    def workers(self) -> list[int]:
        """Process ids of the hub's workers: children of its supervisor, and nobody else's."""
        return workers_of(self.settings.supervisor)

    def kill_worker(self) -> int | None:
        """SIGKILL to one worker; its process id, or None when none runs just now."""
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
            self.kills.insert(0, (self.now(), pid))
            del self.kills[8:]
            return pid
        return None

    def leaks(self) -> list[dict[str, Any]]:
        """Every leak of the simulation with its truth."""
        if self.story is None:
            return []
        now = hours_since_start(self.now())
        found = []
        for leak in self.story.water.leaks:
            flow = self.story.water.leak_m3[leak.id]
            hour = min(int(now), len(flow) - 1)
            found.append(
                {
                    "id": leak.id,
                    "zone": leak.zone,
                    "pipe": leak.pipe,
                    "kind": leak.kind,
                    "since": calendar.at_hour(leak.start_hour),
                    "until": calendar.at_hour(leak.end_hour) if leak.end_hour is not None else None,
                    "begun": leak.start_hour <= now,
                    "running": leak.start_hour <= now and (leak.end_hour is None or now < leak.end_hour),
                    "flow_m3_per_h": round(float(flow[hour]), 2),
                }
            )
        return found


def workers_of(supervisor: int) -> list[int]:
    """Children of a process that run `… -m hub.cli work`, from /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) != supervisor:
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):
            continue
        if b"hub.cli" in words and words[words.index(b"hub.cli") + 1] == b"work":
            found.append(int(entry.name))
    return found


def create_app(guide: Guide) -> FastAPI:
    """The tour's web server."""
    app = FastAPI(title="Curbstop tour", docs_url=None, redoc_url=None, openapi_url=None)
    prepare(app)
    settings = guide.settings

    def show(name: str, **values: Any) -> Response:
        links = {"hub_url": settings.hub_url, "billing_url": settings.billing_url}
        return page(name, 200, **{**links, **values, "now": guide.now(), "ready": guide.story is not None})

    @app.get("/")
    def tour(said: str = "") -> Response:
        return show(
            "tour.html",
            said=_SAID.get(said, ""),
            progress=settings.document("progress.json", []),
            logins=settings.keys()["logins"],
            billing=guide.billing_totals(),
            workers=guide.workers(),
            kills=guide.kills,
            crews=guide.story.crews if guide.story else [],
            cuts=guide.cuts(),
            balances=[entry for entry in guide.balances() if entry["from"] == calendar.MONTHS[1].date()],
        )

    @app.get("/water")
    def water() -> Response:
        return show("water.html", balances=guide.balances(), leaks=guide.leaks())

    @app.get("/truth.json")
    def truth_document() -> Response:
        return JSONResponse(_plain({"balances": guide.balances(), "leaks": guide.leaks(), "at": guide.now()}))

    @app.post("/worker/kill")
    def kill() -> Response:
        return RedirectResponse("/?said=" + ("killed" if guide.kill_worker() else "no_worker"), 303)

    _crew_routes(app, guide, show)
    return app


_SAID = {
    "killed": "The worker is dead. The supervisor starts another; what it was doing is done once, not twice.",
    "no_worker": "No worker runs at this moment; it is just being started again.",
}


def _crew_routes(app: FastAPI, guide: Guide, show: Callable[..., Response]) -> None:
    @app.get("/crews/{name}")
    def crew_page(name: str) -> Response:
        crew = guide.crew(name)
        if crew is None:
            return RedirectResponse("/", 303)
        now = guide.now()
        if crew.taken:
            with crew.lock:
                crew.synchronise(now)
        return show("crew.html", crew=crew, order=crew.order(), waiting=crew.waiting(), online=crew.online(now))

    @app.post("/crews/{name}/take-over")
    def take_over(name: str) -> Response:
        crew = guide.crew(name)
        if crew is not None:
            with crew.lock:
                crew.taken, crew.offline_until = True, None
                crew.say(guide.now(), "you are driving now")
        return RedirectResponse(f"/crews/{name}", 303)

    @app.post("/crews/{name}/give-back")
    def give_back(name: str) -> Response:
        crew = guide.crew(name)
        if crew is not None:
            with crew.lock:
                crew.taken = False
                crew.until = guide.now() + timedelta(minutes=5) if crew.current else None
                crew.say(guide.now(), "the simulation drives again")
        return RedirectResponse("/", 303)

    @app.post("/crews/{name}/do")
    def act(name: str, what: Annotated[str, Form()], order: Annotated[str, Form()] = "") -> Response:
        crew = guide.crew(name)
        if crew is not None and crew.taken:
            with crew.lock:
                _act(crew, what, order, guide.now())
        return RedirectResponse(f"/crews/{name}", 303)

    @app.post("/crews/{name}/report")
    async def report(name: str, request: Request) -> Response:
        form = {key: str(value) for key, value in (await request.form()).items()}
        crew = guide.crew(name)
        if crew is not None and crew.taken and crew.order() is not None:
            with crew.lock:
                _report(crew, form, guide.now())
        return RedirectResponse(f"/crews/{name}", 303)


def _act(crew: Crew, what: str, order: str, now: datetime) -> None:
    if what == "travel" and order in crew.phone.orders and crew.current is None:
        crew.take(order, now)
    elif what == "arrive" and crew.order() is not None:
        crew.arrived(now)
    elif what == "turn-back" and crew.order() is not None:
        crew.act("cancel_acknowledge", now)
        crew.recalled += 1
        crew._drop()
    crew.synchronise(now)


def _report(crew: Crew, form: dict[str, str], now: datetime) -> None:
    """The visitor's result: the form's own words, the rest as a careful crew would fill it in."""
    kind, _, code = form.get("result", "").partition(":")
    if kind == "unable":
        ended = Visit(False, {"code": code, "remark": form.get("remark", "")})
    elif kind == "done":
        answers = crew.answers(code, now)
        if form.get("remark"):
            answers["remark"] = form["remark"]
        if form.get("reading"):
            answers["reading"] = {"value": form["reading"].strip().replace(",", "."), "unit": "m3", "how": "visual"}
        order = crew.order()
        ended = Visit(True, answers, crew.place.pinpointed(order, code, now) if order else None)
    else:
        return
    crew.report(ended, now)
    crew.synchronise(now)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value
