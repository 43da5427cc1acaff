"""Policy packs: dated, cited rules about when water may be turned off for nonpayment, one TOML file each.

Reads files, writes nothing. Shipped in `packs/`, overlaid by the utility's own folder file by file; `hub.work.policy`
names the pack in force. Every mistake is told with file, key and what was expected.
"""

import tomllib
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import holidays as calendars
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hub.errors import ConfigurationError

SHIPPED = Path(__file__).parent / "packs"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock_time(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return time.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError('a time of day in quotes, for example "08:00"')


def _decimal(value: Any) -> Any:
    if isinstance(value, str):
        try:
            found = Decimal(value)
        except ArithmeticError:
            found = Decimal("NaN")
        if found.is_finite() and found >= 0:
            return found
    raise ValueError('an amount in quotes, for example "50.00"')


ClockTime = Annotated[time, BeforeValidator(_clock_time)]
Amount = Annotated[Decimal, BeforeValidator(_decimal)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Dated(BaseModel):
    """What every rule has: its source, the local days [effective_from, effective_to) it holds for, and the places."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    citation: str = Field(min_length=3)
    effective_from: date | None = None
    effective_to: date | None = None
    premise_classes: tuple[str, ...] | None = None

    def holds_for(self, day: date, premise_class: str | None) -> bool:
        """Whether the rule is in force on `day` for such a place; a place of unknown class is under every rule."""
        if self.premise_classes is not None and premise_class is not None and premise_class not in self.premise_classes:
            return False
        return (self.effective_from is None or day >= self.effective_from) and (
            self.effective_to is None or day < self.effective_to
        )


class DaysPastDue(Dated):
    """The oldest unpaid bill must have been due for so many days."""

    kind: Literal["days_past_due"]
    days: int = Field(ge=0)


class MinimumDebt(Dated):
    """More than so much must be past due, in the utility's currency."""

    kind: Literal["amount"]
    more_than: Amount


class NoticeSent(Dated):
    """A notice must have gone out `days_before` days ago, at most `valid_days` ago, over one of `channels` (any)."""

    kind: Literal["notice"]
    days_before: int = Field(ge=0)
    business_days: bool = False
    valid_days: int | None = Field(None, ge=1)
    channels: tuple[str, ...] | None = None


class Hours(Dated):
    """Only on these weekdays, from `from` up to `to` of the local day."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Literal["hours"]
    weekdays: tuple[Weekday, ...] = Field(min_length=1)
    begin: ClockTime = Field(alias="from")
    end: ClockTime = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> "Hours":
        if self.end <= self.begin:
            raise ValueError("`to` must be later than `from` on the same day")
        return self


class Holidays(Dated):
    """Not on public holidays of a country or its subdivision, nor, with `eves`, on the day before one."""

    kind: Literal["holidays"]
    country: str
    subdivision: str | None = None
    eves: bool = False
    also: tuple[date, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> "Holidays":
        try:
            calendars.country_holidays(self.country, subdiv=self.subdivision)
        except NotImplementedError as error:
            raise ValueError(f"no calendar of public holidays for {self.country} {self.subdivision or ''}") from error
        return self

    def on(self, day: date) -> str | None:
        """The name of the holiday on `day`, if it is one."""
        if day in self.also:
            return "closed day of the utility"
        return _calendar(self.country, self.subdivision).get(day)


class Holds(Dated):
    """Every active hold blocks; a kind that is not `known` is reported as such and blocks too."""

    kind: Literal["holds"]
    known: tuple[str, ...]


class BalanceAge(Dated):
    """The balance must not be older than so many hours."""

    kind: Literal["balance_age"]
    hours: int = Field(ge=1)


class Premise(Dated):
    """Places of these classes, and any marked critical, are never cut."""

    kind: Literal["premise"]
    never: tuple[str, ...]


Rule = Annotated[
    DaysPastDue | MinimumDebt | NoticeSent | Hours | Holidays | Holds | BalanceAge | Premise,
    Field(discriminator="kind"),
]


class FeeCap(Dated):
    """The highest amount of a fee, by the name that tariff lines refer to."""

    name: str
    amount: Amount


class Pack(BaseModel):
    """A set of rules. A cut needs all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    rule: tuple[Rule, ...]
    fee_cap: tuple[FeeCap, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> "Pack":
        if not self.rule:
            raise ValueError("a pack needs at least one [[rule]]")
        return self

    def rules(self, day: date, premise_class: str | None) -> list[Rule]:
        """The rules in force on a local day for a place of that class."""
        return [rule for rule in self.rule if rule.holds_for(day, premise_class)]


_calendars: dict[tuple[str, str | None], calendars.HolidayBase] = {}


def _calendar(country: str, subdivision: str | None) -> calendars.HolidayBase:
    key = (country, subdivision)
    if key not in _calendars:
        _calendars[key] = calendars.country_holidays(country, subdiv=subdivision, language="en_US")
    return _calendars[key]


def check(folder: Path | None = None) -> tuple[dict[str, Pack], list[str]]:
    """All packs by name, shipped ones overlaid by those in `folder`, and every mistake as a sentence."""
    files = {path.name: path for path in sorted(SHIPPED.glob("*.toml"))}
    mistakes: list[str] = []
    if folder is not None:
        if not folder.is_dir():
            mistakes.append(f"{folder}: is no folder; CURBSTOP_PACKS_DIR must name one.")
        files |= {path.name: path for path in sorted(folder.glob("*.toml"))}
    packs: dict[str, Pack] = {}
    for path in files.values():
        try:
            pack = Pack.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            mistakes.append(f"{path}: cannot be read: {error}.")
            continue
        except ValidationError as error:
            mistakes += [f"{path}: {_where(item['loc'])}: {item['msg']}." for item in error.errors()]
            continue
        if pack.name in packs:
            mistakes.append(f"{path}: name: another file has a pack {pack.name!r} already.")
        packs[pack.name] = pack
    return packs, mistakes


def load(name: str = "default", folder: Path | None = None) -> Pack:
    """The pack called `name`. Raises ConfigurationError with every mistake found."""
    packs, mistakes = check(folder)
    if mistakes:
        raise ConfigurationError(" ".join(mistakes))
    if name not in packs:
        raise ConfigurationError(f"There is no policy pack {name!r}; there are {', '.join(sorted(packs))}.")
    return packs[name]


def _where(parts: tuple[int | str, ...]) -> str:
    """`rule[2].days` from pydantic's location, which also names the variant of the union."""
    shown = ""
    for part in parts:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else str(part)
    return shown


def opening(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The instant of a local time of day."""
    return datetime.combine(day, at, tzinfo=zone)
