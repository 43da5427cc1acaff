"""Hourly net flow into a zone, from whatever its meters report. Reads only.

An hour whose flow is not wholly known is NaN: absent is not zero.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gis.flow_faults import cleaned
from gis.intervals import thawed
from gis.losses import Period

Series = npt.NDArray[np.float64]
HOUR_S = 3600.0
# Readings of a counter further apart than this say nothing of single hours.
LONGEST_S = 5400.0
# Less of an hour than this measured, and its flow is not known.
WHOLE = 0.98


@dataclass(slots=True, frozen=True)
class ZoneHours:
    """Hour i runs from `edges[i]` to `edges[i+1]` (seconds of the epoch); `net` is inflow − outflow − storage, m³."""

    edges: Series
    net: Series
    meters: list[str]


def zone_hours(period: Period, code: str | None, *, clean: bool = False) -> ZoneHours:
    """The hourly net flow of a zone (None: the whole system) over the period, corrected by verified meter errors.

    `clean` leaves out hours of a meter that are no measurement (see gis/flow_faults.py), each meter by itself.
    """
    first, last = period.start.timestamp(), period.end.timestamp()
    edges = np.arange(first, last + 1, HOUR_S)
    net = np.zeros(len(edges) - 1)
    flows = period.crossing(code, period.start, period.end)
    if not flows:
        return ZoneHours(edges, np.full(len(net), np.nan), [])
    by_serial = {flow.serial: flow for flow in flows}
    rows = period.connection.execute(
        "SELECT m.serial, m.register, i.installed_at, i.removed_at, r.at, r.v FROM meter_installation i"
        " JOIN meter m ON m.serial = i.serial AND m.register NOT IN ('alarm', 'volume_reverse')"
        " LEFT JOIN LATERAL (SELECT array_agg(extract(epoch FROM measured_at)::float8 ORDER BY measured_at) AS at,"
        " array_agg(value_m3::float8 ORDER BY measured_at) AS v FROM reading"
        " WHERE meter_id = m.id AND measured_at > %(lower)s AND measured_at < %(upper)s AND value_m3 IS NOT NULL"
        " AND measured_at >= i.installed_at AND measured_at <= coalesce(i.removed_at, 'infinity')"
        " AND quality IN ('good', 'suspect')) r ON true"
        " WHERE i.zone IS NOT NULL AND i.serial = ANY(%(serials)s)"
        " AND i.installed_at < %(upper)s AND coalesce(i.removed_at, 'infinity') > %(lower)s",
        {
            "serials": list(by_serial),
            "lower": period.start - timedelta(hours=2),
            "upper": period.end + timedelta(hours=2),
        },
    ).fetchall()
    metered = np.zeros(len(net), dtype=bool)
    for serial, register, installed, removed, at, volume in rows:
        flow = by_serial[serial]
        hourly = _hourly(register == "volume_interval", at or [], volume or [], edges)
        if clean:
            hourly, _ = cleaned(hourly)
        # before it was installed, and after it was taken away, nothing ran through it
        here = edges[:-1] >= installed.timestamp()
        if removed is not None:
            here &= edges[:-1] < removed.timestamp()
        metered |= here
        net += np.where(here, flow.sign * hourly / (1 + (flow.error_pct or 0.0) / 100), 0.0)
    net = np.where(metered, net, np.nan)
    return ZoneHours(edges, net - _stored(period, code, edges), sorted(by_serial))


def _hourly(interval: bool, at: Sequence[float], volume: Sequence[float], edges: Series) -> Series:
    """The volume of each hour: of a counter that was read often enough, or of summed intervals."""
    if len(at) < 2:
        return np.full(len(edges) - 1, np.nan)
    if interval:
        step = Counter(round(b - a) for a, b in pairwise(at)).most_common(1)[0][0]
        if step > LONGEST_S:
            return np.full(len(edges) - 1, np.nan)
        kept = thawed(list(zip(at, volume, strict=True)))
        pieces = [(end - step, end, m3) for end, m3 in kept]
    else:
        pieces = [
            (a, b, rise)
            for (a, before), (b, after) in pairwise(zip(at, volume, strict=True))
            if b - a <= LONGEST_S and (rise := after - before) >= 0
        ]
    return _spread(pieces, edges)


def _spread(pieces: Sequence[tuple[float, float, float]], edges: Series) -> Series:
    """Volumes over [begins, ends), spread evenly, by hour; NaN where an hour is not wholly covered."""
    if not pieces:
        return np.full(len(edges) - 1, np.nan)
    begins, ends, volumes = (np.array(column) for column in zip(*pieces, strict=True))
    begins[1:] = np.maximum(begins[1:], ends[:-1])
    times = np.column_stack((begins, ends)).ravel()
    passed = np.repeat(np.concatenate(([0.0], np.cumsum(volumes))), 2)[1:-1]
    covered = np.repeat(np.concatenate(([0.0], np.cumsum(ends - begins))), 2)[1:-1]
    hourly = np.diff(np.interp(edges, times, passed))
    share = np.diff(np.interp(edges, times, covered)) / HOUR_S
    return np.where(share >= WHOLE, hourly / np.maximum(share, WHOLE), np.nan)


def _stored(period: Period, code: str | None, edges: Series) -> Series:
    """The storage increase of each hour in the zone's tanks."""
    inside = set(period.leaves(code))
    rows = period.connection.execute(
        "SELECT tank, (array_agg(zone ORDER BY read_at DESC) FILTER (WHERE zone IS NOT NULL))[1],"
        " (array_agg(area_m2::float8 ORDER BY read_at DESC) FILTER (WHERE area_m2 IS NOT NULL))[1],"
        " array_agg(extract(epoch FROM read_at)::float8 ORDER BY read_at) FILTER (WHERE read_at > %(lower)s"
        " AND read_at < %(upper)s),"
        " array_agg(level_m::float8 ORDER BY read_at) FILTER (WHERE read_at > %(lower)s AND read_at < %(upper)s)"
        " FROM tank_level GROUP BY tank",
        {"lower": period.start - timedelta(hours=3), "upper": period.end + timedelta(hours=3)},
    ).fetchall()
    total = np.zeros(len(edges) - 1)
    for _, zone, area, at, level in rows:
        if zone not in inside or area is None:
            continue
        if not at or len(at) < 2:
            return np.full(len(total), np.nan)
        levels = np.interp(edges, at, level)
        nearest = np.searchsorted(at, edges)
        before = np.array(at)[np.clip(nearest - 1, 0, len(at) - 1)]
        after = np.array(at)[np.clip(nearest, 0, len(at) - 1)]
        known = (np.abs(edges - before) <= LONGEST_S) | (np.abs(after - edges) <= LONGEST_S)
        total += area * np.diff(np.where(known, levels, np.nan))
    return total


def local_hour(edges: Series, zone: Any) -> list[tuple[str, int]]:
    """(local day, local hour) of each hour's beginning."""
    moments = (datetime.fromtimestamp(at, zone) for at in edges[:-1])
    return [(moment.date().isoformat(), moment.hour) for moment in moments]
