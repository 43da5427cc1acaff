"""Plain inputs of an audit, read by name with their faults named. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from hub.errors import BadInput

LARGEST = 1e15


class Inputs:
    """Plain inputs with their faults named; remembers which were used."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {str(name).lower(): value for name, value in given.items()}
        self.names = {str(name).lower(): str(name) for name in given}
        self.used: set[str] = set()

    def raw(self, name: str) -> Any:
        self.used.add(name)
        value = self.given.get(name)
        return None if isinstance(value, str) and not value.strip() else value

    def number(self, name: str, default: float | None = 0.0, *, low: float = 0.0) -> float:
        """A finite number of at least `low`. Raises BadInput; `default` None makes it required."""
        value = self.raw(name)
        if value is None:
            if default is None:
                raise BadInput(f"`{name}` is missing.", field=name, remedy="Every audit of this method needs it.")
            return default
        return _number(name, value, low)

    def optional(self, name: str, *, low: float = -LARGEST) -> float | None:
        """A number, or None where it is blank."""
        value = self.raw(name)
        return None if value is None else _number(name, value, low)

    def pairs(self, name: str) -> list[tuple[float, float]]:
        """A list of [value, value] pairs."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
            raise BadInput(f"`{name}` is not a list of pairs.", field=name, remedy="Write [[volume, margin], …].")
        return [(_number(name, first, -LARGEST), _number(name, second, 0.0)) for first, second in value]

    def unused(self) -> list[str]:
        return sorted(self.names[name] for name in self.given.keys() - self.used)


def _number(name: str, value: Any, low: float) -> float:
    try:
        number = float(value) if not isinstance(value, bool | list | dict) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST or number < low:
        raise BadInput(
            f"`{name}` is not a number{' of at least ' + format(low, 'g') if low > -LARGEST else ''}.",
            field=name,
            value=str(value)[:40],
            remedy="Write a plain decimal number.",
        )
    return number
