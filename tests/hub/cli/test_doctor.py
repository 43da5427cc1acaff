"""`curbstop doctor` finds what is broken and names the remedy."""

import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from hub.cli import doctor
from hub.db import Database
from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from hub.settings import Settings


def found(state: str) -> str:
    return "\n".join(finding.text for finding in doctor.examine() if finding.state == state)


@pytest.fixture
def set_up(database: Database, broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", database.url)
    monkeypatch.setenv("CURBSTOP_MQTT_URL", broker.url)
    monkeypatch.setenv("CURBSTOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CURBSTOP_TIME_ZONE", "America/Chicago")
    return tmp_path


def test_a_healthy_hub_has_nothing_to_mend(set_up: Path) -> None:
    findings = list(doctor.examine())
    assert {finding.part for finding in findings} == {"configuration", "disk", "database", "broker", "clock"}
    assert found("FAIL") == ""


def test_a_setting_that_cannot_work_is_named(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_TIME_ZONE", "Mars/Olympus")
    assert "CURBSTOP_TIME_ZONE" in found("FAIL")


def test_a_misspelt_setting_is_named(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_DATABSE_URL", "x")
    assert "CURBSTOP_DATABSE_URL" in found("warn")


def test_a_database_that_was_never_migrated_is_named(
    set_up: Path, cluster: PrivateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", cluster.url)
    assert "run `curbstop migrate`" in found("FAIL")


def test_servers_that_do_not_answer_are_named(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", "postgresql://hub:secret@127.0.0.1:1/hub")
    monkeypatch.setenv("CURBSTOP_MQTT_URL", "mqtt://hub:secret@127.0.0.1:1")
    broken = found("FAIL")
    assert "CURBSTOP_DATABASE_URL does not answer" in broken
    assert "CURBSTOP_MQTT_URL (mqtt://hub:***@127.0.0.1:1) does not answer" in broken
    assert "secret" not in broken


def test_messages_that_the_broker_dropped_are_told(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(_url: str, dropped: list[int]) -> None:
        dropped.append(7)

    monkeypatch.setattr(doctor, "connection_refused", seen)
    assert "has dropped 7 messages" in found("warn")


def test_a_server_that_speaks_something_else_is_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mqtt://user:password@host" in str(doctor.connection_refused("http://127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(doctor, "ANSWER_S", 0.5)
        refusal = doctor.connection_refused(f"mqtt://127.0.0.1:{mute.getsockname()[1]}")
    assert "does not speak MQTT" in str(refusal)


def test_a_nearly_full_disk_is_named(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = doctor.shutil.disk_usage(set_up)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _place: usage._replace(free=2**20))
    broken = [finding.text for finding in doctor.disk(Settings(data_dir=set_up, secret_key=SecretStr("x")))]
    assert "storage full" in broken[0]
