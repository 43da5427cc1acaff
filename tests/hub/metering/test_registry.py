"""The registry told later what was true earlier: corrected profiles, exchanged meters, edited readings."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub import clock
from hub.errors import BadInput, Conflict, NotFound
from hub.metering import consumption, devices, readings, rebooking, revisions, watching
from hub.metering.exchanges import NewMeter, exchange
from hub.metering.readings import Message
from hub.models import (
    Meter,
    MeterInstallation,
    MeterReview,
    OutboundMessage,
    Quarantine,
    Reading,
    ReadingRevision,
    Rebooking,
)
from hub.work import meter_exchanges
from tests import factories

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


def cast(session: Session) -> None:
    clock.set_clock(session, business_at=NOW)
    factories.zone(session)
    factories.service_point(session, zone="Z1")
    factories.source(session, endpoint="https://billing.example.org/hook")
    factories.account(session)
    factories.meter(session)
    devices.register(session, device="D1", meter="M1", by="test", unit="l")


@pytest.fixture
def town(session: Session) -> Session:
    """Device d1 reports meter M1 at SP1, in litres as far as the registry knows."""
    cast(session)
    return session


def send(session: Session, *items: tuple[int, Any], device: str = "d1", together: bool = False, **more: Any) -> None:
    """Bare register values, so many hours ago."""
    found = [
        {"device": device, "value": value, "measured_at": (NOW - timedelta(hours=hours)).isoformat()} | more
        for hours, value in items
    ]
    bodies = [found] if together else [[one] for one in found]
    readings.receive(
        session,
        [
            Message("mqtt:test", "curbstop/v1/gw1/readings", json.dumps({"readings": b}).encode(), "plain")
            for b in bodies
        ],
    )


def rebook(session: Session) -> None:
    while rebooking.run(session) is not None:
        pass


def volumes(session: Session, serial: str) -> list[tuple[int, Decimal | None]]:
    """(hours ago, m³) of a meter's readings, oldest first."""
    session.expire_all()
    rows = session.execute(
        select(Reading.measured_at, Reading.value_m3)
        .join(Meter, Meter.id == Reading.meter_id)
        .where(Meter.serial == serial)
        .order_by(Reading.measured_at)
    )
    return [(int((NOW - at).total_seconds() // 3600), None if m3 is None else m3.normalize()) for at, m3 in rows]


def test_a_corrected_unit_books_the_readings_anew_and_keeps_what_they_were(town: Session) -> None:
    send(town, (5, 100), (4, 101))
    assert volumes(town, "M1") == [(5, Decimal("0.1")), (4, Decimal("0.101"))]
    devices.register(town, device="D1", meter="M1", by="clerk", unit="gal", valid_from=devices.ALWAYS)
    rebook(town)
    gallon = Decimal("0.003785411784")
    assert volumes(town, "M1") == [(5, (100 * gallon).normalize()), (4, (101 * gallon).normalize())]
    kept = town.scalars(select(ReadingRevision).order_by(ReadingRevision.measured_at)).all()
    assert [(one.revision, one.value, one.unit, one.value_m3, one.by) for one in kept] == [
        (1, Decimal(100), "l", Decimal("0.1"), "clerk"),
        (1, Decimal(101), "l", Decimal("0.101"), "clerk"),
    ]
    assert town.scalars(select(Quarantine.reason)).all() == []
    assert town.scalars(select(MeterReview)).one().since == NOW - timedelta(hours=5)


def test_a_device_that_states_a_wrong_unit_is_corrected_by_its_registry_entry(town: Session) -> None:
    send(town, (5, 100), (4, 101), unit="m3")
    devices.register(
        town, device="D1", meter="M1", by="x", unit="m3", multiplier=Decimal("0.1"), valid_from=devices.ALWAYS,
        config={"distrust_unit": True},
    )  # fmt: skip
    rebook(town)
    assert [m3 for _, m3 in volumes(town, "M1")] == [Decimal("1E+1"), Decimal("10.1")]
    assert town.scalar(select(func.count()).select_from(ReadingRevision)) == 2


def test_a_correction_from_a_day_on_leaves_what_was_before(town: Session) -> None:
    send(town, (30, 100), (5, 200), together=True)
    devices.register(town, device="D1", meter="M1", by="clerk", unit="m3", valid_from=NOW - timedelta(hours=10))
    rebook(town)
    assert volumes(town, "M1") == [(30, Decimal("0.1")), (5, Decimal("2E+2"))]


def test_a_correction_is_done_in_slices_by_whoever_has_time(town: Session) -> None:
    send(town, *((hours, 100 - hours) for hours in range(20, 0, -1)))
    devices.register(town, device="D1", meter="M1", by="clerk", unit="m3", valid_from=devices.ALWAYS)
    assert rebooking.run(town, limit=8) == 8
    assert town.scalar(select(func.count()).select_from(ReadingRevision)) == 8
    while rebooking.run(town, limit=8) is not None:
        pass
    assert town.scalar(select(func.count()).select_from(ReadingRevision)) == 20
    assert town.scalar(select(func.count()).select_from(Rebooking)) == 0


def test_what_a_correction_leaves_out_stays(town: Session) -> None:
    entry = devices.register(
        town, device="D1", meter="M1", by="clerk", time_zone="America/Chicago", valid_from=devices.ALWAYS
    )
    assert (entry.unit, entry.time_zone) == ("l", "America/Chicago")


def test_an_edited_reading_survives_a_correction_and_a_replay(town: Session) -> None:
    send(town, (5, 100), (4, 9999))
    revisions.edit(
        town,
        "M1",
        NOW - timedelta(hours=4),
        action="replace",
        value="101",
        unit="l",
        by="clerk",
        reason="slip of the eye",
    )
    devices.register(town, device="D1", meter="M1", by="clerk", unit="gal", valid_from=devices.ALWAYS)
    rebook(town)
    readings.replay(town, list(town.scalars(select(Reading.raw_id))))
    assert volumes(town, "M1")[1] == (4, Decimal("0.101"))
    assert town.scalars(select(Quarantine.reason)).all() == []


def test_unclaimed_messages_are_booked_when_their_device_is_registered(town: Session) -> None:
    send(town, (5, 100), device="D9")
    assert [one["device"] for one in devices.unclaimed(town)] == ["d9"]
    devices.register(town, device="D9", meter="M9", by="clerk", unit="l")
    readings.replay_device(town, "D9")
    assert volumes(town, "M9") == [(5, Decimal("0.1"))]


def exchanged(town: Session, hours: int = 10, **more: Any) -> MeterInstallation:
    return exchange(
        town, "M1", NewMeter("M2", unit="m3", dials=6), at=NOW - timedelta(hours=hours), by="crew:North", **more
    )


def test_after_an_exchange_readings_go_to_the_meter_of_their_time(town: Session) -> None:
    send(town, (30, 100_000), (12, 101_000), unit="l")
    installed = exchanged(town, final={"value": "101.2"}, start={"value": "0.5"})
    # what the radio sends after it, and what comes late from before it
    send(town, (8, 600), (11, 101_100), unit="l")
    assert [m3 for _, m3 in volumes(town, "M1")] == [100, 101, Decimal("101.1"), Decimal("101.2")]
    assert volumes(town, "M2") == [(10, Decimal("0.5")), (8, Decimal("0.6"))]
    old = town.scalars(select(MeterInstallation).where(MeterInstallation.serial == "M1")).one()
    assert (old.removed_at, installed.installed_at) == (NOW - timedelta(hours=10),) * 2
    assert installed.service_point == "SP1"


def test_an_exchange_told_late_moves_the_readings_since_to_the_new_meter(town: Session) -> None:
    send(town, (30, 100_000), (8, 600), (7, 650), unit="l")
    assert len(volumes(town, "M1")) == 3
    exchanged(town, start={"value": 0})
    rebook(town)
    assert volumes(town, "M1") == [(30, Decimal("1E+2"))]
    assert volumes(town, "M2") == [(10, 0), (8, Decimal("0.6")), (7, Decimal("0.65"))]
    assert town.scalar(select(func.count()).select_from(ReadingRevision)) == 2


def test_consumption_restarts_at_the_reads_of_the_exchange(town: Session) -> None:
    send(town, (24, 100_000), unit="l")
    exchanged(town, hours=12, final={"value": 101}, start={"value": "500"})
    send(town, (0, 501_500), unit="l")
    begins, ends = NOW - timedelta(hours=24), NOW
    used = {
        serial: consumption.of_meter(town, serial, begins=begins, ends=ends, step="month", zone=UTC)[0]  # type: ignore[arg-type]
        for serial in ("M1", "M2")
    }
    total = {serial: sum(one.volume_m3 or 0 for one in found) for serial, found in used.items()}
    assert total == {"M1": 1, "M2": Decimal("1.5")}


def test_a_new_radio_ends_the_old_one(town: Session) -> None:
    send(town, (30, 100_000), (8, 100_100), unit="l")
    exchanged(town, device="D2")
    rebook(town)
    assert volumes(town, "M1") == [(30, Decimal("1E+2"))]
    assert [one.reason for one in town.scalars(select(Quarantine))] == ["outside_validity"]
    send(town, (5, 2), device="D2", unit="m3")
    assert volumes(town, "M2") == [(5, 2)]


REFUSED: list[tuple[type[Exception], Callable[[Session], Any]]] = [
    (BadInput, lambda s: exchange(s, "M1", NewMeter("M1", unit="m3"), at=NOW, by="x")),
    (BadInput, lambda s: exchange(s, "M1", NewMeter("M2"), at=NOW, by="x")),
    (BadInput, lambda s: exchange(s, "M1", NewMeter("M2", unit="m3"), at=NOW + timedelta(days=1), by="x")),
    (BadInput, lambda s: exchange(s, "M1", NewMeter("M2", unit="furlong"), at=NOW, by="x")),
    (NotFound, lambda s: exchange(s, "M7", NewMeter("M2", unit="m3"), at=NOW, by="x")),
    (Conflict, lambda s: exchange(s, "M1", NewMeter("M2", unit="m3"), at=NOW.replace(year=2001), by="x")),
]


@pytest.mark.parametrize(("error", "call"), REFUSED)
def test_an_exchange_that_cannot_be_is_refused(
    town: Session, error: type[Exception], call: Callable[[Session], Any]
) -> None:
    with pytest.raises(error):
        call(town)


def test_a_meter_that_is_elsewhere_cannot_be_put_in(town: Session) -> None:
    factories.service_point(town, "SP2", zone="Z1", lon=0.6)
    factories.meter(town, "M2", at="SP2")
    with pytest.raises(Conflict, match="SP2"):
        exchanged(town)


def test_billing_hears_of_an_exchange_with_both_reads(town: Session) -> None:
    meter_exchanges.exchange(
        town,
        "M1",
        NewMeter("M2", unit="m3"),
        at=NOW - timedelta(hours=1),
        by="clerk",
        final={"value": "12.5", "unit": "m3"},
        start={"value": 0, "unit": "m3"},
    )
    (body,) = town.scalars(select(OutboundMessage.body).where(OutboundMessage.type == "meter.exchanged"))
    data = body["data"]
    assert (data["old_meter"], data["new_meter"], data["account"], data["service_point"]) == ("M1", "M2", "A1", "SP1")
    assert [(read["meter"], read["kind"], read["value"]) for read in data["reads"]] == [
        ("M1", "final", "12.5"),
        ("M2", "start", "0"),
    ]


def test_a_message_that_names_another_serial_than_the_registry_is_put_aside(town: Session) -> None:
    send(town, (5, 100), meter="M9")
    (entry,) = town.scalars(select(Quarantine))
    assert (entry.reason, entry.device) == ("other_serial", "d1")
    assert volumes(town, "M9") == []


def test_an_edit_keeps_the_original_and_says_who_and_why(town: Session) -> None:
    send(town, (5, 100), (4, 999), (3, 102))
    at = NOW - timedelta(hours=4)
    revisions.edit(town, "M1", at, action="reject", by="clerk", reason="a fly on the camera")
    found = revisions.edit(town, "M1", at, action="estimate", by="clerk", reason="between its neighbours")
    assert (found.value_m3, found.quality, found.flags) == (Decimal("0.101"), "estimated", ["edited"])
    before = revisions.of(town, "M1", "volume", at)
    assert [(one.revision, one.value, one.quality, one.reason) for one in before] == [
        (1, Decimal(999), "good", "a fly on the camera"),
        (2, Decimal(999), "invalid", "between its neighbours"),
    ]


def test_an_instant_without_a_reading_can_be_estimated(town: Session) -> None:
    send(town, (6, 100), (4, 104))
    made = revisions.edit(town, "M1", NOW - timedelta(hours=5), action="estimate", by="clerk", reason="for the bill")
    assert (made.value_m3, made.quality) == (Decimal("0.102"), "estimated")


@pytest.mark.parametrize(
    ("hours", "edit"),
    [
        (5, {"action": "replace"}),
        (5, {"action": "accept", "value": "5"}),
        (5, {"action": "replace", "value": "-5"}),
        (5, {"action": "replace", "value": "nan"}),
        (5, {"action": "replace", "value": "5", "unit": "furlong"}),
        (5, {"action": "replace", "value": "1e-999999999"}),
        (-1, {"action": "estimate", "value": "5"}),
        (5, {"action": "accept", "reason": "  "}),
        (9, {"action": "estimate"}),
    ],
)
def test_an_edit_that_cannot_be_is_refused(town: Session, hours: int, edit: dict[str, Any]) -> None:
    send(town, (5, 100))
    with pytest.raises(BadInput):
        revisions.edit(town, "M1", NOW - timedelta(hours=hours), **{"by": "clerk", "reason": "why", **edit})
    with pytest.raises(NotFound):
        revisions.edit(town, "M1", NOW - timedelta(hours=9), action="accept", by="clerk", reason="why")


def test_what_was_left_of_an_exchange_is_reviewed(town: Session) -> None:
    send(town, (30, 100_000), (8, 600), unit="l")
    watching.fold(town)
    town.query(MeterReview).delete()
    exchanged(town)
    rebook(town)
    watching.fold(town)
    assert town.scalar(select(func.count()).select_from(MeterReview)) == 2
