"""A leak from the first night in the inflow to the ledger: seen, searched, repaired, proven."""

import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from gis.bursts import Event
from hub import clock
from hub.db import raw_of
from hub.errors import BadInput, Conflict, NotFound
from hub.leakage import ledger, planning, watch
from hub.metering import partitions
from hub.models import LeakEvent, LossEntry, Main, Meter, MeterInstallation, WorkOrder
from hub.settings import Settings
from hub.work import orders
from tests import factories

START = datetime(2026, 1, 5, tzinfo=UTC)
LEAK_AT = START + timedelta(days=100, hours=7)
LEAK_M3H = 4.0
SETTINGS = Settings(production_cost_m3=Decimal("0.5"), survey_cost_km=Decimal(300), currency="EUR")


class Town:
    """One zone fed through one meter, some 20 m³/h, with a day's shape, a week's and noise."""

    def __init__(
        self, session: Session, code: str = "Z1", place: str = "SP1", west: float = 0.0, meter: str = "IN"
    ) -> None:
        self.session, self.code = session, code
        self.random = random.Random(7)
        self.until = START
        factories.zone(session, code, west=west)
        factories.service_point(session, place, zone=code, address="7 Well Street", lon=west + 0.3, lat=0.3)
        inlet = Meter(serial=meter, register="volume_interval", unit="m3")
        session.add_all([inlet, MeterInstallation(serial=meter, zone=code, direction="in", installed_at=START)])
        session.flush()
        self.meter_id = inlet.id
        self.crew = factories.crew(session, f"Crew of {code}")

    def run(
        self, until: datetime, leak: tuple[datetime, datetime] | None = (LEAK_AT, datetime.max.replace(tzinfo=UTC))
    ) -> None:
        """The meter reports every hour until then, and business time is then."""
        rows = []
        while self.until < until:
            at = self.until
            shape = 20 + 9 * math.sin((at.hour - 9) / 24 * 2 * math.pi) + (2 if at.weekday() > 4 else 0)
            flow = shape * (1 + self.random.gauss(0, 0.04)) + self.random.gauss(0, 0.2)
            if leak and leak[0] <= at < leak[1]:
                flow += LEAK_M3H
            self.until += timedelta(hours=1)
            rows.append((self.meter_id, self.until, round(flow, 3)))
        connection = raw_of(self.session)
        partitions.ensure(connection, "reading", {partitions.month_of(row[1]) for row in rows})
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, source)"
                " VALUES (%s, %s, %s, 'm3', %s, 'test')",
                [(*row, row[2]) for row in rows],
            )
        clock.set_clock(self.session, business_at=until, rate=0)

    def look(self) -> list[LeakEvent]:
        flows = watch.inflows(self.session, [self.code], SETTINGS)
        (sight,) = watch.look_over(flows, clock.now(self.session), SETTINGS)
        return watch.take_note(self.session, sight, SETTINGS)

    def order(self, kind: str) -> WorkOrder:
        found = self.session.scalars(select(WorkOrder).where(WorkOrder.type == kind).order_by(WorkOrder.id)).all()
        return found[-1]

    def done(self, order: WorkOrder, answers: dict[str, object]) -> None:
        orders.assign(self.session, order.id, crew_id=self.crew.id, by="user:d")
        orders.complete(
            self.session, order.id, by="crew", answers=answers, crew_id=self.crew.id,
            position={"lon": 0.301, "lat": 0.301, "accuracy_m": 4},
        )  # fmt: skip


@pytest.fixture
def town(session: Session) -> Town:
    return Town(session)


def test_from_the_first_night_to_the_ledger(town: Town) -> None:
    session = town.session
    town.run(LEAK_AT - timedelta(hours=5))
    assert watch.zones_due(session) == ["Z1"]
    assert town.look() == [] and watch.zones_due(session) == []

    town.run(LEAK_AT + timedelta(days=2))
    assert watch.zones_due(session) == ["Z1"]
    (event,) = town.look()
    assert (event.kind, event.status) == ("burst", "open")
    assert abs(event.onset_at - LEAK_AT) < timedelta(hours=12)
    assert event.low_m3h < LEAK_M3H < event.high_m3h
    survey = town.order("leak_survey")
    assert survey.id == event.order_id and survey.zone == "Z1" and "m³/h" in (survey.note or "")
    assert survey.details["evidence"]["value_per_day"] == pytest.approx(float(event.size_m3h) * 12, abs=0.01)

    # looked at again it is the same event, and the same order
    town.run(LEAK_AT + timedelta(days=4))
    assert town.look() == []
    assert session.scalars(select(LeakEvent)).one().id == event.id
    (listed,) = planning.dig_list(session, SETTINGS)
    assert (listed["work_order"], listed["pinpointed"], listed["street"]) == (survey.number, False, None)

    town.done(survey, {"code": "found", "surveyed_km": "2", "located_at": town.until.isoformat()})
    repair = town.order("leak_repair")
    (listed,) = planning.dig_list(session, SETTINGS)
    assert (listed["street"], listed["pinpointed"], listed["work_type"]) == ("7 Well Street", True, "leak_repair")
    stopped = LEAK_AT + timedelta(days=5, hours=2)
    town.run(stopped + timedelta(hours=1), leak=(LEAK_AT, stopped))
    town.done(
        repair,
        {
            "code": "repaired", "locate_ticket": "T1", "locate_valid_from": town.until.isoformat(), "pipe": "main",
            "flow_m3_h": "3.5", "main": "P1", "stopped_at": stopped.isoformat(),
        },
    )  # fmt: skip
    (due,) = ledger.repairs_due(session)
    assert ledger.verify(session, due, SETTINGS) is None
    town.run(stopped + timedelta(days=5), leak=(LEAK_AT, stopped))
    assert town.look() == []
    session.refresh(event)
    assert event.status == "closed" and planning.dig_list(session, SETTINGS) == []
    entry = ledger.verify(session, due, SETTINGS)
    assert entry is not None and entry.verdict == "verified" and entry.provisional and entry.event_id == event.id
    assert float(entry.drop_m3h) == pytest.approx(LEAK_M3H, abs=0.8) and entry.low_m3h > 3
    assert float(entry.lost_m3 or 0) == pytest.approx(LEAK_M3H * 122, rel=0.2)
    town.run(stopped + timedelta(days=12), leak=(LEAK_AT, stopped))
    assert ledger.verify(session, due, SETTINGS) is entry and not entry.provisional
    assert ledger.repairs_due(session) == [] and session.scalars(select(LossEntry)).one() is entry
    (shown,) = ledger.entries(session)
    # the prediction is what the crew was told, whatever the event's size became as the flow fell
    assert (shown["predicted_m3h"], shown["found_m3h"]) == (repair.details["evidence"]["size_m3h"], 3.5)
    totals = ledger.totals([shown])
    assert totals["verified"] == 1 and totals["saved_per_day"] == shown["saved_per_day"]


def test_zones_are_looked_at_together(town: Town) -> None:
    """What all zones show at once is no leak in any of them; a zone by itself cannot tell."""
    session = town.session
    towns = [town, *(Town(session, f"Z{n}", f"SP{n}", 3.0 * n, meter=f"IN{n}") for n in (2, 3))]
    for one in towns:
        one.run(LEAK_AT + timedelta(days=2), leak=None if one is town else (LEAK_AT, datetime.max.replace(tzinfo=UTC)))

    def seen(*codes: str) -> dict[str, int]:
        sights = watch.look_over(watch.inflows(session, codes, SETTINGS), clock.now(session), SETTINGS)
        return {sight.code: len(sight.events) for sight in sights}

    assert watch.zones_due(session) == ["Z1", "Z2", "Z3"]
    assert seen("Z2") == {"Z2": 1} and seen("Z1", "Z2") == {"Z1": 0, "Z2": 1}
    session.execute(
        text("UPDATE reading SET value_m3 = value_m3 + 4 WHERE meter_id = :meter AND measured_at > :at"),
        {"meter": town.meter_id, "at": LEAK_AT},
    )
    assert seen("Z1", "Z2", "Z3") == {"Z1": 0, "Z2": 0, "Z3": 0}


def test_a_dismissed_event_leads_to_no_work(town: Town) -> None:
    session = town.session
    town.run(LEAK_AT + timedelta(days=2))
    (event,) = town.look()
    survey = town.order("leak_survey")
    with pytest.raises(BadInput):
        watch.dismiss(session, event.id, by="user:d", reason=" \x00 ".replace("\x00", ""))
    watch.dismiss(session, event.id, by="user:d", reason="a pool was filled")
    assert survey.status == "cancelled" and event.status == "dismissed"
    with pytest.raises(Conflict):
        watch.dismiss(session, event.id, by="user:d", reason="again")
    town.run(LEAK_AT + timedelta(days=6))
    assert town.look() == [] and planning.dig_list(session, SETTINGS) == []
    assert session.scalar(text("SELECT count(*) FROM work_order")) == 1
    with pytest.raises(NotFound):
        watch.dismiss(session, survey.id, by="user:d", reason="no such")


def test_a_search_in_vain_is_repeated_after_a_month(town: Town) -> None:
    session = town.session
    town.run(LEAK_AT + timedelta(days=2))
    town.look()
    town.done(town.order("leak_survey"), {"code": "none_found", "surveyed_km": "5"})
    town.run(LEAK_AT + timedelta(days=12))
    town.look()
    assert session.scalar(text("SELECT count(*) FROM work_order")) == 1
    town.run(LEAK_AT + timedelta(days=40))
    town.look()
    assert session.scalar(text("SELECT count(*) FROM work_order WHERE type = 'leak_survey'")) == 2
    assert town.order("leak_survey").status == "ready"


def test_readings_corrected_later_take_an_event_back(town: Town) -> None:
    session = town.session
    town.run(LEAK_AT + timedelta(days=3))
    (event,) = town.look()
    session.execute(text("UPDATE reading SET value_m3 = value_m3 - 4 WHERE measured_at > :at"), {"at": LEAK_AT})
    assert town.look() == []
    session.refresh(event)
    assert event.status == "closed" and "withdrawn" in event.facts


def test_a_meter_that_counts_in_another_unit_for_days_is_no_leak(town: Town) -> None:
    town.run(LEAK_AT + timedelta(days=5), leak=None)
    town.session.execute(
        text("UPDATE reading SET value_m3 = value_m3 * 1000 WHERE measured_at > :begins AND measured_at < :ends"),
        {"begins": LEAK_AT, "ends": LEAK_AT + timedelta(days=2)},
    )
    assert town.look() == []


def test_a_flow_below_the_usual_is_no_leak_of_less_than_nothing(town: Town) -> None:
    at = LEAK_AT.replace(tzinfo=None)
    fallen = Event("incipient", at, at, -0.8, -1.2, 0.4, baseline_m3h=-3.0, largest_m3h=5.0, grown_at=at)
    [event] = watch._keep(town.session, "Z1", [fallen], LEAK_AT.date(), SETTINGS.zone)
    assert (event.size_m3h, event.low_m3h, event.high_m3h) == (0, 0, Decimal("0.4"))
    assert event.baseline_m3h == -3


def test_little_data_says_nothing(town: Town) -> None:
    assert town.look() == []
    town.run(START + timedelta(days=20))
    assert town.look() == [] and watch.zones_due(town.session) == []


def test_the_survey_plan_follows_the_published_formula(town: Town) -> None:
    session = town.session
    town.run(LEAK_AT + timedelta(days=2))
    plan = planning.survey_plan(session, SETTINGS)
    assert plan["zones"][0]["months_between_surveys"] is None
    (event,) = town.look()
    session.execute(
        text(
            "INSERT INTO main (id, geometry) VALUES"
            " ('P1', ST_GeomFromText('MULTILINESTRING((0.1 0.1, 0.19 0.1))', 4326))"
        )
    )
    (zone,) = planning.survey_plan(session, SETTINGS)["zones"]
    rise = float(event.size_m3h) * 24 / zone["mains_km"]
    assert zone["mains_km"] == pytest.approx(10.0, rel=0.01)
    assert zone["months_between_surveys"] == pytest.approx(math.sqrt(0.789 * (300 / 0.5) / rise))
    assert zone["budget_per_year"] == pytest.approx(12 / zone["months_between_surveys"] * zone["mains_km"] * 300)
    assert planning.survey_plan(session, Settings())["settings_missing"] == [
        "CURBSTOP_SURVEY_COST_KM", "CURBSTOP_PRODUCTION_COST_M3",
    ]  # fmt: skip


def test_mains_are_ranked_by_what_they_lost(session: Session) -> None:
    assert planning.mains_by_loss(session) == []
    town = Town(session)
    clock.set_clock(session, business_at=START + timedelta(days=10), rate=0)
    for number in (1, 2):
        session.execute(
            text(
                "INSERT INTO main (id, material, installed_on, geometry) VALUES (:id, 'PVC', :day,"
                " ST_GeomFromText(:line, 4326))"
            ),
            {"id": f"P{number}", "day": date(1970, 1, 1), "line": f"MULTILINESTRING((0.3 0.{number}, 0.4 0.{number}))"},
        )
    assert session.get(Main, "P1") is not None
    answers = {
        "code": "repaired", "locate_ticket": "T", "locate_valid_from": START.isoformat(), "pipe": "main",
        "stopped_at": (START + timedelta(days=9)).isoformat(),
    }  # fmt: skip
    for lat, named in ((0.1, None), (0.2, None), (0.5, "P2")):
        order = orders.open_order(session, type="leak_repair", by="user:d", position=(0.35, lat)).order
        town.done(order, {**answers, **({"main": named} if named else {})})
    ranked = planning.mains_by_loss(session)
    assert [(row["main"], row["breaks"]) for row in ranked] == [("P2", 2), ("P1", 1)]
