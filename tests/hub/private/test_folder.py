"""One hub per data folder, and a crash that leaves no lock behind."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.private import folder
from hub.private.folder import Account, CannotStart, FolderLock, place
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_running_hub_keeps_its_folder_and_a_killed_one_does_not(data_dir: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from hub.private.folder import FolderLock
        FolderLock(Path({str(data_dir)!r})).acquire("up")
        print("locked", flush=True)
        sys.stdin.readline()
        """
    )
    hub = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert hub.stdout is not None and hub.stdout.readline() == "locked\n"
    with pytest.raises(CannotStart, match=rf"in use by `curbstop up` \(process {hub.pid}\).*CURBSTOP_DATA_DIR"):
        FolderLock(data_dir).acquire("up", patience=0.5)
    hub.kill()
    hub.communicate()
    FolderLock(data_dir).acquire("up")


def test_what_the_holder_notes_is_read_by_others(data_dir: Path) -> None:
    mine = FolderLock(data_dir)
    mine.acquire("up")
    mine.note(address="http://127.0.0.1:8000", ready=True)
    mine.note(ready=False)
    assert FolderLock(data_dir).holder()["address"] == "http://127.0.0.1:8000"
    assert FolderLock(data_dir).holder()["ready"] is False
    mine.release()
    with pytest.raises(RuntimeError):
        mine.note(ready=True)


def test_somebody_elses_folder_is_said(data_dir: Path) -> None:
    (data_dir / "hub.lock").mkdir()  # as good as a file of another user: it cannot be opened for writing
    with pytest.raises(CannotStart, match="the user who runs the hub"):
        FolderLock(data_dir).try_acquire("up")


def test_the_program_that_root_needs_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(CannotStart, match="util-linux"):
        folder.Account("postgres", 5432, 5432).reaches(data_dir)


def test_a_folder_that_cannot_be_made_is_said(data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    with pytest.raises(CannotStart, match="CURBSTOP_DATA_DIR"):
        FolderLock(data_dir / "file" / "inside")


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root the servers' folders lie elsewhere")
def test_a_new_folder_does_not_inherit_what_a_deleted_one_left_behind(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "ROOT_PLACE", data_dir / "place")
    closed = data_dir / "home"
    closed.mkdir(mode=0o700)
    postgres, home = Account.for_server("postgres"), closed / ".curbstop"
    first = place(home, "postgres", postgres)
    (first / "rows").write_text("an old town")
    assert place(home, "postgres", postgres) == first and (first / "rows").exists()
    (home / "elsewhere").unlink()
    (home / "secret.key").write_text("a hub that lived here before folders were noted")
    assert (place(home, "postgres", postgres) / "rows").exists()
    shutil.rmtree(home)
    assert place(home, "postgres", postgres) == first
    assert list(first.iterdir()) == []
    assert (first.parent.with_name(f"{first.parent.name}.1") / "postgres/rows").read_text() == "an old town"
