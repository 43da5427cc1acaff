"""Business time: the clock that due dates, legal hours and meter readings are judged by.

In production it is real time. A demo or a drill moves it for every process at once through the one row of table
`clock` (a real instant, the business instant it stands for, and how many times faster time runs). Leases, retries,
tokens and signatures never use it. `set_clock` writes in the caller's transaction.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session


def now(session: Session) -> datetime:
    """Business time, aware, in UTC; the same instant throughout one transaction."""
    value: datetime = session.execute(text("SELECT business_now()")).scalar_one()
    return value


def set_clock(session: Session, *, business_at: datetime, rate: Decimal | float = 1) -> None:
    """From this moment business time is `business_at` and runs `rate` times as fast as real time."""
    session.execute(
        text(
            "INSERT INTO clock (id, real_at, business_at, rate) VALUES (1, clock_timestamp(), :business_at, :rate) "
            "ON CONFLICT (id) DO UPDATE SET real_at = excluded.real_at, business_at = excluded.business_at, "
            "rate = excluded.rate"
        ),
        {"business_at": business_at, "rate": Decimal(str(rate))},
    )
