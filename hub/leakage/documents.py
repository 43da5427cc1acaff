"""A zone's balance as a JSON document: terms, components, indicators, money, limits, grade, and every input. Pure."""

from datetime import date
from typing import Any

from gis.balance import Balance, BalanceInputs, Network, indicators, small_system
from gis.defaults import defaults
from gis.fwas import FEET_PER_MILE, uarl_gallons_per_day
from gis.monte_carlo import simulated_limits
from gis.validity import validity
from gis.zone_loss import ZoneLoss

TERMS = ("system_input", "billed", "unbilled", "authorised", "nrw", "water_losses", "meter_inaccuracy", "unauthorised",
         "apparent", "real_losses")  # fmt: skip
KM_PER_MILE = FEET_PER_MILE * 0.3048 / 1000
PSI_PER_M = 1.4219702063247


def document(loss: ZoneLoss, begins: date, ends: date) -> dict[str, Any]:
    """A zone's balance without its revision. Unknown terms are null: absent is not zero."""
    inputs, balance, use = loss.balance_inputs(), loss.balance(), loss.consumption
    terms: dict[str, Any] = dict.fromkeys(TERMS) if balance is None else balance.terms()
    if balance is None:
        # what customers used is known without an inflow
        terms["billed"], terms["unbilled"] = use.billed_m3, use.unbilled_m3
        terms["authorised"] = use.billed_m3 + use.unbilled_m3
    network = loss.network()
    simulated = {} if inputs is None else simulated_limits(inputs, network)
    return {
        "zone": loss.zone,
        "name": loss.name,
        "from": begins.isoformat(),
        "to": ends.isoformat(),
        "days": (ends - begins).days,
        "units": "m3",
        **terms,
        **({f"{term}_margin": balance.margin(term) for term in balance.half_widths} if balance else {}),
        "loss_m3": terms["water_losses"],
        "loss_pct": _percent(terms["water_losses"], terms["system_input"]),
        "nrw_pct_siv": None if balance is None or not balance.system_input else balance.nrw / balance.system_input,
        "percent_base": "system_input",
        "components": _components(loss, inputs),
        "indicators": _indicators(loss, balance, network),
        "money": _money(loss, balance),
        "inflow_m3": sum(f.corrected_m3 for f in loss.flows if f.sign > 0),
        "outflow_m3": sum(f.corrected_m3 for f in loss.flows if f.sign < 0),
        "storage_increase_m3": loss.storage_increase_m3,
        "billed_sources": {
            "bills": {"points": use.points_from_bills, "volume_m3": use.from_bills_m3},
            "registers": {"points": use.points_from_registers, "volume_m3": use.from_registers_m3},
            "estimated_m3": use.estimated_m3,
            "extrapolated_m3": use.extrapolated_m3,
        },
        "flows": _flows(loss),
        "limits_95": balance.limits_95() if balance else {},
        "simulated_limits_95": simulated,
        "coverage": loss.coverage(),
        "validity": validity(loss),
        "defaults": _defaults(loss),
        "notes": [*loss.notes, *_notes(loss, balance)],
    }


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _components(loss: ZoneLoss, inputs: BalanceInputs | None) -> dict[str, Any]:
    """The boxes of the M36 table in m³, in its order; null where no inflow is known."""
    use = loss.consumption
    sources = {
        kind: sum(abs(flow.corrected_m3) for flow in loss.flows if flow.kind == kind)
        for kind in ("own", "imported", "exported", "transfer_in", "transfer_out")
    }
    supply = sources if loss.flows else dict.fromkeys(sources)
    known = inputs is not None
    return {
        **{f"{kind}_m3": m3 for kind, m3 in supply.items()},
        "storage_increase_m3": loss.storage_increase_m3,
        "source_meter_correction_m3": sum(
            flow.sign * (flow.corrected_m3 - flow.registered_m3 - flow.filled_m3) for flow in loss.flows
        ),
        "billed_metered_m3": use.billed_m3 - use.unmetered_m3,
        "billed_unmetered_m3": use.unmetered_m3 + loss.assessed_m3,
        "unbilled_metered_m3": use.unbilled_m3,
        "unbilled_unmetered_m3": sum(part.m3 for part in inputs.unbilled_unmetered) if inputs else None,
        "unbilled_uses_m3": loss.evidence.unbilled_use,
        "unauthorised_m3": sum(part.m3 for part in inputs.unauthorised) if inputs else None,
        "data_handling_m3": inputs.data_handling_m3 if inputs else None,
        "meter_under_registration": inputs.meter_under_registration if inputs else None,
        "meter_under_registration_from": _error_source(loss) if known else None,
    }


def _error_source(loss: ZoneLoss) -> str:
    tests = sum(one.tests for one in loss.tests.values())
    if loss.balance_inputs() is not None and tests >= 5:
        return f"{tests} bench tests by class of premises"
    return "assumed" if loss.assumptions.meter_under_registration else "nothing: no meter was tested"


def _indicators(loss: ZoneLoss, balance: Balance | None, network: Network | None) -> dict[str, Any]:
    """Indicators of M36 and the IWA; those that need pipes, places or pressure are null without them."""
    seen = loss.evidence
    found: dict[str, Any] = {
        "mains_km": seen.mains_km,
        "connections": seen.connections,
        "pressure_m": seen.pressure_m,
        "small_system": small_system(seen.mains_km, seen.connections),
    }
    if balance is None:
        return found
    days = loss.window_s / 86400
    if seen.connections > 0:
        found["real_l_conn_day"] = balance.real_losses * 1000 / (seen.connections * days)
        found["apparent_l_conn_day"] = balance.apparent * 1000 / (seen.connections * days)
        found["nrw_l_conn_day"] = balance.nrw * 1000 / (seen.connections * days)
    if seen.mains_km > 0:
        found["real_m3_km_day"] = balance.real_losses / (seen.mains_km * days)
    if network is None or not balance.system_input or not balance.authorised:
        return found
    found |= indicators(balance, network, days)
    found["private_pipe_m"] = network.private_pipe_m
    found["uarl_us_gal_day"] = uarl_gallons_per_day(
        network.mains_km / KM_PER_MILE,
        network.connections,
        network.private_km / KM_PER_MILE,
        network.pressure_m * PSI_PER_M,
    )
    return found


def _money(loss: ZoneLoss, balance: Balance | None) -> dict[str, Any]:
    """What the losses cost in the window, and per connection and year (AWWA's loss cost rates); null without a price.

    Apparent losses are valued at the retail price, real losses and unbilled use at the variable cost of production.
    """
    retail, production = loss.assumptions.retail_price_m3, loss.assumptions.production_cost_m3
    found: dict[str, Any] = {"retail_price_m3": retail, "production_cost_m3": production}
    if balance is None:
        return found
    apparent = None if retail is None else balance.apparent * retail
    real = None if production is None else balance.real_losses * production
    unbilled = None if production is None else balance.unbilled * production
    per_year = 365 / (loss.window_s / 86400) / loss.evidence.connections if loss.evidence.connections else None

    def rate(cost: float | None) -> float | None:
        return None if cost is None or per_year is None else cost * per_year

    both = None if apparent is None or real is None else apparent + real
    return {
        **found,
        "apparent_losses_cost": apparent,
        "real_losses_cost": real,
        "unbilled_cost": unbilled,
        "nrw_cost": None if both is None or unbilled is None else both + unbilled,
        "loss_cost_rate_apparent_per_conn_year": rate(apparent),
        "loss_cost_rate_real_per_conn_year": rate(real),
        "loss_cost_rate_per_conn_year": rate(both),
    }


def _flows(loss: ZoneLoss) -> list[dict[str, Any]]:
    return [
        {
            "meter": flow.serial,
            "direction": "in" if flow.sign > 0 else "out",
            "kind": flow.kind,
            "other_zone": flow.other_zone,
            "registered_m3": flow.registered_m3,
            "filled_m3": flow.filled_m3,
            "error_pct": flow.error_pct,
            "corrected_m3": flow.corrected_m3,
            "coverage": min(1.0, flow.covered_s / flow.expected_s) if flow.expected_s else 0.0,
        }
        for flow in loss.flows
    ]


def _defaults(loss: ZoneLoss) -> dict[str, Any]:
    chosen = defaults(loss.assumptions.defaults)
    return {
        "version": chosen.version,
        "since": chosen.since.isoformat() if chosen.since else None,
        "source": chosen.source,
    }


def _notes(loss: ZoneLoss, balance: Balance | None) -> list[str]:
    notes = []
    if balance is not None and balance.real_losses < 0:
        notes.append("real losses are negative: an input is wrong, or its error larger than the losses")
    if loss.evidence.wrong_codes:
        notes.append(f"{loss.evidence.wrong_codes} billing codes name another zone than the place lies in")
    return notes
