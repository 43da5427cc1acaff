"""Business time as the hub keeps it, computed from the same three numbers: no process of the demo needs to ask.

Pure but for reading the machine's clock.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class BusinessClock:
    """At the real instant `real_at` business time was `business_at`; since then it runs `rate` times as fast."""

    real_at: datetime
    business_at: datetime
    rate: float

    def now(self) -> datetime:
        """Business time, aware, in UTC."""
        return self.at(datetime.now(UTC))

    def at(self, real: datetime) -> datetime:
        """Business time at a real instant."""
        return (self.business_at + (real - self.real_at) * self.rate).astimezone(UTC)

    def text(self) -> str:
        """The three numbers as one word for an environment variable."""
        return f"{self.real_at.isoformat()}|{self.business_at.isoformat()}|{self.rate}"

    @classmethod
    def parse(cls, text: str) -> "BusinessClock":
        """The reverse of `text`. Raises ValueError."""
        real, business, rate = text.split("|")
        return cls(datetime.fromisoformat(real), datetime.fromisoformat(business), float(rate))


def pause(seconds: float) -> None:
    """Sleep in real time; a name tests can replace."""
    time.sleep(seconds)
