"""Night flow of a zone: what still runs in when nearly everybody sleeps, and what that says of leakage. Pure.

Flows are m³/h unless a name says litres; pressures are metres of head. Sources: WLC (Thornton, Sturm, Kunkel, *Water
Loss Control*, 2nd ed. 2008, after UK Water Industry *Managing Leakage* 1994 and IWA), LS (leakssuite.com). Figures
that the sources give in other units were converted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

# Pressure at which the standard flows below hold.
STANDARD_M = 50.0
# Of the people at home this share uses water in a night hour, this much each time (WLC: 6 %, 10 l).
ACTIVE_SHARE, LITRES_PER_USE = 0.06, 10.0
PEOPLE_PER_DWELLING = 2.5
# What a head uses a day where those two figures were found (England and Wales); tells people from billed use.
LITRES_PER_HEAD = 150.0
# A small non-household user at night (UK Water Industry, Managing Leakage, report E) …
SMALL_USER_L_H = 8.0
# … and one of any size, as a share of its mean use. That night use follows billed use by kind of user is the method of
# UKWIR 99/WM/08/26; the shares are our own: a quarter of the mean, more where work goes on around the clock.
NIGHT_SHARE, ROUND_THE_CLOCK_SHARE = 0.25, 0.6
_ROUND_THE_CLOCK = ("industr", "factor", "manufact", "hospital", "clinic", "hotel", "bak", "port", "airport", "prison")
# Fewer metered places of a class than this say nothing of the others.
FEWEST_METERED = 5
# A running service-pipe burst at 50 m (BABE standard values, WLC).
BURST_M3_H = 1.6
BURST_EXPONENT = 0.5
BACKGROUND_EXPONENT = 1.5
# Exponent of leakage against pressure: fixed holes in rigid pipe, flexible pipe, and a mixture (WLC, LS).
N1_RIGID, N1_FLEXIBLE, N1_MIXED = 0.5, 1.5, 1.0
_FLEXIBLE = ("pe", "pvc", "plast", "hdpe", "mdpe", "ldpe", "pp", "poly", "upvc", "grp")


@dataclass(slots=True, frozen=True)
class Night:
    """One night's flow: the mean of 02–04 local time and the lowest full hour before six; None where hours miss."""

    day: str
    mean_02_04: float | None
    lowest_hour: float | None


def minimum_night_flow(nights: Iterable[Night], method: str) -> float | None:
    """The median of the nights' flows by `method` (mean_02_04 or lowest_hour); None without any whole night."""
    flows = [flow for night in nights if (flow := getattr(night, method)) is not None]
    return median(flows) if flows else None


@dataclass(slots=True, frozen=True)
class ClassUse:
    """Legitimate night use of one class of premises: `source` is `metered` or `assessed`."""

    premise_class: str
    places: float
    litres_per_place_h: float
    source: str
    metered_places: int

    @property
    def m3_h(self) -> float:
        """All its places together."""
        return self.places * self.litres_per_place_h / 1000


@dataclass(slots=True, frozen=True)
class Reporting:
    """Places of a class that reported through the nights: how many, and their flow at night over their mean flow."""

    places: int
    litres_h: float
    night_share: float | None


def night_use(
    places: Mapping[str, float],
    reporting: Mapping[str, Reporting],
    mean_litres_h: Mapping[str, float],
    dwellings: Mapping[str, float] | None = None,
) -> list[ClassUse]:
    """Legitimate night use by class of premises, of `places` by class.

    A class of which at least five places report through the nights, or all, is taken to use at night the share of its
    mean use that those do; `mean_litres_h` is the mean of all its metered places by day and night. Large users are few,
    and a share carries from the sample to them where a mean would not. Without a mean, what the reporting places use on
    average. Otherwise the class is assessed (`assessed_litres_h`), beside what its few reporting places use.
    `dwellings` counts homes by class; by default one at each place.
    """
    found = []
    for name, count in sorted(places.items()):
        seen = reporting.get(name, Reporting(0, 0.0, None))
        mean = mean_litres_h.get(name)
        if seen.places >= min(FEWEST_METERED, count):
            litres = seen.litres_h if mean is None or seen.night_share is None else mean * seen.night_share
            found.append(ClassUse(name, count, litres, "metered", seen.places))
            continue
        rest = assessed_litres_h(name, (dwellings or {}).get(name, count) / count, mean)
        litres = (seen.places * seen.litres_h + (count - seen.places) * rest) / count
        found.append(ClassUse(name, count, litres, "assessed", seen.places))
    return found


def assessed_litres_h(premise_class: str, dwellings: float, mean_litres_h: float | None) -> float:
    """What a place of a class is taken to use at night, in litres per hour, where nobody measures it by the hour.

    Homes: 6 % of the people · 10 l; people by dwellings, or by the place's mean use where that tells of more. Others: a
    share of the mean use of the class, and no less than a small user's 8 l.
    """
    name = premise_class.lower()
    if name in ("residential", "household", "domestic", ""):
        people = max(PEOPLE_PER_DWELLING * dwellings, (mean_litres_h or 0.0) * 24 / LITRES_PER_HEAD)
        return people * ACTIVE_SHARE * LITRES_PER_USE
    share = ROUND_THE_CLOCK_SHARE if any(word in name for word in _ROUND_THE_CLOCK) else NIGHT_SHARE
    return max(SMALL_USER_L_H, (mean_litres_h or 0.0) * share)


def pressure_factor(p1: float, p0: float, n1: float) -> float:
    """L1/L0 = (P1/P0)^N1: how leakage changes with pressure (FAVAD)."""
    return float((p1 / p0) ** n1)


def exponent_of(l1: float, l0: float, p1: float, p0: float) -> float | None:
    """N1 from two states of flow and pressure, as in a night pressure step; None where they do not differ."""
    if min(l1, l0, p1, p0) <= 0 or p1 == p0:
        return None
    return math.log(l1 / l0) / math.log(p1 / p0)


def exponent_of_materials(km_by_material: Mapping[str, float]) -> float:
    """N1 from what the mains are made of, weighted by length; pipe of unknown material counts as mixed."""
    total = sum(km_by_material.values())
    if total <= 0:
        return N1_MIXED
    return sum(km * _material_exponent(material) for material, km in km_by_material.items()) / total


def _material_exponent(material: str) -> float:
    words = material.lower().replace("-", " ").split()
    if not words:
        return N1_MIXED
    return N1_FLEXIBLE if any(word.startswith(_FLEXIBLE) for word in words) else N1_RIGID


def night_day_factor(hourly_pressure_m: Sequence[float], night_pressure_m: float, n1: float) -> float:
    """Hours by which night leakage per hour makes a day's leakage: Σ₂₄ (Pᵢ/P_night)^N1 (LS); 24 at even pressure."""
    return 24 * sum(pressure_factor(p, night_pressure_m, n1) for p in hourly_pressure_m) / len(hourly_pressure_m)


def background_m3_h(
    mains_km: float, connections: float, private_km: float, pressure_m: float, condition: float = 1.0
) -> float:
    """Leakage too small to be found: (20·Lm + 1.25·Nc + 33·Lp)·ICF·(P/50)^1.5 l/h (WLC, converted), as m³/h."""
    litres = (20 * mains_km + 1.25 * connections + 33 * private_km) * condition
    return litres * pressure_factor(pressure_m, STANDARD_M, BACKGROUND_EXPONENT) / 1000


def equivalent_bursts(excess_m3_h: float, pressure_m: float) -> float:
    """How many service-pipe bursts the excess night flow amounts to; none when there is no excess."""
    return max(0.0, excess_m3_h) / (BURST_M3_H * pressure_factor(pressure_m, STANDARD_M, BURST_EXPONENT))
