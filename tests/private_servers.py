"""A real PostGIS and a real Mosquitto for one test run: fast (in memory where it has room), in folders of their own.

Each call starts a server of its own; stop it when the run (or the xdist worker) ends.
"""

import os
import shutil
import tempfile
from pathlib import Path

from hub.private.broker import PrivateBroker
from hub.private.cluster import PrivateCluster
from hub.private.folder import ROOT_PLACE

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 3 * 2**30


def scratch(*, in_memory: bool = True) -> Path:
    """A new folder that the servers' users can reach; folders of test runs that no longer live are removed.

    In memory a database is made ten times faster than on a disk that others use as well; what is too large for it says
    so.
    """
    parent = Path(tempfile.gettempdir())
    if in_memory and MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES:
        parent = MEMORY
    elif os.geteuid() == 0:
        parent = ROOT_PLACE / "tests"
        parent.mkdir(parents=True, exist_ok=True)
        ROOT_PLACE.chmod(0o711)
        parent.chmod(0o711)
    for left in parent.glob("curbstop-test-*-*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"curbstop-test-{os.getpid()}-", dir=parent))
    folder.chmod(0o711)
    return folder


class TestCluster(PrivateCluster):
    """A cluster whose folder goes with it."""

    __test__ = False

    def stop(self) -> None:
        """End the server and remove its data."""
        super().stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)


class TestBroker(PrivateBroker):
    """A broker whose folder goes with it."""

    __test__ = False

    def stop(self) -> None:
        """End the broker and remove its data."""
        super().stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)


def start_test_cluster() -> PrivateCluster:
    """A running cluster with one empty PostGIS database."""
    return TestCluster(scratch(), sync=False).start()


def start_test_broker() -> PrivateBroker:
    """A running broker on a free port of loopback."""
    return TestBroker(scratch(), sync=False).start()
