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
    assert "adapter plain: 1 envelope(s)" in result.stdout
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
