"""Volumes of meters that report the flow of each interval instead of a counting register. Pure.

Missing and frozen intervals are filled with the mean of the same hour of day, and said to be.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

At = TypeVar("At")
# A flow that repeats to the last digit for this many intervals is a frozen signal, …
FROZEN_RUN = 6
# … unless more than this share of values comes in repeats: then the meter counts in coarse steps.
COARSE_SHARE = 0.05


@dataclass(slots=True, frozen=True)
class IntervalVolume:
    """What passed within a window: measured and filled volume, and the time measured."""

    measured_m3: float
    filled_m3: float
    covered_s: float
    first_at: datetime | None
    last_at: datetime | None


def interval_volume(
    readings: Sequence[tuple[datetime, float]], lower: datetime, upper: datetime, zone: ZoneInfo
) -> IntervalVolume:
    """The volume within [lower, upper) of (end of interval, m³) pairs in time order; `zone` gives the hours of day."""
    steps = Counter(later - earlier for (earlier, _), (later, _) in pairwise(readings))
    if not steps:
        return IntervalVolume(0.0, 0.0, 0.0, None, None)
    step = max(steps, key=lambda length: (steps[length], -length))
    inside = {at: m3 for at, m3 in thawed(readings) if lower < at <= upper}
    if not inside:
        return IntervalVolume(0.0, 0.0, 0.0, None, None)
    by_hour: dict[int, list[float]] = defaultdict(list)
    for at, m3 in inside.items():
        by_hour[(at - step).astimezone(zone).hour].append(m3)
    mean = sum(inside.values()) / len(inside)
    # intervals are numbered from the first one measured: clocks drift by seconds
    first = min(inside)
    present = {round((at - first) / step) for at in inside}
    filled = 0.0
    for number in range(-int((first - step - lower) / step), int((upper - first) / step) + 1):
        if number not in present:
            same_hour = by_hour.get((first + (number - 1) * step).astimezone(zone).hour)
            filled += sum(same_hour) / len(same_hour) if same_hour else mean
    return IntervalVolume(
        measured_m3=sum(inside.values()),
        filled_m3=filled,
        covered_s=len(inside) * step.total_seconds(),
        first_at=min(inside) - step,
        last_at=max(inside),
    )


def thawed(readings: Sequence[tuple[At, float]]) -> list[tuple[At, float]]:
    """The readings without what a frozen signal repeats; the first of a run is believed, and a standstill is none."""
    runs = [list(run) for _, run in groupby(readings, key=lambda reading: reading[1])]
    flowing = [run for run in runs if run[0][1] != 0]
    coarse = sum(len(run) > 1 for run in flowing) > COARSE_SHARE * len(flowing)
    kept: list[tuple[At, float]] = []
    for run in runs:
        frozen = not coarse and len(run) >= FROZEN_RUN and run[0][1] != 0
        kept += run[:1] if frozen else run
    return kept
