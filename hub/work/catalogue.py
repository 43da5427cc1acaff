"""Work types: one TOML file each, shipped in `types/`, overlaid by the utility's own folder file by file.

Reads files, writes nothing. A shell names the folder once with `use`; orders keep a snapshot of their type, so editing
a file changes only orders opened afterwards. Every mistake is told with file, key and what was expected.
"""

import re
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from hub.errors import ConfigurationError, NotFound

SHIPPED = Path(__file__).parent / "types"

UNABLE_CODES: dict[str, str] = {
    "locked_gate": "Gate locked",
    "dog": "Dog",
    "blocked": "Access blocked",
    "cannot_locate": "Cannot find the valve or meter",
    "curb_stop_inoperable": "Curb stop does not turn",
    "serial_mismatch": "Another meter than expected",
    "unsafe": "Unsafe",
    "refused": "Customer refused",
    "nobody_home": "Nobody home",
    "weather": "Weather",
    "wrong_address": "Wrong address",
}
VALVE_STATES = ("open", "closed", "restricted", "unknown")
# The answers that tell of a new meter; multiplier, dials and its own radio may be unknown.
EXCHANGE = ("new_serial", "start_read", "new_unit")
COMMON_ANSWERS = ("code", "reading", "meter_serial", "valve_before", "valve_after", "remark")


def _decimal_string(value: Any) -> Any:
    """Money is written as text, because a TOML number is a binary float."""
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,9}(\.\d{1,4})?", value):
        raise ValueError('an amount in quotes, for example "35.00"')
    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise ValueError('an amount in quotes, for example "35.00"') from error


Amount = Annotated[Decimal, BeforeValidator(_decimal_string), PlainSerializer(str, return_type=str)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FormField(_Part):
    """One answer beyond the common ones. `required_for` lists completion codes that need it."""

    name: Name
    title: str
    kind: Literal["text", "number", "integer", "yes_no", "choice", "time"]
    choices: list[Name] = []
    unit: str | None = None
    required_for: list[Name] = []


class Completion(_Part):
    """What a completion code means: for the place, for the reading, for billing, for the customer.

    `service`: what happened to the water (`off`, `on`, `restricted`); `valve`, `meter` and `lock` are the facts left
    behind unless the answers say otherwise, `why` their reason. `claim` makes the code a claim at the door: the work
    was not done. `read_kind` names the reading (`off`, `on`, `start`, `final`, `check`); `needs_reading` requires it.
    `exchange` books the new meter that the fields of EXCHANGE tell of. `leak` says on which side of the meter a leak
    was found; `next` is the type of work that remains to be done.
    """

    code: Name
    title: str
    service: Literal["off", "on", "restricted"] | None = None
    valve: Literal["open", "closed", "restricted"] | None = None
    meter: Literal["in_place", "removed", "none"] | None = None
    lock: Literal["on", "off"] | None = None
    why: Literal["nonpayment", "customer_wish", "vacant", "leak", "unsafe"] | None = None
    claim: Literal["paid", "medical", "dispute", "tenant"] | None = None
    proof_hours: int | None = Field(None, ge=1, le=24 * 90)
    read_kind: Literal["off", "on", "start", "final", "check"] | None = None
    needs_reading: bool = False
    tamper: bool = False
    exchange: bool = False
    leak: Literal["customer_side", "utility_side"] | None = None
    next: Name | None = None
    exception: str | None = None


class Unable(_Part):
    """Why the work could not be done and what follows: tried again, shown to a person, or given back to billing."""

    code: Name
    then: Literal["retry", "escalate", "return_to_billing"]
    retry_after_hours: int | None = Field(None, ge=1, le=24 * 60)


class Tariff(_Part):
    """One possible invoice line: `fixed`, or `per_hour` and `per_field` times the answer named in `field`."""

    code: Name
    title: str
    when: list[Name] = Field(min_length=1)
    fixed: Amount | None = None
    per_hour: Amount | None = None
    per_field: Amount | None = None
    field: Name | None = None
    bill_to: Literal["account", "owner", "third_party", "utility"] = "account"
    cap: Name | None = None


class Notices(_Part):
    """Names of the message templates for the customer."""

    opened: Name | None = None
    completed: Name | None = None
    unable: Name | None = None


class Appointment(_Part):
    """Whether customers get a time window for this work, and how long it is."""

    offered: bool
    window_hours: int | None = Field(None, ge=1, le=24)
    adult_present: bool = False


class WorkType(_Part):
    """A declared kind of field work. `purpose` is what an order is for: a place has at most one open order of each."""

    type: Name
    title: str
    purpose: Name
    trigger: list[str]
    priority: int = Field(ge=1, le=5)
    service_level_hours: int = Field(ge=1, le=24 * 365)
    duration_minutes: int = Field(ge=1, le=24 * 60)
    skills: list[Name] = []
    gate: Literal["cut"] | None = None
    needs_contact: bool = False
    max_attempts: int = Field(3, ge=1, le=20)
    appointment: Appointment
    notices: Notices = Notices()
    field: list[FormField] = []
    completion: list[Completion] = Field(min_length=1)
    unable: list[Unable] = []
    tariff: list[Tariff] = []
    currency: str = "USD"

    def completion_of(self, code: str) -> Completion | None:
        """The completion code named `code`, or None."""
        return next((c for c in self.completion if c.code == code), None)

    def unable_of(self, code: str) -> Unable | None:
        """The `unable` code named `code`, or None."""
        return next((u for u in self.unable if u.code == code), None)

    def snapshot(self) -> dict[str, Any]:
        """The type as JSON, to be kept with an order."""
        return self.model_dump(mode="json")


Catalogue = dict[str, WorkType]


def of_snapshot(snapshot: dict[str, Any]) -> WorkType:
    """The work type that an order was opened under."""
    return WorkType.model_validate(snapshot)


def check(folder: Path | None = None) -> tuple[Catalogue, list[str]]:
    """(types, mistakes) of the shipped files overlaid by those of `folder`; each mistake names file, key and remedy."""
    files = {path.name: path for path in sorted(SHIPPED.glob("*.toml"))}
    mistakes: list[str] = []
    if folder is not None:
        if not folder.is_dir():
            return {}, [f"{folder}: expected a folder with one TOML file per work type"]
        files |= {path.name: path for path in sorted(folder.glob("*.toml"))}
    types: Catalogue = {}
    for name, path in sorted(files.items()):
        found, wrong = _check_file(path)
        mistakes += [f"{name}: {line}" for line in wrong]
        if found is None:
            continue
        if found.type in types:
            mistakes.append(f"{name}: type: expected a name of its own, {found.type!r} is declared by another file")
        types[found.type] = found
    mistakes += [
        f"{found.type}.toml: completion.{one.code}.next: expected a work type, {one.next!r} is none"
        for found in types.values()
        for one in found.completion
        if one.next is not None and one.next not in types and not mistakes
    ]
    return types, mistakes


def load(folder: Path | None = None, *, currency: str = "USD") -> Catalogue:
    """The types in force, amounts in `currency`. Raises ConfigurationError with every mistake in it."""
    types, mistakes = check(folder)
    if mistakes:
        raise ConfigurationError("The work types cannot be used. " + "; ".join(mistakes))
    return {name: found.model_copy(update={"currency": currency}) for name, found in types.items()}


_in_force: Catalogue = {}


def use(folder: Path | None = None, *, currency: str = "USD") -> None:
    """Make the types of `folder` (over the shipped ones) those of this process; a shell calls it when it starts."""
    _in_force.clear()
    _in_force.update(load(folder, currency=currency))


def types() -> Catalogue:
    """The types of this process, by name."""
    if not _in_force:
        use()
    return _in_force


def work_type(name: str) -> WorkType:
    """The type called `name`. Raises NotFound."""
    found = types().get(name)
    if found is None:
        raise NotFound(
            f"There is no work type {name!r}.",
            field="type",
            value=name,
            remedy=f"Use one of {', '.join(sorted(types()))}.",
        )
    return found


def _check_file(path: Path) -> tuple[WorkType | None, list[str]]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None, ["expected text in UTF-8"]
    except tomllib.TOMLDecodeError as error:
        return None, [f"expected TOML: {error}"]
    except OSError as error:
        return None, [f"cannot be read: {error.strerror}"]
    if "currency" in raw:
        return None, ["currency: expected no such key; the setting CURBSTOP_CURRENCY holds for all types"]
    try:
        found = WorkType.model_validate(raw)
    except ValidationError as error:
        return None, [_explain(item) for item in error.errors()]
    return found, _contradictions(found)


def _explain(item: Any) -> str:
    key = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in item["loc"]) or "file"
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "missing":
        return f"{key}: expected a value, it is missing"
    if kind == "extra_forbidden":
        return f"{key}: expected no such key; is it a typing mistake?"
    if kind == "literal_error":
        return f"{key}: expected {context['expected']}, found {item['input']!r}"
    if kind == "string_pattern_mismatch":
        return (
            f"{key}: expected small letters, digits and underscores, beginning with a letter, found {item['input']!r}"
        )
    message = str(context["error"]) if kind == "value_error" else item["msg"].removeprefix("Input should be ")
    return f"{key}: expected {message}, found {item['input']!r}"


def _contradictions(found: WorkType) -> list[str]:
    """Mistakes that only show when the parts of a type are seen together."""
    completions = [c.code for c in found.completion]
    unables = [u.code for u in found.unable]
    wrong = [
        *_repeated("completion", completions),
        *_repeated("unable", unables),
        *_repeated("field", [f.name for f in found.field]),
        *_repeated("tariff", [t.code for t in found.tariff]),
    ]
    for unable in found.unable:
        key = f"unable.{unable.code}"
        if unable.code not in UNABLE_CODES:
            wrong.append(f"{key}: expected one of {', '.join(UNABLE_CODES)}")
        if (unable.then == "retry") != (unable.retry_after_hours is not None):
            wrong.append(f'{key}.retry_after_hours: expected with then = "retry", and only then')
        if unable.code == "nobody_home" and found.gate == "cut":
            wrong.append(f"{key}: expected not to be here, nobody at home never stops a shutoff")
    for field in found.field:
        key = f"field.{field.name}"
        if field.name in COMMON_ANSWERS:
            wrong.append(f"{key}: expected another name, {field.name!r} is an answer of every type")
        if (field.kind == "choice") != bool(field.choices):
            wrong.append(f'{key}.choices: expected with kind = "choice", and only then')
        wrong += [
            f"{key}.required_for: expected completion codes of this type, {code!r} is none"
            for code in field.required_for
            if code not in completions
        ]
    for completion in found.completion:
        if (completion.claim is not None) != (completion.proof_hours is not None):
            wrong.append(f"completion.{completion.code}.proof_hours: expected with claim, and only then")
        if completion.claim and (completion.service or completion.valve or completion.lock or completion.meter):
            wrong.append(f"completion.{completion.code}.claim: expected alone, a claim means that nothing was turned")
        declared = {field.name for field in found.field if completion.code in field.required_for}
        if completion.exchange and not (completion.needs_reading and declared.issuperset(EXCHANGE)):
            wrong.append(
                f"completion.{completion.code}.exchange: expected needs_reading, and fields {', '.join(EXCHANGE)}"
                " required for it"
            )
        if completion.needs_reading and completion.read_kind is None:
            wrong.append(f"completion.{completion.code}.read_kind: expected, because needs_reading is set")
    for line in found.tariff:
        wrong += _tariff_mistakes(found, line, {*completions, *unables})
    return wrong


def _tariff_mistakes(found: WorkType, line: Tariff, codes: set[str]) -> list[str]:
    key = f"tariff.{line.code}"
    wrong = [f"{key}.when: expected codes of this type, {code!r} is none" for code in line.when if code not in codes]
    claims = {c.code for c in found.completion if c.claim}
    wrong += [
        f"{key}.when: expected no claim, {code!r} means that nothing was done" for code in line.when if code in claims
    ]
    if sum(value is not None for value in (line.fixed, line.per_hour, line.per_field)) != 1:
        wrong.append(f"{key}: expected exactly one of fixed, per_hour, per_field")
    if (line.fixed is None) != (line.field is not None):
        wrong.append(f"{key}.field: expected with per_hour or per_field, and only then")
    numbers = {f.name for f in found.field if f.kind in ("number", "integer")}
    if line.field is not None and line.field not in numbers:
        wrong.append(f"{key}.field: expected a number field of this type, {line.field!r} is none")
    return wrong


def _repeated(table: str, names: list[str]) -> list[str]:
    return [f"{table}.{name}: expected once" for name in sorted({n for n in names if names.count(n) > 1})]
