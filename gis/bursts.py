"""New leaks and bursts from the hourly net inflow of a zone, hour by hour, by what was known at that hour. Pure.

A leak adds the same flow to every hour; demand scales the shape of the day. So each hour is first freed of the usual
shape of its weekday, then the 24 hours are averaged with the weights that see a constant flow best in *this* zone (the
weights of least variance of the last eight weeks: mostly night hours where nights are quiet). This *offset* is compared
over windows from six hours to two weeks with the days before; see `Detector`.

Hours are local wall-clock hours: see `local_hours`. Flows are means of the hour in any one unit, called m³/h here.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DAY = 24
MIDNIGHT = time(0)
SUNDAY = 6
# Days of history that are kept; nothing older has an influence.
HISTORY = 112
# Days before the first test: a profile needs weeks, a noise needs more.
WARM_UP = 35
# Hours of a window that may be missing.
LEAST_SHARE = 0.6


@dataclass(slots=True, frozen=True)
class Parameters:
    """What can be tuned. The same values serve towns of very different size and climate."""

    threshold: float = 5.0  # an event, in standard deviations of the statistic
    min_share: float = 0.03  # the smallest leak worth an event, of the zone's mean inflow
    wander: float = 0.1  # daily variance of the offset's random walk, of its variance from day to day
    profile_weeks: int = 6  # same weekdays that make the shape of the day
    noise_days: int = 56
    baseline_days: int = 21
    shrinkage: float = 0.5  # of the hours' covariance towards its diagonal
    quiet_days: int = 14  # a rise so long after the last one is no growth of the open event but a new one
    fallen: float = 0.4  # an event is over when less than this part of it is left
    windows: tuple[int, ...] = (12, 24, 48, 72, 120, 168, 336)  # hours
    short: float = 0.3  # added to the threshold, as its part, for a window of one day; less for longer windows
    lasting: float = 0.4  # of the rise that nearly all hours must show


@dataclass(slots=True)
class Event:
    """One leak as far as the inflow tells. Times are local and naive; `detected_at` is the end of the deciding hour.

    `kind`: `burst` (within a day) or `incipient` (over several days). `status`: `open`, `closed` (the flow fell back).
    `size_m3h` with 95 % limits is the present size of an open event and the last one of a closed event. `facts` are
    what a person needs to check it on a plot.
    """

    kind: str
    detected_at: datetime
    onset_at: datetime
    size_m3h: float
    low_m3h: float
    high_m3h: float
    baseline_m3h: float
    grown_at: datetime
    status: str = "open"
    closed_at: datetime | None = None
    updates: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


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


def spread(values: Array) -> float:
    """Standard deviation by the median and the 90 % quantile of absolute deviations, whichever says more; or NaN.

    Deaf to a few steps, and yet wary of tails heavier than the normal ones.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
    away = np.abs(values - np.median(values))
    return float(max(1.4826 * np.median(away), np.quantile(away, 0.9) / 1.645))


def least_variance_weights(deviations: Array, shrinkage: float) -> Array:
    """Weights (24,) ≥ 0, sum 1, of the hours of a day by which a constant flow is seen with the least variance.

    `deviations`: (days, 24) of what each hour differed from its usual. A constant flow among them does not change the
    weights; single wild hours are clipped at four standard deviations.
    """
    scale = 1.4826 * np.median(np.abs(deviations - np.median(deviations, axis=0)), axis=0)
    scale = np.maximum(scale, 1e-9 + 0.05 * np.max(scale))
    clipped = np.clip(deviations, -4 * scale, 4 * scale)
    covariance = clipped.T @ clipped / len(clipped)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.maximum(np.diag(covariance), scale**2))
    used = np.arange(DAY)
    while True:
        weights = np.linalg.solve(covariance[np.ix_(used, used)], np.ones(len(used)))
        if np.all(weights >= 0):
            break
        used = used[weights > 0]
    full = np.zeros(DAY)
    full[used] = weights / weights.sum()
    return full


class Detector:
    """Finds events in the inflow of one zone. Feed it hours in order; it looks at no later ones.

    Every hour the mean offset of each window is compared with the baseline: the median offset of the last days of the
    same *level*. A rise by more than `threshold` deviations and `min_share` of the mean inflow raises an event and
    starts a new level; a return to the level before closes it, so that the next leak is seen against days without one.
    While an event is open a further rise is its growth, unless it is abrupt or comes after `quiet_days` without any.
    """

    def __init__(self, first: date, holidays: Container[date] = (), parameters: Parameters = Parameters()) -> None:
        """`first`: the local day of the first hour to be fed. `holidays` are days with the habits of a Sunday."""
        self.parameters = parameters
        self.holidays = holidays
        self.events: list[Event] = []
        self._today = first
        self._hour = 0  # the next hour of today to be fed
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
        self._strict = 1 + parameters.short * np.sqrt(DAY / self._windows)

    def feed(self, flows: Sequence[float] | Array) -> list[Event]:
        """Take the next hours (NaN where there is none); the events they raised, in order of detection."""
        raised = len(self.events)
        for flow in flows:
            if self._hour == 0:
                self._start_day()
            hour = self._hour
            self._hour += 1
            if flow == flow:
                residual = flow - self._profile[hour]
                self._flow[-1, hour], self._residual[-1, hour] = flow, residual
                self._weighted[-1, hour], self._weight[-1, hour] = self._weights[hour] * residual, self._weights[hour]
            at = hour + 1 + (HISTORY - 1) * DAY
            self._sums[:, at] = self._sums[:, at - 1] + (self._weighted[-1, hour], self._weight[-1, hour])
            if flow == flow and self._days > WARM_UP:
                self._test(at)
            if self._hour == DAY:
                self._end_day()
        return self.events[raised:]

    def to_state(self) -> dict[str, Any]:
        """All that the detector knows, for JSON: a nightly job stores it and goes on with `from_state`."""
        state: dict[str, Any] = {name: _plain(getattr(self, name)) for name in _STORED}
        state["today"] = self._today.isoformat()
        state["events"] = [_event_to_plain(event) for event in self.events]
        return state

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], holidays: Container[date] = (), parameters: Parameters = Parameters()
    ) -> "Detector":
        """The detector as it was when `to_state` was called."""
        detector = cls(date.fromisoformat(state["today"]), holidays, parameters)
        for name in _STORED:
            value = getattr(detector, name)
            if isinstance(value, np.ndarray):
                stored = np.array([math.nan if x is None else x for x in state[name]], dtype=value.dtype)
                value[...] = stored.reshape(value.shape)
            else:
                setattr(detector, name, state[name])
        detector.events = [_event_from_plain(event) for event in state["events"]]
        if detector._hour:
            detector._learn_today()
        return detector

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
        self._noise = spread(np.diff(offset)) / np.sqrt(2)
        self._mean_flow = float(np.nanmean(self._flow[rows]))
        ends = np.arange(len(offset) * DAY)[DAY:] + 1 + (HISTORY - 1 - len(offset)) * DAY
        self._own = np.tile(self._noise**2 * DAY / self._windows, (DAY, 1))
        for i, window in enumerate(self._windows[self._windows < DAY]):
            with np.errstate(invalid="ignore", divide="ignore"):
                total, share = self._sums[:, ends] - self._sums[:, ends - window]
                away = np.abs((total / share).reshape(-1, DAY) - offset[:-1, None])
            self._own[:, i] = np.maximum(1.4826 * nanmedian(away), self._noise) ** 2

    def _learn_baselines(self) -> None:
        """Per window: median, number and mean age of the baseline days, which the window cannot touch."""
        self._base = np.full(len(self._windows), np.nan)
        days_used, age = np.full((2, len(self._windows)), np.nan)
        good = (self._level == self._level_now) & np.isfinite(self._offset)
        good[: max(0, HISTORY - self._days + 21)] = False
        for i, span in enumerate(-(-self._windows // DAY)):
            days = np.nonzero(good[: HISTORY - 1 - span])[0][-self.parameters.baseline_days :]
            if len(days) >= 3:
                self._base[i] = np.median(self._offset[days])
                days_used[i], age[i] = len(days), HISTORY - 1 - days.mean()
        common = self._noise**2 * (1.5 / days_used + self.parameters.wander * age * 2 / 3)
        self._error = np.sqrt(self._own + common)

    # -- the test of each hour -------------------------------------------------------------------------------

    def _test(self, at: int) -> None:
        """Compare every window that ends with this hour with its baseline. `at` is the hour's place in the sums."""
        total, share = self._sums[:, at, None] - self._sums[:, at - self._windows]
        enough = share >= LEAST_SHARE * np.minimum(self._windows, DAY) / DAY * np.maximum(1, self._windows // DAY)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / share
        if any(event.status == "open" for event in self.events[-8:]):
            self._returned(mean)
        rise = mean - self._base
        z = rise / self._error[self._hour - 1]
        hours = self._days * DAY + self._hour - self._changed
        usable = enough & (self._windows <= hours) & (np.abs(rise) >= self.parameters.min_share * self._mean_flow)
        z_strict = np.where(usable & np.isfinite(z), z / self._strict, 0.0)
        best = int(np.argmax(np.abs(z_strict)))
        if z_strict[best] > self.parameters.threshold:
            self._risen(best, float(rise[best]), float(z[best]))
        elif z_strict[best] < -self.parameters.threshold:
            self._fell(best, float(rise[best]))

    def _tail(self, hours: int) -> tuple[Array, Array]:
        """(weighted residuals, weights) of the last hours, latest first; zero where there is none."""
        end = (HISTORY - 1) * DAY + self._hour
        return self._weighted.ravel()[end - hours : end][::-1], self._weight.ravel()[end - hours : end][::-1]

    def _now(self) -> datetime:
        """The end of the hour taken last."""
        return datetime.combine(self._today, MIDNIGHT) + timedelta(hours=self._hour)

    def _risen(self, best: int, rise: float, z: float) -> None:
        """A significant rise: an event, or the growth of the open one."""
        if not self._lasting(best, rise):
            return
        window, base, error = (
            int(self._windows[best]),
            float(self._base[best]),
            float(self._error[self._hour - 1, best]),
        )
        onset = self._hours_since_change(window, base, rise)
        current = next((event for event in reversed(self.events) if event.status == "open"), None)
        growing = current is not None and (self._now() - current.grown_at).days < self.parameters.quiet_days
        if current is not None and growing and not self._abrupt(window, onset):
            current.grown_at = self._now()
            current.updates += 1
            current.size_m3h += rise
            current.low_m3h, current.high_m3h = current.size_m3h - 1.96 * error, current.size_m3h + 1.96 * error
        else:
            self.events.append(
                Event(
                    kind="burst" if window <= 2 * DAY else "incipient",
                    detected_at=self._now(),
                    onset_at=self._now() - timedelta(hours=onset),
                    size_m3h=rise,
                    low_m3h=rise - 1.96 * error,
                    high_m3h=rise + 1.96 * error,
                    baseline_m3h=base,
                    grown_at=self._now(),
                    facts={"window_hours": window, "statistic": z, "level_before": self._level_now},
                )
            )
        self._start_level(onset)

    def _lasting(self, best: int, rise: float) -> bool:
        """Whether nearly all hours of the window are risen: a leak runs all the time, use does not."""
        weighted, weight = self._tail(int(self._windows[best]))
        there = weight > 0
        above, weight = weighted[there] / weight[there] - self._base[best], weight[there]
        order = np.argsort(above)
        lower = above[order][np.searchsorted(np.cumsum(weight[order]), 0.2 * weight.sum())]
        return bool(lower > self.parameters.lasting * rise)

    def _abrupt(self, window: int, onset: int) -> bool:
        """Whether a rise during an open event is more than what the growth of the last days goes on to."""
        if window > 2 * DAY:
            return False
        before = self._offset[-5 - (onset + DAY - self._hour) // DAY :][:4]
        before = before[np.isfinite(before)]
        if len(before) < 2:
            return False
        slope = max(0.0, (before[-1] - before[0]) / (len(before) - 1))
        weighted, weight = self._tail(min(window, DAY))
        step = weighted.sum() / weight.sum() - before[-1] - slope * (onset / DAY + 1)
        least = self.parameters.threshold * self._noise * np.sqrt(2)
        return bool(step > max(least, self.parameters.min_share * self._mean_flow))

    def _hours_since_change(self, window: int, base: float, change: float) -> int:
        """Hours since the flow is nearer to the changed level than to the baseline, each hour by its own noise."""
        hours = 2 * max(window, DAY)
        end = (HISTORY - 1) * DAY + self._hour
        residual = self._residual.ravel()[end - hours : end][::-1]
        clearness = 1 / np.tile(self._hour_noise**2, HISTORY)[end - hours : end][::-1]
        towards = np.cumsum(np.where(np.isfinite(residual), (residual - base - change / 2) * clearness, 0.0))
        return int(np.argmax(towards if change > 0 else -towards)) + 1

    def _start_level(self, onset: int) -> None:
        """Days after that of the onset (hours ago) are the baseline from now on; that day itself is none."""
        self._levels += 1
        self._level_now = self._levels
        self._changed = self._days * DAY + self._hour - onset
        days = 1 + max(0, -(-(onset - self._hour) // DAY))
        self._level[-days:] = self._level_now
        self._level[-days] = -1
        self._learn_baselines()

    # -- the end of an event ---------------------------------------------------------------------------------

    def _returned(self, mean: Array) -> None:
        """Close the events whose flow has gone, and go back to the level before them."""
        for event in self.events:
            if event.status != "open":
                continue
            i = int(np.argmin(np.abs(self._windows - max(DAY, event.facts["window_hours"]))))
            if self._now() - event.detected_at < timedelta(hours=int(self._windows[i])) / 2:
                continue
            if mean[i] - event.baseline_m3h < self.parameters.fallen * event.size_m3h:
                for later in self.events[self.events.index(event) :]:
                    if later.status == "open":
                        later.status, later.closed_at = "closed", self._now()
                self._level_now = event.facts["level_before"]
                self._level[-1] = -1
                self._changed = self._days * DAY + self._hour
                self._learn_baselines()
                return

    def _fell(self, best: int, fall: float) -> None:
        """A significant fall: the repair of the open event that it fits best, or only a new level."""
        fits = [event for event in self.events if event.status == "open" and 0.5 < -fall / event.size_m3h < 1.6]
        if fits:
            repaired = min(fits, key=lambda event: abs(event.size_m3h + fall))
            repaired.status, repaired.closed_at = "closed", self._now()
            for later in self.events[self.events.index(repaired) :]:
                later.baseline_m3h += fall
        self._start_level(self._hours_since_change(int(self._windows[best]), float(self._base[best]), fall))

    def _end_day(self) -> None:
        share = self._weight[-1].sum()
        self._offset[-1] = self._weighted[-1].sum() / share if share >= LEAST_SHARE else np.nan
        self._today += timedelta(days=1)
        self._hour = 0


_STORED = (
    "_hour", "_days", "_level_now", "_levels", "_changed", "_weights", "_hour_noise",
    "_flow", "_residual", "_weighted", "_weight", "_offset", "_habit", "_level",
)  # fmt: skip
_TIMES = ("detected_at", "onset_at", "closed_at", "grown_at")


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return [None if x != x else x for x in value.ravel().tolist()]


def _event_to_plain(event: Event) -> dict[str, Any]:
    plain = asdict(event)
    return plain | {name: plain[name] and plain[name].isoformat() for name in _TIMES}


def _event_from_plain(plain: Mapping[str, Any]) -> Event:
    return Event(**{**plain, **{name: plain[name] and datetime.fromisoformat(plain[name]) for name in _TIMES}})


def nanmedian(rows: Array) -> Array:
    """The median of each column without its NaN; NaN where there is no value. Quicker than numpy's, and no warning."""
    ordered = np.sort(rows, axis=0)
    count = np.isfinite(rows).sum(axis=0)
    columns = np.arange(rows.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, columns], ordered[np.minimum(count // 2, len(rows) - 1), columns]
    return np.where(count > 0, (low + high) / 2, np.nan)
