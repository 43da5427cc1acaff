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

from gis.intervals import interval_volume
from gis.zone_loss import Assumptions, Evidence, Flow, Storage, TestedClass, ZoneLoss
from hub.db import raw_of

# A missing edge shorter than this part of the period, and than three days, is filled at the meter's own mean rate.
EDGE_SHARE = 0.05
EDGE_LIMIT = timedelta(days=3)


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
    return Period(session, start, end, time_zone, units, assumptions or Assumptions()).losses(zones)


@dataclass(slots=True)
class _Zone:
    code: str
    name: str
    parent: str | None
    children: list[str] = field(default_factory=list)


class Period:
    """One computation over [start, end): what has been read already is kept by its window."""

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

    def losses(self, wanted: Iterable[str | None] | None) -> list[ZoneLoss]:
        codes: list[str | None] = [*self.zones, None] if wanted is None else list(wanted)
        found = [self._bounded(code) for code in codes]
        self._read_consumption(found)
        for loss in found:
            for code in self.leaves(loss.zone):
                loss.consumption.add(self._used[code, loss.lower, loss.upper])
        self._read_evidence(found)
        return found

    def rows(self, files: Iterable[str], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of one statement, put together from files of gis/sql."""
        statement = "\n".join((resources.files("gis") / "sql" / name).read_text(encoding="utf-8") for name in files)
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement.encode(), {**self.shared, **parameters}).fetchall()

    def _read_zones(self) -> dict[str, _Zone]:
        """The tree of zones as it was on the last day of the period."""
        rows = self.connection.execute(
            "SELECT z.code, z.name, CASE WHEN f.zone IS NULL THEN z.parent ELSE f.parent END FROM zone z"
            " LEFT JOIN former_boundary f ON f.zone = z.code AND f.valid_to > %(day)s"
            " AND coalesce(f.valid_from, '-infinity') <= %(day)s ORDER BY z.code",
            {"day": (self.end - timedelta(microseconds=1)).astimezone(self.time_zone).date()},
        ).fetchall()
        zones = {code: _Zone(code, name, parent) for code, name, parent in rows}
        for zone in zones.values():
            if zone.parent in zones:
                zones[zone.parent].children.append(zone.code)
        return zones

    def leaves(self, code: str | None) -> list[str]:
        """The zone and everything in it; all zones for the whole system."""
        if code is None:
            return list(self.zones)
        return [code, *(inner for child in self.zones[code].children for inner in self.leaves(child))]

    def _bounded(self, code: str | None) -> ZoneLoss:
        """The zone with its flows and tanks, over the window in which all its meters were heard."""
        lower, upper, notes = self.start, self.end, []
        if code is None and (outside := self._in_no_zone()):
            notes.append(
                f"{outside} places with a meter or an account lie in no zone: what they use is not in the balance"
            )
        flows = self.crossing(code, lower, upper)
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
            flows = self.crossing(code, lower, upper) if lower < upper else []
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
        inside = set(self.leaves(code))
        loss.storage = [tank for tank in self._read_storage(loss.lower, loss.upper) if tank.zone in inside]
        notes += [
            f"levels of tank {t.tank} are missing: its storage change is left out"
            for t in loss.storage
            if t.increase_m3 is None
        ]
        return loss

    def _in_no_zone(self) -> int:
        """How many places that may use water have never lain in a zone."""
        row = self.connection.execute(
            "SELECT count(*) FROM service_point p WHERE p.zone IS NULL"
            " AND NOT EXISTS (SELECT FROM zone_membership k WHERE k.service_point = p.id)"
            " AND (EXISTS (SELECT FROM meter_installation i WHERE i.service_point = p.id)"
            " OR EXISTS (SELECT FROM occupancy o WHERE o.service_point = p.id))"
        ).fetchone()
        return int(row[0]) if row else 0

    def crossing(self, code: str | None, lower: datetime, upper: datetime) -> list[Flow]:
        """The meters on the boundary of a zone, each with its sign.

        A meter counts when exactly one of its sides lies inside; transfers inside cancel by not counting. A zone that
        has no meter of its own towards the outside is bounded by those of the zones in it.
        """
        inside = set(self.leaves(code))
        crossing = []
        for flow in self._read_flows(lower, upper):
            here, there = flow.zone in inside, flow.to_zone in inside
            if here == there or (flow.to_zone is None and not self._outer(flow.zone, code, lower, upper)):
                continue
            into_own_zone = 1 if flow.direction == "in" else -1
            flow.sign = into_own_zone if here else -into_own_zone
            flow.rest_of = self._around(flow.zone, lower, upper) if flow.to_zone is None else None
            crossing.append(_copied(flow))
        return crossing

    def _outer(self, meter_zone: str, code: str | None, lower: datetime, upper: datetime) -> bool:
        """Whether a meter of `meter_zone` towards an unnamed outside is on the boundary of `code`.

        It is not when a zone between the two, or `code` itself, has such a meter of its own: then the unnamed outside
        is the rest of that zone.
        """
        around = self._around(meter_zone, lower, upper)
        return around is None or (code is not None and code != around and code in self.leaves(around))

    def _around(self, zone: str, lower: datetime, upper: datetime) -> str | None:
        """The smallest zone around `zone` that has a meter of its own towards an unnamed outside."""
        own = {flow.zone for flow in self._read_flows(lower, upper) if flow.to_zone is None}
        at = self.zones[zone].parent
        while at is not None and at not in own:
            at = self.zones[at].parent
        return at

    def _read_flows(self, lower: datetime, upper: datetime) -> list[Flow]:
        key = (lower, upper)
        if key not in self._flows:
            window = {"lower": lower, "upper": upper}
            volumes = {
                (row["installation"], row["meter_id"]): row
                for row in self.rows(("zone_spans.sql", "register_volumes.sql", "zone_volumes.sql"), window)
            }
            installed = self.rows(("zone_meters.sql",), window)
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
            purpose=first["purpose"],
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
            for row in self.rows(("tank_levels.sql",), {"lower": lower, "upper": upper}):
                tank = tanks.setdefault(row["tank"], Storage(row["tank"], row["zone"], row["area_m2"], None, None))
                if row["at"] == lower:
                    tank.level_from_m = row["level_m"]
                if row["at"] == upper:
                    tank.level_to_m = row["level_m"]
            self._storage[key] = list(tanks.values())
        return self._storage[key]

    def _read_consumption(self, losses: list[ZoneLoss]) -> None:
        """Customers of every needed zone and window: one statement per distinct set of windows, mostly one."""
        wanted = {(code, loss.lower, loss.upper) for loss in losses for code in self.leaves(loss.zone)}
        while wanted:
            # a zone may be asked for over several windows; each round takes one of them
            batch = {code: (code, lower, upper) for code, lower, upper in sorted(wanted)}
            wanted -= set(batch.values())
            keys = list(batch.values())
            rows = self.rows(
                ("members.sql", "customer_spans.sql", "register_volumes.sql", "customer_volumes.sql"),
                {"zones": [k[0] for k in keys], "lowers": [k[1] for k in keys], "uppers": [k[2] for k in keys]},
            )
            for row in rows:
                self._used[batch[row["zone"]]] = row

    def _read_evidence(self, losses: list[ZoneLoss]) -> None:
        """Pipes, pressure, unbilled uses and codes of every zone in its window, and the bench tests of all meters."""
        tests = {
            row["premise_class"]: TestedClass(
                row["tests"], row["under_registration"], row["deviation"] or 0.0, row["newest"]
            )
            for row in self.rows(("meter_tests.sql",), {"until": self.end})
        }
        windows = list({(loss.lower, loss.upper) for loss in losses if loss.lower < loss.upper})
        seen: dict[tuple[datetime, datetime], dict[str, dict[str, Any]]] = {}
        for lower, upper in windows:
            rows = self.rows(("evidence.sql",), {"lower": lower, "upper": upper})
            seen[lower, upper] = {row["zone"]: row for row in rows}
        for loss in losses:
            loss.tests = tests
            by_zone = seen.get((loss.lower, loss.upper))
            if by_zone:
                loss.evidence = self._evidence(loss.zone, by_zone)

    def evidence(self, code: str | None) -> Evidence:
        """What is known of a zone over the whole period: pipes, places, pressure, unbilled uses."""
        rows = self.rows(("evidence.sql",), {"lower": self.start, "upper": self.end})
        return self._evidence(code, {row["zone"]: row for row in rows})

    def _evidence(self, code: str | None, by_zone: dict[str, dict[str, Any]]) -> Evidence:
        """A zone's own ground holds its mains, with those of the zones in it; places and uses lie in the smallest."""
        tops = [code] if code is not None else [z.code for z in self.zones.values() if z.parent not in self.zones]
        inside = [by_zone[inner] for inner in self.leaves(code) if inner in by_zone]
        found = Evidence(
            mains_km=sum(by_zone[top]["mains_km"] for top in tops if top in by_zone),
            connections=sum(row["connections"] for row in inside),
            codes=sum(row["codes"] for row in inside),
            wrong_codes=sum(row["wrong_codes"] for row in inside),
        )
        for row in inside:
            for purpose, m3 in (row["unbilled_use"] or {}).items():
                found.unbilled_use[purpose] = found.unbilled_use.get(purpose, 0.0) + m3
        own = by_zone.get(code) if code is not None else None
        if own is not None and own["pressure_m"] is not None:
            found.pressure_m, found.private_pipe_m = own["pressure_m"], own["private_pipe_m"]
            return found
        for name in ("pressure_m", "private_pipe_m"):
            # weighted by connections over the zones where it is known
            known = [row for row in inside if row[name] is not None and row["connections"] > 0]
            weight = sum(row["connections"] for row in known)
            if weight:
                setattr(found, name, sum(row[name] * row["connections"] for row in known) / weight)
        return found


def _whole(flow: Flow, lower: datetime, upper: datetime) -> bool:
    """Whether the meter was installed throughout: what was not there yet misses nothing."""
    # an hour less where the clock goes forward: the difference of two local times is not that of their instants
    return flow.expected_s >= upper.timestamp() - lower.timestamp() - 1


def _copied(flow: Flow) -> Flow:
    return Flow(**asdict(flow))
