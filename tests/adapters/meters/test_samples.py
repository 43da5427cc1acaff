"""Every sample yields exactly what it declares: ours always, further ones when CURBSTOP_SAMPLES names their folder."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from adapters import meters
from tests.adapters.meters import scoring

OWN = sorted((Path(__file__).parent / "samples").glob("*/*.json"))
FURTHER = sorted((Path(os.environ.get("CURBSTOP_SAMPLES", "/nonexistent")) / "mqtt").glob("*/*.json"))


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_own_sample(path: Path) -> None:
    assert scoring.differences(scoring.load(path)) == []


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_further_sample(path: Path) -> None:
    sample = scoring.load(path)
    wrong = scoring.differences(sample)
    # where the payload leaves the unit to the device's definition, keeping the bare count is as right as knowing it
    if wrong and not sample.get("needs_codec"):
        kept = scoring.decoded(sample)["readings"]
        assert kept, wrong
        assert all(r["unit"] is None and "q:unit_unknown" in r["flags"] for r in kept), wrong
    else:
        assert wrong == []


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_further_sample_that_nobody_explains_never_yields_a_wrong_volume(path: Path) -> None:
    sample = scoring.load(path) | {"adapter": "", "needs_codec": None, "config": None}
    declared = {round(one["value"], 6) for one in sample["expected"] if one["unit"] == "m3"}
    found = {round(one["value"], 6) for one in scoring.decoded(sample)["readings"] if one["unit"] == "m3"}
    assert found <= declared


@pytest.mark.parametrize("wrong", [{"a": 1}, [[]]], ids=["object", "list"])
def test_a_member_of_another_type_is_no_surprise(wrong: Any) -> None:
    """Whatever stands in the place of a member, adapter and decoder refuse or pass it, and never stumble."""
    for path in OWN:
        sample = scoring.load(path)
        payload = sample["payload"]
        if not isinstance(payload, dict):
            continue
        for name, value in payload.items():
            inner = value if isinstance(value, dict) else {}
            spoilt = [payload | {name: wrong}, *(payload | {name: inner | {below: wrong}} for below in inner)]
            for one in spoilt:
                found = scoring.decoded(sample | {"payload": one})
                assert found["reason"] not in ("adapter_error", "decoder_error"), (path, name, found["detail"])


def test_every_adapter_has_samples_of_its_own() -> None:
    assert {path.parent.name for path in OWN} >= set(meters.ADAPTERS)


def test_a_file_is_all_that_a_format_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module is looked into at import, and no name is taken twice (the later one would hide the earlier)."""
    folder = Path(meters.__file__).parent
    given = [
        name
        for path in folder.glob("*.py")
        if path.stem != "__init__"
        for name in re.findall(r'^ADAPTER = EnvelopeAdapter\(\s*"(\w+)"', path.read_text(), re.MULTILINE)
    ]
    assert sorted(given) == sorted(meters.ADAPTERS)
    monkeypatch.setattr(meters, "__path__", [*meters.__path__, str(tmp_path)])
    (tmp_path / "zz_new_format.py").write_text("ADAPTER = 'new'\n")
    assert "zz_new_format" in {module.__name__.rpartition(".")[2] for module in meters._formats()}
