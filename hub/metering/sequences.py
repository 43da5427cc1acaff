"""Counters of devices and gateways: which numbers are missing, which came late, when the counter began again. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

# A leap beyond this is a new counter, not lost messages.
MOST_MISSING = 10_000
# A number so little below the newest is an old message once more; further below, the counter began again.
OLD_NEWS = 16
# A gap younger than this may be messages that overtook each other; a gateway is asked for it so many times.
GRACE = timedelta(seconds=60)
MOST_ASKS = 5


def can_ask(gateway: str) -> bool:
    """Whether a publisher understands requests to send again: those of the hub's own JSON do."""
    return gateway.startswith("curbstop/v1/")


@dataclass(slots=True)
class Gap:
    """Numbers first..last that did not come, between the messages of `after_at` and `before_at`."""

    first: int
    last: int
    after_at: datetime | None
    before_at: datetime | None
    id: UUID | None = None
    closed: bool = False
    changed: bool = False


@dataclass(slots=True)
class Counter:
    """One counter as it is known: its newest number, the time of that, and the open gaps below it."""

    last: int | None = None
    at: datetime | None = None
    gaps: list[Gap] = field(default_factory=list)

    def take(self, number: int, at: datetime) -> None:
        """A message with `number`, of the time `at`, arrived."""
        if self.last is None or self.at is None:
            self.last, self.at = number, at
        elif number > self.last:
            if 0 < number - self.last - 1 <= MOST_MISSING:
                self.gaps.append(Gap(self.last + 1, number - 1, self.at, at, changed=True))
            self.last, self.at = number, max(at, self.at)
        elif not self._fill(number) and at > self.at and (number <= 1 or self.last - number > OLD_NEWS):
            self.last, self.at = number, at

    def _fill(self, number: int) -> bool:
        """Take a number that came late out of the gap it was missing from; whether there was one."""
        gap = next((one for one in self.gaps if not one.closed and one.first <= number <= one.last), None)
        if gap is None:
            return False
        gap.changed = True
        if gap.first == gap.last:
            gap.closed = True
        elif number == gap.first:
            gap.first += 1
        elif number == gap.last:
            gap.last -= 1
        else:
            self.gaps.append(Gap(number + 1, gap.last, gap.after_at, gap.before_at, changed=True))
            gap.last = number - 1
        return True
