"""Water balances beside the truth: how far losses are off, and how often the 95 % limits hold.

Every town goes through the hub's own imports into a database of its own. The demo town is always measured; with
CURBSTOP_SAMPLES naming a folder that holds the L-Town year, that year too, and variations of it with other faults of
reads and sensors, one for each seed. Theft is in nobody's records: the default share of the audit software's version 6
stands for it. Errors are shares of the zone's net input.

    python -m benchmarks.balance_truth [variations]
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import text

from benchmarks._report import table
from benchmarks._truth_towns import Town, Truth, demo_town, ltown_year, samples, varied
from gis.losses import zone_losses
from gis.zone_loss import Assumptions
from hub import imports, migrations
from hub.db import Database
from hub.leakage import balances
from hub.metering import units
from hub.private.cluster import PrivateCluster
from tests.conftest import database_url
from tests.private_servers import scratch


@dataclass
class Score:
    """One zone of one town."""

    nrw_whole: float = 0.0
    real_whole: float = 0.0
    nrw: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    held: int = 0


def measure(database: Database, town: Town) -> dict[str, Score]:
    """Import the town and balance every month and the whole time."""
    zone = ZoneInfo(town.time_zone)
    for kind, path in town.files:
        with database.transaction() as session:
            imports.run(session, kind, path, actor="bench", zone=zone)
    scores = {code: Score() for code in town.truth}
    spans = list(pairwise(town.months))
    with database.transaction() as session:
        for number, (first, last) in enumerate([*spans, (town.months[0], town.months[-1])]):
            start, end = balances.window(first, last, zone)
            found = zone_losses(
                session,
                start,
                end,
                time_zone=zone,
                units=units.FACTORS_M3,
                assumptions=Assumptions(defaults="fwas_v6"),
            )
            for loss in found:
                balance = loss.balance()
                if loss.zone is None or balance is None:
                    continue
                parts = town.truth[loss.zone]
                known = parts[number] if number < len(parts) else _whole(parts)
                nrw = (balance.nrw - (known.net_input - known.registered)) / known.net_input
                real = (balance.real_losses - known.real_losses) / known.net_input
                score = scores[loss.zone]
                if number == len(parts):
                    score.nrw_whole, score.real_whole = nrw, real
                    continue
                low, high = balance.limits_95()["real_losses"]
                score.held += low <= known.real_losses <= high
                score.nrw.append(nrw)
                score.real.append(real)
    return scores


def _whole(parts: list[Truth]) -> Truth:
    return Truth(*(sum(getattr(one, name) for one in parts) for name in ("net_input", "registered", "real_losses")))


def towns(folder: Path, variations: int) -> Iterator[Town]:
    """The demo town, and what the samples give."""
    yield demo_town(folder / "demo")
    shared = samples()
    if shared is None:
        print("CURBSTOP_SAMPLES names no L-Town year: only the demo town is measured", file=sys.stderr)
        return
    yield ltown_year(shared, folder / "year")
    for seed in range(1, variations + 1):
        other = varied(shared, folder / f"varied-{seed}", seed)
        yield ltown_year(other, folder / f"year-{seed}", f"L-Town, variation {seed}")


def rms(values: list[float]) -> float:
    """Root of the mean square."""
    return float((sum(value * value for value in values) / len(values)) ** 0.5)


def main() -> None:
    """Measure and print the table."""
    variations = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    lines, months, held = [], 0, 0
    with tempfile.TemporaryDirectory() as folder, PrivateCluster(scratch(), sync=False) as cluster:
        admin = Database(cluster.url)
        for number, town in enumerate(towns(Path(folder), variations)):
            print(f"measuring {town.name}", file=sys.stderr, flush=True)
            with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"CREATE DATABASE truth_{number}"))
            url = database_url(cluster, f"truth_{number}")
            migrations.upgrade(url)
            database = Database(url)
            for zone, score in measure(database, town).items():
                months += len(score.real)
                held += score.held
                lines.append(
                    [
                        f"{town.name}, {zone}",
                        f"{score.nrw_whole:+.2%}",
                        f"{rms(score.nrw):.2%}",
                        f"{score.real_whole:+.2%}",
                        f"{rms(score.real):.2%}",
                        f"{score.held} of {len(score.real)}",
                    ]
                )
            database.dispose()
        admin.dispose()
    print("Errors as shares of the zone's net input; limits are those of real losses, by month:\n")
    print(
        table(["town and zone", "NRW, whole", "monthly rms", "real losses, whole", "monthly rms", "limits hold"], lines)
    )
    print(f"\nThe 95 % limits hold in {held} of {months} zone-months ({held / months:.1%}).")


if __name__ == "__main__":
    main()
