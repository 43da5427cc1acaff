"""95 % limits of a water balance by simulation, beside those of the propagation of errors. Pure; seeded.

Every input is drawn from a normal distribution whose 95 % interval is its margin. Beside the plain sums, whose limits
both ways must agree, this gives the limits of the ratios (ILI, shares), which propagation only approximates.
"""

from typing import Any

import numpy as np

from gis.balance import BalanceInputs, Component, Network, meter_inaccuracy, system_input_of, uarl_m3_per_day

SAMPLES = 20_000
SEED = 36
Z_95 = 1.96


def simulated_limits(
    inputs: BalanceInputs, network: Network | None = None, *, samples: int = SAMPLES, seed: int = SEED
) -> dict[str, list[float]]:
    """[2.5 %, 97.5 %] quantiles by term in m³ of the period, and of `nrw_pct_siv`, `carl_m3_day`, `ili` when defined.

    The same inputs and seed give the same limits.
    """
    random = np.random.default_rng(seed)

    def total(parts: list[Component]) -> Any:
        drawn = np.zeros(samples)
        for part in parts:
            drawn += random.normal(part.m3, part.half_width_m3 / Z_95, samples)
        return drawn

    uncounted = meter_inaccuracy(inputs.metered_with_error, inputs.meter_under_registration)
    metered = Component(inputs.billed_metered, inputs.billed_metered_margin)
    supplied = total(inputs.sources)
    billed = total([metered, Component(inputs.billed_unmetered, inputs.billed_unmetered_margin)])
    billed += random.normal(0.0, inputs.consumption_half_width_m3 / Z_95, samples)
    apparent = total(
        [
            Component(uncounted, inputs.meter_error_margin),
            Component(inputs.data_handling_m3, inputs.data_handling_margin),
            *inputs.stopped_meters,
            *inputs.unauthorised,
        ]
    )
    unbilled = inputs.unbilled_metered + total(inputs.unbilled_unmetered)
    real = supplied - billed - unbilled - apparent
    drawn = {
        "system_input": supplied,
        "nrw": supplied - billed,
        "water_losses": supplied - billed - unbilled,
        "apparent": apparent,
        "real_losses": real,
    }
    if system_input_of(inputs) and bool(np.all(supplied != 0)):
        drawn["nrw_pct_siv"] = (supplied - billed) / supplied
    if network is not None:
        drawn["carl_m3_day"] = real / inputs.days
        drawn["ili"] = drawn["carl_m3_day"] / _uarl(network, random, samples)
    return {name: [float(bound) for bound in np.quantile(values, (0.025, 0.975))] for name, values in drawn.items()}


def _uarl(network: Network, random: np.random.Generator, samples: int) -> Any:
    """Draws of unavoidable losses; never below a hundredth of their value, where a ratio would mean nothing."""

    def factor(margin: float) -> Any:
        return random.normal(1.0, margin / Z_95, samples)

    of_connections = factor(network.connections_margin)
    litres = (
        18 * network.mains_km * factor(network.mains_margin)
        + 0.8 * network.connections * of_connections
        + 25 * network.private_km * of_connections * factor(network.private_margin)
    )
    whole = 18 * network.mains_km + 0.8 * network.connections + 25 * network.private_km
    value = uarl_m3_per_day(network)
    drawn = value * litres / whole * factor(network.pressure_margin) * factor(network.supply_margin)
    return np.maximum(drawn, value / 100)
