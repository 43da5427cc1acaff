"""How tests of this folder import a file."""

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.orm import Session

from hub import imports
from hub.imports import Fault, ImportRefused, Outcome

ZONE = ZoneInfo("America/Chicago")
Bring = Callable[..., Outcome]
Refuse = Callable[..., list[Fault]]


@pytest.fixture
def bring(session: Session, tmp_path: Path) -> Bring:
    """Import CSV lines as a kind of file."""

    def run(kind: str, *lines: str) -> Outcome:
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join(lines) + "\n")
        return imports.run(session, kind, path, actor="test", zone=ZONE)

    return run


@pytest.fixture
def refuse(bring: Bring) -> Refuse:
    """The faults of CSV lines that cannot be imported."""

    def run(kind: str, *lines: str) -> list[Fault]:
        with pytest.raises(ImportRefused) as caught:
            bring(kind, *lines)
        return caught.value.faults

    return run
