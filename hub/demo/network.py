"""The pipes of L-Town: read from the EPANET file that `epyt` ships, placed on the map, cut into zones and streets.

Pure: reads one file, writes nothing. Coordinates inside are metres of UTM zone 36N; `to_lon_lat` turns them into
degrees. L-Town itself is by the KIOS centre (EUPL 1.2); only the shift to a place on earth is ours.
"""

import importlib.util
import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyproj
import shapely
from shapely.geometry import LineString, MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

ORIGIN = (501_000.0, 3_837_500.0)
UTM = "EPSG:32636"
PATTERN_STEPS_PER_HOUR = 12
# What separates the zones: the reducing valve into B, the pump into C. R1 and R2 feed A.
ZONE_LINKS = {"M1": "p227", "M2": "p235", "M3": "PRV-3", "M4": "PUMP_1"}
ZONE_NAMES = {"A": "Area A (gravity)", "B": "Area B (reduced pressure)", "C": "Area C (pumped, tank T1)"}
_ZONE_SEEDS = {"A": "n303", "B": "n226", "C": "T1"}

Point = tuple[float, float]


class NoNetwork(Exception):
    """The network or the EPANET library is not installed."""


@dataclass(frozen=True)
class Link:
    """A pipe, valve or pump between two nodes; length in metres, diameter in millimetres."""

    id: str
    start: str
    end: str
    length_m: float
    diameter_mm: float
    kind: str


@dataclass
class Network:
    """Nodes (UTM metres), links, demands by node and class (m³/h), weekly patterns by class (hourly means)."""

    nodes: dict[str, Point]
    elevation_m: dict[str, float]
    links: dict[str, Link]
    demands: dict[tuple[str, str], float]
    patterns: dict[str, list[float]]
    path: Path
    zones: dict[str, str] = field(default_factory=dict)

    @cached_property
    def pipes(self) -> dict[str, Link]:
        """The links that lie in a street."""
        return {link.id: link for link in self.links.values() if link.kind == "pipe"}

    @cached_property
    def pipes_at(self) -> dict[str, list[Link]]:
        """Pipes that touch each node."""
        found: dict[str, list[Link]] = defaultdict(list)
        for link in self.pipes.values():
            found[link.start].append(link)
            found[link.end].append(link)
        return dict(found)

    def line(self, link: Link) -> LineString:
        """The link as a straight line in UTM metres."""
        return LineString([self.nodes[link.start], self.nodes[link.end]])

    def zone_of_pipe(self, link: Link) -> str:
        """A pipe belongs to the zone of the node it starts at (pipes never cross a zone boundary)."""
        return self.zones[link.start]


def epyt_folder() -> Path:
    """Where `epyt` is installed, without importing it (that would load pandas and matplotlib)."""
    spec = importlib.util.find_spec("epyt")
    if spec is None or not spec.submodule_search_locations:
        raise NoNetwork("The demo needs the package `epyt`: run `make setup`, or `pip install epyt`.")
    return Path(next(iter(spec.submodule_search_locations)))


def network_file() -> Path:
    """The EPANET input file of L-Town."""
    path = epyt_folder() / "networks" / "L-TOWN.inp"
    if not path.is_file():
        raise NoNetwork(f"{path} is missing: this version of `epyt` does not ship L-Town; install 2.3.5.")
    return path


def _sections(path: Path) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = defaultdict(list)
    name = ""
    for line in path.read_text(encoding="latin-1").splitlines():
        text = line.split(";")[0].strip()
        if text.startswith("["):
            name = text.strip("[]").upper()
        elif text:
            found[name].append(text.split())
    return found


def _links(sections: dict[str, list[list[str]]]) -> dict[str, Link]:
    links = {p[0]: Link(p[0], p[1], p[2], float(p[3]), float(p[4]), "pipe") for p in sections["PIPES"]}
    links |= {p[0]: Link(p[0], p[1], p[2], 0.0, float(p[3]), "valve") for p in sections["VALVES"]}
    links |= {p[0]: Link(p[0], p[1], p[2], 0.0, 0.0, "pump") for p in sections["PUMPS"]}
    return links


def _patterns(rows: list[list[str]]) -> dict[str, list[float]]:
    """Five-minute multipliers averaged to hours; the class is the pattern's name without `P-`."""
    raw: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        raw[row[0].removeprefix("P-")].extend(float(value) for value in row[1:])
    hourly = {}
    for name, values in raw.items():
        step = PATTERN_STEPS_PER_HOUR if len(values) > 1 else 1
        hours = [sum(values[i : i + step]) / step for i in range(0, len(values), step)]
        hourly[name] = hours if len(hours) > 1 else hours * 168
    return hourly


def read_network(path: Path | None = None) -> Network:
    """L-Town with its zones found by cutting the zone links."""
    path = path or network_file()
    sections = _sections(path)
    nodes = {p[0]: (float(p[1]) + ORIGIN[0], float(p[2]) + ORIGIN[1]) for p in sections["COORDINATES"]}
    elevation = {p[0]: float(p[1]) for p in sections["JUNCTIONS"]}
    demands: dict[tuple[str, str], float] = defaultdict(float)
    for node, value, pattern in (row[:3] for row in sections["DEMANDS"]):
        if float(value) > 0:
            demands[node, pattern.removeprefix("P-")] += float(value)
    network = Network(nodes, elevation, _links(sections), dict(demands), _patterns(sections["PATTERNS"]), path)
    network.zones = _find_zones(network)
    return network


def _find_zones(network: Network) -> dict[str, str]:
    cut = {ZONE_LINKS["M3"], ZONE_LINKS["M4"]}
    neighbours: dict[str, list[str]] = defaultdict(list)
    for link in network.links.values():
        if link.id not in cut:
            neighbours[link.start].append(link.end)
            neighbours[link.end].append(link.start)
    zones: dict[str, str] = {}
    for zone, seed in _ZONE_SEEDS.items():
        waiting = [seed]
        while waiting:
            node = waiting.pop()
            if node not in zones:
                zones[node] = zone
                waiting.extend(neighbours[node])
    return zones


def zone_polygons(network: Network, reach_m: float = 55.0) -> dict[str, BaseGeometry]:
    """One polygon per zone, none overlapping: the ground nearer to its pipes than to any other zone's.

    Ground outside the town, farther than `reach_m` from every pipe, belongs to no zone.
    """
    points: dict[Point, str] = {}
    for link in network.pipes.values():
        line = network.line(link)
        for step in range(max(2, math.ceil(line.length / 15)) + 1):
            at = line.interpolate(min(step * 15.0, line.length))
            points[round(at.x, 1), round(at.y, 1)] = network.zone_of_pipe(link)
    reached = shapely.union_all([network.line(link).buffer(reach_m) for link in network.pipes.values()])
    # Courtyards out of reach of every pipe are part of the town nevertheless.
    town = shapely.union_all([Polygon(part.exterior) for part in shapely.get_parts(reached)])
    cells = shapely.voronoi_polygons(MultiPoint(list(points)), extend_to=town)
    tree = shapely.STRtree(list(cells.geoms))
    by_zone: dict[str, list[Polygon]] = defaultdict(list)
    for point, zone in points.items():
        for index in tree.query(shapely.Point(point), predicate="intersects"):
            by_zone[zone].append(cells.geoms[int(index)])
    ground = {zone: shapely.union_all(parts).intersection(town) for zone, parts in sorted(by_zone.items())}
    # Simplified together, so that neighbours keep one common boundary.
    zones = list(ground)
    smooth = shapely.coverage_simplify(shapely.set_precision(list(ground.values()), 0.1), 4.0)
    return {zone: shapely.make_valid(shape) for zone, shape in zip(zones, smooth, strict=True)}


_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)


def to_lon_lat(point: Point) -> Point:
    """UTM metres to degrees, seven decimals (a centimetre)."""
    lon, lat = _degrees.transform(*point)
    return round(lon, 7), round(lat, 7)


def geometry_to_lon_lat(shape: BaseGeometry) -> BaseGeometry:
    """The same, for any shape."""
    return shapely.transform(shape, lambda x, y: _degrees.transform(x, y), interleaved=False)


def streets(network: Network) -> list[list[Link]]:
    """Pipes strung into streets, longest first: at each end a street goes on along the straightest unused pipe."""
    unused = dict(network.pipes)
    found = []
    for first in sorted(network.pipes.values(), key=lambda link: (-link.length_m, link.id)):
        if first.id not in unused:
            continue
        del unused[first.id]
        ahead = _walk(network, first, first.end, unused)
        behind = _walk(network, first, first.start, unused)
        found.append([*reversed(behind), first, *ahead])
    return sorted(found, key=lambda street: (-sum(link.length_m for link in street), street[0].id))


def _walk(network: Network, link: Link, node: str, unused: dict[str, Link]) -> list[Link]:
    path: list[Link] = []
    while True:
        came = link.start if node == link.end else link.end
        choices = [
            (_turn(network, came, node, other), other.id) for other in network.pipes_at[node] if other.id in unused
        ]
        if not choices or min(choices)[0] > 40:
            return path
        link = unused.pop(min(choices)[1])
        path.append(link)
        node = link.end if link.start == node else link.start


def _turn(network: Network, came: str, node: str, link: Link) -> float:
    """Degrees by which a walk from `came` through `node` turns when it goes on along `link`."""
    goes = link.end if link.start == node else link.start
    here, before, after = network.nodes[node], network.nodes[came], network.nodes[goes]
    into = math.atan2(here[1] - before[1], here[0] - before[0])
    out = math.atan2(after[1] - here[1], after[0] - here[0])
    return abs(math.degrees(math.remainder(out - into, math.tau)))
