"""How often a zone is worth listening through: economic intervention after Lambert. Pure.

Source: Lambert and Lalonde, "Using practical predictions of economic intervention frequency to calculate short-run
economic leakage level" (IWA Leakage 2005), as given in Thornton, Sturm, Kunkel, *Water Loss Control* (2nd ed. 2008).
"""

import math
from dataclasses import dataclass

FACTOR = 0.789
MONTHS = 12


@dataclass(slots=True, frozen=True)
class Plan:
    """The economic survey of one zone. `months` between surveys, share of the mains and cost a year, water left."""

    months: float
    share_per_year: float
    km_per_year: float
    budget_per_year: float
    unreported_m3_per_year: float


def plan(*, mains_km: float, cost_per_km: float, cost_per_m3: float, rise_m3_km_day_year: float) -> Plan | None:
    """The plan for a zone whose unreported leakage rises by `rise_m3_km_day_year` (m³ per km and day, each year).

    Intervention every √(0.789 · (CI / CV) / RR) months; None where water, surveys or the rise cost nothing.
    """
    if min(mains_km, cost_per_km, cost_per_m3, rise_m3_km_day_year) <= 0:
        return None
    months = math.sqrt(FACTOR * (cost_per_km / cost_per_m3) / rise_m3_km_day_year)
    share = MONTHS / months
    budget = share * mains_km * cost_per_km
    return Plan(months, share, share * mains_km, budget, budget / cost_per_m3)
