"""The integrator's guide says what the code does; the command explains what the policy says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub import cli
from hub.billing import effects
from hub.db import Database
from hub.models import WorkOrder
from hub.work import orders
from tests.hub.billing.conftest import NOW, Town, delinquent, event, populated

GUIDE = Path(__file__).parents[3] / "docs" / "integrators.md"


def test_the_table_in_the_guide_is_the_one_in_the_code() -> None:
    """Print it with `python -m hub.billing.effects docs/integrators.md`."""
    text = GUIDE.read_text(encoding="utf-8")
    assert effects.print_into(text) == text
    assert all(f"| `{name}` |" in text for name in effects.EFFECTS)


def test_policy_explain(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    source_id = populated(database)
    with database.transaction() as session:
        town = Town(session, source_id)
        town.send(delinquent(), event("account.hold_placed", hold="medical"))
        number = town.one().number
        other = orders.open_order(session, type="reread", by="test", service_point="SP2").order.number
    monkeypatch.setenv("CURBSTOP_DATABASE_URL", database.url)
    monkeypatch.setenv("CURBSTOP_TIME_ZONE", "America/Chicago")
    runner = CliRunner()
    said = runner.invoke(cli.build(), ["policy", "explain", number]).output
    assert "may not be turned off now" in said
    assert "medical" in said and "116910" in said
    assert "never, unless billing or a person" in said
    assert "does not concern it" in runner.invoke(cli.build(), ["policy", "explain", other]).output
    with database.transaction() as session:
        Town(session, source_id).send(event("account.hold_lifted", at=NOW.replace(hour=11), hold="medical"))
        assert session.query(WorkOrder).filter_by(number=number).one().status == "ready"
    assert "may be turned off now" in runner.invoke(cli.build(), ["policy", "explain", number]).output
    assert runner.invoke(cli.build(), ["policy", "explain", "WO-1999-000001"]).exit_code != 0
