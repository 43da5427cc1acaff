"""How far the data behind a water balance can be trusted: 0 to 100, each point shown with its evidence. Pure.

The idea is the data validity score of the AWWA software; its weights are not public. These are our own, taken from
what the hub has counted, not from what somebody believes. The tiers are those of version 6.
"""

from typing import Any, NamedTuple

from gis.zone_loss import FEWEST_TESTS, ZoneLoss

TIERS = ((25, "I"), (50, "II"), (70, "III"), (90, "IV"), (100, "V"))
# A meter test older than this many years counts half.
FRESH_TEST_YEARS = 5
ENOUGH_TESTS = 50


class Item(NamedTuple):
    """One line of the grade: `points` of at most `of`, and the figures they come from."""

    item: str
    points: float
    of: float
    evidence: str


def validity(loss: ZoneLoss) -> dict[str, Any]:
    """The grade of a zone's balance: `score` of 100, `tier` I to V, and the `items` that add up to it."""
    items = [*_inflow(loss), *_consumption(loss), *_meters(loss), *_geography(loss)]
    score = sum(item.points for item in items)
    return {
        "score": round(score, 1),
        "tier": next(tier for bound, tier in TIERS if score <= bound + 1e-9),
        "items": [{**item._asdict(), "points": round(item.points, 1)} for item in items],
    }


def _item(name: str, share: float, of: float, evidence: str) -> Item:
    return Item(name, of * min(1.0, max(0.0, share)), of, evidence)


def _inflow(loss: ZoneLoss) -> list[Item]:
    coverage = float(loss.coverage()["inflow"])
    volume = sum(abs(flow.corrected_m3) for flow in loss.flows)
    verified = sum(abs(flow.corrected_m3) for flow in loss.flows if flow.error_pct is not None)
    share = verified / volume if volume else 0.0
    levels = [tank.increase_m3 is not None for tank in loss.storage]
    return [
        _item("inflow_measured", coverage, 25, f"{coverage:.1%} of the period read at {len(loss.flows)} meters"),
        _item("inflow_meters_verified", share, 15, f"{share:.1%} of the flow through meters of verified error"),
        _item(
            "storage_known",
            (sum(levels) / len(levels) if levels else 1.0) if loss.flows else 0.0,
            5,
            f"{sum(levels)} of {len(levels)} tanks with levels at both ends",
        ),
    ]


def _consumption(loss: ZoneLoss) -> list[Item]:
    use = loss.consumption
    covered = float(loss.coverage()["consumption"] or 0.0)
    guessed = use.extrapolated_m3 + use.estimated_m3 + loss.assessed_m3
    actual = 1 - guessed / use.billed_m3 if use.billed_m3 > 0 else 0.0
    inside = 1 - use.straddling_m3 / use.billed_m3 if use.billed_m3 > 0 else 0.0
    return [
        _item("consumption_read", covered, 20, f"{covered:.1%} of customers' time between actual reads or bills"),
        _item("consumption_actual", actual, 10, f"{actual:.1%} of the volume neither estimated nor extrapolated"),
        _item("reads_within_period", inside, 5, f"{inside:.1%} of the volume read within the period, not spread"),
    ]


def _meters(loss: ZoneLoss) -> list[Item]:
    tests = sum(one.tests for one in loss.tests.values())
    fresh = 0.0
    age = "no bench test of a customer meter"
    if tests >= FEWEST_TESTS:
        days = (loss.upper.date() - max(one.newest for one in loss.tests.values())).days
        years = abs(days) / 365.25
        fresh = min(1.0, tests / ENOUGH_TESTS) * (1.0 if years <= FRESH_TEST_YEARS else 0.5)
        age = f"{tests} bench tests, the newest {years:.1f} years {'before' if days > 0 else 'after'} the end"
    use = loss.consumption
    broken = use.register_breaks / use.points if use.points else 1.0
    return [
        _item("customer_meters_tested", fresh, 10, age),
        _item("registers_sound", 1 - 10 * broken, 5, f"{use.register_breaks} unexplained falls at {use.points} places"),
    ]


def _geography(loss: ZoneLoss) -> list[Item]:
    seen = loss.evidence
    agreeing = 1 - seen.wrong_codes / seen.codes if seen.codes else 0.0
    return [
        _item(
            "codes_agree",
            1 - 10 * (1 - agreeing) if seen.codes else 0.0,
            5,
            f"{seen.wrong_codes} of {seen.codes} billing codes name another zone",
        )
    ]
