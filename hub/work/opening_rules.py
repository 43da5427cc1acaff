"""The declared rules that turn facts of metering into work: one short TOML list, replaced by the utility's own.

Reads a file, writes nothing. A shell names the folder once with `use`, after the work types it refers to.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hub.metering import declared
from hub.metering.validation_rules import Name, Number
from hub.work import catalogue

FILE = "openings.toml"
SHIPPED = Path(__file__).parent / FILE
# What `opens` says where a person is to decide.
EXCEPTION = "exception"


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    enabled: bool = True


class _Opening(_Rule):
    """`after_days`: the fact must have lasted so long. `notify_days`: the customer is told, and gets so long."""

    opens: Name
    daily_cap: Annotated[int, Field(ge=1, le=100_000)]
    after_days: Annotated[int, Field(ge=0, le=366)] = 0
    notify_days: Annotated[int, Field(ge=1, le=366)] | None = None


class OfAlarm(_Opening):
    """An active alarm of one of these types; latched and historic ones never count, nor those long unheard of."""

    facts: Literal["alarm"]
    types: Annotated[list[Name], Field(min_length=1)]
    heard_within_days: Annotated[int, Field(ge=1, le=366)] = 7


class OfException(_Opening):
    """An open exception of one of these validation rules."""

    facts: Literal["reading_exception"]
    rules: Annotated[list[Name], Field(min_length=1)]


class OfQuarantine(_Opening):
    """An open quarantine entry with one of these reasons."""

    facts: Literal["quarantine"]
    reasons: Annotated[list[Name], Field(min_length=1)]


class OfSilence(_Opening):
    """A meter in place whose devices all brought no reading for so long."""

    facts: Literal["missing_reads"]
    silent_days: Annotated[int, Field(ge=1, le=366)]


class OfGateway(_Rule):
    """At least `devices` devices of one publisher, and that `share` of its devices, silent for so long: an incident."""

    facts: Literal["silent_gateway"]
    silent_hours: Annotated[int, Field(ge=1, le=24 * 366)]
    devices: Annotated[int, Field(ge=1)]
    share: Number


OpeningRule = OfAlarm | OfException | OfQuarantine | OfSilence
Rule = Annotated[OpeningRule | OfGateway, Field(discriminator="facts")]


class Rules(BaseModel):
    """All rules in force, in the order of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: list[Rule]

    @property
    def openings(self) -> list[Any]:
        """The enabled rules that open something."""
        return [rule for rule in self.rule if rule.enabled and not isinstance(rule, OfGateway)]

    @property
    def gateways(self) -> list[OfGateway]:
        """The enabled rules about gateways."""
        return [rule for rule in self.rule if rule.enabled and isinstance(rule, OfGateway)]


def check(folder: Path | None = None, types: catalogue.Catalogue | None = None) -> tuple[Rules | None, list[str]]:
    """(rules, mistakes) of the shipped file, or of the one of that name in `folder`, beside the work types in force."""
    found, mistakes = declared.read(Rules, SHIPPED, folder)
    if found is not None:
        mistakes = [f"{FILE}: {line}" for line in _contradictions(found, types or catalogue.types())]
    return found, mistakes


def _contradictions(found: Rules, types: catalogue.Catalogue) -> list[str]:
    wrong = declared.doubled(rule.name for rule in found.rule)
    for rule in found.rule:
        if isinstance(rule, OfGateway):
            if rule.share > Decimal(1):
                wrong.append(f"rule.{rule.name}.share: expected at most 1, found {rule.share}")
        elif rule.opens != EXCEPTION and rule.opens not in types:
            known = ", ".join([*sorted(types), EXCEPTION])
            wrong.append(f"rule.{rule.name}.opens: expected one of {known}, found {rule.opens!r}")
    return wrong


_in_force = declared.InForce("rules that open work", check)
use, rules = _in_force.use, _in_force.rules
