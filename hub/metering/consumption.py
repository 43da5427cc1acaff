"""Consumption of a meter by hour, day or month, derived from its registers. Reads only.

A register is a curve over measured time; between two readings it is taken to rise evenly. A fall is rollover (near the
end of the dials), backflow (small), misread (the next reading is back) or reset; only the first two count. Suspect
readings and registers without a unit are left out. A step that no two readings embrace is missing, never zero; one
whose ends were interpolated over more than a twentieth of the step is marked estimated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy import bindparam, select, text
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.errors import BadInput, NotFound
from hub.metering.booking import SIDE_REGISTERS
from hub.metering.devices import MeterRegister
from hub.models import Meter

Step = Literal["hour", "day", "month"]
STEPS: tuple[Step, ...] = ("hour", "day", "month")
MOST_STEPS = 10_000
LENGTH = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30)}
# A fall of at most this, or of one part in a thousand of the register, is water that ran back.
BACKFLOW_M3 = Decimal("0.5")
# Rollover: the last tenth of the dials before, the first tenth after.
_NEAR = Decimal("0.1")


class Point(NamedTuple):
    """One believed reading of a register."""

    at: datetime
    volume: Decimal
    estimated: bool


class Rise(NamedTuple):
    """What ran through between two readings; `volume` None when the register was reset in between."""

    begins: datetime
    ends: datetime
    volume: Decimal | None
    estimated: bool


class Event(NamedTuple):
    """A fall of the register and what it was taken for."""

    at: datetime
    kind: Literal["rollover", "backflow", "misread", "reset"]
    before_m3: Decimal
    after_m3: Decimal


@dataclass(slots=True, frozen=True)
class Used:
    """Consumption over [begins, ends). `coverage` is the share of that time between readings."""

    begins: datetime
    ends: datetime
    volume_m3: Decimal | None
    coverage: float
    estimated: bool

    @property
    def missing(self) -> bool:
        """Whether part of the time has no readings around it."""
        return self.coverage < 1.0


def edges(begins: datetime, ends: datetime, step: Step, zone: ZoneInfo) -> list[datetime]:
    """Where the steps meet, in UTC: days and months of the utility's calendar, and the full hours of its clock.

    Each hour passes once, however the clock is changed; where it is moved by half an hour, one step has half an hour.
    """
    found = [begins]
    while found[-1] < ends:
        if len(found) > MOST_STEPS:
            raise BadInput(
                f"More than {MOST_STEPS} steps.", field="step", remedy="Ask for a shorter time or longer steps."
            )
        found.append(min(ends, _next(found[-1], step, zone)))
    return found


def _next(at: datetime, step: Step, zone: ZoneInfo) -> datetime:
    if step == "hour":
        shown = at.astimezone(zone)
        past = timedelta(minutes=shown.minute, seconds=shown.second, microseconds=shown.microsecond)
        return at + timedelta(hours=1) - past
    local = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    after = local + timedelta(days=1) if step == "day" else (local.replace(day=1) + timedelta(days=32)).replace(day=1)
    return after.replace(tzinfo=zone).astimezone(UTC)


def rises(points: Sequence[Point], modulus: Decimal | None) -> tuple[list[Rise], list[Event]]:
    """The register's movements in order, and its falls as they were judged. Points are in order of time."""
    found: list[Rise] = []
    events: list[Event] = []
    last: Point | None = None
    for position, point in enumerate(points):
        if last is None:
            last = point
            continue
        delta, kind = _delta(last, point, points[position + 1] if position + 1 < len(points) else None, modulus)
        if kind is not None:
            events.append(Event(point.at, kind, last.volume, point.volume))
        if kind == "misread":
            continue
        found.append(Rise(last.at, point.at, delta, last.estimated or point.estimated))
        last = point
    return found, events


def _delta(
    last: Point, point: Point, after: Point | None, modulus: Decimal | None
) -> tuple[Decimal | None, Literal["rollover", "backflow", "misread", "reset"] | None]:
    delta = point.volume - last.volume
    small = max(BACKFLOW_M3, abs(last.volume) / 1000)
    if delta >= 0:
        # a register that stood near zero and now near its end ran backwards through zero
        if modulus is not None and delta > modulus / 2 and modulus - delta <= small:
            return delta - modulus, "backflow"
        return delta, None
    if modulus is not None and last.volume >= modulus * (1 - _NEAR) and point.volume <= modulus * _NEAR:
        return delta + modulus, "rollover"
    if after is not None and after.volume >= last.volume:
        return None, "misread"
    if -delta <= small:
        return delta, "backflow"
    return None, "reset"


def shares(movements: Sequence[Rise], marks: Sequence[datetime], step: Step) -> list[Used]:
    """`movements` cut at `marks`, each spread evenly over its time."""
    tolerance = LENGTH[step] / 20
    result: list[Used] = []
    index = 0
    for begins, ends in pairwise(marks):
        while index < len(movements) and movements[index].ends <= begins:
            index += 1
        volume, covered, estimated = Decimal(0), timedelta(0), False
        position = index
        while position < len(movements) and movements[position].begins < ends:
            rise = movements[position]
            position += 1
            overlap = min(rise.ends, ends) - max(rise.begins, begins)
            if rise.volume is None or overlap <= timedelta(0):
                continue
            covered += overlap
            volume += rise.volume * _part(overlap, rise.ends - rise.begins)
            estimated |= rise.estimated or _guessed(rise, begins, tolerance) or _guessed(rise, ends, tolerance)
        coverage = min(1.0, covered / (ends - begins))
        result.append(Used(begins, ends, volume if covered else None, coverage, estimated))
    return result


def _part(overlap: timedelta, whole: timedelta) -> Decimal:
    microsecond = timedelta(microseconds=1)
    return Decimal(overlap // microsecond) / Decimal(whole // microsecond)


def _guessed(rise: Rise, edge: datetime, tolerance: timedelta) -> bool:
    """Whether the register's stand at `edge` comes from readings that are both further away than `tolerance`."""
    return rise.begins + tolerance < edge < rise.ends - tolerance


def of_meter(
    session: Session, serial: str, *, begins: datetime, ends: datetime, step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[Event]]:
    """Consumption of a meter over [begins, ends) from its readings. Raises NotFound, BadInput."""
    if ends <= begins:
        raise BadInput("The time must end after it begins.", field="to")
    return over(session, counting(session, serial), edges(begins, ends, step, zone), step)


def counting(session: Session, serial: str) -> list[int]:
    """The ids of the registers of a meter that count its water. Raises NotFound."""
    rows = session.execute(select(Meter.id, Meter.register).where(Meter.serial == serial).order_by(Meter.id)).all()
    if not rows:
        raise NotFound(
            f"There is no meter {serial[:80]!r}.", field="serial", remedy="Import it, or register its device."
        )
    return [row.id for row in rows if row.register not in SIDE_REGISTERS]


def over(
    session: Session, registers: Sequence[int], marks: Sequence[datetime], step: Step
) -> tuple[list[Used], list[Event]]:
    """What `registers` of one meter counted between `marks`, summed, from their readings; and their falls meanwhile."""
    modulus = moduli(raw_of(session), registers)
    parts: list[list[Used]] = []
    events: list[Event] = []
    for register in registers:
        movements, falls = rises(list(_points(session, register, marks[0], marks[-1])), modulus[register])
        parts.append(shares(movements, marks, step))
        events += [fall for fall in falls if marks[0] <= fall.at < marks[-1]]
    return summed(parts, marks), sorted(events)


def moduli(connection: "psycopg.Connection[tuple[Any, ...]]", registers: Sequence[int]) -> dict[int, Decimal | None]:
    """Where each register starts again, in m³: as its device was registered, else by its dials, else unknown."""
    rows = connection.execute(
        "SELECT m.id, m.unit, m.multiplier, m.dials, (SELECT d.register_modulus_m3 FROM device d"
        " WHERE d.meter = m.serial AND d.register = m.register AND d.register_modulus_m3 IS NOT NULL"
        " ORDER BY d.valid_from DESC LIMIT 1) FROM meter m WHERE m.id = ANY(%s)",
        [list(registers)],
    )
    return {row[0]: row[4] if row[4] is not None else MeterRegister(*row[:4]).modulus_m3() for row in rows}


def summed(parts: Sequence[Sequence[Used]], marks: Sequence[datetime]) -> list[Used]:
    """All registers of a compound meter together; where one is unknown, so is the sum."""
    if len(parts) == 1:
        return list(parts[0])
    result = []
    for position, (begins, ends) in enumerate(pairwise(marks)):
        here = [part[position] for part in parts]
        volumes = [used.volume_m3 for used in here if used.volume_m3 is not None]
        total = sum(volumes, Decimal(0)) if here and len(volumes) == len(here) else None
        coverage = min((used.coverage for used in here), default=0.0)
        result.append(Used(begins, ends, total, coverage, any(used.estimated for used in here)))
    return result


_POINTS = text(
    "SELECT measured_at, value_m3, quality FROM ("
    " (SELECT measured_at, value_m3, quality FROM reading WHERE meter_id = :meter AND measured_at < :begins"
    "   AND quality IN :believed AND value_m3 IS NOT NULL ORDER BY measured_at DESC LIMIT 2)"
    " UNION ALL SELECT measured_at, value_m3, quality FROM reading WHERE meter_id = :meter AND measured_at >= :begins"
    "   AND measured_at < :ends AND quality IN :believed AND value_m3 IS NOT NULL"
    " UNION ALL (SELECT measured_at, value_m3, quality FROM reading WHERE meter_id = :meter AND measured_at >= :ends"
    "   AND quality IN :believed AND value_m3 IS NOT NULL ORDER BY measured_at LIMIT 2)) r ORDER BY measured_at"
).bindparams(bindparam("believed", expanding=True))


def _points(session: Session, meter_id: int, begins: datetime, ends: datetime) -> Iterator[Point]:
    """Believed readings in the time, with two before and two after: by the outer ones the inner are judged misreads."""
    rows = session.execute(
        _POINTS, {"meter": meter_id, "begins": begins, "ends": ends, "believed": ("good", "estimated")}
    )
    for at, volume, quality in rows:
        yield Point(at, volume, quality == "estimated")
