"""`python -m hub.demo prepare | billing | meters | guide`: the demo's processes. `hub.demo.settings` is their contract.

`prepare` simulates the water (once; the result is kept) and writes the town's import files and billing's book. The
others run until they are told to stop.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import httpx
import uvicorn
from starlette.types import ASGIApp

from hub.demo import files
from hub.demo.billing_system import BillingSettings, Sender, create_not_yet
from hub.demo.billing_system import create_app as create_billing
from hub.demo.book import make_book
from hub.demo.businesstime import BusinessClock, pause
from hub.demo.consumption import Meters
from hub.demo.crews import Crew, Phone, work
from hub.demo.dispatcher import Dispatcher, dispatch
from hub.demo.fieldwork import Place
from hub.demo.ground import Ground
from hub.demo.guide import Guide, Story
from hub.demo.guide import create_app as create_tour
from hub.demo.hydraulics import Water, load_or_simulate
from hub.demo.ledger import Ledger
from hub.demo.meters import run as run_meters
from hub.demo.network import read_network
from hub.demo.settings import DemoSettings, write_document
from hub.demo.town import Town, build_town
from hub.demo.valves import VALVES, Valves
from hub.demo.webpages import FrontDoor

SIMULATION = "Water of three months, simulated"
TOWN = "Town: streets, customers, meters"


def main() -> None:
    """Run the process named on the command line."""
    processes: dict[str, Callable[[DemoSettings], None]] = {
        "prepare": prepare,
        "billing": billing,
        "meters": meters,
        "guide": guide,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        raise SystemExit(f"usage: python -m hub.demo {' | '.join(processes)}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    processes[sys.argv[1]](DemoSettings.from_environment())


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _town_and_water(settings: DemoSettings) -> tuple[Town, Water]:
    network = read_network()
    return build_town(network), load_or_simulate(network, settings.folder)


def prepare(settings: DemoSettings) -> None:
    """Simulate, then write the import files and the book; at once when they are there already."""
    if (settings.town / "book.json").is_file():
        return
    network = read_network()
    shown = [0.0]

    def progress(share: float) -> None:
        if share - shown[0] >= 0.02 or (share >= 1 and shown[0] < 1):
            shown[0] = share
            write_document(
                settings.folder / "progress.json", [{"label": SIMULATION, "done": round(share * 100), "total": 100}]
            )
            print(f"\r{SIMULATION}: {share:4.0%}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)

    water = load_or_simulate(network, settings.folder, progress)
    town = build_town(network)
    book = make_book(town, water)
    files.write_all(settings.town, town, water, book["debts"], set(book["late_bills"]))
    write_document(settings.town / "book.json", book)


def _wait_for_clock(settings: DemoSettings) -> BusinessClock:
    while True:
        clock = settings.clock()
        if clock is not None:
            return clock
        pause(0.3)


def billing(settings: DemoSettings) -> None:
    """The town's billing system; until the town is prepared, a page that says so."""
    door = FrontDoor(create_not_yet(settings.hub_url, settings.guide_url))
    threading.Thread(target=_open_billing, args=(settings, door), daemon=True).start()
    _serve(door, settings.billing_port)


def _open_billing(settings: DemoSettings, door: FrontDoor) -> None:
    clock, secret = _wait_for_clock(settings), settings.keys()["webhook_secret"]
    book = settings.book()
    ledger = Ledger(settings.folder / "billing.sqlite", book["currency"])
    ledger.open_book(book)
    wired = BillingSettings(settings.webhook_url, secret, clock, settings.hub_url, settings.guide_url)
    sender = Sender(ledger, wired)
    threading.Thread(target=sender.run, daemon=True).start()
    door.app = create_billing(ledger, wired, sender)


def meters(settings: DemoSettings) -> None:
    """The town's meters."""
    clock = _wait_for_clock(settings)
    town, water = _town_and_water(settings)
    registers = Meters(town, water, Valves(settings.folder / VALVES))
    run_meters(settings.mqtt_url, clock, registers, Ground(water, town.network, settings.folder))


def guide(settings: DemoSettings) -> None:
    """Crews, dispatcher and the tour's pages."""
    keys = settings.keys()
    tour = Guide(settings, _client(settings.hub_url, keys["analyst"]), _client(settings.billing_url, timeout=3))
    threading.Thread(target=_begin_story, args=(settings, tour), daemon=True).start()
    _serve(create_tour(tour), settings.guide_port)


def _begin_story(settings: DemoSettings, tour: Guide) -> None:
    clock = _wait_for_clock(settings)
    keys = settings.keys()
    town, water = _town_and_water(settings)
    valves = Valves(settings.folder / VALVES)
    registers = Meters(town, water, valves)
    doubted = {
        event["data"]["meter"]: float(event["data"]["reading"]["value"])
        for event in settings.book()["plan"]
        if event["type"].startswith("reading.")
    }
    place = Place(registers, doubted, valves, Ground(water, town.network, settings.folder))
    crews = [
        Crew(entry["id"], entry["name"], Phone(_client(settings.hub_url, entry["token"])), place)
        for entry in keys["crews"]
    ]
    robot = Dispatcher(_client(settings.hub_url, keys["dispatcher"]), crews)
    tour.story = Story(clock, water, registers, crews, robot)
    threading.Thread(target=tour.watch, daemon=True).start()
    stopping = threading.Event()
    threading.Thread(target=dispatch, args=(robot, clock.now, stopping), daemon=True).start()
    work(crews, clock.now, stopping)


def _client(url: str, token: str | None = None, timeout: float = 20) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)


def _serve(app: ASGIApp, port: int) -> None:
    uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False)
    ).run()


if __name__ == "__main__":
    main()
