"""Which of the town's valves crews have closed, and since when: what is closed uses no water, so its dial stands still.

The crews' process writes `valves.json` in the demo's folder as they turn valves; the meters' process reads it. Hours
count from the calendar's start.
"""

import json
from pathlib import Path

from hub.demo.settings import write_document

VALVES = "valves.json"

Span = tuple[float, float | None]


class Valves:
    """Stretches of closed water by meter serial, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: int | None = None
        self._spans: dict[str, list[Span]] = {}

    def turn(self, serial: str, closed: bool, hour: float) -> None:
        """A crew left the valve of this meter closed, or open, at that hour."""
        spans = self.closed().setdefault(serial, [])
        standing = bool(spans) and spans[-1][1] is None
        if closed and not standing:
            spans.append((hour, None))
        elif not closed and standing:
            spans[-1] = (spans[-1][0], hour)
        else:
            return
        write_document(self._path, self._spans)
        self._read_at = self._path.stat().st_mtime_ns

    def closed(self) -> dict[str, list[Span]]:
        """The stretches [from, to) of every meter; `to` None while it is still closed."""
        try:
            written = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._spans
        if written != self._read_at:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._spans = {serial: [(begin, end) for begin, end in spans] for serial, spans in found.items()}
            self._read_at = written
        return self._spans
