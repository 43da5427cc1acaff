"""Hours of a flow meter that are no measurement: gaps, frozen signals, stuck zeros, values beyond reason. Pure.

An hour is judged by itself and what came before it, so a nightly job and a replay of the year agree. To be done for
each meter before the flows of a zone are summed: in the sum a fault no longer looks like one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FaultKind = Literal["gap", "frozen", "stuck_zero", "implausible"]

# A meter counts in coarse steps when more than this part of its flows repeats the one before: it cannot be frozen.
COARSE_SHARE = 0.05
# Standstills for each hour heard: a meter with more of them has a reason to, such as a pump; else a zero is a fault.
STOP_SHARE = 0.005
# So many times the largest flow of the four weeks before is another unit or a wrong pulse value, no burst.
IMPLAUSIBLE = 10.0
MEMORY = 28 * 24


@dataclass(slots=True, frozen=True)
class Fault:
    """Hours [first, end) by their place in the series."""

    kind: FaultKind
    first: int
    end: int


def cleaned(flows: Sequence[float | None] | Array) -> tuple[Array, list[Fault]]:
    """Hourly flows of one meter with NaN in place of faults, and the faults in time order.

    `flows`: one value an hour, None or NaN where nothing came. The first hour of a frozen run is believed.
    """
    raw = np.array([np.nan if flow is None else flow for flow in flows], dtype=np.float64)
    raw[~np.isfinite(raw)] = np.nan
    there = np.isfinite(raw)
    kinds = np.where(there, "", "gap").astype(object)
    heard = np.maximum(np.cumsum(there), 1)
    zero = there & (np.abs(raw) < 1e-9)
    idle = _share_before(_first_of_runs(zero), heard)
    # before enough was heard to know the meter, a standstill is taken for one
    stuck = zero & (idle < STOP_SHARE) & (heard > MEMORY / 4)
    repeats = np.zeros(len(raw), dtype=bool)
    repeats[1:] = there[1:] & (raw[1:] == raw[:-1]) & ~zero[1:]
    frozen = repeats & (_share_before(_first_of_runs(repeats), heard) < COARSE_SHARE)
    kinds[frozen] = "frozen"
    kinds[stuck] = "stuck_zero"
    kinds[_implausible(np.where(frozen | stuck, np.nan, raw))] = "implausible"
    clean = np.where(kinds == "", raw, np.nan)
    edges = np.flatnonzero(np.append(len(kinds) > 0, kinds[1:] != kinds[:-1]))
    ends = np.append(edges[1:], len(kinds)) if len(edges) else edges
    return clean, [Fault(kinds[a], int(a), int(b)) for a, b in zip(edges, ends, strict=True) if kinds[a]]


def _share_before(marks: NDArray[np.bool_], heard: NDArray[np.int_]) -> Array:
    """Of the hours heard before each, the part that is marked."""
    counted: NDArray[np.int_] = np.cumsum(marks) - marks
    return np.asarray(counted / np.maximum(heard - 1, 1), dtype=np.float64)


def _first_of_runs(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    firsts = marks.copy()
    firsts[1:] &= ~marks[:-1]
    return firsts


def _implausible(flows: Array) -> NDArray[np.bool_]:
    """Where a flow is `IMPLAUSIBLE` times the largest believed one of the four weeks before."""
    found = np.zeros(len(flows), dtype=bool)
    day = 24
    largest: list[float] = []
    for start in range(0, len(flows), day):
        today = np.abs(flows[start : start + day])
        before = max(largest[-MEMORY // day :], default=0.0)
        if len(largest) >= 7 and before > 0:
            found[start : start + day] = today > IMPLAUSIBLE * before
        believed = today[np.isfinite(today) & ~found[start : start + day]]
        largest.append(float(believed.max()) if len(believed) else 0.0)
    return found
