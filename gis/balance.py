"""The IWA/AWWA M36 water balance of one period, with 95 % margins. Pure arithmetic: no database, no clock.

Volumes are cubic metres of the period. A *margin* is the half-width of the 95 % interval as a fraction of its value;
components are independent and their variances add. Formulas: IWA/AWWA M36; propagation as in WB-EasyCalc 6.17, where
billed metered consumption carries no margin of its own (its error is the meter inaccuracy among the apparent losses).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gis.bands import ili_band, loss_band

HOURS_PER_DAY = 24.0


class Component(NamedTuple):
    """A volume with its margin; water that leaves is negative."""

    m3: float
    margin: float = 0.0

    @property
    def half_width_m3(self) -> float:
        """Half the width of its 95 % interval."""
        return abs(self.m3) * self.margin


@dataclass(slots=True)
class BalanceInputs:
    """What is measured or assessed for one zone, or the whole system, in one period.

    `sources` are the corrected flows over the boundary, outward ones negative, and the storage increase, negative;
    their sum is the system input. `meter_under_registration` is the fraction by which customer meters count too little;
    it applies to the billed metered volume, and to the unbilled metered one when `error_on_unbilled` (M36 counts both,
    WB-EasyCalc the billed one alone). The margins of billed water are zero in both: its error is among the apparent
    losses; the textbook of Thornton et al. gives it one of its own, which may be entered. `stopped_meters` is what
    passed meters that stood still.
    """

    days: float
    sources: list[Component]
    billed_metered: float = 0.0
    billed_unmetered: float = 0.0
    unbilled_metered: float = 0.0
    unbilled_unmetered: list[Component] = field(default_factory=list)
    unauthorised: list[Component] = field(default_factory=list)
    meter_under_registration: float = 0.0
    meter_error_margin: float = 0.0
    data_handling_m3: float = 0.0
    data_handling_margin: float = 0.0
    stopped_meters: list[Component] = field(default_factory=list)
    error_on_unbilled: bool = False
    billed_metered_margin: float = 0.0
    billed_unmetered_margin: float = 0.0
    # what is not known of consumption (gaps, extrapolated tails), as m³ of half-width; widens every loss
    consumption_half_width_m3: float = 0.0

    @property
    def metered_with_error(self) -> float:
        """The volume that customer meters registered, whose error is an apparent loss."""
        return self.billed_metered + (self.unbilled_metered if self.error_on_unbilled else 0.0)


@dataclass(slots=True, frozen=True)
class Balance:
    """The balance's terms in m³ of the period; `half_widths` holds the 95 % half-width in m³ by term."""

    system_input: float
    billed: float
    unbilled: float
    authorised: float
    nrw: float
    water_losses: float
    meter_inaccuracy: float
    unauthorised: float
    apparent: float
    real_losses: float
    half_widths: dict[str, float]

    def margin(self, term: str) -> float | None:
        """The 95 % half-width of `term` as a fraction of it; None when the term is zero."""
        value = getattr(self, term)
        return self.half_widths[term] / abs(value) if value else None

    def limits_95(self) -> dict[str, list[float]]:
        """[low, high] in m³ of every term that has a margin."""
        return {
            term: [getattr(self, term) - half, getattr(self, term) + half] for term, half in self.half_widths.items()
        }

    def terms(self) -> dict[str, float]:
        """All terms by name, in m³."""
        names = [name for name in self.__slots__ if name != "half_widths"]
        return {name: getattr(self, name) for name in names}


def corrected_source(registered_m3: float, error: float) -> float:
    """The true volume behind a source meter of verified `error` (fraction, positive: over-registers)."""
    return registered_m3 / (1 + error)


def meter_inaccuracy(metered_m3: float, under_registration: float) -> float:
    """Water that passed customer meters uncounted, when they count too little by the fraction given."""
    return metered_m3 / (1 - under_registration) - metered_m3


def banded_meter_error(metered: float, bands: Iterable[tuple[float, float]]) -> list[float]:
    """Uncounted volume per flow band of (share of volume, registration as a fraction); unit of `metered`."""
    return [metered * share / registration - metered * share for share, registration in bands]


def quadrature(values: Iterable[float]) -> float:
    """Root of the sum of squares: how independent half-widths, or margins of a product, add."""
    return math.sqrt(sum(value * value for value in values))


def system_input_of(inputs: BalanceInputs) -> float:
    """The water put into the zone or system: inflow less outflow less what was stored."""
    return sum(part.m3 for part in inputs.sources)


def water_balance(inputs: BalanceInputs) -> Balance:
    """The balance of `inputs`. Negative losses are kept as they are: they say that an input is wrong."""
    system_input = system_input_of(inputs)
    billed = inputs.billed_metered + inputs.billed_unmetered
    unbilled = inputs.unbilled_metered + sum(part.m3 for part in inputs.unbilled_unmetered)
    unauthorised = sum(part.m3 for part in inputs.unauthorised)
    inaccuracy = meter_inaccuracy(inputs.metered_with_error, inputs.meter_under_registration)
    stopped = sum(part.m3 for part in inputs.stopped_meters)
    apparent = inaccuracy + stopped + inputs.data_handling_m3 + unauthorised
    nrw = system_input - billed
    water_losses = nrw - unbilled

    input_half = quadrature(part.half_width_m3 for part in inputs.sources)
    billed_halves = (
        inputs.billed_metered * inputs.billed_metered_margin,
        inputs.billed_unmetered * inputs.billed_unmetered_margin,
        inputs.consumption_half_width_m3,
    )
    nrw_half = quadrature((input_half, *billed_halves))
    losses_half = quadrature((nrw_half, *(part.half_width_m3 for part in inputs.unbilled_unmetered)))
    apparent_half = quadrature(
        (
            inaccuracy * inputs.meter_error_margin,
            inputs.data_handling_m3 * inputs.data_handling_margin,
            *(part.half_width_m3 for part in inputs.stopped_meters),
            *(part.half_width_m3 for part in inputs.unauthorised),
        )
    )
    return Balance(
        system_input=system_input,
        billed=billed,
        unbilled=unbilled,
        authorised=billed + unbilled,
        nrw=nrw,
        water_losses=water_losses,
        # the workbook's term: customer meters and data handling together
        meter_inaccuracy=inaccuracy + stopped + inputs.data_handling_m3,
        unauthorised=unauthorised,
        apparent=apparent,
        real_losses=water_losses - apparent,
        half_widths={
            "system_input": input_half,
            "nrw": nrw_half,
            "water_losses": losses_half,
            "apparent": apparent_half,
            "real_losses": quadrature((losses_half, apparent_half)),
        },
    )


@dataclass(slots=True, frozen=True)
class Network:
    """What unavoidable losses depend on: mains, connections, private pipe up to the meter, pressure, hours of supply.

    `pressure_areas` are (connections, average pressure in m). Margins are fractions.
    """

    mains_km: float
    connections: float
    private_pipe_m: float
    pressure_areas: tuple[tuple[float, float], ...]
    supply_h_per_day: float = HOURS_PER_DAY
    mains_margin: float = 0.0
    connections_margin: float = 0.0
    private_margin: float = 0.0
    pressure_margin: float = 0.0
    supply_margin: float = 0.0

    @property
    def pressure_m(self) -> float:
        """Average zone pressure, weighted by connections."""
        return sum(n * p for n, p in self.pressure_areas) / sum(n for n, _ in self.pressure_areas)

    @property
    def private_km(self) -> float:
        """Length of all private pipes up to the meters."""
        return self.connections * self.private_pipe_m / 1000


def uarl_m3_per_day(network: Network) -> float:
    """Unavoidable annual real losses per day (IWA, metric coefficients; Lambert et al. 1999)."""
    litres = 18 * network.mains_km + 0.8 * network.connections + 25 * network.private_km
    return litres * network.pressure_m * network.supply_h_per_day / HOURS_PER_DAY / 1000


def uarl_margin(network: Network) -> float:
    """The 95 % margin of `uarl_m3_per_day`."""
    parts = (
        (18 * network.mains_km, network.mains_margin),
        (0.8 * network.connections, network.connections_margin),
        (25 * network.private_km, quadrature((network.private_margin, network.connections_margin))),
    )
    of_network = quadrature(value * margin for value, margin in parts) / sum(value for value, _ in parts)
    return quadrature((network.supply_margin, network.pressure_margin, of_network))


def indicators(balance: Balance, network: Network, days: float) -> dict[str, Any]:
    """The performance indicators of WB-EasyCalc 6.17, by its names (`_wsp`: per day of supply, when pressurised)."""
    share = HOURS_PER_DAY / network.supply_h_per_day
    conn_days = network.connections * days
    real_margin = balance.margin("real_losses") or 0.0
    carl = balance.real_losses / days
    uarl = uarl_m3_per_day(network)
    real_l = balance.real_losses * 1000 / conn_days * share
    return {
        "avg_pressure_m": network.pressure_m,
        "supply_h_per_day": network.supply_h_per_day,
        "carl_m3_day": carl,
        "uarl_m3_day": uarl,
        "uarl_margin": uarl_margin(network),
        "ili": carl / uarl,
        "ili_margin": quadrature((real_margin, uarl_margin(network))),
        "real_l_conn_day_wsp": real_l,
        "real_l_conn_day_wsp_margin": quadrature((real_margin, network.connections_margin, network.supply_margin)),
        "real_l_conn_day_m": real_l / network.pressure_m,
        "real_m3_km_h_wsp": balance.real_losses / (network.mains_km * days * network.supply_h_per_day),
        "apparent_pct_authorised": balance.apparent / balance.authorised,
        "apparent_l_conn_day": balance.apparent * 1000 / conn_days,
        "nrw_pct_siv": balance.nrw / balance.system_input,
        "nrw_l_conn_day_wsp": balance.nrw * 1000 / conn_days * share,
        **bands(carl / uarl, real_l, balance.nrw * 1000 / conn_days * share, network.pressure_m),
    }


def bands(ili: float, real_l: float, nrw_l: float, pressure_m: float) -> dict[str, str | None]:
    """The bands of an ILI, and of real losses and non-revenue water in l/connection/day; `standard`: high income."""
    named = {"standard": "high_income", "lmic": "low_middle_income"}
    return {
        **{f"ili_band_{name}": ili_band(ili, countries) for name, countries in named.items()},
        **{
            f"real_l_conn_day_band_{name}": loss_band(real_l, pressure_m, "real_losses", countries)
            for name, countries in named.items()
        },
        **{
            f"nrw_l_conn_day_band_{name}": loss_band(nrw_l, pressure_m, "nrw", countries)
            for name, countries in named.items()
        },
    }


def small_system(mains_km: float, connections: float) -> bool:
    """Whether a network is below 32 · miles + connections = 3000, where an ILI says little (AWWA)."""
    return 32 * mains_km / 1.609344 + connections < 3000
