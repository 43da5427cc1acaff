"""What runs unseen in the ground of the simulated town: its leaks, where they are, and their end when a crew digs.

Crews end leaks that the stored simulation lets run on. `Ground.stop` notes that in `repairs.json`; every process of the
demo that knows the water takes it over from there (`take_over`), and the flow is less by the leak's from then on.
"""

import json
import math
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from hub.demo.calendar import hours_since_start
from hub.demo.hydraulics import TANK_AREA_M2, Leak, Series, Water
from hub.demo.network import Network, to_lon_lat
from hub.demo.settings import write_document

# A leak that runs less than this many m³/h is heard by nobody.
HEARD_M3_PER_H = 0.5
# Digging where a leak was pinpointed finds it when it is no further away.
DUG_M = 60.0
# A stop shows from the next full hour that is at least so far away: the meters must hear of it before.
NOTICE_H = 0.1


class Ground:
    """The leaks of a town, and the file that says which of them crews have ended."""

    def __init__(self, water: Water, network: Network, folder: Path) -> None:
        self.water = water
        self._file = folder / "repairs.json"
        self._tank = folder / "town" / "tank.json"
        self._at = {leak.id: to_lon_lat(network.nodes[leak.node]) for leak in water.leaks}
        self._known: dict[str, int] = {}
        self._lock = threading.RLock()  # crews and visitors work on threads of their own
        self.take_over()

    def position(self, leak: Leak) -> tuple[float, float]:
        """Where a leak is, longitude and latitude."""
        return self._at[leak.id]

    def flow(self, leak: Leak, at: datetime) -> float:
        """m³/h that a leak lets out."""
        flows = self.water.leak_m3[leak.id]
        return float(flows[min(max(int(hours_since_start(at)), 0), len(flows) - 1)])

    def largest(self, zone: str | None, at: datetime) -> Leak | None:
        """The leak of a zone that is heard best; None where nothing is heard."""
        heard = [x for x in self.water.leaks if x.zone == zone and self.flow(x, at) > HEARD_M3_PER_H]
        return max(heard, key=lambda leak: self.flow(leak, at), default=None)

    def near(self, position: tuple[float, float], at: datetime) -> Leak | None:
        """The running leak that digging at a position lays open."""
        running = [x for x in self.water.leaks if self.flow(x, at) > 0 and metres(self._at[x.id], position) <= DUG_M]
        return min(running, key=lambda leak: metres(self._at[leak.id], position), default=None)

    def stop(self, leak: Leak, at: datetime) -> None:
        """A crew ends a leak; the water knows it from the next full hour on, and every process soon."""
        with self._lock:
            stops = {**self._known, leak.id: math.ceil(hours_since_start(at) + NOTICE_H)}
            write_document(self._file, stops)
            self.take_over()
            levels = [round(float(level), 3) for level in self.water.tank_level_m]
            if self._tank.is_file():
                write_document(self._tank, levels)

    def take_over(self, not_before: int = 0) -> bool:
        """Take leaks out of the water that crews have ended since the last call; whether there were any.

        `not_before`: an hour until which the meters have told already; no earlier one is changed.
        """
        try:
            stops = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        new = {id_: hour for id_, hour in stops.items() if id_ not in self._known}
        for id_, hour in new.items():
            stop_leak(self.water, id_, max(hour, not_before))
        self._known |= new
        return bool(new)


def stop_leak(water: Water, leak_id: str, hour: int) -> None:
    """Change `water` to one in which a leak ends at a full hour.

    The zone takes in less by the leak's flow in every later hour, and all balances close as before. What tank and pump
    would have given to a leak behind the pump while it stands still stays in the tank until the pump runs again.
    """
    at = next(number for number, leak in enumerate(water.leaks) if leak.id == leak_id)
    leak = water.leaks[at]
    water.leaks[at] = replace(leak, end_hour=float(hour))
    saved = water.leak_m3[leak_id].copy()
    saved[:hour] = 0.0
    water.leak_m3[leak_id] = water.leak_m3[leak_id] - saved
    for name in ("bursts", "net_inflow"):
        water.components[f"{name}/{leak.zone}"] = water.components[f"{name}/{leak.zone}"] - saved
    meters = water.zone_meter_m3
    if leak.zone == "B":
        meters["M3"] = meters["M3"] - saved
    if leak.zone == "C":
        saved = _behind_the_pump(water, saved)
    inlet = meters["M1"] + meters["M2"]
    left = (inlet - saved) / np.maximum(inlet, 1e-9)
    meters["M1"], meters["M2"] = meters["M1"] * left, meters["M2"] * left


def _behind_the_pump(water: Water, saved: Series) -> Series:
    """By how much less the pump gives in each hour; the tank keeps what it could not give less."""
    pumped, kept, less = water.zone_meter_m3["M4"], 0.0, np.zeros_like(saved)
    level = water.tank_level_m.copy()
    for hour in np.flatnonzero(saved):
        less[hour] = min(saved[hour] + kept, pumped[hour])
        kept += saved[hour] - less[hour]
        level[hour + 1] += kept / TANK_AREA_M2
    level_change = np.diff(level) - np.diff(water.tank_level_m)
    water.tank_level_m = level
    water.zone_meter_m3["M4"] = pumped - less
    water.components["storage_increase/C"] = water.components["storage_increase/C"] + level_change * TANK_AREA_M2
    return less


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance in metres between two positions in degrees; flat, which a town is small enough for."""
    east = (a[0] - b[0]) * 111_320 * math.cos(math.radians(a[1]))
    return math.hypot(east, (a[1] - b[1]) * 110_950)
