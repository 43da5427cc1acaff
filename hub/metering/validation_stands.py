"""Validation of use: high and low by season, zero, stuck, use while off, compound sums, continuous flow. Pure.

Each check says which stands of the register it needs (`wanted`), and judges them (`judged`). A stand is the last
believed reading at or before an instant; two stands give the use between them, unless the register fell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from hub.metering.validation_rules import Compound, ContinuousFlow, HighLow, Rules, Stuck, UseWhileOff, Zero

_YEAR = timedelta(days=365)
_HOUR = timedelta(hours=1)
# What goes before the last period without a year to compare with: four periods, or two at least.
_PERIODS_BACK = (5, 4, 3)
# How far back "until then" reaches, for a register that stands still: four weeks, or what there is.
_UNTIL_THEN = (timedelta(days=28), timedelta(days=14), timedelta(days=7))


class At(NamedTuple):
    """The register at an instant: the last believed reading at or before it."""

    at: datetime
    volume: Decimal


@dataclass(frozen=True, slots=True)
class Case:
    """A register with what is known of its place. `newest` is its newest believed reading.

    `off_since` is since when nobody should use water there (valve closed, or no account); None: somebody may.
    """

    meter_id: int
    serial: str
    register: str
    newest: At
    occupied: bool
    valve: str
    off_since: datetime | None
    premise_class: str | None
    service_point: str | None

    @property
    def supplied(self) -> bool:
        """Whether somebody lives there and the water is on."""
        return self.occupied and self.valve not in ("closed", "restricted")


class Finding(NamedTuple):
    """What one rule says of a register at its newest reading."""

    rule: str
    meter_id: int
    at: datetime
    detail: dict[str, Any]


def wanted(case: Case, rules: Rules) -> set[datetime]:
    """The instants at which the rules need to know the register."""
    at = case.newest.at
    found: set[datetime] = set()
    for rule in rules.of("high", "low"):
        period = timedelta(days=rule.period_days)
        found |= {
            at - period,
            *(at - back * period for back in _PERIODS_BACK),
            at - _YEAR - 2 * period,
            at - _YEAR + period,
        }
    for rule in rules.of("zero"):
        found.add(at - timedelta(days=rule.days))
    for rule in rules.of("stuck"):
        still = timedelta(days=rule.days)
        found |= {at - still, *(at - still - back for back in _UNTIL_THEN)}
    for rule in rules.of("use_while_off"):
        if case.off_since is not None:
            found.add(max(case.off_since, at - timedelta(days=rule.days)))
    if rules.of("compound"):
        found.add(at - timedelta(days=30))
    return found


def judged(case: Case, stands: Mapping[datetime, At], rules: Rules) -> list[Finding]:
    """What the rules on one register say of it; `stands` by the instants of `wanted`, where there is one."""
    found: list[Finding] = []
    for rule in rules.rule:
        if not rule.enabled:
            continue
        detail: dict[str, Any] | None = None
        if isinstance(rule, HighLow):
            detail = _high_low(case, stands, rule)
        elif isinstance(rule, Zero):
            detail = _zero(case, stands, rule)
        elif isinstance(rule, Stuck):
            detail = _stuck(case, stands, rule)
        elif isinstance(rule, UseWhileOff):
            detail = _while_off(case, stands, rule)
        if detail is not None:
            found.append(Finding(rule.name, case.meter_id, case.newest.at, detail))
    return found


def rate(begins: At | None, ends: At | None) -> Decimal | None:
    """m³ per day between two stands; None where one is missing, they are one, or the register fell."""
    if begins is None or ends is None or ends.at <= begins.at or ends.volume < begins.volume:
        return None
    return (ends.volume - begins.volume) / Decimal((ends.at - begins.at) / timedelta(days=1))


def _near(stand: At | None, instant: datetime, period: timedelta) -> At | None:
    """The stand, if it is of about that instant."""
    return stand if stand is not None and instant - stand.at <= period / 2 else None


def _high_low(case: Case, stands: Mapping[datetime, At], rule: HighLow) -> dict[str, Any] | None:
    if not case.supplied:
        return None
    period, at = timedelta(days=rule.period_days), case.newest.at

    def stand(back: timedelta) -> At | None:
        return _near(stands.get(at - back), at - back, period)

    recent = rate(stand(period), case.newest)
    usual, against = rate(stand(_YEAR + 2 * period), stand(_YEAR - period)), "a year before"
    if usual is None:
        known = (stand(back * period) for back in _PERIODS_BACK)
        earlier = next((one for one in known if one is not None), None)
        usual, against = rate(earlier, stand(period)), "the weeks before"
    if recent is None or usual is None:
        return None
    days = rule.period_days
    if rule.check == "high":
        wrong = recent > rule.factor * usual and recent * days >= rule.at_least_m3
    else:
        wrong = recent < rule.factor * usual and usual * days >= rule.at_least_m3
    if not wrong:
        return None
    return {"m3": f"{recent * days:.3f}", "usual_m3": f"{usual * days:.3f}", "days": days, "against": against}


def _zero(case: Case, stands: Mapping[datetime, At], rule: Zero) -> dict[str, Any] | None:
    period = timedelta(days=rule.days)
    before = _near(stands.get(case.newest.at - period), case.newest.at - period, period)
    if not case.supplied or before is None or before.volume != case.newest.volume:
        return None
    return {"days": rule.days, "register_m3": str(case.newest.volume)}


def _stuck(case: Case, stands: Mapping[datetime, At], rule: Stuck) -> dict[str, Any] | None:
    still, at = timedelta(days=rule.days), case.newest.at
    before = _near(stands.get(at - still), at - still, still)
    known = (stands.get(at - still - back) for back in _UNTIL_THEN)
    earlier = next((stand for stand in known if stand is not None), None)
    usual = rate(earlier, before)
    if not case.supplied or before is None or before.volume != case.newest.volume:
        return None
    if usual is None or usual < rule.daily_m3:
        return None
    return {"days": rule.days, "register_m3": str(case.newest.volume), "usual_m3_per_day": f"{usual:.3f}"}


def _while_off(case: Case, stands: Mapping[datetime, At], rule: UseWhileOff) -> dict[str, Any] | None:
    if case.off_since is None:
        return None
    begins = max(case.off_since, case.newest.at - timedelta(days=rule.days))
    before = stands.get(begins)
    # a stand of long before would count water that somebody was entitled to
    if before is None or begins - before.at > timedelta(days=1):
        return None
    if case.newest.volume - before.volume < rule.at_least_m3:
        return None
    return {
        "m3": f"{case.newest.volume - before.volume:.3f}",
        "since": before.at.isoformat(),
        "why": "the valve is closed" if case.valve in ("closed", "restricted") else "nobody has an account there",
    }


def compound(cases: Sequence[Case], stands: Mapping[int, Mapping[datetime, At]], rule: Compound) -> list[Finding]:
    """What is wrong with the sum of one meter's registers (two or more): one is silent, or a total disagrees."""
    if len(cases) < 2:
        return []
    newest = max(case.newest.at for case in cases)
    apart = timedelta(hours=rule.most_hours_apart)
    silent = [case for case in cases if newest - case.newest.at > apart]
    found = [
        Finding(
            rule.name, case.meter_id, case.newest.at, {"register": case.register, "others_until": newest.isoformat()}
        )
        for case in silent
    ]
    total = next((case for case in cases if case.register == "total"), None)
    if silent or total is None:
        return found
    moved = {
        case.register: rate(stands[case.meter_id].get(case.newest.at - timedelta(days=30)), case.newest)
        for case in cases
    }
    whole = moved.pop("total")
    parts = [value for value in moved.values() if value is not None]
    if (
        whole is not None
        and len(parts) == len(moved)
        and abs(whole - sum(parts)) > rule.tolerance * max(whole, sum(parts))
    ):
        detail = {"total_m3_per_day": f"{whole:.3f}", "sum_m3_per_day": f"{sum(parts):.3f}"}
        found.append(Finding(rule.name, total.meter_id, total.newest.at, detail))
    return found


def smallest_hour(points: Sequence[At], hours: int) -> Decimal | None:
    """The least use (m³/h) in any of the last `hours` full hours before the newest point.

    None where some hour has no reading of its own, or the register fell.
    """
    if len(points) <= hours:
        return None
    ends = points[-1].at
    begins = ends - hours * _HOUR
    # the last reading of each hour, counted backwards from the newest
    slots: dict[int, Decimal] = {}
    for point in points:
        if point.at >= begins - _HOUR / 2:
            slots[round((point.at - begins) / _HOUR)] = point.volume
    if any(hour not in slots for hour in range(hours + 1)):
        return None
    steps = [slots[hour + 1] - slots[hour] for hour in range(hours)]
    return min(steps) if min(steps) >= 0 else None


def exempt(case: Case, rule: ContinuousFlow) -> bool:
    """Whether water may run there round the clock: at a meter of a zone, and where it is declared."""
    return (
        case.service_point is None
        or (case.premise_class or "").lower() in rule.exempt_premise_classes
        or case.service_point in rule.exempt_points
    )
