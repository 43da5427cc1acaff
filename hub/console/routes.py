"""The console's pages and the small reads that only they need. Writes nothing: changes go through the JSON API."""

import mimetypes
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.staticfiles import StaticFiles

from hub.auth import Principal
from hub.console import events, meters, places, search, sign_in, work
from hub.console.pages import PageRoute, note_position, page
from hub.errors import NotFound
from hub.imports import IMPORTERS
from hub.web import Json, Tx, allow, settings_of
from hub.work import search as orders

HERE = Path(__file__).parent
OFFICE = ("admin", "supervisor", "dispatcher", "billing")
EVERYBODY = (*OFFICE, "analyst")

pages = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[Depends(note_position)])
data = APIRouter(prefix="/console", include_in_schema=False)


class Files(StaticFiles):
    """Files that a browser keeps but asks about each time: a new release shows at once, the rest costs no transfer."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Starlette's answer, to be revalidated."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount(app: FastAPI) -> None:
    """Put the console into the application: pages, sign-in, event stream and its own files."""
    mimetypes.add_type("text/javascript", ".mjs")
    mimetypes.add_type("font/woff2", ".woff2")
    for router in (sign_in.router, pages, data, events.router):
        app.include_router(router)
    app.mount("/static/console", Files(directory=HERE / "static"), name="console-static")
    app.mount("/static/vendor", Files(directory=HERE.parent / "static/vendor"), name="vendor-static")


@pages.get("/")
def show_work(request: Request, session: Tx, who: Principal = allow(*OFFICE)) -> Response:
    """Map, work list, crews and the selected order."""
    return page(request, "work.html", session=session, who=who)


@pages.get("/orders/{order_id}/ticket")
def show_ticket(request: Request, session: Tx, order_id: str, who: Principal = allow(*OFFICE)) -> Response:
    """One order on paper, to take along and to fill in by hand."""
    return page(request, "ticket.html", session=session, who=who, ticket=work.ticket(session, order_id))


@pages.get("/accounts/{number:path}")
def show_account(request: Request, session: Tx, number: str, who: Principal = allow(*OFFICE)) -> Response:
    """A customer's account: what happened, and what happens when."""
    found = places.account(session, number)
    if found is None:
        raise NotFound(f"There is no account {number}.", remedy="Look for a name or an address in the search field.")
    debt = places.debt_shown(found["facts"], settings_of(request).currency, exact=who.role != "dispatcher")
    return page(request, "account.html", session=session, who=who, account=found, debt=debt)


@pages.get("/places/{place_id:path}")
def show_place(request: Request, session: Tx, place_id: str, who: Principal = allow(*EVERYBODY)) -> Response:
    """A service point: what it is like, its meters, its work. An analyst sees no names."""
    found = places.place(session, place_id)
    if found is None:
        raise NotFound(f"There is no service point {place_id}.", remedy="Look for its address in the search field.")
    return page(request, "place.html", session=session, who=who, place=found, names=who.role != "analyst")


@pages.get("/meters/{serial:path}")
def show_meter(request: Request, session: Tx, serial: str, who: Principal = allow(*EVERYBODY)) -> Response:
    """A meter: its register and consumption, what was doubted, what it sent. An analyst sees no names."""
    found = meters.meter(session, serial)
    if found is None:
        raise NotFound(f"There is no meter {serial[:80]}.", remedy="Look for its serial in the search field.")
    return page(request, "meter.html", session=session, who=who, meter=found, names=who.role != "analyst")


@pages.get("/quarantine")
def show_quarantine(request: Request, session: Tx, who: Principal = allow(*EVERYBODY)) -> Response:
    """What of the metering needs a person: messages put aside, unknown devices, missing numbers, silent gateways."""
    return page(request, "quarantine.html", session=session, who=who)


@pages.get("/imports")
def show_imports(request: Request, session: Tx, who: Principal = allow("admin", "supervisor", "billing")) -> Response:
    """Files brought in: a form, how far each import is, and the bad rows of those refused."""
    return page(request, "imports.html", session=session, who=who, importers=IMPORTERS.values())


@pages.get("/zones")
def show_zones(request: Request, session: Tx, who: Principal = allow(*EVERYBODY)) -> Response:
    """Water supplied, billed and lost, zone by zone."""
    return page(request, "zones.html", session=session, who=who)


@pages.get("/leaks")
def show_leaks(
    request: Request, session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher", "analyst")
) -> Response:
    """Where to dig, what the flows show, what repairs saved."""
    return page(request, "leaks.html", session=session, who=who)


@pages.get("/leaks/{event_id}")
def show_leak(
    request: Request,
    session: Tx,
    event_id: UUID,
    who: Principal = allow("admin", "supervisor", "dispatcher", "analyst"),
) -> Response:
    """One leak: what was seen and why, what was done, what it saved."""
    return page(request, "leak_event.html", session=session, who=who, event_id=event_id)


@pages.get("/billing/events")
def show_inbox(request: Request, session: Tx, who: Principal = allow("admin", "supervisor", "billing")) -> Response:
    """What billing told us, and what became of it."""
    return page(request, "inbox.html", session=session, who=who)


@pages.get("/billing/messages")
def show_outbound(request: Request, session: Tx, who: Principal = allow("admin", "supervisor", "billing")) -> Response:
    """What we owe billing: delivered, waiting, parked."""
    return page(request, "outbound.html", session=session, who=who)


@data.get("/search")
def find(session: Tx, q: Annotated[str, Query(max_length=100)] = "", who: Principal = allow(*EVERYBODY)) -> Response:
    """Accounts, places, meters and orders that a few letters or digits may mean, best first."""
    return Json({"items": search.find(session, q, names=who.role != "analyst")})


@data.get("/work.geojson")
def work_on_map(
    session: Tx,
    status: str = "",
    type: str = "",
    zone: str = "",
    crew: str = "",
    account: str = "",
    q: Annotated[str, Query(max_length=100)] = "",
    who: Principal = allow(*OFFICE),
) -> Response:
    """Work orders as compact GeoJSON points, under the filters of the work list."""
    asked = {"status": status, "type": type, "zone": zone, "crew": crew, "account": account, "q": q}
    return Response(work.geojson(session, work.filters_of(asked, who)), media_type="application/geo+json")


@data.get("/load")
def load_of_crews(session: Tx, who: Principal = allow("admin", "supervisor", "dispatcher")) -> Response:
    """How many open orders each crew has, by the crew's id."""
    return Json({str(crew): count for crew, count in orders.load_of_crews(session).items()})


@data.get("/frame")
def frame(session: Tx, who: Principal = allow(*EVERYBODY)) -> Response:
    """Where the network lies: the box that maps show first, and where the names of the zones stand."""
    return Json({"bounds": work.bounds(session), "names": work.zone_names(session)})


@data.get("/near")
def near(
    session: Tx,
    lon: Annotated[float, Query(ge=-180, le=180)],
    lat: Annotated[float, Query(ge=-90, le=90)],
    who: Principal = allow(*OFFICE),
) -> Response:
    """The service point nearest to a click on the map, with who lives there."""
    return Json({"place": places.nearest(session, lon, lat)})
