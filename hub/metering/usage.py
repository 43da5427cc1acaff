"""What a meter or a service point used, by hour, local day or local month: from what is kept ready, else from readings.

Reads only. Both ways give the same figures; a register about which something is still due is computed from its
readings. A service point's use goes on from meter to meter as they were exchanged.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.errors import BadInput, NotFound
from hub.metering import consumption
from hub.metering.consumption import Event, Step, Used

_MICROSECOND = timedelta(microseconds=1)
# Register volumes are kept as floats: what lies beyond is their noise.
_DIGITS = 9
# Meters of these purposes measure again, or other water than the service point takes.
_APART = ("sub", "deduct", "reclaimed")


def of_meter(
    session: Session, serial: str, *, begins: datetime, ends: datetime, step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[Event]]:
    """Consumption of a meter over [begins, ends), all its counting registers summed. Raises NotFound, BadInput."""
    if ends <= begins:
        raise BadInput("The time must end after it begins.", field="to")
    return _over(
        session, consumption.counting(session, serial), consumption.edges(begins, ends, step, zone), step, zone
    )


def of_service_point(
    session: Session, service_point: str, *, begins: datetime, ends: datetime, step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[Event], list[str]]:
    """Consumption of a service point over [begins, ends) through all its meters, and those meters in order.

    Each meter counts while it was installed there. Time without a meter is missing. Sub, deduct and reclaimed-water
    meters are left out. Raises NotFound, BadInput.
    """
    if ends <= begins:
        raise BadInput("The time must end after it begins.", field="to")
    marks = consumption.edges(begins, ends, step, zone)
    rows = session.execute(
        text(
            "SELECT i.serial, greatest(i.installed_at, :begins), least(coalesce(i.removed_at, 'infinity'), :ends)"
            " FROM meter_installation i WHERE i.service_point = :point AND i.installed_at < :ends"
            " AND coalesce(i.removed_at, 'infinity') > :begins AND NOT EXISTS (SELECT FROM meter m"
            " WHERE m.serial = i.serial AND m.purpose = ANY(:apart)) ORDER BY i.installed_at, i.serial"
        ),
        {"point": service_point, "begins": begins, "ends": ends, "apart": list(_APART)},
    ).all()
    if (
        not rows
        and not session.execute(
            text("SELECT EXISTS (SELECT FROM service_point WHERE id = :point)"), {"point": service_point}
        ).scalar_one()
    ):
        raise NotFound(f"There is no service point {service_point[:80]!r}.", field="id")
    parts: list[Used] = []
    events: list[Event] = []
    for serial, lower, upper in rows:
        within = [lower, *(mark for mark in marks if lower < mark < upper), upper]
        used, falls = _over(session, consumption.counting(session, serial), within, step, zone)
        parts += used
        events += falls
    return _joined(parts, marks), sorted(events), list(dict.fromkeys(row[0] for row in rows))


def _joined(parts: Sequence[Used], marks: Sequence[datetime]) -> list[Used]:
    """Parts of several meters in the steps between `marks`; what no meter was there to measure is missing."""
    found = []
    for begins, ends in pairwise(marks):
        here = [part for part in parts if part.begins >= begins and part.ends <= ends]
        known = [part.volume_m3 for part in here if part.volume_m3 is not None]
        covered = sum(((part.ends - part.begins) * part.coverage for part in here), timedelta(0))
        whole = max(ends - begins, sum((part.ends - part.begins for part in here), timedelta(0)))
        volume = sum(known, Decimal(0)) if known else None
        found.append(Used(begins, ends, volume, min(1.0, covered / whole), any(part.estimated for part in here)))
    return found


def _over(
    session: Session, registers: Sequence[int], marks: Sequence[datetime], step: Step, zone: ZoneInfo
) -> tuple[list[Used], list[Event]]:
    # hours are kept as UTC counts them; where the clock is half an hour apart they are others
    apart = step == "hour" and any(mark.astimezone(UTC).minute for mark in marks)
    if (
        registers
        and not apart
        and all(_natural(mark, step, zone) for mark in (marks[0], marks[-1]))
        and not _due(session, registers)
    ):
        ready = [
            _hours(session, one, marks) if step == "hour" else _days(session, one, marks, step) for one in registers
        ]
        parts = [part for part in ready if part is not None]
        if len(parts) == len(ready):
            return consumption.summed(parts, marks), _falls(session, registers, marks)
    return consumption.over(session, registers, marks, step)


def _natural(at: datetime, step: Step, zone: ZoneInfo) -> bool:
    """Whether a step begins at `at`."""
    before = (at - _MICROSECOND).astimezone(UTC)
    return consumption.edges(before, before + 2 * _MICROSECOND, step, zone)[1] == at


def _due(session: Session, registers: Sequence[int]) -> bool:
    found = raw_of(session).execute(
        "SELECT EXISTS (SELECT FROM consumption_due WHERE meter_ids && %s::int4[])", [list(registers)]
    )
    return bool((found.fetchone() or [True])[0])


def _falls(session: Session, registers: Sequence[int], marks: Sequence[datetime]) -> list[Event]:
    rows = raw_of(session).execute(
        "SELECT at, kind, before_m3, after_m3 FROM register_fall WHERE meter_id = ANY(%s) AND at >= %s AND at < %s",
        [list(registers), marks[0], marks[-1]],
    )
    return sorted(Event(*row) for row in rows)


def _hours(session: Session, register: int, marks: Sequence[datetime]) -> list[Used] | None:
    rows = raw_of(session).execute(
        "SELECT day, volumes_m3, covered_s, estimated FROM consumption_hours"
        " WHERE meter_id = %s AND day BETWEEN %s AND %s",
        [register, marks[0].astimezone(UTC).date(), marks[-1].astimezone(UTC).date()],
    )
    kept = {day: tuple(rest) for day, *rest in rows}
    found = []
    for begins, ends in pairwise(marks):
        hour = begins.astimezone(UTC)
        row: Any = kept.get(hour.date())
        if row is None or row[0][hour.hour] is None:
            found.append(Used(begins, ends, None, 0.0, False))
        else:
            covered = 3600.0 if row[1] is None else row[1][hour.hour]
            found.append(_used(begins, ends, row[0][hour.hour], covered, bool(row[2] >> hour.hour & 1)))
    return found


def _days(session: Session, register: int, marks: Sequence[datetime], step: Step) -> list[Used] | None:
    """Days, or months as sums of days; None when the days kept ready are not those of the calendar asked for."""
    rows = raw_of(session).execute(
        "SELECT begins, ends, volume_m3, covered_s, estimated, begins_apart_s, ends_apart_s FROM consumption_day"
        " WHERE meter_id = %s AND ends > %s AND begins < %s ORDER BY begins",
        [register, marks[0], marks[-1]],
    )
    kept = rows.fetchall()
    tolerance = (consumption.LENGTH[step] / 20).total_seconds()
    found: list[Used] = []
    position = 0
    for begins, ends in pairwise(marks):
        here = []
        while position < len(kept) and kept[position][0] < ends:
            here.append(kept[position])
            position += 1
        if any(one[0] < begins or one[1] > ends for one in here):
            return None
        if step == "day" and any((one[0], one[1]) != (begins, ends) for one in here):
            return None
        if not here:
            found.append(Used(begins, ends, None, 0.0, False))
            continue
        # a movement across an edge whose ends both lie far from it: the register's stand there is a guess
        apart = max(
            max((one[5] for one in here if one[0] == begins), default=0.0),
            max((one[6] for one in here if one[1] == ends), default=0.0),
        )
        guessed = any(one[4] for one in here) or apart > tolerance
        found.append(_used(begins, ends, sum(one[2] for one in here), sum(one[3] for one in here), guessed))
    return found


def _used(begins: datetime, ends: datetime, volume: float, covered_s: float, estimated: bool) -> Used:
    coverage = min(1.0, round(covered_s, 6) / (ends - begins).total_seconds())
    return Used(begins, ends, Decimal(repr(round(volume, _DIGITS))), coverage, estimated)
