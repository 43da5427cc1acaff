"""One zone and period with every input of its water balance, and what follows from them. Pure: no database.

`gis.losses` fills it from the stored data.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from gis.balance import (
    Balance,
    BalanceInputs,
    Component,
    Network,
    corrected_source,
    meter_inaccuracy,
    quadrature,
    water_balance,
)
from gis.defaults import defaults

# Fewer bench tests than this say nothing of a class of meters.
FEWEST_TESTS = 5


@dataclass(slots=True, frozen=True)
class Assumptions:
    """What no measurement says. Margins are 95 % half-widths as fractions; see docs/water-loss.md for their sources."""

    zone_meter_margin: float = 0.02
    verified_meter_margin: float = 0.005
    filled_margin: float = 0.5
    spread_margin: float = 0.015
    uncovered_margin: float = 0.5
    storage_margin: float = 0.05
    unmetered_margin: float = 0.3
    unbilled_use_margin: float = 0.25
    # shares of what nobody measured: `none`, or a version of the audit software (gis/defaults.py)
    defaults: str = "none"
    # used where no meter was tested; M36 knows no default, the Californian median is 0.015
    meter_under_registration: float = 0.0
    meter_error_margin: float = 0.5
    # households billed nothing and metered nowhere, litres per connection and day; 0: they are not assessed
    unmetered_l_per_conn_day: float = 0.0
    private_pipe_m: float = 0.0
    mains_margin: float = 0.02
    connections_margin: float = 0.01
    private_margin: float = 0.2
    pressure_margin: float = 0.05
    # money per m³; None: not known, and no loss has a price
    retail_price_m3: float | None = None
    production_cost_m3: float | None = None


@dataclass(slots=True)
class Flow:
    """One meter at the edge of a zone, over a window. `sign` is +1 when its water enters the zone balanced.

    `rest_of` is the zone around its own whose remaining ground lies on the far side of a meter without `to_zone`.
    """

    serial: str
    zone: str
    direction: str
    to_zone: str | None
    error_pct: float | None
    registered_m3: float
    filled_m3: float
    covered_s: float
    expected_s: float
    breaks: int
    purpose: str
    first_at: datetime | None
    last_at: datetime | None
    sign: int = 1
    rest_of: str | None = None

    @property
    def other_zone(self) -> str | None:
        """The zone on the far side, seen from the zone balanced; None for the outside."""
        its_own_side = (self.sign > 0) == (self.direction == "in")
        return (self.to_zone or self.rest_of) if its_own_side else self.zone

    @property
    def kind(self) -> str:
        """What it is in the balance: `own` sources, `imported`, `exported`, or a transfer from or to another zone."""
        if self.purpose in ("import", "export"):
            return "imported" if self.sign > 0 else "exported"
        if self.other_zone is None:
            return "own" if self.sign > 0 else "exported"
        return "transfer_in" if self.sign > 0 else "transfer_out"

    @property
    def corrected_m3(self) -> float:
        """Its volume, filled gaps included, corrected by its verified error."""
        return corrected_source(self.registered_m3 + self.filled_m3, (self.error_pct or 0.0) / 100)


@dataclass(slots=True)
class Consumption:
    """What the customers of a zone used within its window, and how much of that is known."""

    billed_m3: float = 0.0
    from_bills_m3: float = 0.0
    from_registers_m3: float = 0.0
    extrapolated_m3: float = 0.0
    estimated_m3: float = 0.0
    unbilled_m3: float = 0.0
    unbilled_extrapolated_m3: float = 0.0
    straddling_m3: float = 0.0
    unmetered_m3: float = 0.0
    points: int = 0
    points_unmetered: int = 0
    points_from_bills: int = 0
    points_from_registers: int = 0
    points_without_data: int = 0
    # days in which somebody lived at a place with neither meter nor bill, summed over the places
    unmeasured_days: float = 0.0
    points_unbilled: int = 0
    register_breaks: int = 0
    covered_s: float = 0.0
    expected_s: float = 0.0
    # billed volume and places with data by class of premises, for the error of their meters and for night use
    by_class: dict[str, float] = field(default_factory=dict)
    class_points: dict[str, float] = field(default_factory=dict)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add another zone's figures."""
        for mine, theirs in ((self.by_class, other["by_class"]), (self.class_points, other["class_points"])):
            for name, value in (theirs or {}).items():
                mine[name] = mine.get(name, 0.0) + value
        for name in self.__slots__[:-2]:
            setattr(self, name, getattr(self, name) + other[name])


@dataclass(slots=True)
class Storage:
    """The change of stored water of one tank over a window; `increase_m3` is None when a level or area is missing."""

    tank: str
    zone: str
    area_m2: float | None
    level_from_m: float | None
    level_to_m: float | None

    @property
    def increase_m3(self) -> float | None:
        """Stored more at the end than at the beginning, in m³."""
        if self.area_m2 is None or self.level_from_m is None or self.level_to_m is None:
            return None
        return self.area_m2 * (self.level_to_m - self.level_from_m)


@dataclass(slots=True)
class Evidence:
    """What else is known of a zone in its window: its pipes, its unbilled uses, how well codes and places agree."""

    mains_km: float = 0.0
    connections: float = 0.0
    pressure_m: float | None = None
    private_pipe_m: float | None = None
    # by purpose: flushing, fire fighting, …
    unbilled_use: dict[str, float] = field(default_factory=dict)
    codes: int = 0
    wrong_codes: int = 0


class TestedClass(NamedTuple):
    """Bench tests of the meters of one class of premises: how many, their mean under-registration and its spread."""

    tests: int
    under_registration: float
    deviation: float
    newest: date


@dataclass(slots=True)
class ZoneLoss:
    """One zone (or the whole system, `zone` None) and period: every input, and the balance when there is an inflow."""

    zone: str | None
    name: str
    lower: datetime
    upper: datetime
    period_s: float
    flows: list[Flow] = field(default_factory=list)
    storage: list[Storage] = field(default_factory=list)
    consumption: Consumption = field(default_factory=Consumption)
    assumptions: Assumptions = field(default_factory=Assumptions)
    notes: list[str] = field(default_factory=list)
    evidence: Evidence = field(default_factory=Evidence)
    tests: dict[str, TestedClass] = field(default_factory=dict)

    @property
    def window_s(self) -> float:
        """Length of the window in seconds."""
        return max(0.0, (self.upper - self.lower).total_seconds())

    @property
    def storage_increase_m3(self) -> float:
        """Storage increase of all tanks whose levels are known."""
        return sum(tank.increase_m3 or 0.0 for tank in self.storage)

    def coverage(self) -> dict[str, Any]:
        """How much of the figures is measured, as fractions of the whole period."""
        share = self.window_s / self.period_s if self.period_s else 0.0
        expected = sum(flow.expected_s for flow in self.flows)
        inflow = share * sum(min(f.covered_s, f.expected_s) for f in self.flows) / expected if expected else 0.0
        use = self.consumption
        consumption = share * use.covered_s / use.expected_s if use.expected_s else None
        return {
            "inflow": round(inflow, 6),
            "consumption": None if consumption is None else round(consumption, 6),
            "overall": round(min(inflow, 1.0 if consumption is None else consumption), 6),
            "measured_from": self.lower,
            "measured_to": self.upper,
            "points": use.points,
            "points_from_bills": use.points_from_bills,
            "points_from_registers": use.points_from_registers,
            "points_without_data": use.points_without_data,
            "points_unbilled": use.points_unbilled,
        }

    def balance(self) -> Balance | None:
        """The balance; None when no meter at the edge was heard, since absent is not zero."""
        inputs = self.balance_inputs()
        return None if inputs is None else water_balance(inputs)

    def balance_inputs(self) -> BalanceInputs | None:
        """Every component with its margin; None when no meter at the edge was heard."""
        if not self.flows or not self.window_s:
            return None
        use, assumed = self.consumption, self.assumptions
        sources = [Component(flow.sign * flow.corrected_m3, self._flow_margin(flow)) for flow in self.flows]
        sources += [Component(-(tank.increase_m3 or 0.0), assumed.storage_margin) for tank in self.storage]
        days = self.window_s / 86400
        metered = use.billed_m3 - use.unmetered_m3
        inputs = BalanceInputs(
            days=days,
            sources=sources,
            billed_metered=metered,
            billed_unmetered=use.unmetered_m3 + self.assessed_m3,
            billed_unmetered_margin=assumed.unmetered_margin,
            unbilled_metered=use.unbilled_m3,
            unbilled_unmetered=[
                Component(m3, assumed.unbilled_use_margin) for _, m3 in sorted(self.evidence.unbilled_use.items())
            ],
            error_on_unbilled=True,
            consumption_half_width_m3=self._consumption_half_width_m3(),
        )
        inputs.meter_under_registration, inputs.meter_error_margin = self._meter_error()
        self._assume(inputs)
        return inputs

    @property
    def assessed_m3(self) -> float:
        """What lived-in places without a meter or a bill are taken to use; none unless assumed."""
        return self.consumption.unmeasured_days * self.assumptions.unmetered_l_per_conn_day / 1000

    def _assume(self, inputs: BalanceInputs) -> None:
        """Put the default shares where nothing was measured: recorded uses replace the default of unbilled ones."""
        chosen = defaults(self.assumptions.defaults)
        billed = inputs.billed_metered + inputs.billed_unmetered
        bases = {
            "supplied": sum(part.m3 for part in inputs.sources),
            "billed_metered": inputs.billed_metered,
            "billed": billed,
        }
        if not inputs.unbilled_unmetered:
            inputs.unbilled_unmetered = [Component(chosen.volume("unmetered", bases), chosen.margin)]
        inputs.unauthorised = [Component(chosen.volume("theft", bases), chosen.margin)]
        inputs.data_handling_m3 = chosen.volume("data_handling", bases)
        inputs.data_handling_margin = chosen.margin

    def _meter_error(self) -> tuple[float, float]:
        """Under-registration of the zone's customer meters and its margin, from bench tests by class of premises.

        A class with fewer than five tests takes the mean of all. Without any test: the assumption.
        """
        volume = sum(self.consumption.by_class.values())
        tested = sum(one.tests for one in self.tests.values())
        if tested < FEWEST_TESTS or volume <= 0:
            return self.assumptions.meter_under_registration, self.assumptions.meter_error_margin
        overall = TestedClass(
            tested,
            sum(one.under_registration * one.tests for one in self.tests.values()) / tested,
            max(one.deviation for one in self.tests.values()),
            max(one.newest for one in self.tests.values()),
        )
        uncounted, halves = 0.0, []
        for name, m3 in self.consumption.by_class.items():
            own = self.tests.get(name)
            one = own if own is not None and own.tests >= FEWEST_TESTS else overall
            uncounted += meter_inaccuracy(m3, one.under_registration)
            error = 1.96 * one.deviation / math.sqrt(one.tests)
            halves.append(m3 * error / (1 - one.under_registration) ** 2)
        share = uncounted / (volume + uncounted)
        return share, quadrature(halves) / abs(uncounted) if uncounted else 0.0

    def network(self) -> Network | None:
        """What unavoidable losses depend on; None when mains, connections or pressure are not known."""
        seen, assumed = self.evidence, self.assumptions
        if seen.mains_km <= 0 or seen.connections <= 0 or not seen.pressure_m:
            return None
        return Network(
            mains_km=seen.mains_km,
            connections=seen.connections,
            private_pipe_m=assumed.private_pipe_m if seen.private_pipe_m is None else seen.private_pipe_m,
            pressure_areas=((seen.connections, seen.pressure_m),),
            mains_margin=assumed.mains_margin,
            connections_margin=assumed.connections_margin,
            private_margin=assumed.private_margin,
            pressure_margin=assumed.pressure_margin,
        )

    def _consumption_half_width_m3(self) -> float:
        use, assumed = self.consumption, self.assumptions
        missing = max(0.0, use.expected_s - use.covered_s) / use.covered_s * use.billed_m3 if use.covered_s else 0.0
        return quadrature(
            (
                assumed.filled_margin * (use.extrapolated_m3 + use.estimated_m3),
                assumed.uncovered_margin * max(0.0, missing - use.extrapolated_m3 - self.assessed_m3),
                assumed.spread_margin * use.straddling_m3,
            )
        )

    def _flow_margin(self, flow: Flow) -> float:
        assumed = self.assumptions
        own = assumed.zone_meter_margin if flow.error_pct is None else assumed.verified_meter_margin
        total = flow.registered_m3 + flow.filled_m3
        return own + assumed.filled_margin * abs(flow.filled_m3 / total) if total else own

    def inputs(self) -> dict[str, Any]:
        """Every input as a JSON object, for the stored revision."""
        return {
            "window": [self.lower, self.upper],
            "flows": [{**asdict(flow), "corrected_m3": flow.corrected_m3} for flow in self.flows],
            "storage": [{**asdict(tank), "increase_m3": tank.increase_m3} for tank in self.storage],
            "consumption": asdict(self.consumption),
            "evidence": asdict(self.evidence),
            "meter_tests": {name: [*one[:3], one.newest.isoformat()] for name, one in sorted(self.tests.items())},
            "assumptions": asdict(self.assumptions),
            "notes": self.notes,
        }
