"""The pipeline from messages to readings: each stored once, the first value stands, nothing is lost or guessed."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hub import clock
from hub.metering import devices, lookups, readings
from hub.metering.readings import Batch, Message
from hub.models import Change, Meter, Quarantine, RawMessage, Reading

NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


@pytest.fixture
def town(session: Session) -> Session:
    """Business time is a Monday morning; device d1 reports meter M1 in m³, six dials."""
    clock.set_clock(session, business_at=NOW)
    session.add(Meter(serial="M1", unit="m3", dials=6))
    session.flush()
    devices.register(session, device="D1", meter="M1", by="test")
    return session


def plain(*items: dict[str, Any], topic: str = "curbstop/v1/gw1/readings", **more: Any) -> Message:
    return Message("mqtt:test", topic, json.dumps({"readings": items}).encode(), "plain", **more)


def item(value: Any, at: datetime | None = NOW, device: str = "d1", **more: Any) -> dict[str, Any]:
    found = {"device": device, "value": value, "unit": "m3"} | more
    return found | ({"measured_at": at.isoformat()} if at else {})


def stored(session: Session) -> list[Reading]:
    session.expire_all()
    return list(session.scalars(select(Reading).order_by(Reading.meter_id, Reading.measured_at)))


def outcomes(batch: Batch) -> list[tuple[str, str | None]]:
    return [(result.outcome, result.reason) for results in batch.results for result in results]


def quarantined(session: Session) -> list[tuple[str, str | None]]:
    rows = session.scalars(select(Quarantine).where(Quarantine.resolved_at.is_(None)).order_by(Quarantine.id))
    return [(row.reason, row.value) for row in rows]


def test_a_reading_is_stored_with_what_it_said_and_its_raw_message(town: Session) -> None:
    batch = readings.receive(town, [plain(item("123.456", seq=7))])
    assert outcomes(batch) == [("stored", None)]
    (reading,) = stored(town)
    assert (reading.value, reading.unit, reading.value_m3) == (Decimal("123.456"), "m3", Decimal("123.456"))
    assert (reading.quality, reading.flags, reading.time_source, reading.seq) == ("good", [], "meter", 7)
    raw = town.scalars(select(RawMessage).where(RawMessage.id == reading.raw_id)).one()
    assert (raw.device, raw.disposition) == ("d1", "readings")
    assert json.loads(raw.payload)["readings"][0]["value"] == "123.456"


HARD: list[tuple[str, str, bytes]] = [
    ("ai_on_the_edge", "pit/main/json", b'{"value": "", "error": "no\\ud800 error"}'),
    ("rtlamr", "m/output", b'{"Protocol": "R900", "Type": "Water", "ID": "d1", "Consumption": 5, "Unit": "f\\ud800"}'),
    ("wmbusmeters", "wmbusmeters/d1", b'{"id": "d1", "error": "key \\u0000\\ud800"}'),
    ("headend_export", "h/x", b'{"accountId": "A", "registerSerial": "5\\ud800", "device": {"deviceId": "d1"}}'),
    ("headend_export", "h/x", b"Meter_ID,Read,Read_Time,Read_Unit,Account_ID\nd1,5,2026-05-04 09:00Z,m3,a\x00b\n"),
    ("senml", "any", b'[{"bn": "/3424/0/", "n": "4", "v": 1E+9912500}]'),
    ("senml", "any", b'[{"bn": "urn:dev:mac:01/", "n": "w\\ud800", "u": "m3", "v": 5}]'),
    ("rtl433", "r", b'{"model": "ERT-SCM", "id": "d1", "ert_type": 11, "consumption_data": "0x' + b"f" * 300 + b'"}'),
]  # fmt: skip


def test_what_no_database_takes_is_kept_and_never_stumbled_over(town: Session) -> None:
    uplink = {"deviceInfo": {"devEui": "0102030405060708", "deviceName": "\ud800"}, "fCnt": -(10**30), "object": {}}
    numbered = json.dumps(uplink).encode()
    hard = [*HARD, ("chirpstack_v4", "application/1/device/0102030405060708/event/up", numbered)]
    batch = readings.receive(town, [Message("mqtt:test", topic, body, adapter) for adapter, topic, body in hard])
    assert len(batch.dispositions) == len(hard)
    town.flush()
    reasons = set(town.scalars(select(RawMessage.reason))) | set(town.scalars(select(Quarantine.reason)))
    assert not reasons & {"adapter_error", "decoder_error", "pipeline_error"}


def test_a_topic_beyond_any_device_is_put_aside_unread(town: Session) -> None:
    topic = "tele/" * 13_000
    batch = readings.receive(town, [Message("mqtt:test", topic, b'{"COUNTER": {"C1": 5}}', None)])
    assert (batch.dispositions, quarantined(town)) == (["quarantine"], [("topic_too_long", None)])
    assert town.scalars(select(RawMessage.topic)).one() == topic


def test_the_same_value_again_is_counted_once_per_message(town: Session) -> None:
    readings.receive(town, [plain(item(1)), plain(item("1.000"))])
    batch = readings.receive(town, [plain(item(1000, unit="l"))])
    assert outcomes(batch) == [("duplicate", None)]
    (reading,) = stored(town)
    assert (reading.value, reading.repeats) == (Decimal(1), 2)


def test_another_value_for_the_same_instant_is_put_aside_and_the_first_stands(town: Session) -> None:
    readings.receive(town, [plain(item(1))])
    batch = readings.receive(town, [plain(item(999), item(2, NOW - timedelta(hours=1)))])
    assert outcomes(batch) == [("quarantined", "value_conflict"), ("stored", None)]
    assert [row.value for row in stored(town)] == [Decimal(2), Decimal(1)]
    assert quarantined(town) == [("value_conflict", "999")]


def test_two_values_for_one_instant_in_one_batch_keep_the_first(town: Session) -> None:
    batch = readings.receive(town, [plain(item(5), item(6), item(5))])
    assert outcomes(batch) == [("stored", None), ("quarantined", "value_conflict"), ("duplicate", None)]
    assert [(row.value, row.repeats) for row in stored(town)] == [(Decimal(5), 0)]


def test_a_revising_device_replaces_its_value_and_the_former_is_kept(town: Session) -> None:
    devices.register(town, device="rev", meter="M2", unit="m3", revising=True, by="test")
    readings.receive(town, [plain(item(1, device="rev"))])
    batch = readings.receive(town, [plain(item(2, device="rev"))])
    assert outcomes(batch) == [("revised", None)]
    assert [row.value for row in stored(town)] == [Decimal(2)]
    former = town.scalars(select(Quarantine).where(Quarantine.reason == "revised")).one()
    assert (former.value, former.resolution) == ("1", "superseded")


@pytest.mark.parametrize(
    "wrong", [b"not json", b'{"readings":[{"value":NaN}]}', b'{"a":1,"a":2}', b"\xff\xfe", b"", b"[]", b"[" * 5000]
)
def test_a_message_that_cannot_be_read_is_kept_byte_for_byte(town: Session, wrong: bytes) -> None:
    batch = readings.receive(town, [Message("mqtt:test", "curbstop/v1/gw1/readings", wrong, "plain"), plain(item(1))])
    assert batch.dispositions == ["quarantine", "readings"]
    assert len(stored(town)) == 1
    entry = town.scalars(select(Quarantine)).one()
    assert town.scalars(select(RawMessage.payload).where(RawMessage.id == entry.raw_id)).one() == wrong


def test_a_payload_beyond_the_limit_is_put_aside(town: Session) -> None:
    batch = readings.receive(town, [plain(item(1, note="x" * 300_000))])
    assert batch.dispositions == ["quarantine"]
    assert quarantined(town) == [("too_large", None)]


@pytest.mark.parametrize(
    ("item_given", "reason"),
    [
        (item(-5), "negative_value"),
        (item(None), "no_value"),
        (item(""), "no_value"),
        (item("nan"), "not_a_number"),
        (item(True), "not_a_number"),
        (item("1e40"), "out_of_range"),
        (item(1) | {"measured_at": "2026-05-04T10:00:00"}, "time_without_offset"),
        (item(1) | {"measured_at": "2026-13-45T10:00:00Z"}, "bad_time"),
        (item(1, device="\x00"), "bad_field"),
        (item(1, device="\ud800"), "bad_field"),
        (item(1, seq="x"), "bad_field"),
        ({"value": 1}, "no_device"),
        ("text", "bad_field"),
    ],
)
def test_one_bad_item_does_not_spoil_the_others(town: Session, item_given: Any, reason: str) -> None:
    batch = readings.receive(town, [plain(item(1), item_given, item(2, NOW - timedelta(hours=1)))])
    assert outcomes(batch) == [("stored", None), ("quarantined", reason), ("stored", None)]
    assert [reason_kept for reason_kept, _ in quarantined(town)] == [reason]


def test_a_clock_that_runs_ahead_is_stored_at_its_arrival_and_suspect(town: Session) -> None:
    ahead = plain(item(124, NOW + timedelta(days=2)))
    readings.receive(town, [ahead])
    again = readings.receive(town, [ahead])
    (reading,) = stored(town)
    assert reading.quality == "suspect"
    assert set(reading.flags) == {"q:clock_suspect", "clock_ahead"}
    assert reading.claimed_at == NOW + timedelta(days=2)
    assert reading.time_source == "receipt"
    assert abs(reading.measured_at - NOW) < timedelta(minutes=5)
    assert outcomes(again) == [("duplicate", None)]


def test_old_readings_are_suspect_live_and_welcome_from_an_import(town: Session) -> None:
    old = NOW - timedelta(days=500)
    readings.receive(town, [plain(item(1, old))])
    readings.receive(town, [plain(item(1, old))], live=False)
    first, second = stored(town)
    assert (first.measured_at, first.quality) == (old, "good")
    assert (second.claimed_at, second.flags) == (old, ["q:clock_suspect", "clock_behind"])


def test_a_unit_is_never_guessed(town: Session) -> None:
    devices.register(town, device="bare", meter="M3", by="test")
    batch = readings.receive(
        town, [plain(item(5, device="bare", unit=None), item(6, NOW - timedelta(hours=1), unit="furlong"))]
    )
    assert outcomes(batch) == [("stored", None), ("stored", None)]
    assert {(row.value, row.value_m3, tuple(row.flags)) for row in stored(town)} == {
        (Decimal(5), None, ("q:unit_unknown",)),
        (Decimal(6), None, ("q:unit_unknown",)),
    }


def test_a_unit_learnt_later_books_the_kept_register_on_replay(town: Session) -> None:
    devices.register(town, device="bare", meter="M3", by="test", unit=None)
    readings.receive(town, [plain(item(5, device="bare", unit=None))])
    devices.register(
        town, device="bare", meter="M3", by="test", unit="gal", multiplier=Decimal(10), valid_from=devices.ALWAYS
    )
    (before,) = stored(town)
    readings.replay(town, [before.raw_id or 0])
    (after,) = stored(town)
    assert (after.value, after.unit, after.value_m3) == (Decimal(5), "gal", Decimal("0.18927058920"))


def test_messages_of_unregistered_devices_wait_and_are_booked_after_registration(town: Session) -> None:
    batch = readings.receive(
        town, [plain(item(1, device="New-1")), plain(item(2, device="new-1", at=NOW - timedelta(hours=1)), item(9))]
    )
    assert [outcome for outcome, _ in outcomes(batch)] == ["unclaimed", "unclaimed", "stored"]
    assert [(row["device"], row["messages"]) for row in devices.unclaimed(town)] == [("new-1", 1)]
    devices.register(town, device="NEW-1", meter="M9", unit="m3", by="test")
    replayed = readings.replay_device(town, "New-1")
    assert replayed.count("stored") == 2
    assert [row.value for row in stored(town)] == [Decimal(9), Decimal(2), Decimal(1)]
    assert stored(town)[0].repeats == 0
    assert devices.unclaimed(town) == []
    assert readings.replay_device(town, "new-1").results == []


def test_devices_registered_by_an_import_are_claimed_by_the_next_tick(town: Session) -> None:
    readings.receive(town, [plain(item(1, device="later"))])
    town.execute(
        text(
            "INSERT INTO device (id, device, meter, valid_from)"
            " VALUES (gen_random_uuid(), 'later', 'M1', '1900-01-01Z')"
        )
    )
    assert readings.replay_claimed(town) == 1
    assert readings.replay_claimed(town) == 0
    assert len(stored(town)) == 1


def test_what_the_broker_delivers_again_is_kept_once(town: Session) -> None:
    poison = Message("mqtt:test", "curbstop/v1/gw1/readings", b"poison", "plain")
    readings.receive(town, [plain(item(1, None), received=time.monotonic() - 60), poison])
    poison.redelivered = True
    batch = readings.receive(
        town, [plain(item(1, None), redelivered=True), poison, plain(item(2, None), redelivered=True)]
    )
    assert batch.dispositions == ["repeated", "repeated", "readings"]
    assert [row.value for row in stored(town)] == [Decimal(1), Decimal(2)]
    assert len(quarantined(town)) == 1
    assert len(list(town.scalars(select(RawMessage.id)))) == 3


def test_a_retained_message_counts_only_with_its_own_time(town: Session) -> None:
    readings.receive(town, [plain(item(1))])
    batch = readings.receive(town, [plain(item(1), retained=True), plain(item(1, None), retained=True)])
    assert batch.dispositions == ["repeated", "quarantine"]
    assert quarantined(town) == [("retained_without_time", "1")]
    assert len(stored(town)) == 1


def test_a_gateway_cannot_speak_for_a_device_bound_to_another(town: Session) -> None:
    devices.register(town, device="bound", meter="M4", unit="m3", gateway="gw1", by="test")
    theirs = plain(item(1, device="bound"))
    forged = plain(item(2, NOW - timedelta(hours=1), device="bound"), topic="curbstop/v1/gw2/readings")
    batch = readings.receive(town, [theirs, forged])
    assert outcomes(batch) == [("stored", None), ("quarantined", "wrong_gateway")]
    event = town.scalars(select(Change).where(Change.verb == "impersonated")).one()
    assert (event.actor, event.subject_id) == ("gateway:gw2", "bound")


def test_a_device_moved_to_another_meter_books_by_the_time_of_measurement(town: Session) -> None:
    moved = NOW - timedelta(days=10)
    devices.register(town, device="d1", meter="M5", unit="m3", valid_from=moved, by="test")
    readings.receive(town, [plain(item(100, moved - timedelta(hours=1)), item(0, moved), item(1))])
    serials = dict(town.execute(select(Meter.id, Meter.serial)).all())
    assert [(serials[row.meter_id], row.value) for row in stored(town)] == [("M1", 100), ("M5", 0), ("M5", 1)]


def test_a_meter_may_be_named_by_serial_and_side_registers_are_made(town: Session) -> None:
    direct = {"meter": "M1", "value": 3, "unit": "m3", "measured_at": NOW.isoformat()}
    batch = readings.receive(town, [plain(direct, item("0.1", register="volume_reverse"), item(1, register="low"))])
    assert outcomes(batch) == [("stored", None), ("stored", None), ("quarantined", "unknown_register")]
    registers = dict(town.execute(select(Meter.register, Meter.id).where(Meter.serial == "M1")).all())
    assert set(registers) == {"volume", "volume_reverse"}


def test_replay_keeps_the_entry_of_what_still_cannot_be_trusted(town: Session) -> None:
    readings.receive(town, [plain(item(-1), item("x", NOW - timedelta(hours=1)))])
    before = sorted(town.scalars(select(Quarantine.id)))
    raw_id = town.scalars(select(RawMessage.id)).one()
    readings.replay(town, [raw_id])
    assert sorted(town.scalars(select(Quarantine.id).where(Quarantine.resolved_at.is_(None)))) == before


def test_partitions_are_made_for_any_month(town: Session) -> None:
    dates = [datetime(year, 3, 1, tzinfo=UTC) for year in (1999, 2011, 2026)]
    batch = readings.receive(town, [plain(*(item(n, at) for n, at in enumerate(dates)))], live=False)
    assert batch.count("stored") == 3
    assert [row.measured_at for row in stored(town)] == dates


def test_a_device_may_be_registered_by_the_other_name_its_network_gives_it(town: Session) -> None:
    devices.register(town, device="Pit-12", meter="M1", unit="l", by="test")
    uplink = {
        "end_device_ids": {"device_id": "pit-12", "dev_eui": "70B3D5E75E00A1B2"},
        "uplink_message": {"received_at": NOW.isoformat(), "f_cnt": 3, "decoded_payload": {"volume": 1500}},
    }
    batch = readings.receive(
        town, [Message("mqtt:test", "v3/a@t/devices/pit-12/up", json.dumps(uplink).encode(), "tts_v3")]
    )
    assert outcomes(batch) == [("stored", None)]
    assert [(row.value_m3, row.time_source) for row in stored(town)] == [(Decimal("1.5"), "network")]


def test_an_undecodable_device_is_claimed_by_naming_its_decoder(town: Session) -> None:
    frame = bytes.fromhex("0505c8") + (4711).to_bytes(4, "little")
    uplink = {"deviceInfo": {"devEui": "70b3d5e75e00a1b2"}, "time": NOW.isoformat(), "fPort": 85, "fCnt": 1}
    uplink["data"] = base64.b64encode(frame[1:]).decode()
    topic = "application/a/device/70b3d5e75e00a1b2/event/up"
    message = Message("mqtt:test", topic, json.dumps(uplink).encode(), "chirpstack_v4")
    assert readings.receive(town, [message]).dispositions == ["unclaimed"]
    devices.register(
        town,
        device="70B3D5E75E00A1B2",
        meter="M7",
        unit="l",
        multiplier=Decimal(10),
        decoder="milesight-em300-di",
        by="test",
    )
    assert readings.replay_device(town, "70b3d5e75e00a1b2").count("stored") == 1
    assert [(row.value, row.value_m3) for row in stored(town)] == [(Decimal(4711), Decimal("47.11"))]


def test_an_export_in_local_time_is_booked_once_its_time_zone_is_known(town: Session) -> None:
    devices.register(town, device="1400000001", meter="M8", by="test")
    rows = "Meter_ID,Read,Read_Time,Read_Unit\n1400000001,1,2026-05-04 01:00,CCF\n1400000001,2,2026-05-04 02:00,CCF\n"
    readings.receive(town, [Message("mqtt:test", "headend/beacon360/report", rows.encode(), "headend_export")])
    assert [reason for reason, _ in quarantined(town)] == ["time_without_zone", "time_without_zone"]
    devices.register(
        town, device="1400000001", meter="M8", time_zone="America/Chicago", valid_from=devices.ALWAYS, by="test"
    )
    raw_id = town.scalars(select(RawMessage.id)).one()
    assert readings.replay(town, [raw_id]).count("stored") == 2
    assert [row.measured_at.hour for row in stored(town)] == [6, 7]
    assert quarantined(town) == []


def test_a_bare_alarm_is_kept_and_listed(town: Session) -> None:
    devices.register(town, device="70b3d5e75e00a1b2", meter="M7", decoder="axioma_w1", by="test")
    frame = int(NOW.timestamp()).to_bytes(4, "little") + b"\xa0"
    uplink = {"deviceInfo": {"devEui": "70b3d5e75e00a1b2"}, "fPort": 103, "data": base64.b64encode(frame).decode()}
    topic = "application/a/device/70b3d5e75e00a1b2/event/up"
    batch = readings.receive(town, [Message("mqtt:test", topic, json.dumps(uplink).encode(), "chirpstack_v4")])
    assert (batch.dispositions, stored(town)) == (["event_only"], [])
    assert [(one["at"], one["alarms"]) for one in lookups.alarms(town, "70B3D5E75E00A1B2")] == [(NOW, ["burst"])]
