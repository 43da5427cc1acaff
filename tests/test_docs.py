"""What the documents promise exists: files and headings they link to, commands and options, settings, benchmarks."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from benchmarks import _report
from hub.cli import build
from hub.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
# Variables of the tests and of `setup/secrets`.
NOT_SETTINGS = {"CURBSTOP_SAMPLES", "CURBSTOP_MQTT_HOSTS"}
COMMANDS: Any = get_command(build())


def code_of(text: str) -> list[str]:
    """Lines of code blocks, with continued lines joined, and what stands between backticks."""
    found: list[str] = []
    for block, inline in CODE.findall(text):
        found += block.replace("\\\n", " ").splitlines() if block else [inline]
    return found


def anchors(page: Path) -> set[str]:
    """The names by which headings of a page can be linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    aim = (page.parent / path).resolve() if path else page
    return not aim.exists() or bool(anchor and aim.suffix == ".md" and anchor not in anchors(aim))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [found for found in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in found]
    assert [target for target in targets if dead(page, target)] == []


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def wrong_in(line: str) -> str | None:
    """What of a line of code is no command or option of ours; None when all is well, or it is no call of ours."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    start = next((n for n, word in enumerate(words) if word in ("curbstop", ".venv/bin/curbstop")), None)
    if start is None or any("=" not in word and word != "$" for word in words[:start]):
        return None
    command = COMMANDS
    for word in words[start + 1 :]:
        if word in ("|", "<", ">", ";", "&&", "·"):
            break
        name = word.strip("[],;….").split("=")[0]
        if hasattr(command, "commands") and re.fullmatch(r"[a-z][a-z-]*(\|[a-z-]+)*", name):
            choices = name.split("|")
            if unknown := [choice for choice in choices if choice not in command.commands]:
                return f"{line!r}: no command {unknown}"
            command = command.commands[choices[0]]
        elif name.startswith("--") and name not in {"--help", *options_of(command)}:
            return f"{line!r}: no option {name} of {command.name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    found = [wrong_in(line) for line in code_of(page.read_text(encoding="utf-8"))]
    assert [wrong for wrong in found if wrong] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    assert wrong_in("curbstop up --port 8000") is None
    assert wrong_in("CURBSTOP_DATA_DIR=/x .venv/bin/curbstop import zones|mains FILE  # both") is None
    assert "no command" in (wrong_in("curbstop import clouds FILE") or "")
    assert "no option" in (wrong_in(".venv/bin/curbstop up --prot 8000") or "")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for line in code_of(page.read_text(encoding="utf-8"))
        for name in re.findall(r"^make ([a-z-]+)", line.strip())
    }
    assert named and named <= targets


def test_settings_exist() -> None:
    known = {f"CURBSTOP_{name.upper()}" for name in Settings.model_fields}
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {name for text in texts for name in re.findall(r"CURBSTOP_[A-Z0-9_]+[A-Z0-9]", text)}
    assert {name for name in named if name.removesuffix("_FILE") not in known} - NOT_SETTINGS == set()


def test_sections_of_figures_are_whole_and_belong_to_benchmarks() -> None:
    marks = re.findall(r"<!-- (begin|end) (\w+) -->", _report.PAGE.read_text(encoding="utf-8"))
    begun, ended = marks[::2], marks[1::2]
    assert [("end", name) for _, name in begun] == ended
    assert {name for _, name in begun} <= set(_report.benchmarks())


def test_a_section_is_replaced_and_the_rest_stays() -> None:
    page = "# Figures\n\nWhy.\n\n<!-- begin map -->\nold\n<!-- end map -->\n\nAfter.\n"
    fresh = _report.with_section(page, "map", "new\n")
    assert fresh == page.replace("old", "new")
    added = _report.with_section(fresh, "leak_search", "| a |")
    assert added.startswith(fresh.rstrip()) and "## Leak search" in added
    assert "<!-- begin leak_search -->\n| a |\n<!-- end leak_search -->" in added
