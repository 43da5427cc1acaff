"""Leaks found in the inflow of zones and in customers' hourly reads, beside plain control charts, scored by one rule.

    python -m benchmarks.detection [folder …] [--events]

A folder holds a town (`truth.json`, `zone_meters.csv`, `zone_meter_hourly.csv.gz`) or metered areas
(`bursts_truth.json`, `inflow_with_bursts.csv.gz`); folders below it are searched. Without one: `waterloss` in
$CURBSTOP_SAMPLES, or else the demo town. Zones simulated here, half of them without any leak, come last. `--events`
lists every event.

The rule: a leak counts from t_d, when it reaches 3 % of its zone's mean inflow. The first event between its start and
t_d + 14 days (areas: and before its end) is true; every other event is false. Updates of an open event cost nothing.
The parameters were chosen on areas DMA1 to DMA3 and on the first half of the L-Town year; the rest is reported apart.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import _leak_data
from benchmarks._leak_data import Leak, Zone
from gis import bursts
from gis.customer_leaks import find_customer_leaks
from gis.robust import spread

MERCY = timedelta(days=14)
WARM_UP_DAYS = bursts.WARM_UP


@dataclass(slots=True)
class Found:
    """One event of any method, and the leak it is credited with."""

    zone: str
    at: datetime
    what: str
    leak: Leak | None = None


@dataclass(slots=True)
class Score:
    """Counts of one method over some zones; `delays` in days from t_d, never below zero."""

    hits: int = 0
    leaks: int = 0
    false: int = 0
    zone_years: float = 0.0
    delays: list[float] | None = None
    large_in_a_day: int = 0
    large: int = 0
    saved_m3: float = 0.0

    def row(self) -> str:
        """Recall, precision, F1, false per zone-year, median delay, large bursts found within a day."""
        recall = self.hits / self.leaks if self.leaks else math.nan
        raised = self.hits + self.false
        precision = self.hits / raised if raised else math.nan
        f1 = 2 * self.hits / (self.leaks + raised) if self.leaks + raised else math.nan
        delay = f"{median(self.delays):.1f}" if self.delays else "–"
        false = f"{self.false} | {self.false / self.zone_years:.2f}" if self.zone_years else "0 | –"
        return (
            f"{self.hits}/{self.leaks} | {recall:.2f} | {precision:.2f} | {f1:.2f} | {false} | {delay} "
            f"| {self.large_in_a_day}/{self.large}"
        )


def credit(zone: Zone, events: list[Found]) -> list[Leak]:
    """Give each event the leak it found, if any; the leaks nobody found are returned."""
    open_ = sorted(zone.leaks, key=lambda leak: leak.counts_from)
    for event in sorted(events, key=lambda event: event.at):
        fits = [leak for leak in open_ if leak.start <= event.at <= leak.until]
        if fits:
            event.leak = fits[0]
            open_.remove(fits[0])
    return open_


def scored(zones: list[Zone], found: dict[str, list[Found]], part: Callable[[Zone, datetime], bool]) -> Score:
    """The score within one part of the data; a leak belongs to the part of its t_d, a false event to its own."""
    score = Score(delays=[])
    assert score.delays is not None
    for zone in zones:
        hours = [zone.first + timedelta(days=day) for day in range(WARM_UP_DAYS, len(zone.flow) // 24)]
        score.zone_years += sum(part(zone, at) for at in hours) / 365.25
        # what had to be found before anything was learned is not counted
        wanted = [leak for leak in zone.leaks if part(zone, leak.counts_from) and leak.until > hours[0]]
        score.leaks += len(wanted)
        hit = {id(event.leak): event for event in found[zone.name] if event.leak is not None}
        score.false += sum(event.leak is None and part(zone, event.at) for event in found[zone.name])
        for leak in wanted:
            event = hit.get(id(leak))
            large = leak.kind == "abrupt" and leak.share >= 0.2
            score.large += large
            if event is not None:
                score.hits += 1
                score.delays.append(max(timedelta(0), event.at - leak.counts_from) / timedelta(days=1))
                score.large_in_a_day += large and event.at - leak.start <= timedelta(days=1)
    return score


# -- the methods ---------------------------------------------------------------------------------------------


def ours(zones: list[Zone]) -> dict[str, list[Found]]:
    """Events of `gis.bursts`, all zones of a town together."""
    detectors = [bursts.Detector(zone.first.date(), zone.holidays) for zone in zones]
    raised = bursts.feed_together(detectors, [zone.flow for zone in zones])
    return {
        zone.name: [Found(zone.name, event.detected_at, described(event)) for event in events]
        for zone, events in zip(zones, raised, strict=True)
    }


def each(method: Callable[[Zone], list[Found]]) -> Callable[[list[Zone]], dict[str, list[Found]]]:
    """A method that looks at one zone at a time."""
    return lambda zones: {zone.name: method(zone) for zone in zones}


def described(event: bursts.Event) -> str:
    """Kind, size with limits, what decided."""
    return (
        f"{event.kind}, {event.size_m3h:.3g} ({event.low_m3h:.3g} to {event.high_m3h:.3g}), "
        f"{event.facts['window_hours']} h, z {event.facts['statistic']:.1f}"
    )


def night_deviations(zone: Zone) -> list[tuple[datetime, float, float]]:
    """(06:00 of each day, night flow 02–05 h, its deviations from the median of the last 28 days)."""
    days = zone.flow[: len(zone.flow) // 24 * 24].reshape(-1, 24)[:, 2:5]
    there = np.isfinite(days).sum(axis=1)
    night = np.where(there >= 2, np.nansum(days, axis=1) / np.maximum(there, 1), np.nan)
    rows = []
    for day in range(WARM_UP_DAYS, len(night)):
        before = night[day - 28 : day]
        if np.isfinite(night[day]) and np.isfinite(before).sum() >= 10:
            z = (night[day] - np.nanmedian(before)) / max(spread(before), 1e-9)
            rows.append((zone.first + timedelta(days=day, hours=6), float(night[day]), float(z)))
    return rows


def charted(alarm: Callable[[float], bool], zone: Zone) -> list[Found]:
    """One event for each unbroken run of alarmed days."""
    found, alarmed = [], False
    for at, _, z in night_deviations(zone):
        now = alarm(z)
        if now and not alarmed:
            found.append(Found(zone.name, at, f"z {z:.1f}"))
        alarmed = now
    return found


def cusum(k: float, h: float) -> Callable[[Zone], list[Found]]:
    """S = max(0, S + z − k), alarm above h; the sum starts anew when the alarm has lasted two weeks."""

    def run(zone: Zone) -> list[Found]:
        total, days = 0.0, 0

        def alarm(z: float) -> bool:
            nonlocal total, days
            total = min(max(0.0, total + z - k), 3 * h)
            days = days + 1 if total > h else 0
            if days > MERCY.days:
                total, days = 0.0, 0
            return total > h

        return charted(alarm, zone)

    return run


def ewma(weight: float, limit: float) -> Callable[[Zone], list[Found]]:
    """Z = λz + (1 − λ)Z, alarm above L·√(λ / (2 − λ))."""

    def run(zone: Zone) -> list[Found]:
        mean = 0.0

        def alarm(z: float) -> bool:
            nonlocal mean
            mean = weight * min(z, 20.0) + (1 - weight) * mean
            return mean > limit * math.sqrt(weight / (2 - weight))

        return charted(alarm, zone)

    return run


def shewhart(zone: Zone) -> list[Found]:
    """Alarm above three deviations."""
    return charted(lambda z: z > 3, zone)


def minimum_night_flow(share: float) -> Callable[[Zone], list[Found]]:
    """LeakDB's rule: above (1 + λ) times the least of the last ten nights without an alarm."""

    def run(zone: Zone) -> list[Found]:
        found, quiet, alarmed = [], [], False
        for at, night, _ in night_deviations(zone):
            now = len(quiet) >= 10 and night > (1 + share) * min(quiet[-10:])
            if now and not alarmed:
                found.append(Found(zone.name, at, f"{night:.3g} against {min(quiet[-10:]):.3g}"))
            if not now:
                quiet.append(night)
            alarmed = now
        return found

    return run


def fortnightly(zone: Zone) -> list[Found]:
    """The control that knows nothing: an alarm every 14 days."""
    days = range(WARM_UP_DAYS, len(zone.flow) // 24, MERCY.days)
    return [Found(zone.name, zone.first + timedelta(days=day), "") for day in days]


METHODS: dict[str, Callable[[list[Zone]], dict[str, list[Found]]]] = {
    "Curbstop": ours,
    "CUSUM k 0.5, h 5": each(cusum(0.5, 5)),
    "CUSUM k 1, h 6": each(cusum(1, 6)),
    "EWMA λ 0.2, L 3": each(ewma(0.2, 3)),
    "EWMA λ 0.2, L 5": each(ewma(0.2, 5)),
    "Shewhart 3σ": each(shewhart),
    "night flow + 20 %": each(minimum_night_flow(0.2)),
    "night flow + 30 %": each(minimum_night_flow(0.3)),
    "alarm every 14 days": each(fortnightly),
}


# -- the report ----------------------------------------------------------------------------------------------


def report(title: str, zones: list[Zone], list_events: bool) -> None:
    """The tables of one town or set of areas."""
    print(f"\n### {title}\n")
    parts: dict[str, Callable[[Zone, datetime], bool]] = {"all": lambda zone, at: True}
    if any(zone.tuned_until is not None for zone in zones):
        parts["tuned on"] = lambda zone, at: zone.tuned_until is not None and at < zone.tuned_until
        parts["the rest"] = lambda zone, at: zone.tuned_until is None or at >= zone.tuned_until
    print("| method | part | found | recall | precision | F1 | false | per zone-year | delay, days | ≥ 20 % in 1 d |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    kept: list[tuple[Zone, list[Found], list[Leak]]] = []
    for name, method in METHODS.items():
        started = time.process_time()
        found = method(zones)
        took = time.process_time() - started
        missed = {zone.name: credit(zone, found[zone.name]) for zone in zones}
        for label, part in parts.items():
            print(f"| {name} | {label} | {scored(zones, found, part).row()} |")
        if method is ours:
            kept = [(zone, found[zone.name], missed[zone.name]) for zone in zones]
            years = sum(len(zone.flow) for zone in zones) / 8766
            print(f"{took / years:.2f} s per zone-year", file=sys.stderr)
    if list_events:
        print("\n| zone | time | event | verdict |\n|---|---|---|---|")
        for zone, events, leaks in kept:
            lines = [(event.at, event.what, verdict(event)) for event in events]
            lines += [(leak.start, "none", f"missed: {leak}") for leak in leaks]
            for at, what, said in sorted(lines):
                print(f"| {zone.name} | {at:%Y-%m-%d %H:%M} | {what} | {said} |")


def verdict(event: Found) -> str:
    """Which leak an event found, and when, or that it is false."""
    if event.leak is None:
        return "**false**"
    return f"{event.leak}; {(event.at - event.leak.start) / timedelta(days=1):.1f} d after its start"


def report_customers(title: str, reads: list[_leak_data.CustomerReads]) -> None:
    """Recall and precision of leaks behind the meter, by customer, against the plain 24-hour rule."""
    print(f"\n### {title}: customers\n")
    print("| rule | leaks | found | false | recall | precision |\n|---|---|---|---|---|---|")

    def plain(row: _leak_data.CustomerReads) -> bool:
        wet = np.convolve(np.nan_to_num(row.litres, nan=1.0) >= 1, np.ones(24), "valid")
        return bool((wet == 24).any())

    rules: dict[str, Callable[[_leak_data.CustomerReads], bool]] = {
        "Curbstop": lambda row: bool(find_customer_leaks(row.first, row.litres)),
        "a litre in each of 24 hours": plain,
    }
    for name, rule in rules.items():
        named = [row for row in reads if rule(row)]
        true = sum(row.leaks for row in named)
        all_ = sum(row.leaks for row in reads)
        print(f"| {name} | {all_} | {true} | {len(named) - true} | {true / all_:.3f} | {true / len(named):.3f} |")


def main() -> None:
    """Find the folders, run every method, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--events", action="store_true", help="list every event of Curbstop and every leak it missed")
    options = parser.parse_args()
    folders = options.folder
    if not folders and os.environ.get("CURBSTOP_SAMPLES"):
        folders = [Path(os.environ["CURBSTOP_SAMPLES"]) / "waterloss"]
    sets = [dataset for folder in folders for dataset in _leak_data.read(folder)] or [_leak_data.demo_town()]
    if folders and not any(folder.is_dir() for folder in folders):
        parser.error(f"no folder at {', '.join(map(str, folders))}")
    for dataset in [*sets, _leak_data.simulated()]:
        report(dataset.title, dataset.zones, options.events)
        if dataset.customers:
            report_customers(dataset.title, dataset.customers)


if __name__ == "__main__":
    main()
