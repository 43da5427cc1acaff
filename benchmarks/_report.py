"""Runs benchmarks and keeps what they print in docs/benchmarks.md, each between its own two marks.

A benchmark is a module of this folder whose `main()` prints Markdown (figures of one run, and ratios between them) on
standard output, and progress, if any, on standard error. Tried at small size by itself it only prints:

    python -m benchmarks.webhooks 500 1

Measured for the record, one or all; writes docs/benchmarks.md:

    python -m benchmarks._report [NAME ...]
"""

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/benchmarks.md"
# How each program tells its version; one that is missing here is not named.
PROGRAMS = {"PostgreSQL": "postgres", "Mosquitto": "mosquitto", "Chromium": "chromium"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is a column of figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], form: str) -> str:
    """The median of a few rounds, and the lowest and highest where they are several: `412 (398–420)`."""
    median = format(statistics.median(values), form)
    return f"{median} ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else median


def with_section(page: str, name: str, text: str) -> str:
    """`page` with `text` between the marks of `name`; a section is added where there is none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n## {name.replace('_', ' ').capitalize()}\n\n{begin}\n{end}\n"
    before, rest = page.split(begin, 1)
    _, after = rest.split(end, 1)
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def machine() -> str:
    """When and on what: date, commit, processor, memory, and the programs that took part."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = [
        f"{datetime.now(UTC):%Y-%m-%d}",
        f"commit {_said(['git', 'rev-parse', '--short', 'HEAD'])}",
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB",
        f"Linux {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
    ]
    for name, program in PROGRAMS.items():
        found = re.search(r"\d+(\.\d+)+", _said([_path_of(program), "--version" if program != "mosquitto" else "-h"]))
        if found:
            words.append(f"{name} {found.group()}")
    return " · ".join(words)


def _path_of(program: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) if program == "postgres" else []
    return str(places[-1]) if places else program


def _said(words: list[str]) -> str:
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def benchmarks() -> list[str]:
    """The names of all benchmarks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> None:
    """Run the benchmarks named on the command line, or all, and write their sections."""
    names = sys.argv[1:] or benchmarks()
    if unknown := set(names) - set(benchmarks()):
        raise SystemExit(f"No benchmark {', '.join(sorted(unknown))}: there are {', '.join(benchmarks())}.")
    for name in names:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        if done.returncode:
            raise SystemExit(f"{name} failed; its section of {PAGE.relative_to(ROOT)} stays as it was.")
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_section(page, name, f"{done.stdout.strip()}\n\n{machine()}"), encoding="utf-8")


if __name__ == "__main__":
    main()
