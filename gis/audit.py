"""Annual water audits from plain inputs: the M36 balance, its indicators and costs. Pure.

Three methods, each with its own names, units and defaults:

- `easycalc`: the IWA top-down balance with 95 % margins, as WB-EasyCalc 6.17 computes it; cubic metres of the period.
- `fwas_v5`: the AWWA Free Water Audit Software 5; the names are the columns of the Californian audit files, volumes are
  in the reporting unit. Its constants were confirmed on 2,647 Californian and 1,851 Georgian audits.
- `fwas_v6`: the same balance with the defaults of version 6 (0.25 % of billed authorised consumption, three times).
- `meter_error`: uncounted water of large meters by flow band, from meter tests (AWWA M36).
- `uarl`: unavoidable real losses alone, in US units.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gis.audit_inputs import LARGEST, MOST_TERMS, Inputs
from gis.balance import (
    BalanceInputs,
    Component,
    Network,
    banded_meter_error,
    indicators,
    small_system,
    water_balance,
)
from gis.defaults import DEFAULTS
from gis.fwas import DAYS, FEET_PER_MILE, fwas, uarl_gallons_per_day
from gis.monte_carlo import simulated_limits
from hub.errors import BadInput

# Ten years, as for balances.
MOST_DAYS = 3_700
LEAST_HOURS = 0.1


def audit(method: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The audit of `inputs` by `method` (easycalc, fwas_v5, fwas_v6).

    The answer has the method's own names, the shared terms of a balance, `limits_95`, and `unused_inputs` with every
    input that had no part in it. Raises BadInput naming the field.
    """
    run = METHODS.get(method)
    if run is None:
        raise BadInput(
            f"There is no audit method {str(method)[:40]!r}.",
            field="method",
            value=str(method)[:40],
            remedy=f"Use {', '.join(METHODS)}.",
        )
    read = Inputs(inputs)
    try:
        results = run(read)
    except OverflowError:
        results = {"": math.inf}
    if not _finite(results):
        raise BadInput(
            "The inputs are too far apart to compute with.",
            field="inputs",
            remedy="Look for a misplaced decimal point.",
        )
    return {"method": method, **results, "unused_inputs": read.unused(), "coverage": None, "revision": None}


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


# ---------------------------------------------------------------------------------------------------------- easycalc


def _easycalc(read: Inputs) -> dict[str, Any]:
    days = read.number("days", None, low=1, high=MOST_DAYS)
    under_registration = read.share("meter_under_registration") or 0.0
    sources = [Component(*pair) for pair in read.pairs("sources")]
    if not sources:
        raise BadInput("`sources` is missing.", field="sources", remedy="Write [[volume, margin], …].")
    given = BalanceInputs(
        days=days,
        sources=sources,
        billed_metered=read.number("billed_metered"),
        billed_unmetered=read.number("billed_unmetered"),
        unbilled_metered=read.number("unbilled_metered"),
        unbilled_unmetered=[Component(*pair) for pair in read.pairs("unbilled_unmetered", low=0)],
        unauthorised=[
            Component(volume * days, margin) for volume, margin in read.pairs("unauthorised_m3_per_day", low=0)
        ],
        meter_under_registration=under_registration,
        meter_error_margin=read.number("meter_error_margin"),
        data_handling_m3=read.number("data_handling_m3", low=-LARGEST),
        data_handling_margin=read.number("data_handling_margin"),
        billed_metered_margin=read.number("billed_metered_margin"),
        billed_unmetered_margin=read.number("billed_unmetered_margin"),
    )
    balance = water_balance(given)
    results: dict[str, Any] = {"units": "m3", "days": days, **balance.terms()}
    results |= {f"{term}_margin": balance.margin(term) for term in balance.half_widths}
    network = _network(read)
    if network is not None and balance.system_input and balance.authorised:
        results |= indicators(balance, network, days)
        results["small_system"] = small_system(network.mains_km, network.connections)
    simulated = simulated_limits(given, network)
    return {
        **results,
        "limits_95": balance.limits_95(),
        "simulated_limits_95": {name: pair for name, pair in simulated.items() if np.isfinite(pair).all()},
    }


def _network(read: Inputs) -> Network | None:
    """The network of an EasyCalc audit, None when it is not described."""
    areas = tuple(pair for pair in read.pairs("pressure_areas", low=0) if pair[0] > 0 and pair[1] > 0)
    network = Network(
        mains_km=read.number("mains_km"),
        connections=read.number("connections"),
        private_pipe_m=read.number("avg_private_pipe_m"),
        pressure_areas=areas,
        supply_h_per_day=read.number("supply_h_per_day", 24.0, low=LEAST_HOURS, high=24),
        mains_margin=read.number("mains_margin"),
        connections_margin=read.number("connections_margin"),
        private_margin=read.number("private_margin"),
        pressure_margin=read.number("pressure_margin"),
        supply_margin=read.number("supply_margin"),
    )
    known = areas and network.mains_km > 0 and network.connections > 0
    return network if known else None


# ---------------------------------------------------------------------------------------------------- single figures


def _meter_error(read: Inputs) -> dict[str, Any]:
    """Registered − true volume of large meters: per flow band volume·share/registration − volume·share."""
    volume = read.number("registered_volume", None)
    bands = read.raw("bands")
    if not isinstance(bands, list) or not bands or not all(isinstance(band, dict) for band in bands):
        raise BadInput(
            "`bands` is missing.", field="bands", remedy='Write [{"share": 0.1, "registration_pct": 90.0}, …].'
        )
    if len(bands) > MOST_TERMS:
        raise read.refused("bands", f"has more than {MOST_TERMS} bands", "Add up what belongs together.")
    parts = []
    for band in bands:
        one = Inputs(band)
        share = one.number("share", None, high=1, unit="a fraction of the volume")
        registered = one.number("registration_pct", None, low=1, high=1000, unit="in %")
        parts.append((share, registered / 100))
    errors = banded_meter_error(volume, parts)
    return {"units": str(read.raw("unit") or "")[:40], "band_error": errors, "total": sum(errors), "limits_95": {}}


def _uarl(read: Inputs) -> dict[str, Any]:
    """Unavoidable annual real losses in US units; `curb_to_meter_ft` is the private pipe of each connection."""
    connections = read.number("connections", None)
    private_mi = connections * read.number("curb_to_meter_ft") / FEET_PER_MILE
    mgd = (
        uarl_gallons_per_day(read.number("mains_mi", None), connections, private_mi, read.number("pressure_psi", None))
        / 1e6
    )
    return {"units": "MG", "uarl_mgd": mgd, "uarl_MG_per_365d": mgd * DAYS, "limits_95": {}}


METHODS: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "easycalc": _easycalc,
    "fwas_v5": lambda read: fwas(read, DEFAULTS["fwas_v5"]),
    "fwas_v6": lambda read: fwas(read, DEFAULTS["fwas_v6"]),
    "meter_error": _meter_error,
    "uarl": _uarl,
}
