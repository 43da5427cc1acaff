"""The operator's guide says what is: its table of settings is the code's, and its commands exist."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from typer.main import get_command

from hub.cli import build
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


def test_every_command_in_it_exists() -> None:
    top: Any = get_command(build())
    named = set(re.findall(r"curbstop ((?:[a-z][a-z-]*)(?: [a-z-]+)?)", GUIDE.read_text()))
    commands = {words.split()[0] for words in named} - {"curbstop"}
    assert {"up", "serve", "work", "ingest", "migrate", "doctor", "user", "token"} <= commands
    text = GUIDE.read_text()
    for line in re.findall(r"(?:^|`|\.venv/bin/)curbstop ([a-z-]+(?: [a-z-]+)?)", text, re.MULTILINE):
        word, *rest = line.split()
        assert word in top.commands, line
        if rest and hasattr(top.commands[word], "commands"):
            assert rest[0] in top.commands[word].commands, line


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in (GUIDE, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"`make ([a-z-]+)", document.read_text()):
            assert target in targets, f"{document.name}: make {target}"
