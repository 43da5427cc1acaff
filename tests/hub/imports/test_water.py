"""Meters, readings, billed volumes and tank levels."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub.metering import rebooking
from hub.metering.ledger import Message
from hub.metering.readings import receive
from hub.models import BilledConsumption, Device, Meter, MeterInstallation, Quarantine, Reading, Rebooking, TankLevel
from tests.hub.imports.conftest import Bring, Refuse


@pytest.fixture
def places(bring: Bring) -> None:
    bring("service-points", "id,address,lon,lat", "P1,a,0.5,0.5", "P2,b,0.5,0.5")
    bring(
        "zones",
        "code,name,wkt",
        'A,Upper,"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"',
        'B,Lower,"POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))"',
    )


def test_meters(session: Session, bring: Bring, places: None) -> None:
    lines = (
        "serial,service_point,zone,direction,to_zone,unit,multiplier,dials,installed_on,register,size_mm,device,decoder",
        "M1,P1,,,,Gallons,10,6,2025-06-01,,20,A0B1,plain",
        "C1,P2,,,,ccf,,4,,high,,,",
        "C1,P2,,,,ccf,,4,,low,,,",
        "Z1,,A,out,B,m3,,,,,,,",
    )
    assert bring("meters", *lines).inserted == 4
    meters = session.execute(
        select(Meter.serial, Meter.register, Meter.unit, Meter.multiplier).order_by(Meter.id)
    ).all()
    assert sorted(tuple(row) for row in meters) == [
        ("C1", "high", "ccf", 1),
        ("C1", "low", "ccf", 1),
        ("M1", "volume", "gal", 10),
        ("Z1", "volume", "m3", 1),
    ]
    device = session.scalars(select(Device)).one()
    assert (device.device, device.meter, device.decoder) == ("a0b1", "M1", "plain")
    # local midnight in Chicago, summer time
    assert device.valid_from == datetime(2025, 6, 1, 5, tzinfo=UTC)
    outcome = bring("meters", *lines)
    assert (outcome.inserted, outcome.updated, outcome.unchanged) == (0, 0, 4)
    assert bring("meters", "serial,zone,direction", "Z1,A,out").rows == 1
    assert session.scalars(select(MeterInstallation.to_zone).where(MeterInstallation.serial == "Z1")).one() == "B"
    assert len(session.scalars(select(MeterInstallation)).all()) == 3
    assert len(session.scalars(select(Device)).all()) == 1


def test_a_radio_on_another_meter_of_its_place_tells_of_an_exchange(
    session: Session, bring: Bring, places: None
) -> None:
    bring("meters", "serial,service_point,unit,device,register", "M1,P1,m3,D1,", "I1,P1,m3,,")
    bring("meters", "serial,service_point,unit,installed_on,device", "M2,P1,m3,2026-01-15,D1")
    spells = session.execute(
        select(MeterInstallation.serial, MeterInstallation.removed_at).order_by(MeterInstallation.serial)
    ).all()
    taken_out = datetime(2026, 1, 15, 6, tzinfo=UTC)
    # the second meter of the place has no part in it
    assert [tuple(row) for row in spells] == [("I1", None), ("M1", taken_out), ("M2", None)]
    entries = session.execute(
        select(Device.meter, Device.valid_from, Device.valid_to).order_by(Device.valid_from)
    ).all()
    assert [(row.meter, row.valid_to) for row in entries] == [("M1", taken_out), ("M2", None)]
    waiting = session.scalars(select(Rebooking)).one()
    assert (waiting.device, waiting.begins) == ("d1", taken_out)


def test_a_corrected_dial_books_anew_what_the_radio_sent_bare(session: Session, bring: Bring, places: None) -> None:
    bring("meters", "serial,service_point,unit,device", "M1,P1,m3,D1", "M2,P2,m3,D2")
    for number, device in enumerate(("d1", "d2")):
        body = b'{"readings": [{"device": "%s", "value": %d}]}' % (device.encode(), 700 + number)
        receive(session, [Message("mqtt:test", "curbstop/v1/g/readings", body, "plain")])
    bring("meters", "serial,service_point,unit,device", "M1,P1,m3,D1", "M2,P2,l,D2")
    assert [one.device for one in session.scalars(select(Rebooking))] == ["d2"]
    while rebooking.run(session) is not None:
        pass
    session.expire_all()
    stands = session.scalars(select(Reading.value_m3).order_by(Reading.value)).all()
    assert stands == [Decimal(700), Decimal("0.701")]


def test_a_meter_moves(session: Session, bring: Bring, refuse: Refuse, places: None) -> None:
    bring("meters", "serial,service_point,unit,device", "M1,P1,m3,D1")
    assert refuse("meters", "serial,service_point", "M1,P2")[0].problem == "is installed at P1"
    bring("meters", "serial,service_point,installed_on,device", "M1,P2,2026-01-01,D1", "M2,P1,2026-01-01,D2")
    spells = session.execute(
        select(MeterInstallation.service_point, MeterInstallation.removed_at)
        .where(MeterInstallation.serial == "M1")
        .order_by(MeterInstallation.installed_at)
    ).all()
    assert [tuple(row) for row in spells] == [("P1", datetime(2026, 1, 1, 6, tzinfo=UTC)), ("P2", None)]
    # its unit was not in the second file, and stays
    assert session.scalars(select(Meter.unit).where(Meter.serial == "M1")).one() == "m3"
    # a radio that now serves another meter ends with the former one
    bring("meters", "serial,service_point,installed_on,device", "M3,P1,2026-02-01,D2")
    served = session.execute(
        select(Device.meter, Device.valid_to).where(Device.device == "d2").order_by(Device.valid_from)
    ).all()
    assert [tuple(row) for row in served] == [("M2", datetime(2026, 2, 1, 6, tzinfo=UTC)), ("M3", None)]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("M1,,,,,,", "service_point"),
        ("M1,P1,A,in,,,", "service_point"),
        ("M1,,A,,,,", "direction"),
        ("M1,,A,sideways,,,", "direction"),
        ("M1,,A,in,A,,", "to_zone"),
        ("M1,P1,,in,,,", "direction"),
        ("M1,P9,,,,,", "service_point"),
        ("M1,,X,in,,,", "zone"),
        ("M1,,A,in,X,,", "to_zone"),
        ("M1,P1,,,,barrel,", "unit"),
        ("M1,P1,,,,,0", "dials"),
        ("M1,P1,,,,,5.5", "dials"),
    ],
)
def test_bad_meters(refuse: Refuse, places: None, line: str, column: str) -> None:
    fault = refuse("meters", "serial,service_point,zone,direction,to_zone,unit,dials", line)[0]
    assert (fault.row, fault.column) == (2, column)


def test_readings_take_the_dials_unit_or_their_own(session: Session, bring: Bring, places: None) -> None:
    bring("meters", "serial,service_point,unit,multiplier,dials", "M1,P1,gal,10,6", "M2,P2,,,")
    lines = (
        "meter,read_at,value,unit,quality",
        "M1,2026-01-01T00:00:00-06:00,100,,",
        "M1,2026-02-01,2,m3,E",
        "M2,2026-02-01,5,,",
        "M2,2026-02-01,5,,",
    )
    outcome = bring("readings", *lines)
    assert (outcome.inserted, outcome.unchanged) == (3, 1)
    assert outcome.notes == ["1 readings of meters without a unit count no cubic metres"]
    stored = session.execute(
        select(Reading.measured_at, Reading.value_m3, Reading.quality).order_by(Reading.meter_id, Reading.measured_at)
    ).all()
    assert [tuple(row) for row in stored] == [
        (datetime(2026, 1, 1, 6, tzinfo=UTC), Decimal("3.785411784"), "good"),
        (datetime(2026, 2, 1, 6, tzinfo=UTC), Decimal(2), "estimated"),
        (datetime(2026, 2, 1, 6, tzinfo=UTC), None, "good"),
    ]
    assert bring("readings", *lines).inserted == 0
    # another value for the same instant is put aside, once
    for _ in range(2):
        outcome = bring("readings", "meter,read_at,value", "M1,2026-01-01T06:00:00Z,101")
        assert outcome.notes == ["1 readings contradict stored ones and wait in quarantine"] or outcome.notes == []
    aside = session.scalars(select(Quarantine)).one()
    assert (aside.reason, aside.meter, aside.value) == ("value_conflict", "M1", "101")
    assert session.scalars(select(Reading.value).order_by(Reading.measured_at)).first() == 100


def test_bad_readings(refuse: Refuse, bring: Bring, places: None) -> None:
    bring("meters", "serial,service_point,unit", "M1,P1,m3")
    header = "meter,read_at,value,register"
    assert refuse("readings", header, "M9,2026-01-01,1,")[0].column == "meter"
    assert refuse("readings", header, "M1,2026-01-01,1,night")[0].column == "register"
    assert refuse("readings", header, "M1,2026-01-01,-1,")[0].column == "value"
    assert refuse("readings", header, "M1,2199-01-01,1,")[0].problem == "lies in the future"
    assert refuse("readings", header, "M1,noon,1,")[0].column == "read_at"
    assert refuse("readings", header, "M1,0001-01-01,1,")[0].column == "read_at"
    several = refuse("readings", header, "M9,2026-01-01,1,", "M1,2026-01-01,1,night", "M1,2199-01-01,1,")
    assert [(f.row, f.column) for f in several] == [(2, "meter"), (3, "register"), (4, "read_at")]
    assert "contradicts row 2" in refuse("readings", header, "M1,2026-01-01,1,", "M1,2026-01-01,2,")[0].problem


def test_billed_volumes_become_cubic_metres(session: Session, bring: Bring, refuse: Refuse, places: None) -> None:
    lines = (
        "service_point;from;to;volume;unit;bill;estimated",
        "P1;2026-01-01;2026-02-01;10,5;ccf;B1;yes",
        "P2;2026-01-01;2026-02-01;1000;gal;B2;",
    )
    assert bring("consumption", *lines).inserted == 2
    stored = select(BilledConsumption.volume_m3, BilledConsumption.estimated).order_by(BilledConsumption.service_point)
    assert [tuple(row) for row in session.execute(stored)] == [
        (Decimal("10.5") * Decimal("2.8316846592"), True),
        (Decimal("3.785411784"), False),
    ]
    assert bring("consumption", *lines).unchanged == 2
    header = "service_point,from,to,volume,unit,bill,replaces"
    assert bring("consumption", header, "P1,2026-01-01,2026-02-01,9,ccf,B3,B1").inserted == 1
    replaced = session.scalars(select(BilledConsumption).where(BilledConsumption.replaced_by.is_not(None))).one()
    assert replaced.bill == "B1"
    assert refuse("consumption", header, "P1,2026-02-01,2026-02-01,9,ccf,,")[0].column == "to"
    assert refuse("consumption", header, "P1,2026-01-01,2026-02-01,9,,,")[0].column == "unit"
    assert refuse("consumption", header, "P1,2026-01-01,2026-02-01,9,m3,B4,B4")[0].column == "replaces"
    assert refuse("consumption", header, "P9,2026-01-01,2026-02-01,9,m3,,")[0].column == "service_point"


def test_tank_levels(session: Session, bring: Bring, refuse: Refuse, places: None) -> None:
    lines = ("tank,read_at,level_m,area_m2,zone", "T1,2026-01-01 00:00,2.5,200,A", "T1,2026-01-01 01:00,2.6,200,A")
    assert bring("tank-levels", *lines).inserted == 2
    assert bring("tank-levels", *lines).unchanged == 2
    assert bring("tank-levels", "tank,read_at,level_m", "T1,2026-01-01 01:00,2.7").updated == 1
    level = session.scalars(select(TankLevel).where(TankLevel.level_m > Decimal("2.65"))).one()
    assert (level.area_m2, level.zone) == (200, "A")
    assert refuse("tank-levels", *lines, "T1,2026-01-01 00:00,3,200,A")[0].row == 4
    assert refuse("tank-levels", *lines[:1], "T1,2026-01-01,-1,200,A")[0].column == "level_m"
    assert refuse("tank-levels", *lines[:1], "T1,2026-01-01,1,200,Q")[0].column == "zone"


def test_an_import_leaves_one_line_in_the_log(session: Session, bring: Bring, places: None) -> None:
    bring("tank-levels", "tank,read_at,level_m", "T1,2026-01-01,2.5")
    line = session.execute(
        text("SELECT actor, verb, detail->>'inserted' FROM change ORDER BY cursor DESC LIMIT 1")
    ).one()
    assert tuple(line) == ("test", "imported", "1")
