"""Leaks behind customers' meters from hourly reads: water that never stops, at a rate that hardly varies. Pure.

The rule is the one of meter makers (Badger AquaCUE: at least a gallon in each of 24 hours, the rate being that of the
smallest hour, and estimated reads neither start nor clear it), with litres for gallons. It would also name everybody
who works around the clock. Those are told apart by what their nights look like: a leak alone makes many hours of the
very same smallest flow, use never does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

# Counters show whole litres: a steady flow reads now one, now the next.
LITRES_EXACT = 1.5


@dataclass(slots=True, frozen=True)
class Rule:
    """What counts as a leak behind the meter."""

    least_litres: float = 1.0  # in every hour
    hours: int = 24
    most_missing: int = 4  # of those hours without an actual read
    clearing_hours: int = 2  # actual hours below the least, within `hours`, that end a leak
    floor_share: float = 0.25  # hours at the smallest flow, as a part of all, that only a leak reaches …
    floor_width: float = 0.05  # … where "at" means so much above it, or LITRES_EXACT
    bouts: int = 2  # times of use on top of it, in one day, that make that day enough;
    flat_days: int = 7  # a flat flow may be a machine's, which changes with its work: so many days without use …
    flat_share: float = 0.9  # … of which nearly all hours are at the floor
    open_days: int = 1  # days more where the meter was never seen to stop


@dataclass(slots=True, frozen=True)
class CustomerLeak:
    """`started_at`: start of the first hour of the run. `detected_at`: end of the hour that completed the evidence.

    `ended_at`: start of the first hour without flow, None while it runs. `litres_per_hour`: the smallest hour of the
    last `Rule.hours` of the run. `open_ended` says that the run began with the data, so the leak may be older.
    """

    started_at: datetime
    detected_at: datetime
    ended_at: datetime | None
    litres_per_hour: float
    hours: int
    open_ended: bool


def find_customer_leaks(
    first: datetime,
    litres: Sequence[float] | NDArray[np.float64],
    estimated: Sequence[bool] | NDArray[np.bool_] | None = None,
    *,
    always_on: bool = False,
    rule: Rule = Rule(),
) -> list[CustomerLeak]:
    """Leaks in one customer's hourly reads, in time order.

    `litres[i]` passed in the hour that starts `i` hours after `first`; NaN where nothing was read. `estimated[i]` marks
    hours that nobody measured: they count as missing. `always_on` is a declared user of all 24 hours: no leak is named.
    """
    if always_on:
        return []
    flows = np.array(litres, dtype=np.float64)
    if estimated is not None:
        flows[np.asarray(estimated, dtype=bool)] = np.nan
    flows[~np.isfinite(flows)] = np.nan
    found = []
    for start, end, ended in _runs(flows, rule):
        open_ended = start == int(np.argmax(np.isfinite(flows)))
        at = _evident(flows[start:end], rule, open_ended)
        if at is None:
            continue
        tail = flows[start:end][-rule.hours :]
        found.append(
            CustomerLeak(
                started_at=first + timedelta(hours=start),
                detected_at=first + timedelta(hours=start + at),
                ended_at=first + timedelta(hours=end) if ended else None,
                litres_per_hour=float(np.nanmin(tail))
                if np.isfinite(tail).any()
                else float(np.nanmin(flows[start:end])),
                hours=end - start,
                open_ended=open_ended,
            )
        )
    return found


def _runs(flows: NDArray[np.float64], rule: Rule) -> list[tuple[int, int, bool]]:
    """(first hour, hour after the last, whether flow then stopped) of every run without `clearing_hours` dry hours."""
    runs: list[tuple[int, int, bool]] = []
    wet = np.nonzero(flows >= rule.least_litres)[0]
    dry = np.nonzero(flows < rule.least_litres)[0]
    start = int(wet[0]) if len(wet) else None
    while start is not None:
        later = dry[dry > start]
        # the first dry hour that is not alone within the hours that follow it
        near = np.nonzero(
            later[rule.clearing_hours - 1 :] - later[: len(later) - rule.clearing_hours + 1] < rule.hours
        )[0]
        end = int(later[near[0]]) if len(near) else len(flows)
        runs.append((start, end, end < len(flows)))
        following = wet[wet > end]
        start = int(following[0]) if len(following) else None
    return runs


@dataclass(slots=True, frozen=True)
class _Floor:
    litres: float
    share: float  # of the hours at it
    bouts: int  # times that use came on top of it


def _evident(run: NDArray[np.float64], rule: Rule, open_ended: bool) -> int | None:
    """Hours from the start of a run until it is a leak by the rule, or None."""
    floors_until: list[_Floor | None] = [None] * rule.hours
    for end in range(rule.hours, len(run) + 1):
        last = _floor(run[end - rule.hours : end], rule)
        floors_until.append(last)
        if not np.isfinite(run[end - 1]) or last is None or last.share < rule.floor_share:
            continue
        needed = (1 if last.bouts >= rule.bouts else rule.flat_days) + (rule.open_days if open_ended else 0)
        days = [floors_until[at] for at in range(end, rule.hours - 1, -rule.hours)][:needed]
        floors = [day.litres for day in days if day is not None]
        flat = last.bouts < rule.bouts
        if flat and min(day.share if day else 0.0 for day in days) < rule.flat_share:
            continue
        if len(floors) == needed and max(floors) - min(floors) <= max(LITRES_EXACT, rule.floor_width * min(floors)):
            return end
    return None


def _floor(window: NDArray[np.float64], rule: Rule) -> _Floor | None:
    """The smallest flow of a day's hours; None where they are no evidence of a flow that never stops."""
    actual = window[np.isfinite(window)]
    if len(actual) < rule.hours - rule.most_missing or actual.min() < rule.least_litres:
        return None
    smallest = float(actual.min())
    at_floor = actual <= smallest + max(LITRES_EXACT, rule.floor_width * smallest)
    return _Floor(smallest, float(at_floor.mean()), int(np.sum(at_floor[:-1] & ~at_floor[1:])))
