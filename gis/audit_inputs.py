"""Plain inputs of an audit, read by name with their faults named. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Any

from hub.errors import BadInput, storable_text

LARGEST = 1e15
# More terms than this are no audit, and each costs a simulation.
MOST_TERMS = 1000
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Inputs:
    """Plain inputs with their faults named, as they were written; remembers which were used.

    Names are read without regard to case. Raises BadInput where two names differ by that alone.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.names: dict[str, str] = {}
        for name in given:
            written = storable_text(str(name))[:80]
            if self.names.setdefault(written.lower(), written) != written:
                raise BadInput(f"`{written}` is given twice.", field=written, remedy="Keep one of the two.")
        self.given = {storable_text(str(name))[:80].lower(): value for name, value in given.items()}
        self.used: set[str] = set()

    def raw(self, name: str) -> Any:
        """The value as it was given; None for one that is missing or blank."""
        self.used.add(name)
        value = self.given.get(name)
        return None if isinstance(value, str) and not value.strip() else value

    def number(
        self, name: str, default: float | None = 0.0, *, low: float = 0.0, high: float = LARGEST, unit: str = ""
    ) -> float:
        """A finite number from `low` to `high`. Raises BadInput; `default` None makes it required."""
        value = self.raw(name)
        if value is None:
            if default is None:
                raise BadInput(f"`{name}` is missing.", field=name, remedy="Every audit of this method needs it.")
            return default
        return _number(self.written(name), value, low, high, unit)

    def optional(self, name: str, *, low: float = -LARGEST, high: float = LARGEST, unit: str = "") -> float | None:
        """A number, or None where it is blank."""
        value = self.raw(name)
        return None if value is None else _number(self.written(name), value, low, high, unit)

    def share(self, name: str) -> float | None:
        """A fraction between −1 and 1, both left out, or None where it is blank."""
        found = self.optional(name, low=-1, high=1, unit="a fraction: 2 % is 0.02")
        if found is not None and abs(found) == 1:
            raise self.refused(name, "lies between −1 and 1", "It is a fraction: write 2 % as 0.02.")
        return found

    def choice(self, name: str, default: str) -> str:
        """A word in lower case, `default` where it is blank. Raises BadInput for anything that is no text."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str | bool):
            raise self.refused(name, "is not a word", f"Write e.g. {default}.")
        return str(value).strip().lower()

    def pairs(self, name: str, *, low: float = -LARGEST) -> list[tuple[float, float]]:
        """A list of [value, value] pairs: the first at least `low`, the second at least 0."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
            raise self.refused(name, "is not a list of pairs", "Write [[1000, 0.02], …].")
        if len(value) > MOST_TERMS:
            raise self.refused(name, f"has more than {MOST_TERMS} pairs", "Add up what belongs together.")
        written = self.written(name)
        return [
            (
                _number(f"{written}[{place}][0]", first, low, LARGEST, ""),
                _number(f"{written}[{place}][1]", second, 0.0, LARGEST, ""),
            )
            for place, (first, second) in enumerate(value)
        ]

    def written(self, name: str) -> str:
        """A name as the inputs wrote it."""
        return self.names.get(name, name)

    def refused(self, name: str, why: str, remedy: str) -> BadInput:
        """The refusal of an input, with its value."""
        field = self.written(name)
        return BadInput(f"`{field}` {why}.", field=field, value=_shown(self.given.get(name)), remedy=remedy)

    def unused(self) -> list[str]:
        """The names that had no part in the result, as they were written."""
        return sorted(self.names[name] for name in self.given.keys() - self.used)


def _shown(value: Any) -> str:
    return storable_text(str(value))[:40]


def _number(name: str, value: Any, low: float, high: float, unit: str) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        # an integer beyond all floats is only too large
        number = float(value) if abs(value) <= LARGEST or isinstance(value, float) else math.inf
    elif isinstance(value, str) and len(value) <= 100 and _PLAIN.fullmatch(value.strip()):
        number = float(value)
    if math.isfinite(number) and low <= number <= high:
        return number
    bounds = f"from {low:g} to {high:g}" if low > -LARGEST else f"of at most {high:g} either way"
    raise BadInput(
        f"`{name}` is not a number {bounds}.",
        field=name,
        value=_shown(value),
        remedy=f"Write a plain decimal number{', ' + unit if unit else ''}.",
    )
