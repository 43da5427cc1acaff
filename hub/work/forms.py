"""What a crew answers: the form of a work type as JSON Schema, and the check of answers against it.

Pure: writes nothing. The schema is published at `GET /api/v1/work-types/{type}`; the same one judges every completion,
whether it comes from a crew's device, over the radio or from paper.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from hub.errors import BadInput, storable
from hub.work.catalogue import UNABLE_CODES, VALVE_STATES, FormField, WorkType

UNITS = ("m3", "l", "gal", "kgal", "cf", "ccf")
# RFC 3339 with its offset, of this century
TIME = r"^20\d\d-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"
DECIMAL = r"^\d{1,15}(\.\d{1,9})?$"

READING: dict[str, Any] = {
    "type": "object",
    "title": "Reading",
    "properties": {
        "value": {
            "title": "Register as it stands",
            "anyOf": [{"type": "string", "pattern": DECIMAL}, {"type": "number", "minimum": 0, "maximum": 1e15}],
        },
        "unit": {"title": "Unit on the dial", "enum": list(UNITS)},
        "how": {
            "title": "How it was read",
            "type": "string",
            "maxLength": 40,
            "examples": ["visual", "touch", "radio", "photo"],
        },
        "register": {"title": "Which register", "type": "string", "maxLength": 40},
    },
    "required": ["value"],
    "additionalProperties": False,
}


def schema(work_type: WorkType) -> dict[str, Any]:
    """The form of `work_type` as JSON Schema 2020-12: the common answers, its own fields, what each code requires."""
    valve = {"type": "string", "enum": list(VALVE_STATES)}
    properties: dict[str, Any] = {
        "code": {
            "title": "Result",
            "type": "string",
            "oneOf": [{"const": c.code, "title": c.title} for c in work_type.completion],
        },
        "reading": READING,
        "meter_serial": {"title": "Serial number on the meter", "type": "string", "maxLength": 80},
        "valve_before": {"title": "Valve as found", **valve},
        "valve_after": {"title": "Valve as left", **valve},
        **{field.name: _property(field) for field in work_type.field},
        "remark": {"title": "Remark", "type": "string", "maxLength": 4000},
    }
    rules = []
    for completion in work_type.completion:
        needed = [field.name for field in work_type.field if completion.code in field.required_for]
        if completion.needs_reading:
            needed.append("reading")
        if needed:
            rules.append({"if": {"properties": {"code": {"const": completion.code}}}, "then": {"required": needed}})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": work_type.title,
        "type": "object",
        "properties": properties,
        "required": ["code"],
        "additionalProperties": False,
        **({"allOf": rules} if rules else {}),
    }


def described(work_type: WorkType) -> dict[str, Any]:
    """A work type for programs and pages: what it is, its form, its codes."""
    return {
        "type": work_type.type,
        "title": work_type.title,
        "purpose": work_type.purpose,
        "trigger": work_type.trigger,
        "priority": work_type.priority,
        "service_level_hours": work_type.service_level_hours,
        "duration_minutes": work_type.duration_minutes,
        "skills": work_type.skills,
        "gate": work_type.gate,
        "appointment": work_type.appointment.model_dump(),
        "form": schema(work_type),
        "completion_codes": [
            {"code": c.code, "title": c.title, "service": c.service, "claim": c.claim, "needs_reading": c.needs_reading}
            for c in work_type.completion
        ],
        "unable_codes": [
            {"code": u.code, "title": UNABLE_CODES[u.code], "then": u.then, "retry_after_hours": u.retry_after_hours}
            for u in work_type.unable
        ],
        "tariff": [t.model_dump(mode="json") for t in work_type.tariff],
    }


def check_answers(work_type: WorkType, answers: Any) -> dict[str, Any]:
    """`answers` as they will be kept. Raises BadInput naming the first answer that does not fit, and what would.

    Numbers become decimal strings; text that PostgreSQL cannot keep is replaced.
    """
    if not isinstance(answers, dict):
        raise BadInput("The answers are not an object.", field="answers", remedy='Send {"code": …, …}.')
    kept: dict[str, Any] = {str(key): value for key, value in storable(answers).items() if value is not None}
    for error in sorted(
        _validator(orjson.dumps(schema(work_type))).iter_errors(kept), key=lambda e: [str(p) for p in e.path]
    ):
        where = ".".join(["answers", *(str(part) for part in error.absolute_path)])
        raise BadInput(f"{where}: {_sentence(error, work_type)}", field=where, remedy=_remedy(error, work_type))
    for field in work_type.field:
        if field.kind == "number" and field.name in kept:
            kept[field.name] = format(decimal_of(kept[field.name], f"answers.{field.name}"), "f")
        if field.kind == "time" and field.name in kept:
            kept[field.name] = _instant(kept[field.name], f"answers.{field.name}")
    if "reading" in kept:
        value = decimal_of(kept["reading"]["value"], "answers.reading.value")
        kept["reading"] = {**kept["reading"], "value": format(value, "f")}
    return kept


def _instant(value: str, field: str) -> str:
    """A time as RFC 3339 in UTC. Raises BadInput for a day that no month has."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    except ValueError:
        raise BadInput(f"{field} is no time.", field=field, value=value, remedy="Send 2026-01-31T12:00:00Z.") from None


def decimal_of(value: Any, field: str) -> Decimal:
    """`value` (a decimal string or a JSON number) as Decimal. Raises BadInput."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite():
        raise BadInput(
            f"{field} is not a number.", field=field, value=value, remedy='Send a decimal string, e.g. "1234.5".'
        )
    return number


def _property(field: FormField) -> dict[str, Any]:
    shapes: dict[str, dict[str, Any]] = {
        "text": {"type": "string", "maxLength": 400},
        "number": {
            "anyOf": [
                {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?$"},
                {"type": "number", "minimum": 0, "maximum": 1e9},
            ]
        },
        "integer": {"type": "integer", "minimum": 0, "maximum": 1_000_000_000},
        "yes_no": {"type": "boolean"},
        "choice": {"type": "string", "enum": field.choices},
        "time": {"type": "string", "format": "date-time", "pattern": TIME},
    }
    return {"title": field.title, **shapes[field.kind], **({"x-unit": field.unit} if field.unit else {})}


def _sentence(error: Any, work_type: WorkType) -> str:
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{', '.join(missing)} is missing"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        extra = [name for name in error.instance if name not in known]
        return f"{', '.join(sorted(extra)[:5])[:200]} is no answer of {work_type.type}"
    if list(error.absolute_path) == ["code"]:
        return f"{str(error.instance)[:80]!r} is no completion code of {work_type.type}"
    return "the value does not fit"


def _remedy(error: Any, work_type: WorkType) -> str:
    if list(error.absolute_path) == ["code"] or error.validator == "required":
        codes = ", ".join(c.code for c in work_type.completion)
        return f"Codes: {codes}; the form is at /api/v1/work-types/{work_type.type}."
    if error.validator == "enum":
        return f"Use one of {', '.join(map(str, error.validator_value))}."
    if error.validator == "additionalProperties":
        return f"Known: {', '.join(error.schema.get('properties', {}))}."
    return f"The form is at /api/v1/work-types/{work_type.type}."


@lru_cache(maxsize=256)
def _validator(form: bytes) -> Draft202012Validator:
    return Draft202012Validator(orjson.loads(form))
