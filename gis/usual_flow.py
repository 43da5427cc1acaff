"""What is usual in the hourly inflow of one zone, hour by hour, and how far each hour is from it. Pure.

A leak adds the same flow to every hour; demand scales the shape of the day. So each hour is first freed of the usual
shape of its weekday, then the hours of a day are averaged with the weights that see a constant flow best in *this* zone
(those of least variance in the last weeks: mostly night hours where nights are quiet). The mean is the *offset* of a
window; its baseline is the median offset of the days before.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from gis.robust import DAY, Array, least_variance_weights, nanmedian, spread

SUNDAY = 6
# Days of history that are kept; nothing older has an influence.
HISTORY = 112
# Days before the first comparison: a shape needs weeks, a noise needs more. The first days' offsets are no baseline.
WARM_UP, UNSURE = 35, 21
# The part of a window that must have been heard.
LEAST_SHARE = 0.6


@dataclass(slots=True, frozen=True)
class Parameters:
    """What can be tuned. The same values serve towns of very different size and climate."""

    threshold: float = 4.2  # of an event, in deviations of the statistic, for a long window …
    short: float = 0.5  # … and such a part of it more at one day, twice that at half a day, less for longer windows
    min_share: float = 0.03  # the smallest leak worth an event, of the zone's mean inflow
    lasting: float = 0.5  # of the rise, what all parts of the day but one must show
    windows: tuple[int, ...] = (12, 24, 36, 48, 72, 120, 168, 336)  # hours
    profile_weeks: int = 6  # same weekdays that make the shape of the day
    noise_days: int = 49  # that tell the noise
    shrinkage: float = 0.5  # of the hours' covariance towards its diagonal
    baseline_days: int = 10  # at least, and twice the window
    wander: tuple[float, float] = (0.03, 0.1)  # least and most daily variance of the baseline's drift, of the noise's
    holiday: float = 1.5  # times the threshold next to holidays
    quiet_days: int = 14  # a rise so long after the last one is no growth of the open event but a new one
    young_days: int = 3  # within which any rise is growth
    fallen: float = 0.4  # an event is over when less than this part of it is left …
    close_hours: int = 48  # … for so long;
    reopen_hours: int = 36  # a rise so soon after opens it again


def local_hours(times: Sequence[datetime], flows: Sequence[float | None], zone: ZoneInfo) -> tuple[date, Array]:
    """(first local day, flow of each local hour from its midnight on); NaN where there is none.

    `times` are the aware starts of the hours. The hour that a change of clocks doubles is the mean of both.
    """
    local = [at.astimezone(zone) for at in times]
    first = local[0].date()
    total = np.zeros(((local[-1].date() - first).days + 1) * DAY)
    count = np.zeros_like(total)
    last = 0
    for at, flow in zip(local, flows, strict=True):
        hour = (at.date() - first).days * DAY + at.hour
        last = max(last, hour)
        if flow is not None and np.isfinite(flow):
            total[hour] += flow
            count[hour] += 1
    with np.errstate(invalid="ignore"):
        return first, (total / np.where(count > 0, count, np.nan))[: last + 1]


class UsualFlow:
    """Takes hours in order and keeps what is needed to judge the next one.

    A *level* is a time of unchanged leakage, named by a number: days of the same level are each other's baseline.
    """

    def __init__(self, first: date, holidays: Container[date], parameters: Parameters) -> None:
        """`first`: the local day of the first hour. `holidays` are days with the habits of a Sunday."""
        self.parameters = parameters
        self.holidays = holidays
        self._today = first
        self._hour = 0  # hours of today that were taken
        self._days = 0  # days seen, today's included
        self._level_now = 0
        self._levels = 0
        self._changed = 0  # hours seen when the level last changed
        self._weights = np.full(DAY, 1 / DAY)
        self._hour_noise = np.ones(DAY)
        # the last days, today's the last row; flat views of the same memory serve windows that cross midnight
        self._flow = np.full((HISTORY, DAY), np.nan)
        self._residual = np.full((HISTORY, DAY), np.nan)
        self._weighted = np.zeros((HISTORY, DAY))  # weight · residual
        self._weight = np.zeros((HISTORY, DAY))  # weight, 0 where no hour is
        self._offset = np.full(HISTORY, np.nan)
        self._habit = np.full(HISTORY, -1)
        self._level = np.full(HISTORY, -1)
        self._windows = np.array(parameters.windows)
        self._z: Array | None = None  # of the hour taken last, by window; None where nothing can be said

    def _take(self, flow: float) -> None:
        """The next hour, and how far each window that ends with it is from its baseline."""
        if self._hour == DAY:
            self._today += timedelta(days=1)
            self._hour = 0
        if self._hour == 0:
            self._start_day()
        hour = self._hour
        self._hour += 1
        known = abs(flow) < math.inf  # false for NaN too
        if known:
            residual = flow - self._profile[hour]
            self._flow[-1, hour], self._residual[-1, hour] = flow, residual
            self._weighted[-1, hour], self._weight[-1, hour] = self._weights[hour] * residual, self._weights[hour]
        at = hour + 1 + (HISTORY - 1) * DAY
        self._sums[:, at] = self._sums[:, at - 1] + (self._weighted[-1, hour], self._weight[-1, hour])
        if self._hour == DAY:
            share = self._weight[-1].sum()
            self._offset[-1] = self._weighted[-1].sum() / share if share >= LEAST_SHARE else np.nan
        self._z = None
        if known and self._days > WARM_UP:
            self._compare(at)

    # -- what is usual, learned at the start of each day -----------------------------------------------------

    def _start_day(self) -> None:
        for rows, empty in (
            (self._flow, np.nan),
            (self._residual, np.nan),
            (self._weighted, 0),
            (self._weight, 0),
            (self._offset, np.nan),
            (self._level, self._level_now),
            (self._habit, SUNDAY if self._today in self.holidays else self._today.weekday()),
        ):
            rows[:-1] = rows[1:]
            rows[-1] = empty
        self._days += 1
        if self._days > 21 and self._days % 7 == 1:
            self._learn_weights()
        self._learn_today()

    def _learn_today(self) -> None:
        """All that holds for the whole of today and follows from the days before."""
        self._profile = self._usual_shape()
        self._odd = any(self._today + timedelta(days=days) in self.holidays for days in (-1, 0, 1))
        self._sums = np.zeros((2, HISTORY * DAY + 1))
        np.cumsum(self._weighted.ravel(), out=self._sums[0, 1:])
        np.cumsum(self._weight.ravel(), out=self._sums[1, 1:])
        if self._days > WARM_UP:
            self._learn_noise()
            self._learn_baselines()

    def _usual_shape(self) -> Array:
        """(24,) the deviation of today's hours from the level of the week, as the same weekdays before had it."""
        days = self._flow[:-1]
        count = np.isfinite(days).sum(axis=1)
        whole = count >= 18
        mean = np.where(whole, np.nansum(days, axis=1) / np.maximum(count, 1), np.nan)
        same = np.nonzero(whole & (self._habit[:-1] == self._habit[-1]))[0][-self.parameters.profile_weeks :]
        if len(same) < 2:
            same = np.nonzero(whole)[0][-10:]
        if not len(same):
            return np.zeros(DAY)
        profile = nanmedian(np.array([days[i] - np.nanmedian(mean[max(0, i - 6) : i + 1]) for i in same]))
        return np.where(np.isfinite(profile), profile, 0.0)

    def _learn_weights(self) -> None:
        rows = self._residual[-1 - self.parameters.noise_days - 14 : -1]
        deviations = np.array([rows[i] - nanmedian(rows[i - 14 : i]) for i in range(14, len(rows))])
        deviations = deviations[np.isfinite(deviations).all(axis=1)]
        if len(deviations) >= 10:
            self._weights = least_variance_weights(deviations, self.parameters.shrinkage)
            noise = nanmedian(np.abs(deviations - np.median(deviations, axis=1, keepdims=True)))
            self._hour_noise = np.maximum(noise, 0.2 * noise.mean() + 1e-9)

    def _learn_noise(self) -> None:
        """The deviation of the offset from day to day, and that of windows shorter than a day by hour of day."""
        rows = slice(-1 - self.parameters.noise_days, -1)
        offset = self._offset[rows]
        seen = self._flow[rows]
        count = np.isfinite(seen).sum()
        self._mean_flow = float(np.nansum(seen) / count) if count else math.nan
        # a flow without any noise is a simulation or a coarse meter: no reason for infinite certainty
        self._noise = max(spread(np.diff(offset)) / math.sqrt(2), 0.001 * abs(self._mean_flow), 1e-6)
        same = (self._level[rows][7:] == self._level[rows][:-7]) & (self._level[rows][7:] >= 0)
        weekly = (offset[7:] - offset[:-7])[same]
        weekly = weekly[np.isfinite(weekly)]
        least, most = self.parameters.wander
        drift = 1.4826 * np.median(np.abs(weekly)) if len(weekly) >= 10 else 0.0
        self._wander = float(
            np.clip((drift**2 - 2 * self._noise**2) / 7, least * self._noise**2, most * self._noise**2)
        )
        ends = np.arange(len(offset) * DAY)[DAY:] + 1 + (HISTORY - 1 - len(offset)) * DAY
        self._own = np.tile(self._noise**2 * DAY / self._windows, (DAY, 1))
        for i, window in enumerate(self._windows[self._windows < DAY]):
            with np.errstate(invalid="ignore", divide="ignore"):
                total, share = self._sums[:, ends] - self._sums[:, ends - window]
                away = np.abs((total / share).reshape(-1, DAY) - offset[:-1, None])
            self._own[:, i] = np.maximum(1.4826 * nanmedian(away), self._noise) ** 2

    def _learn_baselines(self) -> None:
        """Per window: the baseline, and the deviation of a window's mean from it where nothing has changed."""
        self._base = np.full(len(self._windows), np.nan)
        used, age = np.full((2, len(self._windows)), np.nan)
        for i in range(len(self._windows)):
            days = self._baseline_days(i)
            if len(days) >= 3:
                self._base[i] = np.median(self._offset[days])
                used[i], age[i] = len(days), HISTORY - 1 - days.mean()
        # 1.5: a median's variance beside a mean's; 2/3: both ends of a random walk are means over some time
        self._error = np.sqrt(self._own + self._noise**2 * 1.5 / used + self._wander * age * 2 / 3)

    def _baseline_days(self, i: int) -> NDArray[np.intp]:
        """Rows of the last days of the present level that window `i` cannot touch."""
        span = -(-int(self._windows[i]) // DAY)
        good = (self._level == self._level_now) & np.isfinite(self._offset)
        good[: max(0, HISTORY - self._days + UNSURE)] = False
        return np.flatnonzero(good[: HISTORY - 1 - span])[-max(self.parameters.baseline_days, 2 * span) :]

    def _compare(self, at: int) -> None:
        """Deviations from the baseline of every window that ends with this hour. `at`: the hour's place in the sums."""
        total, share = self._sums[:, at, None] - self._sums[:, at - self._windows]
        enough = share >= LEAST_SHARE * np.minimum(self._windows, DAY) / DAY * np.maximum(1, self._windows // DAY)
        with np.errstate(invalid="ignore", divide="ignore"):
            self._mean = total / share
        z = (self._mean - self._base) / self._error[self._hour - 1]
        self._usable = enough & np.isfinite(z)
        self._z = np.where(self._usable, z, np.nan)

    def _tail(self, hours: int) -> tuple[Array, Array]:
        """(weighted residuals, weights) of the last hours, latest first; zero where there is none."""
        end = (HISTORY - 1) * DAY + self._hour
        return self._weighted.ravel()[end - hours : end][::-1], self._weight.ravel()[end - hours : end][::-1]

    def _stored(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"today": self._today.isoformat()} | {name: _plain(getattr(self, name)) for name in _STORED}

    def _restore(self, state: Mapping[str, Any]) -> None:
        for name in _STORED:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                stored = np.array([np.nan if x is None else x for x in state[name]], dtype=value.dtype)
                value[...] = stored.reshape(value.shape)
            else:
                setattr(self, name, state[name])
        if self._days:
            self._learn_today()


_STORED = (
    "_hour", "_days", "_level_now", "_levels", "_changed", "_weights", "_hour_noise",
    "_flow", "_residual", "_weighted", "_weight", "_offset", "_habit", "_level",
)  # fmt: skip


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return [None if x != x else x for x in value.ravel().tolist()]
