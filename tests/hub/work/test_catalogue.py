"""Work types: the shipped ones are sound, mistakes are explained with file, key and what was expected."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from hub.cli import build
from hub.errors import BadInput, ConfigurationError, NotFound
from hub.work import catalogue, forms

SHIPPED = (
    "flushing", "leak_repair", "leak_survey", "move_in", "move_out", "reconnect", "reread", "shutoff",
)  # fmt: skip
GOOD = (catalogue.SHIPPED / "reread.toml").read_text(encoding="utf-8")


def test_the_shipped_types_are_sound() -> None:
    types, mistakes = catalogue.check()
    assert mistakes == []
    assert set(SHIPPED) <= types.keys()
    for found in types.values():
        Draft202012Validator.check_schema(forms.schema(found))
        assert catalogue.of_snapshot(found.snapshot()) == found


MISTAKES = [
    ('purpose = "reread"\n', "", "purpose: expected a value, it is missing"),
    ("priority = 3", "priority = 9", "priority: expected less than or equal to 5, found 9"),
    ("priority = 3", "priority = 3\npriorty = 2", "priorty: expected no such key"),
    (
        'fixed = "25.00"',
        "fixed = 25.0",
        'tariff.1.fixed: expected an amount in quotes, for example "35.00", found 25.0',
    ),
    ('fixed = "25.00"', 'fixed = "25.00"\nper_hour = "1.00"', "tariff.reread_trip_fee: expected exactly one of fixed"),
    ('fixed = "25.00"', 'per_hour = "60.00"', "tariff.reread_trip_fee.field: expected with per_hour or per_field"),
    (
        'fixed = "25.00"',
        'per_field = "60.00"\nfield = "parts"',
        "tariff.reread_trip_fee.field: expected a number field of this type, 'parts' is none",
    ),
    (
        'when = ["confirmed"]',
        'when = ["done"]',
        "tariff.reread_trip_fee.when: expected codes of this type, 'done' is none",
    ),
    ('code = "dog"', 'code = "cat"', "unable.cat: expected one of locked_gate, dog"),
    ('code = "dog"', 'code = "locked_gate"', "unable.locked_gate: expected once"),
    ('then = "escalate"', 'then = "retry"', "retry_after_hours: expected with then"),
    ('then = "escalate"', 'then = "shrug"', "then: expected 'retry', 'escalate' or 'return_to_billing', found 'shrug'"),
    ('code = "corrected"', 'code = "Corrected!"', "expected small letters, digits and underscores"),
    ('type = "reread"', 'type = "shutoff"', "type: expected a name of its own"),
    ('type = "reread"', 'type = "reread"\ncurrency = "EUR"', "currency: expected no such key"),
    ('type = "reread"', "type = ", "expected TOML"),
]


@pytest.mark.parametrize(("found", "put", "told"), MISTAKES)
def test_a_mistake_names_file_key_and_what_was_expected(tmp_path: Path, found: str, put: str, told: str) -> None:
    assert found in GOOD
    (tmp_path / "reread.toml").write_text(GOOD.replace(found, put, 1), encoding="utf-8")
    _, mistakes = catalogue.check(tmp_path)
    assert any(told in line and line.startswith(("reread.toml: ", "shutoff.toml: ")) for line in mistakes), mistakes
    with pytest.raises(ConfigurationError):
        catalogue.load(tmp_path)


def test_a_type_that_cuts_cannot_stop_because_nobody_is_home(tmp_path: Path) -> None:
    text = (catalogue.SHIPPED / "shutoff.toml").read_text(encoding="utf-8")
    (tmp_path / "shutoff.toml").write_text(text.replace('code = "refused"', 'code = "nobody_home"'), encoding="utf-8")
    assert any("nobody at home never stops a shutoff" in line for line in catalogue.check(tmp_path)[1])


def test_a_claim_cannot_be_charged(tmp_path: Path) -> None:
    text = (catalogue.SHIPPED / "shutoff.toml").read_text(encoding="utf-8")
    (tmp_path / "shutoff.toml").write_text(text.replace('when = ["cut"', 'when = ["paid_at_door"'), encoding="utf-8")
    assert any("expected no claim" in line for line in catalogue.check(tmp_path)[1])


def test_a_utility_overlays_and_adds_files(tmp_path: Path) -> None:
    (tmp_path / "reread.toml").write_text(GOOD.replace('"25.00"', '"30.00"'), encoding="utf-8")
    (tmp_path / "survey.toml").write_text(
        GOOD.replace('type = "reread"', 'type = "survey"').replace('purpose = "reread"', 'purpose = "survey"'),
        encoding="utf-8",
    )
    types = catalogue.load(tmp_path, currency="EUR")
    assert str(types["reread"].tariff[0].fixed) == "30.00" and types["reread"].currency == "EUR"
    assert "survey" in types and "shutoff" in types


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(build(), ["catalogue", "check"])
    assert good.exit_code == 0 and "no mistakes" in good.output
    (tmp_path / "reread.toml").write_text(GOOD.replace("priority = 3", 'priority = "high"'), encoding="utf-8")
    bad = runner.invoke(build(), ["catalogue", "check", str(tmp_path)])
    assert bad.exit_code == 1 and "reread.toml: priority: expected" in bad.output
    assert runner.invoke(build(), ["catalogue", "check", str(tmp_path / "nowhere")]).exit_code == 1


def test_answers_are_judged_by_the_form() -> None:
    reread = catalogue.work_type("reread")
    kept = forms.check_answers(reread, {"code": "confirmed", "reading": {"value": 12.5}, "remark": "a\x00b\ud800"})
    assert kept == {"code": "confirmed", "reading": {"value": "12.5"}, "remark": "a\ufffdb\ufffd"}
    for answers, field in (
        ({}, "answers"),
        ([], "answers"),
        ({"code": "cut"}, "answers.code"),
        ({"code": "confirmed"}, "answers"),
        ({"code": "confirmed", "reading": {"value": "-1"}}, "answers.reading.value"),
        ({"code": "confirmed", "reading": {"value": "1e3"}}, "answers.reading.value"),
        ({"code": "confirmed", "reading": {"value": True}}, "answers.reading.value"),
        ({"code": "confirmed", "reading": {"value": "1", "unit": "barrels"}}, "answers.reading.unit"),
        ({"code": "stopped_meter", "valve_after": "ajar"}, "answers.valve_after"),
        ({"code": "stopped_meter", "valve": "open"}, "answers"),
    ):
        with pytest.raises(BadInput) as refused:
            forms.check_answers(reread, answers)
        assert refused.value.extra["field"] == field and refused.value.extra["remedy"]


def test_an_unknown_type_is_not_found() -> None:
    with pytest.raises(NotFound):
        catalogue.work_type("dance")


def test_the_guide_names_every_key() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "work-types.md").read_text(encoding="utf-8")
    parts = (
        catalogue.WorkType,
        catalogue.Appointment,
        catalogue.Notices,
        catalogue.FormField,
        catalogue.Completion,
        catalogue.Unable,
        catalogue.Tariff,
    )
    for part in parts:
        for key in part.model_fields:
            assert f"`{key}`" in guide or f"`[{key}]`" in guide or f"`[[{key}]]`" in guide, (part.__name__, key)
    assert all(f"`{code}`" in guide for code in catalogue.UNABLE_CODES)
