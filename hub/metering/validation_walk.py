"""Validation of one register reading by reading: unit jumps, falls, spikes, estimates that were too high. Pure.

A reading is held against the last believed one: what could have run through since then is bounded by the largest flow
the register showed lately, or by what a meter of its size can pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from hub.metering.consumption import BACKFLOW_M3, Point, rises
from hub.metering.validation_rules import EstimateReversal, RegisterFall, Rules, Spike, UnitJump

# So many intervals say what is usual; with fewer than three nothing is.
RECENT = 30
_FEW = 3
# More than five times the largest flow of late, and more than this, is no plausible rise.
_TIMES = 5
_ANYWAY_M3 = Decimal(2)
_NOMINAL_MM = Decimal(20)


class Stand(NamedTuple):
    """One reading of the register in m³; `settled` when a person decided about it."""

    at: datetime
    volume: Decimal
    estimated: bool
    settled: bool


@dataclass(slots=True)
class Flag:
    """What one rule says: of the reading `first` (a run goes to `last`), about all instants of `touched`."""

    rule: str
    kind: str
    first: datetime
    last: datetime
    keep_out: bool
    for_a_person: bool
    detail: dict[str, Any]
    touched: list[datetime] = field(default_factory=list)


@dataclass(slots=True)
class _Walk:
    """The state between two readings."""

    jump: UnitJump | None
    fall: RegisterFall | None
    spike: Spike | None
    reversal: EstimateReversal | None
    modulus: Decimal | None
    most_m3h: Decimal
    last: Stand | None = None
    before: Stand | None = None
    run: Flag | None = None
    run_factor: Decimal = Decimal(1)
    run_at: Stand | None = None
    # the spike that `last` was flagged as and believed nevertheless
    leap: Flag | None = None
    rates: list[Decimal] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)


def walk(stands: Sequence[Stand], rules: Rules, *, modulus: Decimal | None, size_mm: Decimal | None) -> list[Flag]:
    """What the rules say of the stands, which are in order of time."""
    size = max(size_mm or _NOMINAL_MM, _NOMINAL_MM)
    jump = next(iter(rules.of("unit_jump")), None)
    state = _Walk(
        jump,
        next(iter(rules.of("register_fall")), None),
        next(iter(rules.of("spike")), None),
        next(iter(rules.of("estimate_reversal")), None),
        modulus,
        (jump.most_m3h if jump else Decimal(5)) * (size / _NOMINAL_MM) ** 2,
    )
    for position, stand in enumerate(stands):
        following = stands[position + 1] if position + 1 < len(stands) else None
        _step(state, stand, following)
    return state.flags


def _step(state: _Walk, stand: Stand, following: Stand | None) -> None:
    last = state.last
    if last is None or stand.settled:
        _believe(state, stand, None)
        return
    delta, limit = stand.volume - last.volume, _limit(state, last, stand)
    if -_small(last) <= delta <= limit and delta >= 0:
        _believe(state, stand, delta)
        return
    if state.reversal is not None and delta < 0 and last.estimated and not stand.estimated and state.before is not None:
        # judged anew against the reading before the estimate
        detail = {"estimate_m3": last.volume, "actual_m3": stand.volume}
        _flag(state, state.reversal, "estimate_reversal", last, detail).last = stand.at
        state.last, state.before = state.before, None
        _step(state, stand, following)
        return
    if delta < 0 and _came_back(state, stand):
        _step(state, stand, following)
        return
    points = [Point(one.at, one.volume, one.estimated) for one in (last, stand, following) if one is not None]
    event = next((one for one in rises(points, state.modulus)[1] if one.at == stand.at), None)
    ran_on = event is not None and event.kind in ("rollover", "backflow")
    if not ran_on and state.jump is not None and _jumped(state, last, stand, limit):
        return
    if event is not None:
        _fallen(state, last, stand, event.kind)
    else:
        _risen(state, last, stand, delta)


def _limit(state: _Walk, last: Stand, stand: Stand) -> Decimal:
    """The most that can have run through between two readings, in m³."""
    hours = _hours(last, stand)
    physical = state.most_m3h * hours
    if len(state.rates) < _FEW:
        return physical
    return min(physical, max(_ANYWAY_M3, _TIMES * max(state.rates) * hours))


def _hours(last: Stand, stand: Stand) -> Decimal:
    return Decimal(max((stand.at - last.at) / timedelta(hours=1), 1 / 60))


def _small(last: Stand) -> Decimal:
    return max(BACKFLOW_M3, abs(last.volume) / 1000)


def _believe(state: _Walk, stand: Stand, delta: Decimal | None) -> None:
    if delta is not None and state.last is not None:
        state.rates = [*state.rates, delta / _hours(state.last, stand)][-RECENT:]
    state.before, state.last, state.run, state.leap = state.last, stand, None, None


def _came_back(state: _Walk, stand: Stand) -> bool:
    """Whether the register is back where it was before a spike, which then was no use but a misread: it stays out.

    The walk goes on from the reading before it.
    """
    leap, before = state.leap, state.before
    if leap is None or before is None:
        return False
    usual = state.rates[:-1]
    had, state.rates = state.rates, usual
    if not 0 <= stand.volume - before.volume <= _limit(state, before, stand):
        state.rates = had
        return False
    leap.kind, leap.last, leap.keep_out = "misread", stand.at, True
    leap.detail["back_at_m3"] = str(stand.volume)
    state.last, state.before, state.leap = before, None, None
    return True


def _jumped(state: _Walk, last: Stand, stand: Stand, limit: Decimal) -> bool:
    """Whether the reading is the register in another unit, or goes on where such readings are."""
    assert state.jump is not None
    for base in state.jump.factors:
        for factor in (base, 1 / base):
            if -_small(last) <= stand.volume / factor - last.volume <= limit and last.volume > 0:
                _extend(state, last, stand, factor)
                return True
    if state.run is not None and state.run_at is not None:
        moved = (stand.volume - state.run_at.volume) / state.run_factor
        if -_small(last) <= moved <= _limit(state, state.run_at, stand):
            _extend(state, last, stand, state.run_factor)
            return True
    return False


def _extend(state: _Walk, last: Stand, stand: Stand, factor: Decimal) -> None:
    assert state.jump is not None
    if state.run is None or state.run_factor != factor:
        detail = {
            "factor": format(round(factor, 6).normalize(), "f"),
            "believed_m3": last.volume,
            "found_m3": stand.volume,
        }
        state.run = _flag(state, state.jump, "unit_jump", stand, detail)
    else:
        state.run.last = stand.at
        state.run.touched.append(stand.at)
    state.run_factor, state.run_at = factor, stand


def _fallen(state: _Walk, last: Stand, stand: Stand, kind: str) -> None:
    """A fall of the register, as consumption judges it."""
    if state.fall is not None:
        detail = {"before_m3": last.volume, "after_m3": stand.volume}
        _flag(state, state.fall, kind, stand, detail, person=kind in state.fall.for_a_person)
    if kind == "misread":
        return
    if kind == "reset":
        state.rates = []
    _believe(state, stand, None)


def _risen(state: _Walk, last: Stand, stand: Stand, delta: Decimal) -> None:
    """A rise beyond what is usual."""
    if state.spike is not None and len(state.rates) >= _FEW and delta >= state.spike.at_least_m3:
        rate = delta / _hours(last, stand)
        if rate > state.spike.factor * max(state.rates):
            detail = {"m3": delta, "m3h": round(rate, 4), "most_before_m3h": round(max(state.rates), 4)}
            leap = _flag(state, state.spike, "spike", stand, detail)
            if not leap.keep_out:
                _believe(state, stand, delta)
                state.leap = leap
            return
    _believe(state, stand, delta)


def _flag(state: _Walk, rule: Any, kind: str, stand: Stand, detail: dict[str, Any], *, person: bool = True) -> Flag:
    told = {name: str(value) for name, value in detail.items()}
    made = Flag(rule.name, kind, stand.at, stand.at, rule.keep_out, person, told, [stand.at])
    state.flags.append(made)
    return made
