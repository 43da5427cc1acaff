"""Invented people, firms and street names for the simulated town. Any likeness is chance; phones are fictional ones.

Pure. Telephone numbers lie in the range 555-0100 … 555-0199 that North American numbering keeps for fiction.
"""

import tomllib
from pathlib import Path

import numpy as np

_WORDS: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "names.toml").read_text(encoding="utf-8"))


def street_names(count: int) -> list[str]:
    """Distinct names, the grandest first."""
    long, short = ("Avenue", "Street", "Road"), ("Lane", "Close", "Court")
    names = [f"{word} {long[i % 3]}" for i, word in enumerate(_WORDS["streets"])]
    names += [f"{word} {short[i % 3]}" for i, word in enumerate(_WORDS["streets"])]
    names += [f"Upper {name}" for name in names]
    return names[:count]


def person(random: np.random.Generator) -> str:
    """A first and a last name."""
    return f"{random.choice(_WORDS['first'])} {random.choice(_WORDS['last'])}"


def business(random: np.random.Generator) -> str:
    """A small firm."""
    return f"{random.choice(_WORDS['last'])} {random.choice(_WORDS['trades'])}"


def plant(number: int) -> str:
    """A large user."""
    plants = _WORDS["plants"]
    return f"L-Town {plants[number % len(plants)]}"


def phone(number: int) -> str:
    """The `number`-th fictional telephone number; distinct below 60,000."""
    area = 202 + (number // 100) % 600
    return f"+1{area}5550{100 + number % 100}"


def email(name: str, number: int) -> str:
    """An address in a domain that can never exist."""
    local = "".join(
        letter
        for letter in name.lower().replace(" ", ".")
        if letter.isascii() and letter in "abcdefghijklmnopqrstuvwxyz."
    )
    return f"{local}.{number}@l-town.example"
