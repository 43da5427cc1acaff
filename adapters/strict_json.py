"""JSON read more strictly than the standard library reads it. Pure.

UTF-8 only, no duplicate keys (two readers could act on different ones), no NaN or Infinity, numbers with a point or an
exponent as Decimal, at most 64 levels deep. Escaped lone surrogates pass: whoever stores the text minds them.
"""

import json
from decimal import Decimal
from typing import Any

DEEPEST = 64


def parse(body: bytes) -> Any:
    """The value in `body`. Raises ValueError, whose text continues "the body is …", and nothing else."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start}).") from None
    try:
        value = json.loads(text, parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep.") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {str(error)[:200]}") from None
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Level by level, because a recursive walk would itself need the depth that it forbids."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} levels deep.")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"the number {text[:40]} is out of range") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {ascii(name)[:80]} is there twice")
            seen.add(name)
    return found
