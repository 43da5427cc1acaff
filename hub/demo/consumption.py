"""What every customer's meter shows at any moment, from the simulated water.

Pure. A meter registers its customer's true use times its accuracy; the dial rolls over at ten to the power of its
dials. Used for back-filled files and live messages alike, so both tell the same story.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hub.demo import calendar
from hub.demo.hydraulics import CLASSES, ZONES, Water
from hub.demo.town import Customer, Town, class_index
from hub.demo.valves import Valves

Volumes = npt.NDArray[np.float64]


class Meters:
    """All customer meters at once. Hours count from the calendar's start and may have a fraction."""

    def __init__(self, town: Town, water: Water, valves: Valves | None = None) -> None:
        """`valves` are those that crews turned since the story began; without them all are as the town was made."""
        self.town = town
        self.hours = water.hours
        self._valves = valves
        self._index = {customer.serial: customer.index for customer in town.customers}
        self._class = class_index(town)
        # Running sum of each class's multiplier at every full hour, and at the start of every week.
        self._running = np.stack([np.concatenate([[0.0], np.cumsum(water.class_factor[name])]) for name in CLASSES])
        weeks = min(town.weight.shape[1], water.hours // 168 + 1)
        edges = np.minimum(np.arange(weeks + 1) * 168, water.hours)
        per_week = np.diff(self._running[:, edges], axis=1)[self._class]
        used = town.base[:, None] * town.weight[:, :weeks] * per_week
        self._at_week = np.concatenate([np.zeros((len(town.customers), 1)), np.cumsum(used, axis=1)], axis=1)
        self._accuracy = np.asarray([customer.accuracy for customer in town.customers])
        self._first = np.asarray([customer.first_register for customer in town.customers])
        self._modulus = np.asarray([10.0**customer.dials for customer in town.customers])

    def used(self, hour: float) -> Volumes:
        """True m³ each customer has used since the start."""
        hour = min(max(hour, 0.0), float(self.hours))
        week = min(int(hour // 168), self._at_week.shape[1] - 2)
        low = int(hour)
        into = self._running[:, low] - self._running[:, week * 168]
        if hour > low:
            into = into + (self._running[:, low + 1] - self._running[:, low]) * (hour - low)
        part = self.town.base * self.town.weight[:, week] * into[self._class]
        return np.asarray(self._at_week[:, week] + part)

    def registers(self, hour: float) -> Volumes:
        """What the dials show, in m³."""
        used = self.used(hour)
        for serial, spans in (self._valves.closed() if self._valves else {}).items():
            index = self._index[serial]
            for begin, end in spans:
                if begin < hour:
                    used[index] -= self.used(hour if end is None else min(hour, end))[index] - self.used(begin)[index]
        return np.asarray((self._first + used * self._accuracy) % self._modulus)

    def registered(self, start: float, end: float) -> Volumes:
        """m³ the meters counted between two hours."""
        return np.asarray((self.used(end) - self.used(start)) * self._accuracy)

    def register_of(self, customer: Customer, hour: float) -> float:
        """One meter's dial."""
        return float(self.registers(hour)[customer.index])

    def registered_by_zone(self, start: float, end: float) -> dict[str, float]:
        """m³ counted in each zone."""
        counted = self.registered(start, end)
        zone = np.asarray([customer.zone for customer in self.town.customers])
        return {code: float(counted[zone == code].sum()) for code in ZONES}


class ZoneMeters:
    """The bulk meters M1..M4: exact, and never rolling over within the demo."""

    FIRST: ClassVar[dict[str, float]] = {"M1": 1_204_518.0, "M2": 988_203.0, "M3": 310_442.0, "M4": 421_904.0}

    def __init__(self, water: Water) -> None:
        self.hours = water.hours
        self._running = {name: np.concatenate([[0.0], np.cumsum(s)]) for name, s in water.zone_meter_m3.items()}
        self._level = water.tank_level_m

    def register(self, meter: str, hour: float) -> float:
        """Register in m³ at an hour."""
        hours = np.arange(self.hours + 1)
        return self.FIRST[meter] + float(np.interp(hour, hours, self._running[meter]))

    def tank_level(self, hour: float) -> float:
        """Level of tank T1 in metres."""
        return float(np.interp(hour, np.arange(self.hours + 1), self._level))


def truth(water: Water, meters: Meters, start: float, end: float) -> dict[str, dict[str, float]]:
    """What really happened in each zone between two whole hours, m³.

    `non_revenue` is net inflow less what customers' meters counted; `real_losses` is the leaks' part of it.
    """
    low, high = round(start), round(end)
    counted = meters.registered_by_zone(low, high)
    found = {}
    for zone in ZONES:
        parts = {
            name: float(water.component(name, zone)[low:high].sum())
            for name in ("net_inflow", "used", "unauthorised", "flushing", "background", "bursts", "storage_increase")
        }
        found[zone] = {
            **parts,
            "registered": counted[zone],
            "under_registration": parts["used"] - counted[zone],
            "real_losses": parts["background"] + parts["bursts"],
            "non_revenue": parts["net_inflow"] - counted[zone],
        }
    return found


def hour_of_month(number: int) -> float:
    """Hour at which the `number`-th calendar month begins."""
    return calendar.hours_since_start(calendar.MONTHS[number])
