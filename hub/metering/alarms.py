"""Alarm words of devices as episodes: when an alarm began, whether it lasts, is latched, or tells of the past. Pure.

An episode is `active` from the first live message that carries its word until one of the same form (with readings, or a
bare alarm) comes without it: then it is `cleared`. Words that a device repeats for weeks after the event are `latched`;
words about the past, and words of stored or late values, are `historic`. Only active episodes may open work.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

State = Literal["active", "cleared", "latched", "historic"]
Form = Literal["reading", "event", "derived"]

# Flags that are our judgement of a reading, not the device's word.
JUDGEMENTS = frozenset({"clock_ahead", "clock_behind", "beyond_dials", "edited"})
_HISTORY = "_history"
# R900 transmitters repeat BackFlow for 35 days after the event (docs/metering.md), however they are received.
LATCHING = {"rtlamr": {"backflow"}, "rtlamr2mqtt": {"backflow"}, "rtl433": {"backflow"}}


class Said(NamedTuple):
    """What one message said of a device's alarms at `at`; `words` empty: that there are none."""

    at: datetime
    form: Form
    words: tuple[str, ...]
    historic: bool
    latching: frozenset[str]
    raw_id: int | None


@dataclass(slots=True)
class Episode:
    """One alarm of one device; `id` None until it is stored."""

    type: str
    state: State
    form: Form
    since: datetime
    last_seen: datetime
    ended_at: datetime | None
    text: str
    raw_id: int | None
    id: UUID | None = None
    changed: bool = False

    def covers(self, at: datetime) -> bool:
        """Whether the episode already tells of `at`."""
        return self.since <= at and (self.ended_at is None or at <= self.ended_at)


def words_of(flags: Iterable[str]) -> tuple[str, ...]:
    """The device's own words among the flags of a reading."""
    return tuple(f for f in flags if not f.startswith(("q:", "vee:")) and f not in JUDGEMENTS)


def type_of(word: str) -> tuple[str, bool]:
    """(type, whether it tells of the past) of a word: `leak_history` is a leak that was. Unknown words are types."""
    slug = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:60] or "other"
    if slug.endswith(_HISTORY) and slug != _HISTORY:
        return slug.removesuffix(_HISTORY), True
    return slug, False


def follow(episodes: list[Episode], said: Said, newest: datetime | None) -> None:
    """Bring `episodes` (all of one device that go on or may cover `said.at`) up to date with what was said.

    `newest` is the time of the newest word of this form that was believed; anything older is history.
    """
    live = not said.historic and (newest is None or said.at >= newest)
    present: set[tuple[str, bool]] = set()
    for word in said.words:
        kind, past = type_of(word)
        if live:
            present.add((kind, past))
            _live(episodes, said, word, kind, past)
        else:
            _past(episodes, said, word, kind)
    if live:
        for one in episodes:
            if one.ended_at is None and one.form == said.form and (one.type, one.state == "historic") not in present:
                one.ended_at, one.changed = max(said.at, one.last_seen), True
                if one.state != "historic":
                    one.state = "cleared"


def _live(episodes: list[Episode], said: Said, word: str, kind: str, past: bool) -> None:
    ongoing = next(
        (one for one in episodes if one.ended_at is None and one.type == kind and (one.state == "historic") == past),
        None,
    )
    if ongoing is not None:
        ongoing.last_seen, ongoing.changed = max(ongoing.last_seen, said.at), True
        return
    state: State = "historic" if past else "latched" if kind in said.latching else "active"
    episodes.append(Episode(kind, state, said.form, said.at, said.at, None, word, said.raw_id, changed=True))


def _past(episodes: list[Episode], said: Said, word: str, kind: str) -> None:
    if not any(one.type == kind and one.covers(said.at) for one in episodes):
        episodes.append(
            Episode(kind, "historic", said.form, said.at, said.at, said.at, word, said.raw_id, changed=True)
        )


def merged(said: Collection[Said]) -> list[Said]:
    """What was said in order of time, words of the same instant and form together."""
    found: dict[tuple[datetime, str, bool], Said] = {}
    for one in sorted(said, key=lambda s: s.at):
        key = (one.at, one.form, one.historic)
        known = found.get(key)
        found[key] = one if known is None else replace_words(known, one)
    return list(found.values())


def replace_words(known: Said, more: Said) -> Said:
    """`known` with the words and latches of `more` added."""
    words = tuple(dict.fromkeys(known.words + more.words))
    return known._replace(words=words, latching=known.latching | more.latching)


def ended(episode: Episode, at: datetime) -> Episode:
    """The episode as a person ends it."""
    return replace(episode, state="cleared", ended_at=max(at, episode.last_seen), changed=True)
