"""Child processes that cannot outlive the hub, and the ones a crashed hub may have left.

Writes nothing but signals.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from hub.private.folder import Account, CannotStart, lives


def spawn(
    words: Sequence[str],
    *,
    dies_with: signal.Signals,
    log: IO[bytes] | int,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    inherits: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start `words` so that the kernel sends them `dies_with` when the hub is gone, whatever ended it.

    The kernel ties that to the *thread* that started the child, so only the main thread may. Without `environment` the
    child gets a plain one; `inherits` are file descriptors it keeps.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread: they stop when the starting thread ends")
    if shutil.which("setpriv") is None:
        raise CannotStart("The program `setpriv` is missing: install the package util-linux.")
    prefix = account.prefix() if account else ["setpriv"]
    return subprocess.Popen(
        [*prefix, f"--pdeathsig={dies_with.name.removeprefix('SIG')}", "--", *words],
        cwd="/" if environment is None else None,
        env=plain_environment() if environment is None else environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=inherits,
        # A session of its own: Ctrl-C in the terminal is for the hub, which stops its children in the right order.
        start_new_session=True,
    )


def plain_environment() -> dict[str, str]:
    """The environment for a server: the hub's own settings, secrets and PG* variables are none of its business."""
    kept = {name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **kept, "LC_ALL": "C.UTF-8"}


def stop(child: "subprocess.Popen[bytes]", *signals: signal.Signals, patience: float = 20.0) -> None:
    """Ask with one signal after the other, `patience` seconds each, and in the end do not ask."""
    for wanted in (*signals, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(wanted)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)


def living_in(folder: Path, program: str) -> list[int]:
    """Process ids of `program` whose working folder is `folder`.

    A PostgreSQL process works in its data folder for as long as it lives, so this finds the server of a crashed hub
    and the backends that outlive a killed one, and never a stranger that got a recycled process id.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().strip() == program and (entry / "cwd").readlink() == folder:
                    found.append(int(entry.name))
    return found


def wait_until_gone(pids: Sequence[int], *, patience: float) -> bool:
    """Whether all of `pids` ended within `patience` seconds."""
    deadline = time.monotonic() + patience
    while any(lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
