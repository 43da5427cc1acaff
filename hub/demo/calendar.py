"""The town's calendar: when its simulated past begins, when the visitor's story starts, where the simulation ends.

Pure. Hours are counted from `START`; the whole span lies in winter time, so an hour index and a local hour agree.
"""

from datetime import UTC, datetime, timedelta, timezone

TIME_ZONE = "Asia/Nicosia"
LOCAL = timezone(timedelta(hours=2), "EET")
START = datetime(2026, 1, 1, tzinfo=LOCAL)
STORY = datetime(2026, 3, 2, 7, 30, tzinfo=LOCAL)  # a Monday
END = datetime(2026, 3, 28, tzinfo=LOCAL)
HOURS = int((END - START).total_seconds() // 3600)
MONTHS = (START, datetime(2026, 2, 1, tzinfo=LOCAL), datetime(2026, 3, 1, tzinfo=LOCAL))


def hours_since_start(at: datetime) -> float:
    """Hours, with fraction, from `START` to an aware instant."""
    return (at - START).total_seconds() / 3600


def at_hour(hour: float) -> datetime:
    """The local instant `hour` hours after `START`."""
    return START + timedelta(hours=hour)


def utc_text(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as files and messages carry it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
