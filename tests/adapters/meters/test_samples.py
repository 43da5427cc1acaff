"""Every sample yields exactly what it declares: ours always, further ones when CURBSTOP_SAMPLES names their folder."""

import os
from pathlib import Path

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
    assert scoring.differences(sample) == []


def test_every_adapter_has_samples_of_its_own() -> None:
    assert {path.parent.name for path in OWN} >= set(meters.ADAPTERS)
