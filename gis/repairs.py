"""What a repair did to the flow into its zone: the fall of the night flow with its 95 % limits. Pure."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DAY = 24
# The hours in which people use least, and pressure is highest.
NIGHT = (2, 5)
NIGHTS = 7
# Fewer nights than this on either side say nothing.
LEAST_NIGHTS = 3
# Two-sided 97.5 % quantiles of Student's t by degrees of freedom, from 4 on; the last one holds beyond.
_T = (2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160)


@dataclass(slots=True, frozen=True)
class Drop:
    """Night flows in m³/h before and after the water was stopped, their difference and its 95 % limits."""

    before_m3h: float
    after_m3h: float
    low_m3h: float
    high_m3h: float
    nights_before: int
    nights_after: int

    @property
    def m3h(self) -> float:
        """By how much the flow fell."""
        return self.before_m3h - self.after_m3h

    def verdict(self, expected_m3h: float | None) -> str:
        """`verified` when the fall cannot be chance, `not_seen` when it is none or far below what was expected."""
        if self.low_m3h > 0:
            return "verified"
        if self.m3h <= 0 or (expected_m3h is not None and self.high_m3h < expected_m3h / 2):
            return "not_seen"
        return "uncertain"


def drop(
    first: date, flows: Array, stopped_at: datetime, *, began_at: datetime | None = None, nights: int = NIGHTS
) -> Drop | None:
    """The fall of the night flow at `stopped_at` (local, naive); None while there are too few nights.

    `flows`: m³/h of each local hour from the midnight of `first` on, NaN where unknown. The nights compared are the
    last ones that were over before the stop and the first ones that began after it; the night between is neither. They
    are freed of the habit of their weekday first, or three nights over a weekend would tell of it and not of the leak.
    Nights before the leak began (`began_at`, local, naive) tell nothing of it: of a leak that ran for a few nights
    only, those count alone.
    """
    days = len(flows) // DAY
    by_day = flows[: days * DAY].reshape(days, DAY)[:, slice(*NIGHT)]
    whole = np.isfinite(by_day).all(axis=1)
    night = np.where(whole, by_day.mean(axis=1), np.nan)
    night -= _weekdays(first, night, before=(stopped_at.date() - first).days)
    moments = [datetime.combine(first + timedelta(days=day), datetime.min.time()) for day in range(days)]
    ended = np.array([at + timedelta(hours=NIGHT[1]) <= stopped_at for at in moments], dtype=bool)
    began = np.array([at + timedelta(hours=NIGHT[0]) >= stopped_at for at in moments], dtype=bool)
    before, after = night[ended & whole][-nights:], night[began & whole][:nights]
    if len(before) < LEAST_NIGHTS or len(after) < LEAST_NIGHTS:
        return None
    if began_at is not None:
        ran = np.array([at + timedelta(hours=NIGHT[0]) >= began_at for at in moments], dtype=bool)
        leaked = night[ended & whole & ran][-nights:]
        # the spread needs four degrees of freedom; with less, the nights before stay in and the verdict is careful
        before = leaked if len(leaked) and len(leaked) + len(after) >= 2 * LEAST_NIGHTS else before
    # medians are deaf to one night of a fire or a filled pool; the spread is taken on both sides together
    levels = float(np.median(before)), float(np.median(after))
    away = np.concatenate((before - levels[0], after - levels[1]))
    freedom = len(away) - 2
    sd = math.sqrt(float(np.sum(away**2)) / freedom)
    # the median of n normal values varies by π/2 more than their mean
    half = _T[min(freedom - 4, len(_T) - 1)] * sd * math.sqrt(math.pi / 2 * (1 / len(before) + 1 / len(after)))
    fall = levels[0] - levels[1]
    return Drop(*levels, fall - half, fall + half, len(before), len(after))


def _weekdays(first: date, night: Array, *, before: int) -> Array:
    """By how much each night lies above others for its weekday alone, learned from the nights `before` a day.

    A night is compared with the median of the seven around it, in which a leak that runs is the same; of each weekday
    the median counts. Nothing where a weekday was seen less than three times: habits cannot be told from chance then.
    """
    weekday = (first.weekday() + np.arange(len(night))) % 7
    away: list[list[float]] = [[] for _ in range(7)]
    for day in range(3, min(before, len(night)) - 3):
        around = night[day - 3 : day + 4]
        if np.isfinite(around).all():
            away[weekday[day]].append(float(night[day] - np.median(around)))
    if min(len(one) for one in away) < LEAST_NIGHTS:
        return np.zeros(len(night))
    return np.array([float(np.median(one)) for one in away])[weekday]
