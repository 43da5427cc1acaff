"""A batch that our own code stumbles over: the good messages are booked, the bad one is kept unread and put aside."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.db import Database
from hub.ingest import Ingest, _Away
from hub.metering import devices, readings
from hub.metering.ledger import Message
from hub.metering.readings import Batch
from hub.models import Meter, Quarantine, RawMessage, Reading

TOPIC = "curbstop/v1/gw/readings"


def plain(value: str) -> Message:
    payload = (
        f'{{"readings":[{{"device":"d1","value":{value},"unit":"m3","measured_at":"2026-05-0{value}T00:00:00Z"}}]}}'
    )
    return Message("mqtt:test", TOPIC, payload.encode(), "plain")


@pytest.fixture
def ingest(database: Database) -> Ingest:
    with database.transaction() as session:
        devices.register(session, device="d1", meter="M1", unit="m3", by="test")
    return Ingest(database, "mqtt://127.0.0.1", "test", [])


def test_one_stumbling_message_does_not_hold_up_the_others(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = readings.receive

    def stumbling(session: Session, messages: Sequence[Message], **more: Any) -> Batch:
        if any(b"bad" in message.payload for message in messages):
            raise ZeroDivisionError
        return real(session, messages, **more)

    monkeypatch.setattr(readings, "receive", stumbling)
    ingest._commit([plain("1"), Message("mqtt:test", TOPIC, b"bad", "plain"), plain("2")])
    with ingest.database.transaction() as session:
        assert len(session.scalars(select(Reading)).all()) == 2
        (entry,) = session.scalars(select(Quarantine))
        assert entry.reason == "pipeline_error"
        assert session.scalars(select(RawMessage.payload).where(RawMessage.id == entry.raw_id)).one() == b"bad"


def test_a_deadlock_is_tried_again(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    real, falls = readings.receive, [psycopg.errors.DeadlockDetected(), psycopg.errors.DeadlockDetected()]

    def unlucky(session: Session, messages: Sequence[Message], **more: Any) -> Batch:
        if falls:
            raise falls.pop()
        return real(session, messages, **more)

    monkeypatch.setattr(readings, "receive", unlucky)
    ingest._commit([plain("1")])
    with ingest.database.transaction() as session:
        assert len(session.scalars(select(Reading)).all()) == 1


def test_a_full_disk_leaves_the_messages_with_the_broker(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(session: Session, messages: Sequence[Message], **more: Any) -> Batch:
        raise psycopg.errors.DiskFull("could not extend file: No space left on device")

    monkeypatch.setattr(readings, "receive", full)
    with pytest.raises(_Away):
        ingest._commit([plain("1")])


def test_what_is_remembered_of_the_registry_is_forgotten_when_it_changes(ingest: Ingest) -> None:
    ingest._commit([plain("1")])
    known = ingest._known
    assert known._profiles
    ingest._commit([plain("2")])
    assert ingest._known is known
    with ingest.database.transaction() as session:
        devices.register(session, device="d1", meter="M2", valid_from=datetime(2026, 5, 3, tzinfo=UTC), by="test")
    ingest._commit([plain("3")])
    with ingest.database.transaction() as session:
        booked = session.execute(
            select(Meter.serial).join(Reading, Reading.meter_id == Meter.id).order_by(Reading.value)
        )
        assert list(booked.scalars()) == ["M1", "M1", "M2"]


def test_what_a_lost_transaction_taught_is_forgotten(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    real, falls = readings.receive, [psycopg.errors.DeadlockDetected()]

    def unlucky(session: Session, messages: Sequence[Message], **more: Any) -> Batch:
        batch = real(session, messages, **more)
        if falls:
            raise falls.pop()
        return batch

    monkeypatch.setattr(readings, "receive", unlucky)
    side = b'{"readings":[{"device":"d1","register":"volume_reverse","value":1,"measured_at":"2026-05-01T00:00:00Z"}]}'
    ingest._commit([Message("mqtt:test", TOPIC, side, "plain")])
    with ingest.database.transaction() as session:
        (booked,) = session.scalars(select(Reading.meter_id))
        assert session.scalars(select(Meter.register).where(Meter.id == booked)).one() == "volume_reverse"
