"""The shared L-Town year through the importers: balances beside the simulated truth."""

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.orm import Session

from gis.losses import zone_losses
from gis.zone_loss import Assumptions, ZoneLoss
from hub import imports
from hub.db import Database
from hub.metering import units
from tests.gis import ltown

ZONE = ZoneInfo(ltown.TIME_ZONE)


def losses(session: Session, first: datetime, last: datetime) -> dict[str | None, ZoneLoss]:
    # theft is in nobody's records: the shares of version 6
    assumed = Assumptions(defaults="fwas_v6")
    found = zone_losses(session, first, last, time_zone=ZONE, units=units.FACTORS_M3, assumptions=assumed)
    return {loss.zone: loss for loss in found}


def month(number: int) -> datetime:
    return datetime(2018 + (number - 1) // 12, (number - 1) % 12 + 1, 1, tzinfo=ZONE)


def true_nrw(truth: dict[str, float]) -> float:
    return truth["net_inflow"] - truth["storage_increase"] - truth["billed_metered_registered"]


def test_the_year_beside_the_truth(samples: Path, database: Database, tmp_path: Path) -> None:
    for kind, path in ltown.write_files(samples, tmp_path):
        with database.transaction() as session:
            outcome = imports.run(session, kind, path, actor="test", zone=ZONE)
            assert outcome.inserted > 0
    truth = json.loads((samples / "waterloss" / "ltown_2018" / "truth.json").read_text())
    with database.transaction() as session:
        year = losses(session, month(1), month(13))
        months = {number: losses(session, month(number), month(number + 1)) for number in range(1, 13)}

    held = real_held = 0
    for code, known in truth["zones"].items():
        balance = year[code].balance()
        assert balance is not None
        # non-revenue water of the year within 0.5 % of the zone's input
        assert balance.nrw == pytest.approx(true_nrw(known), abs=0.005 * known["net_inflow"])
        assert balance.real_losses == pytest.approx(known["real_losses"], abs=0.005 * known["net_inflow"])
        squares = real_squares = 0.0
        for number in range(1, 13):
            monthly = months[number][code].balance()
            assert monthly is not None
            known_month = truth["months"][f"2018-{number:02}"][code]
            squares += ((monthly.nrw - true_nrw(known_month)) / known_month["net_inflow"]) ** 2
            real_squares += ((monthly.real_losses - known_month["real_losses"]) / known_month["net_inflow"]) ** 2
            limits = monthly.limits_95()
            held += limits["nrw"][0] <= true_nrw(known_month) <= limits["nrw"][1]
            real_held += limits["real_losses"][0] <= known_month["real_losses"] <= limits["real_losses"][1]
        assert (squares / 12) ** 0.5 <= 0.015
        assert (real_squares / 12) ** 0.5 <= 0.015
    assert held >= 0.9 * 36
    assert real_held >= 0.9 * 36
    whole = year[None].balance()
    assert whole is not None
    parts = [balance.nrw for code in truth["zones"] if (balance := year[code].balance()) is not None]
    assert whole.nrw == pytest.approx(sum(parts))
