"""What flows into zones and what is used there, per period: the inputs of the water balance. Reads only.

Set-based: one statement for all meters at zone edges, one for all customers of the zones asked for. A zone's figures
are those of its *window*, the part of the period in which every meter at its edge was heard; customers are counted over
the same window, so that a late meter shortens a balance instead of bending it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from gis.balance import Balance, BalanceInputs, Component, corrected_source, quadrature, water_balance
from gis.intervals import interval_volume
from hub.db import raw_of

# A missing edge shorter than this part of the period, and than three days, is filled at the meter's own mean rate.
EDGE_SHARE = 0.05
EDGE_LIMIT = timedelta(days=3)


@dataclass(slots=True, frozen=True)
class Assumptions:
    """What no measurement says. Margins are 95 % half-widths as fractions; see docs/water-loss.md for their sources."""

    zone_meter_margin: float = 0.02
    verified_meter_margin: float = 0.005
    filled_margin: float = 0.5
    spread_margin: float = 0.015
    uncovered_margin: float = 0.5
    storage_margin: float = 0.05
    meter_under_registration: float = 0.0
    meter_error_margin: float = 0.5
    unauthorised_share: float = 0.0
    unauthorised_margin: float = 0.5


@dataclass(slots=True)
class Flow:
    """One meter at the edge of a zone, over a window. `sign` is +1 when its water enters the zone balanced."""

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
    first_at: datetime | None
    last_at: datetime | None
    sign: int = 1

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
    points: int = 0
    points_from_bills: int = 0
    points_from_registers: int = 0
    points_without_data: int = 0
    points_unbilled: int = 0
    register_breaks: int = 0
    covered_s: float = 0.0
    expected_s: float = 0.0

    def add(self, other: Mapping[str, Any]) -> None:
        """Add another zone's figures."""
        for name in self.__slots__:
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
        if not self.flows or not self.window_s:
            return None
        use, assumed = self.consumption, self.assumptions
        sources = [Component(flow.sign * flow.corrected_m3, self._flow_margin(flow)) for flow in self.flows]
        sources += [Component(-(tank.increase_m3 or 0.0), assumed.storage_margin) for tank in self.storage]
        supplied = sum(part.m3 for part in sources)
        missing = max(0.0, use.expected_s - use.covered_s) / use.covered_s * use.billed_m3 if use.covered_s else 0.0
        return water_balance(
            BalanceInputs(
                days=self.window_s / 86400,
                sources=sources,
                billed_metered=use.billed_m3,
                unbilled_metered=use.unbilled_m3,
                unauthorised=[Component(assumed.unauthorised_share * supplied, assumed.unauthorised_margin)],
                meter_under_registration=assumed.meter_under_registration,
                meter_error_margin=assumed.meter_error_margin,
                consumption_half_width_m3=quadrature(
                    (
                        assumed.filled_margin * (use.extrapolated_m3 + use.estimated_m3),
                        assumed.uncovered_margin * max(0.0, missing - use.extrapolated_m3),
                        assumed.spread_margin * use.straddling_m3,
                    )
                ),
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
            "assumptions": asdict(self.assumptions),
            "notes": self.notes,
        }


def zone_losses(
    session: Session,
    start: datetime,
    end: datetime,
    *,
    time_zone: ZoneInfo,
    units: Mapping[str, Decimal],
    zones: Iterable[str] | None = None,
    assumptions: Assumptions | None = None,
) -> list[ZoneLoss]:
    """The inputs of every asked zone (default: all, then the whole system) over [start, end).

    `units` gives the m³ of each unit that meters count in, for the size of their registers.
    """
    return _Period(session, start, end, time_zone, units, assumptions or Assumptions()).losses(zones)


@dataclass(slots=True)
class _Zone:
    code: str
    name: str
    parent: str | None
    children: list[str] = field(default_factory=list)


class _Period:
    """One computation: what has been read already is kept by its window."""

    def __init__(
        self,
        session: Session,
        start: datetime,
        end: datetime,
        time_zone: ZoneInfo,
        units: Mapping[str, Decimal],
        assumptions: Assumptions,
    ) -> None:
        self.connection = raw_of(session)
        # wide sorts in memory; compiling such a statement takes longer than running it
        self.connection.execute("SET LOCAL work_mem = '64MB'")
        self.connection.execute("SET LOCAL jit = off")
        self.start, self.end = start, end
        self.time_zone = time_zone
        self.assumptions = assumptions
        self.shared = {"units": list(units), "factors": list(units.values()), "time_zone": time_zone.key}
        self._flows: dict[tuple[datetime, datetime], list[Flow]] = {}
        self._storage: dict[tuple[datetime, datetime], list[Storage]] = {}
        self._used: dict[tuple[str, datetime, datetime], dict[str, Any]] = {}
        self.zones = self._read_zones()

    def losses(self, wanted: Iterable[str] | None) -> list[ZoneLoss]:
        codes: list[str | None] = [*self.zones, None] if wanted is None else list(wanted)
        found = [self._bounded(code) for code in codes]
        self._read_consumption(found)
        for loss in found:
            for code in self._leaves(loss.zone):
                loss.consumption.add(self._used[code, loss.lower, loss.upper])
        return found

    def _rows(self, files: Iterable[str], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        statement = "\n".join((resources.files("gis") / "sql" / name).read_text(encoding="utf-8") for name in files)
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement.encode(), {**self.shared, **parameters}).fetchall()

    def _read_zones(self) -> dict[str, _Zone]:
        rows = self.connection.execute("SELECT code, name, parent FROM zone ORDER BY code").fetchall()
        zones = {code: _Zone(code, name, parent) for code, name, parent in rows}
        for zone in zones.values():
            if zone.parent in zones:
                zones[zone.parent].children.append(zone.code)
        return zones

    def _leaves(self, code: str | None) -> list[str]:
        """The zone and everything in it; all zones for the whole system."""
        if code is None:
            return list(self.zones)
        return [code, *(inner for child in self.zones[code].children for inner in self._leaves(child))]

    def _bounded(self, code: str | None) -> ZoneLoss:
        """The zone with its flows and tanks, over the window in which all its meters were heard."""
        lower, upper, notes = self.start, self.end, []
        flows = self._crossing(code, lower, upper)
        slack = min(EDGE_LIMIT, (upper - lower) * EDGE_SHARE)
        silent = [flow.serial for flow in flows if flow.first_at is None]
        if silent:
            notes.append(f"no readings of {', '.join(sorted(silent))} in the period: no system input")
            flows = []
        firsts = [
            flow.first_at
            for flow in flows
            if flow.first_at and flow.first_at > lower + slack and _whole(flow, lower, upper)
        ]
        lasts = [
            flow.last_at
            for flow in flows
            if flow.last_at and flow.last_at < upper - slack and _whole(flow, lower, upper)
        ]
        if firsts or lasts:
            lower, upper = max([lower, *firsts]), min([upper, *lasts])
            notes.append("a meter at the edge was not heard throughout: the window is shorter than the period")
            flows = self._crossing(code, lower, upper) if lower < upper else []
        if not flows and not silent:
            notes.append("no meter at the edge of the zone: no system input")
        loss = ZoneLoss(
            zone=code,
            name="Whole system" if code is None else self.zones[code].name,
            lower=lower,
            upper=max(lower, upper),
            period_s=(self.end - self.start).total_seconds(),
            flows=flows,
            assumptions=self.assumptions,
            notes=notes,
        )
        inside = set(self._leaves(code))
        loss.storage = [tank for tank in self._read_storage(loss.lower, loss.upper) if tank.zone in inside]
        notes += [
            f"levels of tank {t.tank} are missing: its storage change is left out"
            for t in loss.storage
            if t.increase_m3 is None
        ]
        return loss

    def _crossing(self, code: str | None, lower: datetime, upper: datetime) -> list[Flow]:
        """The meters on the boundary of a zone, each with its sign.

        A meter counts when exactly one of its sides lies inside; transfers inside cancel by not counting. A zone that
        has no meter of its own towards the outside is bounded by those of the zones in it.
        """
        inside = set(self._leaves(code))
        crossing = []
        for flow in self._read_flows(lower, upper):
            here, there = flow.zone in inside, flow.to_zone in inside
            if here == there or (flow.to_zone is None and not self._outer(flow.zone, code, lower, upper)):
                continue
            into_own_zone = 1 if flow.direction == "in" else -1
            flow.sign = into_own_zone if here else -into_own_zone
            crossing.append(_copied(flow))
        return crossing

    def _outer(self, meter_zone: str, code: str | None, lower: datetime, upper: datetime) -> bool:
        """Whether a meter of `meter_zone` towards an unnamed outside is on the boundary of `code`.

        It is not when a zone between the two, or `code` itself, has such a meter of its own: then the unnamed outside
        is the rest of that zone.
        """
        own = {flow.zone for flow in self._read_flows(lower, upper) if flow.to_zone is None}
        at: str | None = meter_zone
        while at is not None and at != code:
            at = self.zones[at].parent
            if at in own:
                return False
        return True

    def _read_flows(self, lower: datetime, upper: datetime) -> list[Flow]:
        key = (lower, upper)
        if key not in self._flows:
            window = {"lower": lower, "upper": upper}
            volumes = {
                (row["installation"], row["meter_id"]): row
                for row in self._rows(("zone_spans.sql", "register_volumes.sql", "zone_volumes.sql"), window)
            }
            installed = self._rows(("zone_meters.sql",), window)
            by_installation: dict[Any, list[dict[str, Any]]] = {}
            for row in installed:
                by_installation.setdefault(row["installation"], []).append(row)
            self._flows[key] = [self._flow(rows, volumes) for rows in by_installation.values()]
        return self._flows[key]

    def _flow(self, registers: list[dict[str, Any]], volumes: dict[tuple[str, int], dict[str, Any]]) -> Flow:
        first = registers[0]
        flow = Flow(
            serial=first["serial"],
            zone=first["zone"],
            direction=first["direction"],
            to_zone=first["to_zone"],
            error_pct=first["error_pct"],
            registered_m3=0.0,
            filled_m3=0.0,
            covered_s=0.0,
            expected_s=(first["upper"] - first["lower"]).total_seconds(),
            breaks=0,
            first_at=None,
            last_at=None,
        )
        counting = [row for row in registers if row["register"] != "volume_interval"]
        keyed = [(row, volumes.get((row["installation"], row["meter_id"]))) for row in counting]
        heard = [(row, volume) for row, volume in keyed if volume is not None]
        if any(volume["first_at"] for _, volume in heard):
            forward = [volume for row, volume in heard if row["register"] != "volume_reverse"]
            flow.registered_m3 = sum(
                (-1 if row["register"] == "volume_reverse" else 1) * volume["volume_m3"] for row, volume in heard
            )
            flow.covered_s = min((volume["covered_s"] for volume in forward), default=0.0)
            flow.breaks = sum(volume["breaks"] for volume in forward)
            flow.first_at = max((v["first_at"] for v in forward if v["first_at"]), default=None)
            flow.last_at = min((v["last_at"] for v in forward if v["last_at"]), default=None)
            if flow.covered_s:
                flow.filled_m3 = flow.registered_m3 / flow.covered_s * max(0.0, flow.expected_s - flow.covered_s)
        elif any(row["register"] == "volume_interval" for row in registers):
            self._fill_from_intervals(flow, next(row for row in registers if row["register"] == "volume_interval"))
        return flow

    def _fill_from_intervals(self, flow: Flow, register: dict[str, Any]) -> None:
        rows = self.connection.execute(
            "SELECT measured_at, value_m3::float8 FROM reading WHERE meter_id = %s AND measured_at > %s"
            " AND measured_at <= %s AND value_m3 IS NOT NULL AND quality IN ('good', 'suspect') ORDER BY measured_at",
            (register["meter_id"], register["lower"], register["upper"]),
        ).fetchall()
        passed = interval_volume([(at, m3) for at, m3 in rows], register["lower"], register["upper"], self.time_zone)
        flow.registered_m3, flow.filled_m3, flow.covered_s = passed.measured_m3, passed.filled_m3, passed.covered_s
        flow.first_at, flow.last_at = passed.first_at, passed.last_at

    def _read_storage(self, lower: datetime, upper: datetime) -> list[Storage]:
        key = (lower, upper)
        if key not in self._storage:
            tanks: dict[str, Storage] = {}
            for row in self._rows(("tank_levels.sql",), {"lower": lower, "upper": upper}):
                tank = tanks.setdefault(row["tank"], Storage(row["tank"], row["zone"], row["area_m2"], None, None))
                if row["at"] == lower:
                    tank.level_from_m = row["level_m"]
                if row["at"] == upper:
                    tank.level_to_m = row["level_m"]
            self._storage[key] = list(tanks.values())
        return self._storage[key]

    def _read_consumption(self, losses: list[ZoneLoss]) -> None:
        """Customers of every needed zone and window: one statement per distinct set of windows, mostly one."""
        wanted = {(code, loss.lower, loss.upper) for loss in losses for code in self._leaves(loss.zone)}
        while wanted:
            # a zone may be asked for over several windows; each round takes one of them
            batch = {code: (code, lower, upper) for code, lower, upper in sorted(wanted)}
            wanted -= set(batch.values())
            keys = list(batch.values())
            rows = self._rows(
                ("customer_spans.sql", "register_volumes.sql", "customer_volumes.sql"),
                {"zones": [k[0] for k in keys], "lowers": [k[1] for k in keys], "uppers": [k[2] for k in keys]},
            )
            for row in rows:
                self._used[batch[row["zone"]]] = row


def _whole(flow: Flow, lower: datetime, upper: datetime) -> bool:
    """Whether the meter was installed throughout: what was not there yet misses nothing."""
    return flow.expected_s >= (upper - lower).total_seconds() - 1


def _copied(flow: Flow) -> Flow:
    return Flow(**asdict(flow))
