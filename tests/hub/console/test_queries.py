"""No page and no read behind it asks the database more often because there is more work."""

from datetime import timedelta

import httpx
from sqlalchemy import event, text

from hub import clock
from hub.work import orders
from tests import factories
from tests.conftest import Live

# Every third order is open and lies on the map; all belong to one account and one place, the worst case of their pages.
MANY = """
INSERT INTO work_order (id, number, type, purpose, type_snapshot, status, rev, priority, reasons, opened_at, opened_by,
  position, service_point, account, crew_id, zone, ended_at)
SELECT gen_random_uuid(), 'WO-2026-9' || lpad(n::text, 5, '0'), type, 'many ' || n, type_snapshot,
  CASE WHEN n % 3 = 0 THEN 'assigned' ELSE 'cancelled' END, 1, 3, '[]', opened_at, opened_by, position, service_point,
  account, :crew, zone, CASE WHEN n % 3 = 0 THEN NULL ELSE opened_at END
FROM work_order, generate_series(1, 2000) AS n WHERE number = :number
"""


def test_two_thousand_orders_cost_no_page_a_query_more(live: Live) -> None:
    with live.database.transaction() as session:
        factories.zone(session)
        factories.service_point(session, "SP1", zone="Z1")
        source = factories.source(session)
        factories.account(session, "A1", at="SP1", source_id=source.id)
        factories.meter(session, "M1")
        crew = factories.crew(session)
        due = clock.now(session) + timedelta(days=1)
        first = orders.open_order(session, type="reread", by="user:test", account="A1", due_by=due).order
        crew_id, number, ticket = crew.id, first.number, f"/orders/{first.id}/ticket"
    client = live.client("supervisor")
    paths = (
        "/",
        ticket,
        "/accounts/A1",
        "/places/SP1",
        "/zones",
        "/billing/events",
        "/billing/messages",
        "/console/work.geojson",
        "/console/load",
        "/console/frame",
        "/console/search?q=mill",
        "/api/v1/work-orders?limit=200",
        f"/api/v1/work-orders/{first.id}",
        "/api/v1/crews",
        "/api/v1/billing-events",
        "/api/v1/outbound-messages",
    )
    before = {path: _statements(live, client, path) for path in paths}
    with live.database.transaction() as session:
        session.execute(text(MANY), {"number": number, "crew": crew_id})
    assert {path: _statements(live, client, path) for path in paths} == before
    assert max(before.values()) <= 16, before


def _statements(live: Live, client: httpx.Client, path: str) -> int:
    said: list[str] = []

    def note(*executed: object) -> None:
        said.append(str(executed[2]))

    event.listen(live.database.engine, "before_cursor_execute", note)
    try:
        answer = client.get(path)
    finally:
        event.remove(live.database.engine, "before_cursor_execute", note)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return len(said)
