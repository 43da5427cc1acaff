"""The AWWA Free Water Audit Software, versions 5 and 6, from plain inputs. Pure.

Every constant and rule was confirmed on 2,647 Californian and 1,851 Georgian audits made with version 5; version 6
differs in its defaults and is not confirmed by published audits.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from gis.audit_inputs import Inputs
from gis.balance import meter_inaccuracy
from gis.bands import ili_band
from gis.defaults import Defaults

# the software's own, by the one audit priced in litres
LITRES_PER_GALLON = 3.7854118
DAYS = 365
FEET_PER_MILE = 5280
# Below these the software shows no ILI, or losses per mile instead of per connection.
SMALL_SYSTEM = 3000
LOWEST_PSI = 35
DENSE_PER_MILE = 32
# Whether customers' meters stand at the kerb or property line; the software's own list shows "Select..." until chosen.
AT_KERB, NOT_AT_KERB = ("yes", "y", "true"), ("no", "n", "false", "select...")
# How an adjustment was entered (the column …_ERR_ADJ_TYPE): as a share, as a volume; 0 and 3 up say nothing.
BY_SHARE, BY_VOLUME = 1.0, 2.0


class Unit(NamedTuple):
    """A reporting unit: US gallons in it (for costs and UARL, then for indicators per connection), and its ccf."""

    name: str
    gallons: float
    gallons_short: float
    ccf: float


GALLONS_PER_CCF = 748.051948
# The software counts an acre-foot as 325 851.427242 gallons and 435.6 ccf, but as 325 851 gallons per connection.
_ACRE_FOOT = Unit("acre-ft", 325_851.427242, 325_851.0, 435.6)


def _plain(name: str, gallons: float) -> Unit:
    return Unit(name, gallons, gallons, gallons / GALLONS_PER_CCF)


_THOUSAND, _HUNDRED = r"(1000|1,000|thousand)", r"(100|hundred)"
_GALLONS, _LITRES, _M3 = r"gal(lon)?s?", r"lit(er|re)s?", r"(m3|m³|cubic met(er|re)s?)"
# How a volume may be called, in lower case and without brackets; the US gallon alone is meant.
UNITS: tuple[tuple[str, Unit], ...] = (
    (r"acre[- ]?(feet|foot|ft)|ac[- ]?ft|afy?", _ACRE_FOOT),
    (rf"million {_GALLONS}|mg(al)?", Unit("MG", 1e6, 1e6, 1336.80556101)),
    (rf"mega ?{_LITRES}|ml|million {_LITRES}|{_THOUSAND} {_M3}", _plain("ML", 1e6 / LITRES_PER_GALLON)),
    (rf"[ch]cf|{_HUNDRED} cubic (feet|foot|ft)( ccf)?", Unit("ccf", GALLONS_PER_CCF, GALLONS_PER_CCF, 1.0)),
    (rf"kgal|{_THOUSAND} {_GALLONS}", _plain("kgal", 1000.0)),
    (_GALLONS, _plain("gal", 1.0)),
    (rf"{_M3}|kl|kilo{_LITRES}|{_THOUSAND} {_LITRES}", _plain("m3", 1000 / LITRES_PER_GALLON)),
)
# Acre-feet per reporting unit, as the publisher of the Californian audits converts them.
ACRE_FEET = {"acre-ft": 1.0, "MG": 3.06888785}


def _unit_called(words: str) -> Unit | None:
    plain = " ".join(re.sub(r"[()]|\bus\b|\bu\.s\.", " ", words).split())
    return next((unit for called, unit in UNITS if re.fullmatch(called, plain)), None)


def _adjusted(read: Inputs, name: str) -> float:
    """A source volume corrected by its meter's error: a percentage (as a fraction), or a volume when so chosen."""
    volume = read.number(f"{name}_vol")
    read.raw(f"{name}_err_percent")
    amount = read.optional(f"{name}_err_vol")
    chosen = read.number(f"{name}_err_adj_type", BY_SHARE)
    # an adjustment of nothing is nothing
    if not volume:
        return 0.0
    if chosen == BY_VOLUME or (chosen != BY_SHARE and amount is not None):
        return volume - (amount or 0.0)
    share = read.share(f"{name}_err_percent")
    return volume / (1 + (share or 0.0))


def _assessed(
    read: Inputs, name: str, of_share: Callable[[float], float], default: float, *, or_nothing: bool = False
) -> float:
    """A volume by share (the `default` one where none is given) or entered.

    Where a volume was chosen and none entered, the default share stands, or nothing for the terms with `or_nothing`.
    """
    read.raw(f"{name}_err_percent")
    amount = read.optional(f"{name}_err_vol")
    if read.number(f"{name}_err_adj_type", BY_SHARE) != BY_SHARE:
        if amount is not None:
            return amount
        if or_nothing:
            return 0.0
    share = read.share(f"{name}_err_percent")
    return of_share(default if share is None else share)


def _by_default(
    read: Inputs, name: str, default: tuple[float, str], bases: dict[str, float], *, or_nothing: bool = False
) -> float:
    share, base = default
    return _assessed(read, name, lambda given: given * bases[base], share, or_nothing=or_nothing)


class _Volumes(NamedTuple):
    """What was put in and used, entered or by default, in the reporting unit."""

    supplied: float
    billed: float
    unbilled_metered: float
    unbilled_unmetered: float
    unauthorised: float
    inaccuracy: float
    data_handling: float

    @property
    def unbilled(self) -> float:
        return self.unbilled_metered + self.unbilled_unmetered


def _volumes(read: Inputs, assumed: Defaults) -> _Volumes:
    supplied = _adjusted(read, "ws_own_sources") + _adjusted(read, "ws_imported") - _adjusted(read, "ws_exported")
    billed_metered, billed_unmetered = read.number("ac_bill_meter_vol"), read.number("ac_bill_unmeter_vol")
    unbilled_metered = read.number("ac_unbill_meter_vol")
    billed, metered = billed_metered + billed_unmetered, billed_metered + unbilled_metered
    bases = {"supplied": supplied, "billed_metered": billed_metered, "billed": billed}
    return _Volumes(
        supplied,
        billed,
        unbilled_metered,
        unbilled_unmetered=_by_default(read, "ac_unbill_unmeter", assumed.unmetered, bases),
        unauthorised=_by_default(read, "wl_unauth_cons", assumed.theft, bases),
        inaccuracy=_assessed(
            read, "wl_cust_mtr_inacc", lambda share: meter_inaccuracy(metered, share), 0.0, or_nothing=True
        ),
        data_handling=_by_default(read, "wl_sys_data_err", assumed.data_handling, bases, or_nothing=True),
    )


def fwas(read: Inputs, assumed: Defaults) -> dict[str, Any]:
    """The audit of one year by the AWWA Free Water Audit Software, with the default shares of the version asked for.

    Names are the columns of the published Californian audits; volumes are in the reporting unit, indicators per
    connection in US gallons, pressures in psi, mains in miles.
    """
    used = _volumes(read, assumed)
    authorised = used.billed + used.unbilled
    losses = used.supplied - authorised
    apparent = used.unauthorised + used.inaccuracy + used.data_handling
    real = losses - apparent
    nrw = losses + used.unbilled
    results: dict[str, Any] = {
        "WS_WATER_SUPPLIED_VOL": used.supplied,
        "AC_UNBILL_UNMETER_VOL": used.unbilled_unmetered,
        "AC_AUTH_CONSUMPTION_VOL": authorised,
        "WL_UNAUTH_CONS_VOL": used.unauthorised,
        "WL_CUST_MTR_INACC_VOL": used.inaccuracy,
        "WL_SYS_DATA_ERR_VOL": used.data_handling,
        "WL_APPARENT_LOSSES_VOL": apparent,
        "WL_REAL_LOSSES_VOL": real,
        "WL_WATER_LOSSES_VOL": losses,
        "NRW_NON_REVENUE_WATER_VOL": nrw,
        "SA_APPARENT_LOSSES_VOL": apparent,
        "SA_REAL_LOSSES_VOL": real,
        "SA_WATER_LOSSES_VOL": losses,
        "PI_CURRENT_ANN_REAL_LOSSES_VOL": real,
        "PI_FI_NON_REV_PERCENT_BY_VOL": _ratio(nrw, used.supplied),
    }
    unit = _unit(read)
    results |= _indicators(read, apparent=apparent, real=real, unit=unit)
    results |= _costs(read, apparent=apparent, real=real, unbilled=used.unbilled, unit=unit)
    if unit.name in ACRE_FEET:
        results |= {
            f"{name}_AF": results[name] * ACRE_FEET[unit.name]
            for name in list(results)
            if name.endswith("_VOL") and name[:2] in ("WS", "AC", "WL", "NR")
        }
    return {
        "units": unit.name,
        "WS_UNITS_SHORT": f"{'MG/Yr' if unit.name == 'MG' else unit.name + '/yr'}",
        "system_input": used.supplied,
        "billed": used.billed,
        "unbilled": used.unbilled,
        "authorised": authorised,
        "nrw": nrw,
        "water_losses": losses,
        "meter_inaccuracy": used.inaccuracy,
        "unauthorised": used.unauthorised,
        "apparent": apparent,
        "real_losses": real,
        **results,
        "limits_95": {},
    }


def _unit(read: Inputs) -> Unit:
    given = read.choice("volume_reporting_units", "acre-feet")
    found = _unit_called(re.sub(r"( per |/)(yr|year)$", "", given))
    if found is None:
        raise read.refused(
            "volume_reporting_units",
            "is not a unit that is known",
            "Use Acre-feet, Million gallons (US), Megalitres, ccf, 1000 gallons, gallons or m3.",
        )
    return found


def uarl_gallons_per_day(mains_mi: float, connections: float, private_mi: float, pressure_psi: float) -> float:
    """Unavoidable annual real losses (AWWA coefficients). Not to be converted into the metric formula: they differ."""
    return (5.41 * mains_mi + 0.15 * connections + 7.5 * private_mi) * pressure_psi


def _indicators(read: Inputs, *, apparent: float, real: float, unit: Unit) -> dict[str, Any]:
    mains, connections = read.number("sd_length_mains_miles"), read.number("sd_num_service_conn")
    pressure = read.number("sd_avg_oper_pressure_psi")
    # a meter at the kerb or property line leaves no private pipe before it; elsewhere its length must be known
    private_ft = read.optional("sd_avg_length_private_pipe_ft", low=0.0)
    kerb = read.choice("sd_cust_mtr_curb_prop_yes_no", "yes")
    if kerb not in AT_KERB and kerb not in NOT_AT_KERB:
        raise read.refused("sd_cust_mtr_curb_prop_yes_no", "is neither Yes nor No", "Write Yes or No.")
    at_kerb = kerb in AT_KERB
    small = DENSE_PER_MILE * mains + connections < SMALL_SYSTEM
    uarl = None
    if not small and pressure >= LOWEST_PSI and (at_kerb or private_ft is not None):
        private_mi = 0.0 if at_kerb else connections * (private_ft or 0.0) / FEET_PER_MILE
        uarl = uarl_gallons_per_day(mains, connections, private_mi, pressure) * DAYS / unit.gallons
    dense = mains == 0 or connections / mains > DENSE_PER_MILE
    per_connection = _ratio(real * unit.gallons_short / DAYS, connections)
    ili = _ratio(real, uarl)
    return {
        "SD_SERVICE_CON_DENSITY": _ratio(connections, mains),
        "SA_UNAVOID_ANN_REAL_LOSSES_VOL": uarl,
        "PI_OE_APPARENT_LOSSES_GCD": _ratio(apparent * unit.gallons_short / DAYS, connections),
        "PI_OE_REAL_LOSSES_GCD": per_connection if dense else None,
        "PI_OE_REAL_LOSSES_GMD": None if dense else _ratio(real * unit.gallons_short / DAYS, mains),
        "PI_OE_REAL_LOSSES_GCD_PSI": _ratio(per_connection, pressure) if dense else None,
        "PI_INFRASTRUCT_LEAKAGE_INDEX": ili,
        "small_system": small,
        "ili_band_standard": None if ili is None else ili_band(ili, "high_income"),
        "ili_band_lmic": None if ili is None else ili_band(ili, "low_middle_income"),
    }


def _retail_per_unit(read: Inputs, unit: Unit) -> float | None:
    """The retail price per reporting unit; None without a price."""
    retail = read.optional("cd_cust_ret_unit_cost", low=0.0)
    priced = read.choice("cd_cust_ret_unit_cost_units", "$/1000 gallons (US)").lower()
    size = _unit_called(re.split(r"/|\bper\b", priced)[-1])
    if size is None:
        raise read.refused(
            "cd_cust_ret_unit_cost_units",
            "is not a price that is known",
            "Use a price per ccf, per 1000 gallons, per 1000 litres or per m3.",
        )
    if retail is None:
        return None
    return retail * (unit.ccf if size.name == "ccf" else unit.gallons / size.gallons)


def _costs(read: Inputs, *, apparent: float, real: float, unbilled: float, unit: Unit) -> dict[str, Any]:
    """Apparent losses at the retail price; real losses and unbilled use at the cost of production, or retail.

    Loss cost rates are the second tier of AWWA's 2020 indicators: money per connection and year beside unit losses.
    """
    total = read.optional("cd_total_annual_cost", low=0.0)
    production = read.optional("cd_variable_prod_cost", low=0.0)
    retail = _retail_per_unit(read, unit)
    valued = read.choice("sa_annual_cost_valued_at", "variable production cost")
    if "retail" not in valued and "production" not in valued:
        raise read.refused(
            "sa_annual_cost_valued_at", "is not known", "Use Variable Production Cost or Customer Retail Unit Cost."
        )
    price = retail if "retail" in valued else production
    apparent_cost = None if retail is None else apparent * retail
    # without a production cost the audits show no cost of real losses, and count them at nothing in the whole
    real_cost = None if price is None or production is None else real * price
    whole = None if apparent_cost is None else apparent_cost + (real + unbilled) * (price or 0.0)
    connections = read.number("sd_num_service_conn")
    both = None if apparent_cost is None or real_cost is None else apparent_cost + real_cost
    return {
        "SA_APPARENT_LOSSES_ANN_COST": apparent_cost,
        "SA_REAL_LOSSES_ANN_COST": real_cost,
        "PI_FI_NON_REV_PERCENT_BY_COST": _ratio(whole, total),
        "loss_cost_rate_apparent_per_conn_year": _ratio(apparent_cost, connections),
        "loss_cost_rate_real_per_conn_year": _ratio(real_cost, connections),
        "loss_cost_rate_per_conn_year": _ratio(both, connections),
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
