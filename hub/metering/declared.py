"""Declared rules: one short TOML list, shipped or the utility's own of that name, read whole or not at all.

Reads files, writes nothing. Every mistake is told with rule, key and what was expected.
"""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from hub.errors import ConfigurationError

Rules = TypeVar("Rules", bound=BaseModel)


class InForce(Generic[Rules]):
    """The rules of one kind that are in force in this process; the shipped ones until a shell names a folder."""

    def __init__(self, what: str, check: Callable[[Path | None], tuple[Rules | None, list[str]]]) -> None:
        self._what, self._check = what, check
        self._rules: Rules | None = None

    def use(self, folder: Path | None = None) -> None:
        """Make the rules of `folder` (or the shipped ones) those of this process. Raises ConfigurationError."""
        found, mistakes = self._check(folder)
        if found is None or mistakes:
            raise ConfigurationError(f"The {self._what} cannot be used. " + "; ".join(mistakes))
        self._rules = found

    def rules(self) -> Rules:
        """The rules of this process."""
        if self._rules is None:
            self.use()
        assert self._rules is not None
        return self._rules


def read(model: type[Rules], shipped: Path, folder: Path | None) -> tuple[Rules | None, list[str]]:
    """(rules, mistakes) of the shipped file, or of the one of its name in `folder`."""
    name = shipped.name
    if folder is not None and not folder.is_dir():
        return None, [f"{folder}: expected a folder with {name}"]
    path = folder / name if folder is not None and (folder / name).is_file() else shipped
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))), []
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return None, [f"{name}: expected TOML in UTF-8: {error}"]
    except OSError as error:
        return None, [f"{name}: cannot be read: {error.strerror}"]
    except ValidationError as error:
        return None, [f"{name}: {explained(item)}" for item in error.errors()]


def doubled(names: Iterable[str]) -> list[str]:
    """Names that more than one rule bears, as mistakes."""
    listed = list(names)
    return [f"rule.{name}: expected once" for name in sorted({n for n in listed if listed.count(n) > 1})]


def explained(item: Any) -> str:
    """One mistake as a sentence: which key, what was expected, what was found."""
    key = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in item["loc"]) or "file"
    context = item.get("ctx") or {}
    if item["type"] == "missing":
        return f"{key}: expected a value, it is missing"
    if item["type"] == "extra_forbidden":
        return f"{key}: expected no such key; is it a typing mistake?"
    if item["type"] == "union_tag_invalid":
        return f"{key}: expected check to be {context['expected_tags']}, found {context['tag']!r}"
    message = str(context["error"]) if item["type"] == "value_error" else item["msg"].removeprefix("Input should be ")
    return f"{key}: expected {message}, found {str(item['input'])[:60]!r}"
