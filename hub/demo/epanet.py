"""The few calls of the EPANET 2.2 toolkit that the simulated town needs, on the library shipped inside `epyt`.

Runs one hydraulic project; writes only EPANET's report file, in a temporary folder. Not thread-safe.
"""

import ctypes
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hub.demo.network import NoNetwork, epyt_folder

Values = TypeVar("Values")
_LIBRARIES = {"Linux": "glnx/libepanet2.so", "Darwin": "mac/libepanet2.dylib", "Windows": "win/epanet2.dll"}
_DURATION, _HYDRAULIC_STEP, _PATTERN_STEP, _REPORT_STEP = 0, 1, 3, 5
_ACCURACY = 1
_PRESSURE, _HEAD, _ELEVATION, _FLOW = 11, 10, 0, 8
_WARNINGS_UP_TO = 6  # codes 1–6 are hydraulic warnings, not failures


class HydraulicsFailed(Exception):
    """EPANET refused a call; the message carries its error number."""


class Project:
    """An open EPANET project. Units are those of the input file: L-Town is in m³/h and metres."""

    def __init__(self, network: Path, scratch: Path) -> None:
        library = epyt_folder() / "libraries" / _LIBRARIES.get(platform.system(), "none")
        if not library.is_file():
            raise NoNetwork(f"`epyt` carries no EPANET library for {platform.system()} ({library} is missing).")
        self._library = ctypes.CDLL(str(library))
        self._handle = ctypes.c_void_p()
        self._call("EN_createproject", ctypes.byref(self._handle), bare=True)
        self._call("EN_open", str(network).encode(), str(scratch / "report.txt").encode(), b"")

    def _call(self, name: str, *arguments: object, bare: bool = False) -> None:
        code = getattr(self._library, name)(*(arguments if bare else (self._handle, *arguments)))
        if code > _WARNINGS_UP_TO:
            raise HydraulicsFailed(f"EPANET error {code} in {name}{arguments!r}")

    def close(self) -> None:
        """Free the project."""
        self._library.EN_close(self._handle)
        self._library.EN_deleteproject(self._handle)

    def node(self, name: str) -> int:
        """Index of a node."""
        index = ctypes.c_int()
        self._call("EN_getnodeindex", name.encode(), ctypes.byref(index))
        return index.value

    def link(self, name: str) -> int:
        """Index of a link."""
        index = ctypes.c_int()
        self._call("EN_getlinkindex", name.encode(), ctypes.byref(index))
        return index.value

    def set_pattern(self, name: str, values: npt.NDArray[np.float64]) -> None:
        """Set a pattern's hourly multipliers, making the pattern when it is new."""
        index = ctypes.c_int()
        if self._library.EN_getpatternindex(self._handle, name.encode(), ctypes.byref(index)):
            self._call("EN_addpattern", name.encode())
            self._call("EN_getpatternindex", name.encode(), ctypes.byref(index))
        data = np.ascontiguousarray(values, dtype=np.float64)
        self._call(
            "EN_setpattern", index, data.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), ctypes.c_int(len(data))
        )

    def add_demand(self, node: str, base_m3_per_h: float, pattern: str) -> None:
        """One more demand at a node."""
        self._call(
            "EN_adddemand", ctypes.c_int(self.node(node)), ctypes.c_double(base_m3_per_h), pattern.encode(), b"extra"
        )

    def hours(self, count: int, *, accuracy: float) -> None:
        """Run `count` hours in hourly steps, patterns included."""
        for parameter, value in (
            (_PATTERN_STEP, 3600),
            (_HYDRAULIC_STEP, 3600),
            (_REPORT_STEP, 3600),
            (_DURATION, count * 3600),
        ):
            self._call("EN_settimeparam", ctypes.c_int(parameter), ctypes.c_long(value))
        self._call("EN_setoption", ctypes.c_int(_ACCURACY), ctypes.c_double(accuracy))

    def steps(self, read: Callable[[], Values]) -> Iterator[tuple[int, int, Values]]:
        """Solve step by step: (second at which a step starts, seconds it lasts, what `read` saw in it)."""
        at, step = ctypes.c_long(), ctypes.c_long(1)
        self._call("EN_openH")
        try:
            self._call("EN_initH", ctypes.c_int(0))
            while step.value > 0:
                self._call("EN_runH", ctypes.byref(at))
                # A step's length is known only once EPANET has moved on, so its values are read first.
                began, values = at.value, read()
                self._call("EN_nextH", ctypes.byref(step))
                yield began, step.value, values
        finally:
            self._library.EN_closeH(self._handle)

    def pressures(self, nodes: Sequence[int]) -> list[float]:
        """Pressure in metres at nodes given by index."""
        return [self._value("EN_getnodevalue", index, _PRESSURE) for index in nodes]

    def flows(self, links: Sequence[int]) -> list[float]:
        """Flow in m³/h through links given by index."""
        return [self._value("EN_getlinkvalue", index, _FLOW) for index in links]

    def level(self, tank: int) -> float:
        """Water level of a tank in metres above its floor."""
        return self._value("EN_getnodevalue", tank, _HEAD) - self._value("EN_getnodevalue", tank, _ELEVATION)

    def _value(self, call: str, index: int, what: int) -> float:
        value = ctypes.c_double()
        self._call(call, ctypes.c_int(index), ctypes.c_int(what), ctypes.byref(value))
        return value.value


@contextmanager
def opened(network: Path) -> Iterator[Project]:
    """A project that is closed, and its report file deleted, at the end."""
    with tempfile.TemporaryDirectory(prefix="curbstop-epanet-") as scratch:
        project = Project(network, Path(scratch))
        try:
            yield project
        finally:
            project.close()
