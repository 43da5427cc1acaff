"""Annual water audits from plain inputs: the M36 balance, its indicators and costs. Pure.

Three methods, each with its own names, units and defaults:

- `easycalc`: the IWA top-down balance with 95 % margins, as WB-EasyCalc 6.17 computes it; cubic metres of the period.
- `fwas_v5`: the AWWA Free Water Audit Software 5; the names are the columns of the Californian audit files, volumes are
  in the reporting unit. Its constants were confirmed on 2,647 Californian and 1,851 Georgian audits.
- `fwas_v6`: the same balance with the defaults of version 6 (0.25 % of billed authorised consumption, three times).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from gis.balance import BalanceInputs, Component, Network, ili_band, indicators, meter_inaccuracy, water_balance
from hub.errors import BadInput

# FWAS uses both: the long one for costs and UARL, the short one for indicators per connection.
GALLONS_PER_ACRE_FOOT = 325_851.427242
GALLONS_PER_ACRE_FOOT_SHORT = 325_851.0
GALLONS_PER_MILLION = 1e6
GALLONS_PER_CCF = 748.051948
LITRES_PER_GALLON = 3.785411784
DAYS = 365
FEET_PER_MILE = 5280
# Below these FWAS shows no ILI, or losses per mile instead of per connection.
SMALL_SYSTEM = 3000
DENSE_PER_MILE = 32
LARGEST = 1e15
# How an adjustment was entered (the column …_ERR_ADJ_TYPE): as a share, as a volume; 0 and 3 up say nothing.
BY_SHARE, BY_VOLUME = 1.0, 2.0


class _Inputs:
    """Plain inputs with their faults named; remembers which were used."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {str(name).lower(): value for name, value in given.items()}
        self.names = {str(name).lower(): str(name) for name in given}
        self.used: set[str] = set()

    def raw(self, name: str) -> Any:
        self.used.add(name)
        value = self.given.get(name)
        return None if isinstance(value, str) and not value.strip() else value

    def number(self, name: str, default: float | None = 0.0, *, low: float = 0.0) -> float:
        """A finite number of at least `low`. Raises BadInput; `default` None makes it required."""
        value = self.raw(name)
        if value is None:
            if default is None:
                raise BadInput(f"`{name}` is missing.", field=name, remedy="Every audit of this method needs it.")
            return default
        return _number(name, value, low)

    def optional(self, name: str, *, low: float = -LARGEST) -> float | None:
        """A number, or None where it is blank."""
        value = self.raw(name)
        return None if value is None else _number(name, value, low)

    def pairs(self, name: str) -> list[tuple[float, float]]:
        """A list of [value, value] pairs."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
            raise BadInput(f"`{name}` is not a list of pairs.", field=name, remedy="Write [[volume, margin], …].")
        return [(_number(name, first, -LARGEST), _number(name, second, 0.0)) for first, second in value]

    def unused(self) -> list[str]:
        return sorted(self.names[name] for name in self.given.keys() - self.used)


def _number(name: str, value: Any, low: float) -> float:
    try:
        number = float(value) if not isinstance(value, bool | list | dict) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST or number < low:
        raise BadInput(
            f"`{name}` is not a number{' of at least ' + format(low, 'g') if low > -LARGEST else ''}.",
            field=name,
            value=str(value)[:40],
            remedy="Write a plain decimal number.",
        )
    return number


def audit(method: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The audit of `inputs` by `method` (easycalc, fwas_v5, fwas_v6).

    The answer has the method's own names, the shared terms of a balance, `limits_95`, and `unused_inputs` with every
    input that had no part in it. Raises BadInput naming the field.
    """
    run = METHODS.get(method)
    if run is None:
        raise BadInput(
            f"There is no audit method {str(method)[:40]!r}.", field="method", remedy=f"Use {', '.join(METHODS)}."
        )
    read = _Inputs(inputs)
    try:
        results = run(read)
    except OverflowError:
        raise BadInput("The inputs are too large to compute with.", field="inputs") from None
    return {"method": method, **results, "unused_inputs": read.unused(), "coverage": None, "revision": None}


# ---------------------------------------------------------------------------------------------------------- easycalc


def _easycalc(read: _Inputs) -> dict[str, Any]:
    days = read.number("days", None, low=1)
    under_registration = read.number("meter_under_registration")
    if under_registration >= 1:
        raise BadInput("`meter_under_registration` is a fraction below 1.", field="meter_under_registration")
    sources = [Component(*pair) for pair in read.pairs("sources")]
    if not sources:
        raise BadInput("`sources` is missing.", field="sources", remedy="Write [[volume, margin], …].")
    balance = water_balance(
        BalanceInputs(
            days=days,
            sources=sources,
            billed_metered=read.number("billed_metered"),
            billed_unmetered=read.number("billed_unmetered"),
            unbilled_metered=read.number("unbilled_metered"),
            unbilled_unmetered=[Component(*pair) for pair in read.pairs("unbilled_unmetered")],
            unauthorised=[Component(volume * days, margin) for volume, margin in read.pairs("unauthorised_m3_per_day")],
            meter_under_registration=under_registration,
            meter_error_margin=read.number("meter_error_margin"),
            data_handling_m3=read.number("data_handling_m3", low=-LARGEST),
            data_handling_margin=read.number("data_handling_margin"),
        )
    )
    results: dict[str, Any] = {"units": "m3", "days": days, **balance.terms()}
    results |= {f"{term}_margin": balance.margin(term) for term in balance.half_widths}
    network = _network(read)
    if network is not None and balance.system_input and balance.authorised:
        results |= indicators(balance, network, days)
    return {**results, "limits_95": balance.limits_95()}


def _network(read: _Inputs) -> Network | None:
    """The network of an EasyCalc audit, None when it is not described."""
    areas = tuple(pair for pair in read.pairs("pressure_areas") if pair[0] > 0 and pair[1] > 0)
    network = Network(
        mains_km=read.number("mains_km"),
        connections=read.number("connections"),
        private_pipe_m=read.number("avg_private_pipe_m"),
        pressure_areas=areas,
        supply_h_per_day=read.number("supply_h_per_day", 24.0),
        mains_margin=read.number("mains_margin"),
        connections_margin=read.number("connections_margin"),
        private_margin=read.number("private_margin"),
        pressure_margin=read.number("pressure_margin"),
        supply_margin=read.number("supply_margin"),
    )
    known = areas and network.mains_km > 0 and network.connections > 0 and 0 < network.supply_h_per_day <= 24
    return network if known else None


# -------------------------------------------------------------------------------------------------------------- FWAS


def _adjusted(read: _Inputs, name: str) -> float:
    """A source volume corrected by its meter's error: a percentage (as a fraction), or a volume when so chosen."""
    volume = read.number(f"{name}_vol")
    share, amount = read.optional(f"{name}_err_percent"), read.optional(f"{name}_err_vol")
    chosen = read.number(f"{name}_err_adj_type", BY_SHARE)
    # an adjustment of nothing is nothing
    if not volume:
        return 0.0
    if chosen == BY_VOLUME or (chosen != BY_SHARE and amount is not None):
        return volume - (amount or 0.0)
    if share is not None and share <= -1:
        raise BadInput(f"`{name}_err_percent` is a fraction above −1.", field=f"{name}_err_percent")
    return volume / (1 + (share or 0.0))


def _assessed(
    read: _Inputs, name: str, of_share: Callable[[float], float], default: float, *, or_nothing: bool = False
) -> float:
    """A volume by share (the `default` one where none is given) or entered.

    Where a volume was chosen and none entered, the default share stands, or nothing for the terms with `or_nothing`.
    """
    share, amount = read.optional(f"{name}_err_percent"), read.optional(f"{name}_err_vol")
    if read.number(f"{name}_err_adj_type", BY_SHARE) != BY_SHARE:
        if amount is not None:
            return amount
        if or_nothing:
            return 0.0
    return of_share(default if share is None else share)


def _fwas(read: _Inputs, *, version: int) -> dict[str, Any]:
    supplied = _adjusted(read, "ws_own_sources") + _adjusted(read, "ws_imported") - _adjusted(read, "ws_exported")
    billed_metered, billed_unmetered = read.number("ac_bill_meter_vol"), read.number("ac_bill_unmeter_vol")
    unbilled_metered = read.number("ac_unbill_meter_vol")
    billed = billed_metered + billed_unmetered
    # version 5 takes its defaults of water supplied (data handling: of billed metered), version 6 of billed authorised
    bases = (supplied, supplied, billed_metered) if version == 5 else (billed, billed, billed)
    unbilled_share = 0.0125 if version == 5 else 0.0025
    unbilled_unmetered = _assessed(read, "ac_unbill_unmeter", lambda share: share * bases[0], unbilled_share)
    unauthorised = _assessed(read, "wl_unauth_cons", lambda share: share * bases[1], 0.0025)
    data_handling = _assessed(read, "wl_sys_data_err", lambda share: share * bases[2], 0.0025, or_nothing=True)
    metered = billed_metered + unbilled_metered
    inaccuracy = _assessed(read, "wl_cust_mtr_inacc", lambda share: _inaccuracy(metered, share), 0.0, or_nothing=True)
    authorised = billed + unbilled_metered + unbilled_unmetered
    losses = supplied - authorised
    apparent = unauthorised + inaccuracy + data_handling
    real = losses - apparent
    nrw = losses + unbilled_metered + unbilled_unmetered
    results: dict[str, Any] = {
        "WS_WATER_SUPPLIED_VOL": supplied,
        "AC_UNBILL_UNMETER_VOL": unbilled_unmetered,
        "AC_AUTH_CONSUMPTION_VOL": authorised,
        "WL_UNAUTH_CONS_VOL": unauthorised,
        "WL_CUST_MTR_INACC_VOL": inaccuracy,
        "WL_SYS_DATA_ERR_VOL": data_handling,
        "WL_APPARENT_LOSSES_VOL": apparent,
        "WL_REAL_LOSSES_VOL": real,
        "WL_WATER_LOSSES_VOL": losses,
        "NRW_NON_REVENUE_WATER_VOL": nrw,
        "SA_APPARENT_LOSSES_VOL": apparent,
        "SA_REAL_LOSSES_VOL": real,
        "SA_WATER_LOSSES_VOL": losses,
        "PI_CURRENT_ANN_REAL_LOSSES_VOL": real,
        "PI_FI_NON_REV_PERCENT_BY_VOL": _ratio(nrw, supplied),
    }
    acre_feet = _in_acre_feet(read)
    results |= _fwas_indicators(read, apparent=apparent, real=real, acre_feet=acre_feet)
    gallons = GALLONS_PER_ACRE_FOOT if acre_feet else GALLONS_PER_MILLION
    unbilled = unbilled_metered + unbilled_unmetered
    results |= _fwas_costs(read, apparent=apparent, real=real, unbilled=unbilled, gallons=gallons)
    return {
        "units": "acre-ft" if acre_feet else "MG",
        "system_input": supplied,
        "billed": billed,
        "authorised": authorised,
        "nrw": nrw,
        "water_losses": losses,
        "meter_inaccuracy": inaccuracy,
        "unauthorised": unauthorised,
        "apparent": apparent,
        "real_losses": real,
        **results,
        "limits_95": {},
    }


def _inaccuracy(metered: float, share: float) -> float:
    if share >= 1:
        raise BadInput("`wl_cust_mtr_inacc_err_percent` is a fraction below 1.", field="wl_cust_mtr_inacc_err_percent")
    return meter_inaccuracy(metered, share)


def _in_acre_feet(read: _Inputs) -> bool:
    unit = str(read.raw("volume_reporting_units") or "Acre-feet").strip().lower()
    if unit.startswith("acre"):
        return True
    if unit.startswith(("million", "mg")):
        return False
    raise BadInput(
        "`VOLUME_REPORTING_UNITS` is not known.",
        field="VOLUME_REPORTING_UNITS",
        value=unit[:40],
        remedy="Use Acre-feet or Million gallons (US).",
    )


def uarl_gallons_per_day(mains_mi: float, connections: float, private_mi: float, pressure_psi: float) -> float:
    """Unavoidable annual real losses (AWWA coefficients). Not to be converted into the metric formula: they differ."""
    return (5.41 * mains_mi + 0.15 * connections + 7.5 * private_mi) * pressure_psi


def _fwas_indicators(read: _Inputs, *, apparent: float, real: float, acre_feet: bool) -> dict[str, Any]:
    long, short = (
        (GALLONS_PER_ACRE_FOOT, GALLONS_PER_ACRE_FOOT_SHORT)
        if acre_feet
        else (GALLONS_PER_MILLION, GALLONS_PER_MILLION)
    )
    mains, connections = read.number("sd_length_mains_miles"), read.number("sd_num_service_conn")
    pressure = read.number("sd_avg_oper_pressure_psi")
    # a meter at the kerb or property line leaves no private pipe before it; elsewhere its length must be known
    private_ft = read.optional("sd_avg_length_private_pipe_ft", low=0.0)
    at_kerb = str(read.raw("sd_cust_mtr_curb_prop_yes_no") or "yes").strip().lower() != "no"
    small = DENSE_PER_MILE * mains + connections < SMALL_SYSTEM
    uarl = None
    if not small and (at_kerb or private_ft is not None):
        private_mi = connections * (private_ft or 0.0) / FEET_PER_MILE
        uarl = uarl_gallons_per_day(mains, connections, private_mi, pressure) * DAYS / long
    dense = mains == 0 or connections / mains > DENSE_PER_MILE
    per_connection = _ratio(real * short / DAYS, connections)
    ili = _ratio(real, uarl)
    return {
        "SD_SERVICE_CON_DENSITY": _ratio(connections, mains),
        "SA_UNAVOID_ANN_REAL_LOSSES_VOL": uarl,
        "PI_OE_APPARENT_LOSSES_GCD": _ratio(apparent * short / DAYS, connections),
        "PI_OE_REAL_LOSSES_GCD": per_connection if dense else None,
        "PI_OE_REAL_LOSSES_GMD": None if dense else _ratio(real * short / DAYS, mains),
        "PI_OE_REAL_LOSSES_GCD_PSI": _ratio(per_connection, pressure) if dense else None,
        "PI_INFRASTRUCT_LEAKAGE_INDEX": ili,
        "small_system": small,
        "ili_band_standard": None if ili is None else ili_band(ili, "high_income"),
    }


def _fwas_costs(read: _Inputs, *, apparent: float, real: float, unbilled: float, gallons: float) -> dict[str, Any]:
    """Apparent losses at the retail price; real losses and unbilled use at the cost of production, or retail."""
    total, retail = read.optional("cd_total_annual_cost"), read.optional("cd_cust_ret_unit_cost")
    production = read.optional("cd_variable_prod_cost")
    unit = str(read.raw("cd_cust_ret_unit_cost_units") or "$/1000 gallons (US)").lower()
    per = {"ccf": GALLONS_PER_CCF, "gallon": 1000.0, "litre": 1000 / LITRES_PER_GALLON}
    size = next((gallons_per for word, gallons_per in per.items() if word in unit), None)
    if size is None:
        raise BadInput(
            "`CD_CUST_RET_UNIT_COST_UNITS` is not known.",
            field="CD_CUST_RET_UNIT_COST_UNITS",
            value=unit[:40],
            remedy="Use a price per ccf, per 1000 gallons or per 1000 litres.",
        )
    retail_per_unit = None if retail is None else retail * gallons / size
    valued = str(read.raw("sa_annual_cost_valued_at") or "Variable Production Cost").lower()
    price = retail_per_unit if "retail" in valued else production
    apparent_cost = None if retail_per_unit is None else apparent * retail_per_unit
    # without a production cost the audits show no cost of real losses, and count them at nothing in the whole
    real_cost = None if price is None or production is None else real * price
    whole = None if apparent_cost is None else apparent_cost + (real + unbilled) * (price or 0.0)
    return {
        "SA_APPARENT_LOSSES_ANN_COST": apparent_cost,
        "SA_REAL_LOSSES_ANN_COST": real_cost,
        "PI_FI_NON_REV_PERCENT_BY_COST": _ratio(whole, total),
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


METHODS: dict[str, Callable[[_Inputs], dict[str, Any]]] = {
    "easycalc": _easycalc,
    "fwas_v5": lambda read: _fwas(read, version=5),
    "fwas_v6": lambda read: _fwas(read, version=6),
}
