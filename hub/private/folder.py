"""The data folder of one hub: who may use it, where servers that may not run as root keep theirs, and how much is free.

Writes the folder itself and its lock file; no transaction is involved.
"""

import fcntl
import hashlib
import itertools
import json
import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hub.errors import Unavailable

# As root the servers run as users of their own, who cannot enter root's home; this place they can.
ROOT_PLACE = Path("/var/lib/curbstop")
LOCK_FILE = "hub.lock"
KEY_FILE = "secret.key"
# Holds the path of the servers' folders where those lie elsewhere: by this a data folder knows them for its own.
ELSEWHERE_FILE = "elsewhere"

log = structlog.get_logger()


class CannotStart(Unavailable):
    """A private server cannot run; the text says why and what to do, in one sentence."""

    kind, title = "cannot-start", "A private server cannot start"


@dataclass(frozen=True)
class Account:
    """The system user that a private server runs as; None for the one who started the hub."""

    name: str
    uid: int
    gid: int

    @classmethod
    def for_server(cls, *names: str) -> "Account | None":
        """None unless we are root; then the first of `names` that this machine knows.

        Raises CannotStart when none of them exists: neither PostgreSQL nor a careful broker runs as root.
        """
        if os.geteuid() != 0:
            return None
        for name in names:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name, entry.pw_uid, entry.pw_gid)
        raise CannotStart(
            f"As root the hub runs its servers as the user {names[0]!r}, which this machine does not have: "
            f"run `make setup`, or `adduser --system {names[0]}`, or start the hub as an ordinary user."
        )

    def prefix(self) -> list[str]:
        """The words before a command that make it run as this user."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]

    def reaches(self, folder: Path) -> bool:
        """Whether this user can enter `folder` (every parent counts, so only trying tells)."""
        words = [*self.prefix(), "--", "test", "-x", str(folder)]
        try:
            return subprocess.run(words, cwd="/", capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            raise CannotStart(
                f"{words[0]} is not installed, with which root runs servers as {self.name!r}: "
                "install the package util-linux, or start the hub as an ordinary user."
            ) from None


def prepare(data_dir: Path) -> Path:
    """Make the data folder and return its real path.

    Closed to others; as root they may pass through it (not list it), so that the servers' users reach their parts.
    """
    try:
        if not data_dir.is_dir():
            data_dir.mkdir(parents=True)
            data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise CannotStart(
            f"The data folder {data_dir} cannot be made ({error.strerror}): "
            "name another one with CURBSTOP_DATA_DIR, or give this user the right to write there."
        ) from error
    return data_dir.resolve()


def place(data_dir: Path, part: str, account: Account | None) -> Path:
    """The folder of one server (`part`), owned by its user, mode 0700.

    Inside the data folder, or, where the server's user cannot reach that, under /var/lib/curbstop in a folder named by
    a hash of the data folder's path. What already exists is preferred, so that a changed right of a parent folder
    never makes a hub start with an empty database beside the full one. Only what a data folder left behind that was
    since deleted is set aside: a new one at the same path begins anew, as it would with its servers inside.
    """
    home = prepare(data_dir)
    inside = home / part
    outside = ROOT_PLACE / hashlib.sha256(os.fsencode(home)).hexdigest()[:16] / part
    folder = inside
    if account is not None and outside.exists() and not _knows(home, outside.parent):
        _set_aside(outside.parent, home)
    if account is not None and (outside.exists() or not account.reaches(home)):
        if inside.exists():
            raise CannotStart(
                f"The user {account.name!r} can no longer reach {inside}: open its parent folders to that user "
                f"(chmod o+x), or move {inside} to {outside}."
            )
        folder = outside
        (home / ELSEWHERE_FILE).write_text(f"{outside.parent}\n", encoding="utf-8")
    owned(folder, account)
    return folder


def _knows(home: Path, elsewhere: Path) -> bool:
    """Whether the data folder is the one that the servers' folders in `elsewhere` were made for."""
    try:
        return (home / ELSEWHERE_FILE).read_text(encoding="utf-8").strip() == str(elsewhere)
    except FileNotFoundError:
        return (home / KEY_FILE).exists()


def _set_aside(elsewhere: Path, home: Path) -> None:
    number = next(n for n in itertools.count(1) if not elsewhere.with_name(f"{elsewhere.name}.{n}").exists())
    aside = elsewhere.rename(elsewhere.with_name(f"{elsewhere.name}.{number}"))
    log.warning(
        "the data folder is new; what an earlier one at this path left behind was set aside, remove it when you can",
        data_dir=str(home),
        set_aside=str(aside),
    )


def owned(folder: Path, account: Account | None) -> None:
    """Make `folder` (0700) and give it to `account`; parents that must be made can be passed through by everybody."""
    try:
        for parent in reversed(folder.parents):
            if not parent.exists():
                parent.mkdir()
                parent.chmod(0o711)
        folder.mkdir(exist_ok=True)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
    except OSError as error:
        raise CannotStart(
            f"The folder {folder} cannot be made ({error.strerror}): "
            "choose another CURBSTOP_DATA_DIR or mend its rights."
        ) from error


def require_space(folder: Path, needed: int) -> None:
    """Raise CannotStart when the file system of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CannotStart(
            f"Storage full: {folder} has {free // 2**20} MiB free and the hub needs {needed // 2**20} MiB to start; "
            "free some space on that file system, or move the data folder and name it in CURBSTOP_DATA_DIR."
        )


def lives(pid: int) -> bool:
    """Whether `pid` still runs; one that ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class FolderLock:
    """One hub per data folder. The kernel drops the lock with the last process that inherited it.

    A crash therefore never leaves it behind, and a hub started after one waits for the crashed hub's children.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = prepare(data_dir) / LOCK_FILE
        self._handle: int | None = None

    def fileno(self) -> int:
        """The handle to let a child inherit; raises RuntimeError without the lock."""
        if self._handle is None:
            raise RuntimeError("only the holder of the lock passes it on")
        return self._handle

    def try_acquire(self, command: str, *, shared: bool = False) -> bool:
        """Take the lock and note who has it; False when somebody else does.

        `shared` says that this holder stays, so that other commands may use the servers it runs.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(
                f"The data folder {self.path.parent} cannot be used by this user ({error.strerror}): run the command "
                "as the user who runs the hub, or name another folder with CURBSTOP_DATA_DIR."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._handle = handle
        self._write({"pid": os.getpid(), "command": command, "shared": shared})
        return True

    def acquire(self, command: str, *, shared: bool = False, patience: float = 0.0) -> None:
        """Take the lock; raise CannotStart at once when a hub runs here.

        A short command that has the folder, and what a crashed hub left stopping, are waited for: `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while not self.try_acquire(command, shared=shared):
            holder = self.holder()
            stays = holder.get("shared") and lives(int(holder.get("pid", 0)))
            if stays or time.monotonic() >= deadline:
                raise CannotStart(
                    f"The data folder {self.path.parent} is in use by `curbstop {holder.get('command', 'up')}` "
                    f"(process {holder.get('pid', 'unknown')}): stop that one first, or give this one a folder of its "
                    "own with CURBSTOP_DATA_DIR."
                )
            time.sleep(0.1)

    def note(self, **facts: Any) -> None:
        """Add what others may want to know of the holder (addresses) to the lock file."""
        self._write({**self.holder(), **facts})

    def _write(self, facts: dict[str, Any]) -> None:
        content = json.dumps(facts).encode()
        os.pwrite(self.fileno(), content, 0)
        os.ftruncate(self.fileno(), len(content))

    def holder(self) -> dict[str, Any]:
        """What the last holder noted; empty when nobody ever did."""
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def release(self) -> None:
        """Give the folder free."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
