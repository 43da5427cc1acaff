"""A small cast for tests: zones, places, accounts, a billing source, crews; written in the caller's transaction."""

from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

from geoalchemy2.shape import from_shape
from shapely import MultiPolygon, Point, box
from sqlalchemy.orm import Session

from hub import clock
from hub.models import (
    Account,
    BillingSource,
    Crew,
    Meter,
    MeterInstallation,
    Occupancy,
    PlaceFact,
    ServicePoint,
    Zone,
)

SECRET = "whsec_Y3VyYnN0b3AtdGVzdC1zZWNyZXQtb2YtMzItYnl0ZXM="
# a corner of the Gulf of Guinea: nobody lives there
LON, LAT = 0.5, 0.5


def zone(
    session: Session, code: str = "Z1", *, name: str | None = None, west: float = 0.0, parent: str | None = None
) -> Zone:
    """A one-degree square zone whose western edge is at `west`."""
    square = MultiPolygon([box(west, 0, west + 1, 1)])
    made = Zone(
        code=code, name=name or f"Zone {code}", parent=parent, pressure_m=Decimal(45), geometry=from_shape(square, 4326)
    )
    session.add(made)
    session.flush()
    return made


def service_point(
    session: Session, id: str = "SP1", *, zone: str | None = None, lon: float = LON, lat: float = LAT, **more: object
) -> ServicePoint:
    """A residential place with its valve open, its meter in place and no lock."""
    made = ServicePoint(
        id=id,
        address=str(more.pop("address", f"{id} Main Street")),
        premise_class=more.pop("premise_class", "residential"),
        zone=zone,
        geometry=from_shape(Point(lon, lat), 4326),
        **more,
    )
    session.add(made)
    session.flush()
    built = clock.now(session) - timedelta(days=3650)
    for fact, state in (("valve", "open"), ("meter", "in_place"), ("lock", "off")):
        session.add(PlaceFact(service_point=id, fact=fact, state=state, since=built))
    session.flush()
    return made


def account(
    session: Session,
    number: str = "A1",
    *,
    at: str | None = "SP1",
    since: date = date(2020, 1, 1),
    source_id: UUID | None = None,
    name: str | None = None,
) -> Account:
    """An account, living at `at` since `since`."""
    made = Account(number=number, source_id=source_id, name=name or f"Customer {number}", phone="+15550100")
    session.add(made)
    session.flush()
    if at:
        session.add(Occupancy(account=number, service_point=at, since=since))
        session.flush()
    return made


def meter(session: Session, serial: str = "M1", *, at: str = "SP1", dials: int = 6, unit: str = "m3") -> Meter:
    """A meter in place at a service point since 2020."""
    made = Meter(serial=serial, unit=unit, dials=dials)
    session.add(made)
    session.flush()
    session.add(MeterInstallation(serial=serial, service_point=at, installed_at=clock.now(session).replace(year=2020)))
    session.flush()
    return made


def source(session: Session, name: str = "city", *, endpoint: str | None = None) -> BillingSource:
    """A billing system that signs with SECRET."""
    made = BillingSource(name=name, adapter="standard", secrets=[SECRET], endpoint=endpoint)
    session.add(made)
    session.flush()
    return made


def crew(session: Session, name: str = "North") -> Crew:
    """A crew with all skills."""
    made = Crew(name=name, phone="+15550199", skills=["shutoff", "meter"])
    session.add(made)
    session.flush()
    return made
