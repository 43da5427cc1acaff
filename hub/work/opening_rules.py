"""The declared rules that turn facts of metering into work: one short TOML list, replaced by the utility's own.

Reads a file, writes nothing. A shell names the folder once with `use`, after the work types it refers to.
"""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.errors import ConfigurationError
from hub.metering.validation_rules import Name, Number, explained
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
    path = folder / FILE if folder is not None and (folder / FILE).is_file() else SHIPPED
    if folder is not None and not folder.is_dir():
        return None, [f"{folder}: expected a folder with {FILE}"]
    try:
        found = Rules.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return None, [f"{FILE}: expected TOML in UTF-8: {error}"]
    except OSError as error:
        return None, [f"{FILE}: cannot be read: {error.strerror}"]
    except ValidationError as error:
        return None, [f"{FILE}: {explained(item)}" for item in error.errors()]
    return found, [f"{FILE}: {line}" for line in _contradictions(found, types or catalogue.types())]


def _contradictions(found: Rules, types: catalogue.Catalogue) -> list[str]:
    names = [rule.name for rule in found.rule]
    wrong = [f"rule.{name}: expected once" for name in sorted({n for n in names if names.count(n) > 1})]
    for rule in found.rule:
        if isinstance(rule, OfGateway):
            if rule.share > Decimal(1):
                wrong.append(f"rule.{rule.name}.share: expected at most 1, found {rule.share}")
        elif rule.opens != EXCEPTION and rule.opens not in types:
            known = ", ".join([*sorted(types), EXCEPTION])
            wrong.append(f"rule.{rule.name}.opens: expected one of {known}, found {rule.opens!r}")
    return wrong


_in_force: list[Rules] = []


def use(folder: Path | None = None) -> None:
    """Make the rules of `folder` (or the shipped ones) those of this process. Raises ConfigurationError."""
    found, mistakes = check(folder)
    if found is None or mistakes:
        raise ConfigurationError("The rules that open work cannot be used. " + "; ".join(mistakes))
    _in_force[:] = [found]


def rules() -> Rules:
    """The rules of this process."""
    if not _in_force:
        use()
    return _in_force[0]
