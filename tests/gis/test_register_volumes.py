"""Volumes of registers are those of all their readings, however few of them were looked at."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from psycopg.rows import dict_row
from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.db import raw_of
from hub.metering import partitions, rollups
from hub.models import Meter

START = datetime(2025, 10, 1, tzinfo=UTC)
ZONES = (ZoneInfo("UTC"), ZoneInfo("America/Chicago"), ZoneInfo("Asia/Kolkata"))
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
YEARS = timedelta(days=400)
DIALS = 3
MODULUS = 10.0**DIALS
# Beside the ends of a window, and of those within before something happens.
FEW = 4 + 2 + 4 + 3
COUNTED = ("good", "suspect")
SPANS = (
    "WITH span AS (SELECT * FROM unnest(%s::int[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],"
    " %s::timestamptz[], %s::numeric[]) AS s (span_id, meter_id, lower, upper, starts, ends, modulus_m3))\n"
)


class Read(NamedTuple):
    """A reading as it is stored."""

    at: datetime
    volume: float | None
    quality: str = "good"


class Span(NamedTuple):
    """A register asked about, as register_volumes.sql takes it."""

    meter: int
    lower: datetime
    upper: datetime
    starts: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    ends: datetime = datetime(2100, 1, 1, tzinfo=UTC)
    modulus: float | None = MODULUS


def seconds(time: timedelta) -> float:
    return time / SECOND


def defined(reads: Sequence[Read], span: Span) -> dict[str, Any] | None:
    """The definition: every reading of the window, up to four before and three after it, one after the other."""
    points = sorted((r.at, r.volume) for r in reads if r.volume is not None and r.quality in COUNTED)
    lower, upper = span.lower, span.upper
    raw = [p for p in points if max(span.starts, lower - YEARS) <= p[0] <= lower][-4:]
    raw += [p for p in points if lower < p[0] < upper]
    raw += [p for p in points if upper <= p[0] <= min(span.ends, upper + YEARS)][:3]
    kept = [
        (at, v)
        for place, (at, v) in enumerate(raw)
        if not (
            0 < place < len(raw) - 1
            and raw[place + 1][1] >= raw[place - 1][1]
            and (v > raw[place + 1][1] + 1 or v < raw[place - 1][1] - 1)
        )
    ]
    steps = [(since, at, v - before) for (since, before), (at, v) in pairwise(kept)]
    if not steps:
        return None

    def pace(over: list[tuple[datetime, datetime, float]]) -> tuple[int, float]:
        up = [step for step in over if step[2] >= 0]
        return len(up), sum(s[2] for s in up) / sum(seconds(s[1] - s[0]) for s in up) if up else 0.0

    count, speed = pace(steps)
    confirmed, usual = pace(steps[:-1])
    if confirmed >= 3 and steps[-1][2] > 6 * usual * seconds(steps[-1][1] - steps[-1][0]) + 100:
        last = steps.pop()
        recent = steps[-2:]
        kept = [p for p in kept if p[0] != last[1]]
    else:
        recent = steps[-3:]
    if not steps:
        return None
    stands, newest = dict(kept), steps[-1][1]

    def passed(step: tuple[datetime, datetime, float]) -> float | None:
        since, at, rise = step
        if rise >= 0:
            return rise
        if span.modulus is not None and stands[since] > span.modulus / 2:
            most = 10 * speed * seconds(at - since) + 10 if count >= 2 else span.modulus / 10
            if rise + span.modulus <= most:
                return rise + span.modulus
        return rise if rise >= -1 else None

    inside = [(s, passed(s), seconds(min(s[1], upper) - max(s[0], lower))) for s in steps]
    inside = [one for one in inside if one[2] > 0]
    counted = [(step, m3, time, m3 * time / seconds(step[1] - step[0])) for step, m3, time in inside if m3 is not None]
    rates = [(m3, seconds(step[1] - step[0])) for step in recent if (m3 := passed(step)) is not None]
    return {
        "volume_m3": sum(one[3] for one in counted),
        "straddling_m3": sum(one[3] for one in counted if one[0][0] < lower or one[0][1] > upper),
        "covered_s": sum(one[2] for one in counted),
        "breaks": len(inside) - len(counted),
        "first_at": min((one[0][0] for one in counted), default=None),
        "last_at": max((one[0][1] for one in counted), default=None),
        "newest_at": min(newest, upper),
        "recent_m3_per_s": sum(m3 for m3, _ in rates) / sum(t for _, t in rates) if rates and newest < upper else None,
    }


def run(session: Session, spans: Sequence[Span], wanted: str) -> dict[int, dict[str, Any]]:
    body = (resources.files("gis") / "sql" / "register_volumes.sql").read_text(encoding="utf-8")
    columns = [list(range(len(spans))), *(list(column) for column in zip(*spans, strict=True))]
    with raw_of(session).cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute((SPANS + body + f"\nSELECT * FROM {wanted}").encode(), columns).fetchall()
    return {row["span_id"]: row for row in rows}


def looked_at(session: Session, span: Span) -> int:
    """How many readings of the register were looked at; 0 where those next to the ends of the span were enough."""
    found = run(session, [span], "register")
    return found[0]["n"] if found else 0


def store(session: Session, meter: int, reads: Sequence[Read]) -> None:
    connection = raw_of(session)
    partitions.ensure(connection, "reading", {partitions.month_of(r.at) for r in reads})
    connection.execute(
        "INSERT INTO reading (meter_id, measured_at, value, value_m3, quality, source)"
        " SELECT %s, at, coalesce(v, 0), v, quality, 'test'"
        " FROM unnest(%s::timestamptz[], %s::numeric[], %s::text[]) AS r (at, v, quality)",
        [meter, *([list(column) for column in zip(*reads, strict=True)] or [[]] * 3)],
    )


def roll_up(session: Session, zone: ZoneInfo = ZONES[0]) -> None:
    while rollups.roll_up(session, zone):
        pass


def register(session: Session, serial: str, **more: object) -> int:
    meter = Meter(serial=serial, unit="m3", dials=DIALS, **more)
    session.add(meter)
    session.flush()
    return meter.id


def history(chance: random.Random) -> list[Read]:
    """A register of some cadence with some of the faults there are, or none."""
    cadence = chance.choice([HOUR, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY])
    faulty = chance.choice([0.0, 0.0, 0.02, 0.2])
    at = START + chance.choice([0, 1, 40, 80]) * DAY + chance.choice([0, chance.randint(1, 3599)]) * SECOND
    stand = chance.choice([0.0, 5.0, 500.0, 990.0])
    reads = []
    for _ in range(min(chance.choice([0, 1, 2, 5, 30, 300]), YEARS // cadence)):
        at += cadence * (1 if chance.random() < 0.9 else chance.uniform(0.01, 3))
        stand += chance.choice([0.0, chance.uniform(0, 2), chance.uniform(0, 0.2)])
        shown, quality, known = stand % MODULUS, "good", True
        if chance.random() < faulty:
            fault = chance.choice(["low", "high", "reset", "back", "quality", "unit", "jump"])
            if fault in ("low", "high"):
                shown += chance.choice([0.5, 1.5, 300]) * (1 if fault == "high" else -1)
            elif fault == "reset":
                shown = stand = chance.choice([0.0, 3.0])
            elif fault == "back":
                shown = stand = max(0.0, stand - chance.uniform(0, 1.2))
            elif fault == "jump":
                stand += 250
                shown = stand % MODULUS
            elif fault == "unit":
                known = False
            else:
                quality = chance.choice(["estimated", "suspect", "invalid"])
                shown += chance.choice([0.0, chance.uniform(-20, 20)])
        reads.append(Read(at, round(abs(shown), 3) if known else None, quality))
    if chance.random() < 0.3:
        # beyond all reason, and nothing after it
        reads.append(Read(at + cadence, round(stand % MODULUS + 250, 3)))
    return reads


def window(chance: random.Random, meter: int, reads: Sequence[Read]) -> Span:
    """Local months or days, any instants, instants of readings; sometimes an installation that begins or ends."""
    zone = chance.choice(ZONES)
    at = [r.at for r in reads] or [START]
    edges = [
        datetime(2025, chance.randint(9, 12), 1, tzinfo=zone),
        datetime(2025, 11, chance.randint(1, 30), tzinfo=zone),
        START + chance.random() * 120 * DAY,
        chance.choice(at),
        at[-1] + chance.choice([DAY, 50 * DAY]),
        datetime(2026, chance.randint(1, 3), 1, tzinfo=zone),
    ]
    # instants of one zone would be subtracted by the clock on the wall
    lower, upper = sorted(edge.astimezone(UTC) for edge in chance.sample(edges, 2))
    if lower == upper or chance.random() < 0.3:
        upper = lower + chance.choice([HOUR, DAY])
    starts = lower - chance.choice([timedelta(0), timedelta(0), DAY, YEARS, 3 * YEARS])
    ends = upper + chance.choice([timedelta(0), DAY, 3 * YEARS, 3 * YEARS])
    return Span(meter, lower, upper, starts, ends, chance.choice([None, MODULUS, MODULUS]))


def compare(session: Session, known: dict[int, list[Read]], spans: Sequence[Span]) -> None:
    found = run(session, spans, "register_volume")
    for number, span in enumerate(spans):
        wanted = defined(known[span.meter], span)
        if wanted is None:
            assert number not in found, (span, known[span.meter])
            continue
        for name, value in wanted.items():
            close = pytest.approx(value, rel=1e-9, abs=1e-7) if isinstance(value, float) else value
            assert found[number][name] == close, (name, span, sorted(known[span.meter]))


@pytest.mark.parametrize("seed", range(4))
def test_any_window_of_any_register_is_as_defined(session: Session, seed: int) -> None:
    chance = random.Random(seed)
    zone = chance.choice(ZONES)
    known = {register(session, f"M{n}"): history(chance) for n in range(40)}
    for meter, reads in known.items():
        store(session, meter, reads)
    spans = [window(chance, meter, reads) for meter, reads in known.items() for _ in range(12)]
    # nothing rolled up, all of it, late changes that are due, and those rolled up
    compare(session, known, spans)
    roll_up(session, zone)
    compare(session, known, spans)
    for meter, reads in known.items():
        for _ in range(chance.choice([0, 0, 1, 3]) if reads else 0):
            change(session, chance, meter, reads)
    compare(session, known, spans)
    roll_up(session, zone)
    compare(session, known, spans)


def change(session: Session, chance: random.Random, meter: int, reads: list[Read]) -> None:
    """A late reading, a correction, a doubt or a deletion."""
    place = chance.randrange(len(reads))
    former = reads[place]
    key = {"meter": meter, "at": former.at}
    kind = chance.choice(["late", "late", "correct", "doubt", "delete"])
    if kind == "late":
        late = Read(former.at + 61 * SECOND, round((former.volume or 0) + chance.choice([0, 0, -5, 40]), 3))
        if late.volume is not None and late.volume >= 0 and all(r.at != late.at for r in reads):
            store(session, meter, [late])
            reads.append(late)
        return
    if kind == "delete" and len(reads) > 1:
        session.execute(text("DELETE FROM reading WHERE meter_id = :meter AND measured_at = :at"), key)
        reads.pop(place)
        return
    volume = former.volume if kind == "doubt" else round((former.volume or 0) + chance.choice([3.0, 0.0]), 3)
    quality = chance.choice(COUNTED) if kind == "doubt" else former.quality
    session.execute(
        text("UPDATE reading SET value_m3 = :v, quality = :q WHERE meter_id = :meter AND measured_at = :at"),
        {**key, "v": volume, "q": quality},
    )
    reads[place] = Read(former.at, volume, quality)


def test_what_happens_about_the_ends_of_a_window(session: Session) -> None:
    """One reading out of line at or beside an end, with readings on the ends or around them: due, and rolled up."""
    known: dict[int, list[Read]] = {}
    spans: list[Span] = []
    changed: list[dict[str, Any]] = []
    lower, upper = START + 10 * HOUR, START + 30 * HOUR
    for shift in (timedelta(0), 30 * 60 * SECOND):
        for place in (8, 9, 10, 11, 12, 28, 29, 30, 31, 32):
            for off in (-3.0, -0.5, 3.0, 30.0):
                for quality in COUNTED:
                    meter = register(session, f"M{len(known)}")
                    reads = [Read(START + n * HOUR + shift, round(100 + n * 0.9, 3)) for n in range(40)]
                    store(session, meter, reads)
                    out = Read(reads[place].at, round(100 + place * 0.9 + off, 3), quality)
                    changed.append({"meter": meter, "at": out.at, "v": out.volume, "q": quality})
                    known[meter] = [*reads[:place], out, *reads[place + 1 :]]
                    spans.append(Span(meter, lower, upper))
    roll_up(session)
    session.execute(
        text("UPDATE reading SET value_m3 = :v, quality = :q WHERE meter_id = :meter AND measured_at = :at"), changed
    )
    compare(session, known, spans)
    roll_up(session)
    compare(session, known, spans)


def hourly(days: int = 40) -> list[Read]:
    return [Read(START + n * HOUR, round(100 + n * 0.01, 3)) for n in range(24 * days)]


def test_of_a_register_that_only_rises_the_ends_are_read(session: Session) -> None:
    meter = register(session, "M")
    reads = hourly()
    span = Span(meter, START + 5 * DAY, START + 35 * DAY)
    store(session, meter, reads)
    assert looked_at(session, span) == 4 + 30 * 24 - 1 + 3
    roll_up(session)
    assert looked_at(session, span) == 0
    assert run(session, [span], "register_volume")[0]["volume_m3"] == pytest.approx(30 * 24 * 0.01)
    # a month that is not over
    assert looked_at(session, span._replace(upper=START + 45 * DAY)) == 4 + 2 + 4
    # the newest hours wait to be rolled up: they are read, and nothing else
    store(session, meter, [Read(span.upper - 30 * 60 * SECOND, 108.395)])
    assert looked_at(session, span) == FEW + 1
    # what is due or has happened outside of the window is nothing to it
    roll_up(session)
    store(session, meter, [Read(reads[-1].at + HOUR, 1.0)])
    assert looked_at(session, span) == 0
    roll_up(session)
    assert looked_at(session, span) == 0


@pytest.mark.parametrize(
    "event",
    [
        "UPDATE reading SET quality = 'suspect' WHERE measured_at = :at",
        "UPDATE reading SET value_m3 = value_m3 - 2 WHERE measured_at = :at",
        "UPDATE reading SET value_m3 = value_m3 + 2 WHERE measured_at = :at",
        "UPDATE reading SET value_m3 = value_m3 - 100 WHERE measured_at >= :at",
    ],
)
def test_from_the_first_thing_out_of_the_ordinary_on_all_is_read(session: Session, event: str) -> None:
    meter = register(session, "M")
    store(session, meter, hourly())
    roll_up(session)
    span = Span(meter, START + 5 * DAY, START + 35 * DAY)
    session.execute(text(event), {"at": span.upper - 10 * HOUR})
    roll_up(session)
    # a high misread is a fall of the reading after it
    assert looked_at(session, span) in (FEW + 9, FEW + 10)


def test_reverse_registers_are_rolled_up_too(session: Session) -> None:
    meter = register(session, "M", register="volume_reverse")
    store(session, meter, hourly())
    roll_up(session)
    assert looked_at(session, Span(meter, START + 5 * DAY, START + 35 * DAY)) == 0


def test_of_a_time_that_was_archived_all_is_read(session: Session) -> None:
    meter = register(session, "M")
    reads = hourly()
    store(session, meter, reads)
    roll_up(session)
    session.execute(
        text("INSERT INTO archived_month (table_name, leaving, month) VALUES ('reading', 'x', '2025-10-01')")
    )
    # such a reading is never rolled up
    misread = Read(START + 10 * DAY + timedelta(minutes=30), 500.0)
    store(session, meter, [misread])
    roll_up(session)
    span = Span(meter, START + 5 * DAY, START + 35 * DAY)
    compare(session, {meter: [*reads, misread]}, [span])
    assert looked_at(session, span) == 4 + 30 * 24 + 3
    assert looked_at(session, Span(meter, START + 33 * DAY, START + 38 * DAY)) == 0
