"""Bursts and background estimates: real losses built up from leaks, with the times that work orders recorded. Pure.

Volume of a burst = flow · (awareness + location + repair time); a flow that was not measured is the standard one at
50 m times (P/50)^N1. Source: Lambert's BABE as in Thornton, Sturm, Kunkel, *Water Loss Control* (2nd ed. 2008).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gis.night_flow import STANDARD_M, pressure_factor

# Standard flows at 50 m, m³/h (WLC): a reported and an unreported burst of a main, one of a service pipe.
FLOWS_M3_H = {"reported_main": 12.0, "unreported_main": 6.0, "service": 1.6}
# Where no time of its beginning is known: a burst people see is told within a day, another runs for weeks (WLC).
AWARENESS = {
    "reported_main": timedelta(days=1),
    "unreported_main": timedelta(days=50),
    "service": timedelta(days=8),
}


@dataclass(slots=True, frozen=True)
class Burst:
    """One leak that was stopped. `began_at` and `flow_m3_h` are None where nobody knows them."""

    order: str
    kind: str
    began_at: datetime | None
    known_at: datetime
    located_at: datetime
    stopped_at: datetime
    flow_m3_h: float | None

    @property
    def awareness(self) -> timedelta:
        """From its beginning until somebody knew; the standard time where its beginning is not known."""
        return AWARENESS[self.kind] if self.began_at is None else max(timedelta(), self.known_at - self.began_at)

    @property
    def location(self) -> timedelta:
        """From knowing to pinpointing."""
        return max(timedelta(), self.located_at - self.known_at)

    @property
    def repair(self) -> timedelta:
        """From pinpointing to stopping."""
        return max(timedelta(), self.stopped_at - self.located_at)

    def flow(self, pressure_m: float | None, n1: float) -> float:
        """Its flow in m³/h: as measured, else the standard one at the zone's pressure."""
        if self.flow_m3_h is not None:
            return self.flow_m3_h
        return FLOWS_M3_H[self.kind] * (pressure_factor(pressure_m, STANDARD_M, n1) if pressure_m else 1.0)

    def volume_m3(self, lower: datetime, upper: datetime, pressure_m: float | None, n1: float) -> float:
        """What ran out of it within [lower, upper)."""
        begins = max(lower, self.known_at - self.awareness)
        ends = min(upper, self.stopped_at)
        return self.flow(pressure_m, n1) * max(0.0, (ends - begins).total_seconds()) / 3600
