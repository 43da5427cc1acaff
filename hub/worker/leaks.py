"""Jobs of leakage: look at zones whose meters were heard, judge the last month, verify repairs.

One transaction per zone or repair, so that one that fails costs no other its turn.
"""

import structlog

from hub.db import Database
from hub.leakage import ledger, watch
from hub.settings import Settings

log = structlog.get_logger()


def watch_zones(database: Database, settings: Settings) -> None:
    """Look at every zone whose meters reported new hours."""
    with database.transaction() as session:
        due = watch.zones_due(session)
    for code in due:
        with database.transaction() as session:
            new = watch.look(session, code, settings)
            for event in new:
                log.info("leak seen", zone=code, kind=event.kind, size_m3h=float(event.size_m3h))


def judge_month(database: Database, settings: Settings) -> None:
    """Have zones surveyed that lost more than the threshold in the last whole month."""
    with database.transaction() as session:
        watch.judge_month(session, settings)


def verify_repairs(database: Database, settings: Settings) -> None:
    """Write what finished repairs saved, as far as the flow tells by now."""
    with database.transaction() as session:
        due = ledger.repairs_due(session)
    for repair in due:
        with database.transaction() as session:
            ledger.verify(session, repair, settings)
