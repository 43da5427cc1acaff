"""When a failed delivery is tried again. Pure."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds between one try and the next; after the last of them the message is parked (75.6 hours in all).
DELAYS = (5, 30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
TRIES = 1 + len(DELAYS)
JITTER = 0.2
LONGEST_RETRY_AFTER = 86_400.0
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


def next_delay(tries: int, *, retry_after: float | None, chance: float) -> float | None:
    """Seconds until the next try after `tries` failed ones; None when the schedule is used up.

    `chance` in [0, 1) spreads the delay over ±20 %, so that receivers that failed together are not asked together.
    The other side's `retry_after` (seconds) can only make it later.
    """
    if tries >= TRIES:
        return None
    delay = DELAYS[max(tries, 1) - 1] * (1 - JITTER + 2 * JITTER * chance)
    return max(delay, retry_after or 0.0)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """The `Retry-After` header (RFC 9110, 10.2.3: seconds or an HTTP date) in seconds, at most a day; None without."""
    if header is None:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER)
