"""Liveness, readiness with reasons, and figures for Prometheus. Reads only."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from psycopg.errors import DiskFull
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hub import migrations
from hub.auth import Principal
from hub.models import BillingEvent, OrderException, OutboundMessage, Quarantine, WorkOrder
from hub.models.work import OPEN_STATES
from hub.web import Json, Tx, allow, database_of, public

router = APIRouter(tags=["health"])
FEED_LAG_LIMIT_S = 60
# Sorting 2 MB in 64 kB of memory: the database must put most of it on its disk, and removes it at once. It costs
# some milliseconds and, unlike a table, leaves nothing behind.
_WRITES_TO_DISK = "SELECT md5(n::text) || repeat('-', 1000) FROM generate_series(1, 2000) n ORDER BY 1 OFFSET 2000"


@router.get("/healthz")
@public("a load balancer asks without a token; the answer says only that the process runs")
def healthz() -> dict[str, str]:
    """The process runs."""
    return {"status": "ok"}


@router.get("/readyz")
@public("an orchestrator asks without a token; the answer names parts, no data")
def readyz(request: Request) -> Response:
    """200 when the hub can do its work, 503 with the reasons when it cannot."""
    problems: list[str] = []
    detail: dict[str, Any] = {}
    try:
        with database_of(request).transaction() as session:
            present, newest = migrations.revision_in(session), migrations.head()
            if present != newest:
                problems.append("The schema is not up to date: run `curbstop migrate`.")
            lag = feed_lag_s(session)
            detail["change_feed_lag_s"] = lag
            if lag > FEED_LAG_LIMIT_S:
                problems.append(f"A long transaction delays the change feed by {lag:.0f} s.")
            # a full disk lets every question be answered and nothing be written
            session.execute(text("SET LOCAL work_mem = '64kB'"))
            session.execute(text(_WRITES_TO_DISK))
    except SQLAlchemyError as error:
        # a server that speaks another language says it by number, one that cannot even start says it in words
        full = isinstance(getattr(error, "orig", None), DiskFull) or "No space left on device" in str(error)
        problems.append("Storage full: free space on the database's disk." if full else "The database does not answer.")
    status = "ready" if not problems else "unready"
    return Json({"status": status, "reasons": problems, **detail}, status_code=200 if not problems else 503)


def feed_lag_s(session: Session) -> float:
    """How long, in seconds, the oldest writing transaction has kept later changes out of the feeds."""
    age = session.execute(
        text(
            "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
            "WHERE backend_xid IS NOT NULL AND datname = current_database()"
        )
    ).scalar_one()
    return round(float(age), 3)


@router.get("/metrics", response_class=Response)
def metrics(session: Tx, who: Principal = allow("admin", "supervisor")) -> Response:
    """Counts an operator watches, in Prometheus text format: queues, orders, quarantine."""
    registry = CollectorRegistry()

    def gauge(name: str, about: str, label: str, rows: Any) -> None:
        series = Gauge(name, about, [label], registry=registry)
        for value, count in rows:
            series.labels(value).set(count)

    counted = func.count()
    gauge(
        "curbstop_work_orders",
        "Open work orders by status",
        "status",
        session.execute(
            select(WorkOrder.status, counted).where(WorkOrder.status.in_(OPEN_STATES)).group_by(WorkOrder.status)
        ).all(),
    )
    gauge(
        "curbstop_billing_events",
        "Billing events that wait or are parked",
        "status",
        session.execute(
            select(BillingEvent.status, counted)
            .where(BillingEvent.status.in_(("pending", "parked")))
            .group_by(BillingEvent.status)
        ).all(),
    )
    gauge(
        "curbstop_outbound_messages",
        "Outbound messages not yet delivered",
        "status",
        session.execute(
            select(OutboundMessage.status, counted)
            .where(OutboundMessage.status != "delivered")
            .group_by(OutboundMessage.status)
        ).all(),
    )
    gauge(
        "curbstop_quarantine",
        "Readings kept in quarantine",
        "reason",
        session.execute(
            select(Quarantine.reason, counted).where(Quarantine.resolved_at.is_(None)).group_by(Quarantine.reason)
        ).all(),
    )
    open_exceptions = session.scalar(
        select(counted).select_from(OrderException).where(OrderException.resolved_at.is_(None))
    )
    Gauge("curbstop_exceptions", "Exceptions a person must look at", registry=registry).set(open_exceptions or 0)
    Gauge("curbstop_change_feed_lag_seconds", "Age of the oldest writing transaction", registry=registry).set(
        feed_lag_s(session)
    )
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
