"""The declared validation rules: one short TOML list, shipped beside this file, replaced by the utility's own.

Reads a file, writes nothing. A shell names the folder once with `use`. Every mistake is told with rule, key and what
was expected.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hub.metering import declared

FILE = "validation.toml"
SHIPPED = Path(__file__).parent / FILE


def _decimal(value: Any) -> Any:
    """Numbers are written as text, because a TOML number is a binary float."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value) and Decimal(value) > 0:
        return Decimal(value)
    raise ValueError('a number above zero in quotes, for example "0.5"')


Number = Annotated[Decimal, BeforeValidator(_decimal)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Days = Annotated[int, Field(ge=1, le=366)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    enabled: bool = True
    # whether what is flagged stays out of consumption until a person decides
    keep_out: bool = False


class UnitJump(_Rule):
    """`most_m3h` is what a meter of 20 mm can pass in an hour; larger ones pass more by the square of their size."""

    check: Literal["unit_jump"]
    factors: Annotated[list[Number], Field(min_length=1)]
    most_m3h: Number


class RegisterFall(_Rule):
    check: Literal["register_fall"]
    for_a_person: list[Literal["rollover", "backflow", "misread", "reset"]]


class Spike(_Rule):
    check: Literal["spike"]
    factor: Number
    at_least_m3: Number


class EstimateReversal(_Rule):
    check: Literal["estimate_reversal"]


class HighLow(_Rule):
    check: Literal["high", "low"]
    period_days: Days
    factor: Number
    at_least_m3: Number


class Zero(_Rule):
    check: Literal["zero"]
    days: Days


class Stuck(_Rule):
    check: Literal["stuck"]
    days: Days
    daily_m3: Number


class UseWhileOff(_Rule):
    check: Literal["use_while_off"]
    days: Days
    at_least_m3: Number


class Compound(_Rule):
    check: Literal["compound"]
    most_hours_apart: Annotated[int, Field(ge=1, le=24 * 366)]
    tolerance: Number


class ContinuousFlow(_Rule):
    check: Literal["continuous_flow"]
    hours: Annotated[int, Field(ge=2, le=24 * 14)]
    at_least_m3h: Number
    exempt_premise_classes: list[str] = []
    exempt_points: list[str] = []


Rule = Annotated[
    UnitJump
    | RegisterFall
    | Spike
    | EstimateReversal
    | HighLow
    | Zero
    | Stuck
    | UseWhileOff
    | Compound
    | ContinuousFlow,
    Field(discriminator="check"),
]


class Rules(BaseModel):
    """All rules in force, in the order of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: list[Rule]

    def of(self, *checks: str) -> list[Any]:
        """The enabled rules of these checks."""
        return [rule for rule in self.rule if rule.enabled and rule.check in checks]


def check(folder: Path | None = None) -> tuple[Rules | None, list[str]]:
    """(rules, mistakes) of the shipped file, or of the one of that name in `folder`."""
    found, mistakes = declared.read(Rules, SHIPPED, folder)
    if found is not None:
        mistakes = [f"{FILE}: {line}" for line in declared.doubled(rule.name for rule in found.rule)]
    return found, mistakes


_in_force = declared.InForce("validation rules", check)
use, rules = _in_force.use, _in_force.rules
