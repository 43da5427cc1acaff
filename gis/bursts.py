"""New leaks and bursts from the hourly net inflow of zones, hour by hour, by what was known at that hour. Pure.

`Detector` is one zone: feed it hours as they come, store its state between two runs of a job. `feed_together` does it
for all zones of a town, so that what they share is not taken for a leak. `gis.usual_flow` says what is usual.

Hours are local wall-clock hours: see `local_hours`. Flows are means of the hour in any one unit, called m³/h here.
Faults of meters are to be masked before (`gis.flow_faults`), known uses such as flushing to be taken off.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np

from gis.robust import DAY, Array, nanmean, nanmedian
from gis.usual_flow import HISTORY, WARM_UP, Parameters, UsualFlow, local_hours

__all__ = ["WARM_UP", "Detector", "Event", "Parameters", "feed_together", "local_hours"]

MIDNIGHT = time(0)
# A day is looked at in parts of so many hours.
PART = 4
# Of the events only so many latest can be open.
RECENT = 8


@dataclass(slots=True)
class Event:
    """One leak as far as the inflow tells. Times are local and naive; `detected_at` is the end of the deciding hour.

    `kind`: `burst` (seen within two days of its onset) or `incipient`. `status`: `open`, or `closed` when the flow fell
    back. `size_m3h` with 95 % limits is the present size, of a closed event its last; `largest_m3h` the largest so far.
    `baseline_m3h` is the offset before it, `grown_at` its last significant rise. `facts` let a person check it:

    - `window_hours`, `statistic`, `threshold`: the window that decided, its deviations from the baseline and the limit
    - `error_m3h`, `baseline_days`: one such deviation, and the days before that are the baseline
    - `night_hours`, `expected_night_m3h`, `observed_night_m3h`: the three quietest hours, as usual and as seen since
      the onset (None: not yet)
    - `parts_m3h`: the rise in each four hours of the day; a leak raises all alike, weather and watering do not
    - `neighbours`: deviations that most other zones show at the same time, already taken off the statistic
    - `missing_hours` of the window, because of gaps or faults; `holiday`: whether one is next to the day
    """

    kind: str
    detected_at: datetime
    onset_at: datetime
    size_m3h: float
    low_m3h: float
    high_m3h: float
    baseline_m3h: float
    largest_m3h: float
    grown_at: datetime
    status: str = "open"
    closed_at: datetime | None = None
    updates: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def feed_together(
    detectors: Sequence["Detector"], flows: Sequence[Sequence[float]] | Array, begins: Sequence[int] | None = None
) -> list[list[Event]]:
    """Feed the same hours of neighbouring zones; the events each raised.

    What most of them show at once (a heat wave, a holiday, the start of watering) is no leak in one of them: of a
    zone's deviation, the median of the others' is taken off. With two others it is the lower one. All detectors must
    stand at the same hour, but for those that take their first hour later: at hour `begins` of the flows.
    """
    raised = [len(detector.events) for detector in detectors]
    nothing = np.full(len(detectors[0].parameters.windows), np.nan) if detectors else np.array([])
    for number, hour in enumerate(zip(*flows, strict=True)):
        begun = [number >= begin for begin in begins or [0] * len(detectors)]
        for detector, flow, takes in zip(detectors, hour, begun, strict=True):
            if takes:
                detector._take(flow)
        z = np.array([nothing if detector._z is None else detector._z for detector in detectors])
        shared = _middle_of_others(z) if len(detectors) else z
        for detector, common, takes in zip(detectors, shared, begun, strict=True):
            if takes:
                detector._decide(common)
    return [detector.events[before:] for detector, before in zip(detectors, raised, strict=True)]


def _middle_of_others(z: Array) -> Array:
    """Of each row, by column, the (lower) median of the other rows' finite values; 0 where fewer than two are.

    Taking one value out of a sorted column moves the middle up by one place where the value stood at or below it.
    """
    finite = np.isfinite(z)
    others = finite.sum(axis=0) - finite
    middle = np.maximum(others - 1, 0) // 2
    in_order = np.sort(z, axis=0)  # NaN last
    moved = finite & (z <= np.take_along_axis(in_order, middle, axis=0))
    found = np.take_along_axis(in_order, np.minimum(middle + moved, len(z) - 1), axis=0)
    return np.where(others >= 2, np.nan_to_num(found), 0.0)


class Detector(UsualFlow):
    """Finds events in the inflow of one zone. Feed it hours in order; it looks at no later ones.

    Every hour the mean offset of each window is compared with the baseline: the median offset of the last days of the
    same *level*. A rise by more than `threshold` deviations and `min_share` of the mean inflow raises an event and
    starts a new level; a return to the level before closes it, so that the next leak is seen against days without one.
    While an event is open a further rise is its growth, unless it is abrupt or comes after `quiet_days` without any.
    """

    def __init__(self, first: date, holidays: Container[date] = (), parameters: Parameters = Parameters()) -> None:
        """`first`: the local day of the first hour to be fed. `holidays` are days with the habits of a Sunday."""
        super().__init__(first, holidays, parameters)
        self.events: list[Event] = []
        self._strict = 1 + parameters.short * DAY / self._windows

    def feed(self, flows: Sequence[float] | Array) -> list[Event]:
        """Take the next hours (NaN where there is none); the events they raised, in order of detection."""
        raised = len(self.events)
        for flow in flows:
            self._take(flow)
            self._decide(None)
        return self.events[raised:]

    def to_state(self) -> dict[str, Any]:
        """All that the detector knows, for JSON: a nightly job stores it and goes on with `from_state`."""
        return self._stored() | {"events": [_event_to_plain(event) for event in self.events]}

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], holidays: Container[date] = (), parameters: Parameters = Parameters()
    ) -> "Detector":
        """The detector as it was when `to_state` was called."""
        detector = cls(date.fromisoformat(state["today"]), holidays, parameters)
        detector._restore(state)
        detector.events = [_event_from_plain(event) for event in state["events"]]
        return detector

    # -- the test of each hour -------------------------------------------------------------------------------

    def _decide(self, common: Array | None) -> None:
        """Act on the windows of this hour. `common`: deviations that neighbouring zones share, by window."""
        if self._hour == DAY:
            self._resize()
        if self._z is None:
            return
        if any(event.status == "open" for event in self.events[-RECENT:]):
            self._returned(self._mean)
        rise, z = self._mean - self._base, (self._mean - self._base) / self._error[self._hour - 1]
        shared = np.zeros(len(z)) if common is None else np.maximum(common, 0.0)
        z = np.where(z > 0, z - shared, z)
        hours = self._days * DAY + self._hour - self._changed
        usable = self._usable & (self._windows <= hours) & (np.abs(rise) >= self.parameters.min_share * self._mean_flow)
        strict = self._strict * (self.parameters.holiday if self._odd else 1)
        z_strict = np.where(usable & np.isfinite(z), z / strict, 0.0)
        order = np.argsort(-z_strict)
        for i in order[z_strict[order] > self.parameters.threshold]:
            parts = self._parts(i)
            if self._lasting(i, parts, rise[i]):
                self._risen(int(i), float(rise[i]), parts, {"statistic": float(z[i]), "neighbours": float(shared[i])})
                return
        least = int(order[-1])
        if z_strict[least] < -self.parameters.threshold:
            self._fell(least, float(rise[least]))

    def _lasting(self, i: int, parts: Array, rise: float) -> bool:
        """Whether the whole day has risen, of windows below two days all parts but one: a leak runs all the time."""
        counted = np.sort(parts[np.isfinite(parts)])
        which = min(len(counted) - 1, 0 if self._windows[i] >= 2 * DAY else 1)
        return bool(len(counted) and counted[which] > self.parameters.lasting * max(rise, counted.mean()))

    def _now(self) -> datetime:
        """The end of the hour taken last."""
        return datetime.combine(self._today, MIDNIGHT) + timedelta(hours=self._hour)

    def _risen(self, best: int, rise: float, parts: Array, facts: dict[str, float]) -> None:
        """A significant rise: an event, or the growth of the open one."""
        window, base = int(self._windows[best]), float(self._base[best])
        margin = 1.96 * float(self._error[self._hour - 1, best])
        onset = self._hours_since_change(window, base, rise)
        now, current = self._now(), self._latest_open() or self._closed_too_soon()
        if current is not None and self._growth(current, window, onset):
            current.status, current.closed_at, current.grown_at = "open", None, now
            current.updates += 1
            current.size_m3h += rise
            current.low_m3h, current.high_m3h = current.size_m3h - margin, current.size_m3h + margin
            current.largest_m3h = max(current.largest_m3h, current.size_m3h)
        else:
            self.events.append(
                Event(
                    kind="burst" if onset <= 2 * DAY else "incipient",
                    detected_at=now,
                    onset_at=now - timedelta(hours=onset),
                    size_m3h=rise,
                    low_m3h=rise - margin,
                    high_m3h=rise + margin,
                    baseline_m3h=base,
                    largest_m3h=rise,
                    grown_at=now,
                    facts=facts | self._facts(best, parts, onset),
                )
            )
        self._start_level(onset)

    def _latest_open(self) -> Event | None:
        return next((event for event in reversed(self.events[-RECENT:]) if event.status == "open"), None)

    def _closed_too_soon(self) -> Event | None:
        """The last event, if it was closed so shortly ago that a rise only says that it should not have been."""
        if self.events and self.events[-1].closed_at is not None:
            ago = self._now() - self.events[-1].closed_at
            return self.events[-1] if ago <= timedelta(hours=self.parameters.reopen_hours) else None
        return None

    def _facts(self, best: int, parts: Array, onset: int) -> dict[str, Any]:
        """See `Event`."""
        window = int(self._windows[best])
        quiet = int(np.argmin([self._profile.take(range(h, h + 3), mode="wrap").sum() for h in range(DAY)]))
        night = [(quiet + i) % DAY for i in range(3)]
        # those hours of the last night that lie after the onset
        seen = [h for h in night if 1 + (self._hour - 1 - h) % DAY <= onset]
        measured = np.array([self._flow[-1 if h < self._hour else -2, h] for h in seen])
        measured = measured[np.isfinite(measured)]
        strict = self._strict[best] * (self.parameters.holiday if self._odd else 1)
        return {
            "window_hours": window,
            "threshold": float(self.parameters.threshold * strict),
            "error_m3h": float(self._error[self._hour - 1, best]),
            "baseline_days": len(self._baseline_days(best)),
            "night_hours": night,
            "expected_night_m3h": float(self._base[best] + self._profile[seen or night].mean()),
            "observed_night_m3h": float(measured.mean()) if len(measured) else None,
            "parts_m3h": [round(float(part), 3) if np.isfinite(part) else None for part in parts],
            "missing_hours": int(np.sum(self._tail(window)[1] == 0) - window * np.mean(self._weights == 0)),
            "holiday": self._odd,
            "level_before": self._level_now,
        }

    def _parts(self, best: int) -> Array:
        """(6,) the rise of each part of the day within a window over the same part on the baseline days."""
        window = int(self._windows[best])
        end = (HISTORY - 1) * DAY + self._hour
        recent = np.full(-(-window // DAY) * DAY, np.nan)
        recent[:window] = self._residual.ravel()[end - window : end][::-1]
        by_hour = np.roll(nanmean(recent.reshape(-1, DAY))[::-1], self._hour)
        above = by_hour - nanmedian(self._residual[self._baseline_days(best)])
        return nanmean(above.reshape(DAY // PART, PART).T)

    def _growth(self, event: Event, window: int, onset: int) -> bool:
        """Whether a rise belongs to the open event."""
        if event.status == "closed":
            return True
        quiet, young = self._now() - event.grown_at, self._now() - event.detected_at
        if quiet.days >= self.parameters.quiet_days:
            return False
        return young.days < self.parameters.young_days or not self._abrupt(window, onset)

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

    def _start_level(self, hours: int, level: int | None = None) -> None:
        """Days after that of a change (hours ago) are of a new level, or again of a former one; that day is of none."""
        if level is None:
            self._levels += 1
            level = self._levels
        self._level_now = level
        self._changed = self._days * DAY + self._hour - hours
        days = 1 + max(0, -(-(hours - self._hour) // DAY))
        self._level[-days:] = level
        self._level[-days] = -1
        self._learn_baselines()

    # -- the end of an event ---------------------------------------------------------------------------------

    def _returned(self, mean: Array) -> None:
        """Close the events whose flow has gone for two days, or for the window that found them."""
        for event in self.events[-RECENT:]:
            if event.status != "open":
                continue
            # as long as it took to see it: what is small beside the noise takes long to be seen gone
            needed = min(event.facts["window_hours"], (event.detected_at - event.onset_at) // timedelta(hours=1))
            i = int(np.argmin(np.abs(self._windows - max(self.parameters.close_hours, needed))))
            ripe = self._now() - event.detected_at >= timedelta(hours=int(self._windows[i])) / 2
            if ripe and self._gone(event, mean[i]):
                self._close_from(event, 0)
                return

    def _gone(self, event: Event, mean: float) -> bool:
        """Whether so little is left of an event at this offset that it is over."""
        return bool(mean - event.baseline_m3h < self.parameters.fallen * event.largest_m3h)

    def _close_from(self, event: Event, hours: int) -> None:
        """Close an event and all later ones: the level is again the one before it, since some hours."""
        for later in self.events[self.events.index(event) :]:
            if later.status == "open":
                later.status, later.closed_at = "closed", self._now()
        self._start_level(max(hours, 1), event.facts["level_before"])

    def _fell(self, best: int, fall: float) -> None:
        """A significant fall: the repair of the open event that it fits best, or only a new level."""
        window, base = int(self._windows[best]), float(self._base[best])
        hours = self._hours_since_change(window, base, fall)
        running = [event for event in self.events if event.status == "open"]
        for event in running:
            if self._gone(event, base + fall):
                self._close_from(event, hours)
                return
        fits = [event for event in running if 0.5 < -fall / event.size_m3h < 1.6]
        if fits:
            repaired = min(fits, key=lambda event: abs(event.size_m3h + fall))
            if repaired is running[-1]:
                self._close_from(repaired, hours)
                return
            repaired.status, repaired.closed_at = "closed", self._now()
            for later in self.events[self.events.index(repaired) :]:
                later.baseline_m3h += fall
        self._start_level(hours)

    def _resize(self) -> None:
        """The present size of the latest open event, by the last three whole days since its onset."""
        event = self._latest_open()
        if event is None:
            return
        since = (self._today - event.onset_at.date()).days
        days = self._offset[max(HISTORY - since, HISTORY - 3) :] if since > 0 else self._offset[:0]
        days = days[np.isfinite(days)]
        if len(days):
            event.size_m3h = float(np.median(days)) - event.baseline_m3h
            margin = 1.96 * float(np.sqrt(self._noise**2 * (1.5 / len(days) + 0.15) + self._wander * since / 3))
            event.low_m3h, event.high_m3h = event.size_m3h - margin, event.size_m3h + margin
            event.largest_m3h = max(event.largest_m3h, event.size_m3h)


_TIMES = ("detected_at", "onset_at", "closed_at", "grown_at")


def _event_to_plain(event: Event) -> dict[str, Any]:
    plain = asdict(event)
    return plain | {name: plain[name] and plain[name].isoformat() for name in _TIMES}


def _event_from_plain(plain: Mapping[str, Any]) -> Event:
    return Event(**{**plain, **{name: plain[name] and datetime.fromisoformat(plain[name]) for name in _TIMES}})
