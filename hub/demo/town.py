"""The people of the simulated town: some 5,000 customers with addresses, accounts and meters, made from node demands.

Pure and deterministic: the same network gives the same town. Each customer takes a share of the demand of one network
node and class, so the town's use and the network's demand are one and the same water.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from hub.demo import calendar, names
from hub.demo.hydraulics import CLASSES, SEED
from hub.demo.network import Link, Network, streets, to_lon_lat, zone_polygons

# Base demand in m³/h that one customer of a class stands for.
_SIZE = {"Residential": 0.0265, "Commercial": 0.17, "Industrial": 2.0}
_WEEKS = calendar.HOURS // 168 + 2
_PLACES_LEFT_EMPTY = 40


@dataclass(frozen=True)
class Customer:
    """One place with its meter and, unless it is empty, its account."""

    index: int
    node: str
    zone: str
    demand_class: str
    lon: float
    lat: float
    address: str
    name: str
    phone: str
    email: str
    empty: bool
    read_by: str  # "lorawan", "gateway" or "walk"
    hourly: bool
    dials: int
    size_mm: int
    accuracy: float
    first_register: float
    since: str

    @property
    def service_point(self) -> str:
        """Key of the place."""
        return f"SP-{self.index + 1:05d}"

    @property
    def account(self) -> str:
        """Account number; an empty place's belongs to whoever left."""
        return f"{700000 + self.index * 7}"

    @property
    def serial(self) -> str:
        """Number on the meter's face."""
        return f"LT{2200000 + self.index * 13}"

    @property
    def device(self) -> str | None:
        """Identity of the radio on the meter, or None when somebody walks there to read it."""
        if self.read_by == "lorawan":
            return f"70b3d57ed{self.index + 1:07x}"
        return f"ltown-{self.index + 1:05d}" if self.read_by == "gateway" else None

    @property
    def premise_class(self) -> str:
        """The class as billing words it."""
        return self.demand_class.lower()


@dataclass
class Town:
    """Everybody and everything above ground."""

    network: Network
    customers: list[Customer]
    base: npt.NDArray[np.float64]  # m³/h of the group the customer shares
    weight: npt.NDArray[np.float64]  # customer × week: the customer's part of the group
    polygons: dict[str, BaseGeometry]


@dataclass
class _Plot:
    node: str
    demand_class: str
    pipe: Link
    along: float  # metres from the pipe's start
    side: int


def build_town(network: Network) -> Town:
    """The town on this network, in about a second."""
    random = np.random.default_rng(SEED + 10)
    plots, base = _plots(network, random)
    addresses = _addresses(network, plots)
    polygons = zone_polygons(network)
    empty = _empty_places(plots, random)
    weight = _weights(plots, empty, random)
    customers = []
    for index, plot in enumerate(plots):
        point = _position(network, plot, polygons[network.zones[plot.node]])
        lon, lat = to_lon_lat(point)
        place = (network.zones[plot.node], (lon, lat), addresses[index], index in empty)
        customers.append(_customer(index, plot, *place, random))
    return Town(network, customers, base, weight, polygons)


def _plots(network: Network, random: np.random.Generator) -> tuple[list[_Plot], npt.NDArray[np.float64]]:
    plots, base = [], []
    for (node, demand_class), demand in sorted(network.demands.items()):
        own = [pipe for pipe in network.pipes_at.get(node, []) if network.zone_of_pipe(pipe) == network.zones[node]]
        if not own:
            continue
        for _ in range(max(1, round(demand / _SIZE[demand_class]))):
            pipe = own[int(random.integers(len(own)))]
            half = pipe.length_m * float(random.uniform(0.04, 0.5))
            along = half if pipe.start == node else pipe.length_m - half
            plots.append(_Plot(node, demand_class, pipe, along, int(random.integers(2))))
            base.append(demand)
    return plots, np.asarray(base)


def _position(network: Network, plot: _Plot, zone: BaseGeometry) -> tuple[float, float]:
    """Beside the main, on the plot's side; nearer when a zone boundary runs close by."""
    line = network.line(plot.pipe)
    share = plot.along / max(plot.pipe.length_m, 0.1)
    at = line.interpolate(share, normalized=True)
    (x0, y0), (x1, y1) = line.coords[0], line.coords[-1]
    length = max(line.length, 0.1)
    across = ((y0 - y1) / length, (x1 - x0) / length)
    sign = 1 if plot.side else -1
    for offset in (9.0, 5.0, 2.0, 0.5):
        point = (at.x + sign * offset * across[0], at.y + sign * offset * across[1])
        if zone.contains(shapely.Point(point)):
            return point
    return at.x, at.y


def _addresses(network: Network, plots: list[_Plot]) -> list[str]:
    """Numbers rise along each street, odd on one side; homes that share a number are flats."""
    placed: dict[str, tuple[int, float, bool]] = {}
    lines = streets(network)
    for number, street in enumerate(lines):
        offset = 0.0
        for position, pipe in enumerate(street):
            following = street[position + 1] if position + 1 < len(street) else None
            before = street[position - 1] if position else None
            forward = _runs_forward(pipe, before, following)
            placed[pipe.id] = (number, offset, forward)
            offset += pipe.length_m
    labels = names.street_names(len(lines))
    wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, plot in enumerate(plots):
        street_number, offset, forward = placed[plot.pipe.id]
        along = offset + (plot.along if forward else plot.pipe.length_m - plot.along)
        house = 2 * int(along // 8) + 1 + (plot.side if forward else 1 - plot.side)
        wanted[street_number, house].append(index)
    found = [""] * len(plots)
    for (street_number, house), sharing in wanted.items():
        for flat, index in enumerate(sharing, 1):
            found[index] = f"{house} {labels[street_number]}" + (f", flat {flat}" if len(sharing) > 1 else "")
    return found


def _runs_forward(pipe: Link, before: Link | None, following: Link | None) -> bool:
    if following is not None:
        return pipe.end in (following.start, following.end)
    return before is None or pipe.start in (before.start, before.end)


def _groups(plots: list[_Plot]) -> list[list[int]]:
    """Customers that share the demand of one node and class."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, plot in enumerate(plots):
        groups[plot.node, plot.demand_class].append(index)
    return list(groups.values())


def _empty_places(plots: list[_Plot], random: np.random.Generator) -> set[int]:
    """Homes nobody lives in, at most one in a group of five or more: their share is the neighbours'."""
    candidates = [members[0] for members in _groups(plots) if len(members) >= 5]
    count = min(_PLACES_LEFT_EMPTY, len(candidates))
    return {int(index) for index in random.choice(candidates, size=count, replace=False)}


def _weights(plots: list[_Plot], empty: set[int], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Each customer's part of its group's demand, differing from week to week, adding up to one in every week."""
    size = random.lognormal(0.0, 0.35, len(plots))
    parts = np.asarray(size[:, None] * random.lognormal(0.0, 0.2, (len(plots), _WEEKS)))
    parts[sorted(empty)] = 0.0
    for members in _groups(plots):
        parts[members] /= parts[members].sum(axis=0, keepdims=True)
    return parts


def _customer(
    index: int,
    plot: _Plot,
    zone: str,
    position: tuple[float, float],
    address: str,
    empty: bool,
    random: np.random.Generator,
) -> Customer:
    if plot.demand_class == "Residential":
        name, dials, size = names.person(random), 4, 15
    elif plot.demand_class == "Commercial":
        name, dials, size = names.business(random), 5, 25
    else:
        name, dials, size = names.plant(index), 6, 80
    draw = float(random.random())
    age_years = float(random.uniform(0.5, 14))
    used = age_years * 8766 * _SIZE[plot.demand_class] * float(random.uniform(0.5, 1.5))
    capacity = 10.0**dials
    # One in four hundred registers turns over within the simulated months.
    first = capacity - float(random.uniform(1, 25)) if random.random() < 0.0025 else used % capacity
    year = 2025 - int(age_years * 0.7)
    return Customer(
        index=index,
        node=plot.node,
        zone=zone,
        demand_class=plot.demand_class,
        lon=position[0],
        lat=position[1],
        address=address,
        name=name,
        phone=names.phone(index),
        email=names.email(name, index),
        empty=empty,
        read_by="lorawan" if draw < 0.55 else "gateway" if draw < 0.88 else "walk",
        hourly=draw < 0.02 or 0.55 <= draw < 0.57,
        dials=dials,
        size_mm=size,
        accuracy=round(min(1.004, float(random.normal(0.997 - 0.0016 * age_years, 0.004))), 4),
        first_register=round(first, 3),
        since=f"{year}-{1 + index % 12:02d}-{1 + index % 28:02d}",
    )


def class_index(town: Town) -> npt.NDArray[np.intp]:
    """Position of each customer's class in `CLASSES`."""
    return np.asarray([CLASSES.index(customer.demand_class) for customer in town.customers])
