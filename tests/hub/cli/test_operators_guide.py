"""The operator's guide says what is: its table of settings is the code's."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from hub.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "operators.md"


def settings_table() -> str:
    """The table as it should stand in the guide."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default: Any = field.get_default(call_default_factory=True)
        shown = {None: "", (): ""}.get(tuple(default) if isinstance(default, list) else default, default)
        text = ", ".join(shown) if isinstance(shown, list) else str(shown if not isinstance(shown, Decimal) else +shown)
        rows.append(f"| `CURBSTOP_{name.upper()}` | {f'`{text}`' if text else ''} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_codes() -> None:
    found = re.search(r"<!-- settings -->\n(.*?)\n?<!-- /settings -->", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    assert found.group(1) == settings_table(), f"put this into docs/operators.md:\n{settings_table()}"
