"""The hub's processes, forked from one that has loaded the hub already: soon up, and truly killed.

`curbstop serve` spends a second and a half of a core on loading; forked it is up in a tenth of that, so that a test
can afford to kill it twenty times. What it runs is the command as an operator types it.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])


def fork(run: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """`run(*arguments)` in a process of its own, which says nothing on our standard output; `run` is a module's."""
    process = _FORKS.Process(target=_aside, args=(run, *arguments), daemon=True)
    process.start()
    return process


def _aside(run: Callable[..., None], *arguments: Any) -> None:
    os.dup2(2, 1)
    run(*arguments)


def event() -> Event:
    """Something that a forked process may set."""
    return _FORKS.Event()


def curbstop(words: Sequence[str], environment: dict[str, str], log: Path) -> ForkServerProcess:
    """`curbstop words…` in an environment of its own; what it says is added to `log`."""
    return fork(_command, list(words), environment, log)


def _command(words: list[str], environment: dict[str, str], log: Path) -> None:
    from hub.cli import main

    os.environ.clear()
    os.environ.update(environment)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["curbstop", *words]
    main()


def end(process: ForkServerProcess, number: int = signal.SIGTERM) -> int | None:
    """Send a signal and wait for the end; the exit code, None when it does not obey."""
    if process.pid and process.is_alive():
        os.kill(process.pid, number)
    process.join(60)
    return process.exitcode
