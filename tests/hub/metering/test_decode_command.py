"""`curbstop decode`: one payload in, what it becomes out, and no database anywhere."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli import build
from hub.errors import BadInput

PLAIN = {
    "readings": [{"device": "A", "value": "2", "unit": "ccf", "measured_at": "2026-03-01T05:00:00Z", "flags": ["leak"]}]
}


def run(*words: str, given: bytes | None = None) -> Result:
    result = CliRunner().invoke(build("decode"), ["decode", *words], input=given)
    if isinstance(result.exception, BadInput):
        raise result.exception
    return result


def test_a_recognised_payload_becomes_readings_in_json(tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    file.write_text(json.dumps(PLAIN))
    result = run("curbstop/v1/north/readings", str(file), "--json", "--received-at", "2026-03-01T06:00:00Z")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["disposition"], found["reason"]) == ("readings", None)
    (reading,) = found["readings"]
    assert reading | {"channel": None} == {
        "device_id": "A",
        "register": "volume",
        "unit": "m3",
        "value": 5.6633693184,
        "timestamp": "2026-03-01T05:00:00.000Z",
        "timestamp_source": "meter",
        "flags": ["leak"],
        "channel": None,
    }


def test_the_steps_are_told_to_people() -> None:
    result = run("curbstop/v1/north/readings", "-", given=json.dumps(PLAIN).encode())
    assert "adapter plain, recognised by topic and content: 1 envelope(s)" in result.stdout
    assert "decoder plain, version 1 (Curbstop's own JSON): brought by the format" in result.stdout
    assert "disposition: readings" in result.stdout


def test_what_the_registry_would_say_comes_as_config() -> None:
    bare = b'{"readings":[{"device":"A","value":3}]}'
    result = run("x", "-", "--adapter", "plain", "--config", '{"unit":"l","multiplier":10}', "--json", given=bare)
    (reading,) = json.loads(result.stdout)["readings"]
    assert (reading["value"], reading["unit"], reading["timestamp"]) == (0.03, "m3", None)


def test_what_nobody_recognises_is_put_aside() -> None:
    result = run("some/topic", "-", "--json", given=b"hello")
    assert (result.exit_code, json.loads(result.stdout)["disposition"]) == (0, "quarantine")


@pytest.mark.parametrize(
    "words",
    [
        ["t", "-", "--adapter", "nothing"],
        ["t", "/nonexistent/file"],
        ["t", "-", "--config", "[]"],
        ["t", "-", "--config", '{"unit":"furlong"}'],
        ["t", "-", "--config", '{"multiplier":"x"}'],
        ["t", "-", "--config", '{"time_zone":"Moon"}'],
        ["t", "-", "--received-at", "yesterday"],
        ["t", "-", "--received-at", "2026-01-01T00:00:00"],
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str]) -> None:
    with pytest.raises(BadInput):
        run(*words, given=b"{}")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ('{"multiplier": "NaN"}', "multiplier"),
        ('{"multiplier": 0}', "multiplier"),
        ('{"multiplier": "1e400"}', "multiplier"),
        ('{"unit": "barrel"}', "unit"),
        ('{"time_zone": 5}', "time_zone"),
        ('{"decoder": ["axioma_w1"]}', "decoder"),
        ('{"config": 5}', "config"),
        ("[]", "config"),
        ("{", "config"),
        ("[" * 100_000, "config"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_its_field(config: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        run("x", "-", "--adapter", "plain", "--config", config, given=b"{}")
    assert refused.value.extra["field"] == field
    assert refused.value.extra["remedy"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "2026-03-01T00:00:00", "x"])
def test_an_arrival_that_cannot_be_is_refused(at: str) -> None:
    body = b'{"readings": [{"device": "d", "value": 1, "unit": "m3", "measured_at": "9999-12-31T23:59:59Z"}]}'
    with pytest.raises(BadInput) as refused:
        run("x", "-", "--adapter", "plain", "--received-at", at, given=body)
    assert refused.value.extra["field"] == "received-at"


def test_a_decoder_nobody_has_puts_the_message_aside() -> None:
    uplink = b'{"deviceInfo":{"devEui":"0102030405060708"},"fPort":1,"data":"AAAA"}'
    topic = "application/1/device/0102030405060708/event/up"
    result = run(topic, "-", "--config", '{"decoder": "acme-9"}', "--json", given=uplink)
    assert (json.loads(result.stdout)["disposition"], json.loads(result.stdout)["reason"]) == (
        "quarantine",
        "no_decoder",
    )


def test_a_message_beyond_the_limit_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b" " * 10_000_000)
    result = run("x", str(tmp_path / "big"), "--adapter", "plain", "--json")
    assert json.loads(result.stdout)["reason"] == "too_large"


def test_what_keeps_a_reading_from_being_booked_is_said_with_its_remedy() -> None:
    bare = b'{"value":"3","raw":"3","pre":"3","error":"no error","rate":"","timestamp":"2026-03-01T05:00:00+0000"}'
    assert "kept raw until the registry says it" in run("main/meter/json", "-", given=bare).stdout
    late = run("main/meter/json", "-", "--config", '{"unit":"l"}', "--received-at", "2030-01-01T00:00:00Z", given=bare)
    assert "the arrival stands in for it" in late.stdout
