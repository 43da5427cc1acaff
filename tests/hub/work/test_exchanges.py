"""Meter exchanges as crews report them: booked with both reads, told to billing, never refused."""

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from hub import clock
from hub.metering import devices, readings, watching
from hub.metering.ledger import Message
from hub.models import Device, GatewayState, Meter, MeterInstallation, Reading
from hub.work import catalogue, orders, places
from tests.hub.work.conftest import BY, Cast

ANSWERS: dict[str, Any] = {
    "code": "exchanged",
    "meter_serial": "M1",
    "reading": {"value": "1204.7", "unit": "m3"},
    "new_serial": "M2",
    "start_read": "30",
    "new_unit": "gal",
    "new_multiplier": "10",
    "new_dials": 6,
}


def exchanged(cast: Cast, **more: Any) -> Any:
    order = cast.assigned(cast.order("meter_exchange"))
    orders.complete(cast.session, order.id, by=BY, answers=ANSWERS | more, via="radio")
    cast.session.expire_all()
    return order


def test_a_report_ends_one_meter_and_begins_the_next(cast: Cast) -> None:
    session = cast.session
    devices.register(session, device="D1", meter="M1", by="test")
    order = exchanged(cast)
    assert order.status == "completed"
    spells = session.execute(
        select(MeterInstallation.serial, MeterInstallation.removed_at).order_by(MeterInstallation.serial)
    ).all()
    now = clock.now(session)
    assert [(row.serial, row.removed_at) for row in spells] == [("M1", now), ("M2", None)]
    assert places.meter_at(session, "SP1") == "M2"
    new = session.scalars(select(Meter).where(Meter.serial == "M2")).one()
    assert (new.unit, new.multiplier, new.dials) == ("gal", 10, 6)
    stands = session.execute(
        select(Meter.serial, Reading.value_m3).join(Meter, Meter.id == Reading.meter_id).order_by(Meter.serial)
    ).all()
    # the dial of the new meter counts tens of gallons
    assert [tuple(row) for row in stands] == [
        ("M1", Decimal("1204.7")),
        ("M2", Decimal("300") * Decimal("0.003785411784")),
    ]
    entry = session.scalars(select(Device).where(Device.valid_to.is_(None))).one()
    assert (entry.device, entry.meter) == ("d1", "M2")
    told = cast.message(order, "meter.exchanged")
    assert (told["old_meter"], told["new_meter"], told["account"]) == ("M1", "M2", "A1")
    assert [(read["meter"], read["value"], read["kind"]) for read in told["reads"]] == [
        ("M1", "1204.7", "final"),
        ("M2", "30", "start"),
    ]
    assert cast.exceptions() == []
    # what people read from a dial comes from no gateway
    watching.fold(session)
    assert session.scalars(select(GatewayState)).all() == []


def test_the_radio_counts_for_the_new_meter_from_then_on(cast: Cast) -> None:
    session = cast.session
    devices.register(session, device="D1", meter="M1", by="test", unit="l")
    exchanged(cast)
    at = (clock.now(session) + timedelta(minutes=5)).astimezone(UTC).isoformat()
    body = b'{"readings": [{"device": "D1", "value": 1200, "measured_at": "%s"}]}' % at.encode()
    readings.receive(session, [Message("mqtt:test", "curbstop/v1/g/readings", body, "plain")])
    newest = session.scalars(select(Reading).order_by(Reading.measured_at.desc()).limit(1)).one()
    assert newest.meter_id == session.scalars(select(Meter.id).where(Meter.serial == "M2")).one()


@pytest.mark.parametrize(
    "wrong", [{"new_serial": "M1"}, {"meter_serial": "M7"}, {"new_dials": 999_999_999}, {"new_multiplier": "0"}]
)
def test_an_exchange_that_cannot_be_booked_is_done_and_told_to_a_person(cast: Cast, wrong: dict[str, Any]) -> None:
    order = exchanged(cast, **wrong)
    assert order.status == "completed"
    assert "exchange_not_booked" in cast.exceptions()
    assert cast.session.scalars(select(MeterInstallation.serial)).all() == ["M1"]


def test_an_exchange_that_was_put_off_changes_no_meter(cast: Cast) -> None:
    order = cast.assigned(cast.order("meter_exchange"))
    orders.complete(cast.session, order.id, by=BY, answers={"code": "deferred"}, via="radio")
    assert cast.exceptions() == ["deferred"]
    assert cast.session.scalars(select(MeterInstallation.serial)).all() == ["M1"]


def test_a_type_that_exchanges_must_ask_for_the_new_meter(tmp_path: Any) -> None:
    shipped = (catalogue.SHIPPED / "meter_exchange.toml").read_text()
    (tmp_path / "meter_exchange.toml").write_text(shipped.replace('name = "new_unit"', 'name = "unit_of_dial"'))
    _, mistakes = catalogue.check(tmp_path)
    assert any("completion.exchanged.exchange" in line for line in mistakes), mistakes
