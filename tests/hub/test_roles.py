"""Who may do what: for every role, what it may call and what it is refused, over real HTTP."""

from uuid import uuid4

import pytest

from hub.models.people import ROLES
from tests import factories
from tests.conftest import Live

OFFICE = {"admin", "supervisor", "dispatcher"}
DESKS = OFFICE | {"billing", "analyst"}
NOBODY = str(uuid4())
MATCH = {"If-Match": '"1"'}
# (method, path, body, who may): whoever may not gets 403, whoever may gets anything but 401 and 403
NOBODY = "01900000-0000-7000-8000-000000000000"
RULES = [
    ("POST", f"/api/v1/work-orders/{NOBODY}/assign", {"crew": NOBODY}, OFFICE),
    ("POST", f"/api/v1/work-orders/{NOBODY}/hold", {"reason": "x"}, OFFICE),
    ("POST", f"/api/v1/work-orders/{NOBODY}/cancel", {"reason": "x"}, OFFICE),
    # administrators do no field work
    ("POST", f"/api/v1/work-orders/{NOBODY}/complete", {"answers": {"code": "x"}, "via": "radio"}, OFFICE - {"admin"}),
    ("POST", f"/api/v1/work-orders/{NOBODY}/unable", {"code": "x", "via": "radio"}, OFFICE - {"admin"}),
    # a clerk asks for work, and decides nothing about it
    ("POST", "/api/v1/work-orders", {"type": "reread", "service_point": "nowhere"}, OFFICE | {"billing"}),
    ("POST", "/api/v1/crews", {"name": "South"}, OFFICE),
    ("GET", "/api/v1/work-orders", None, set(ROLES)),
    ("GET", "/api/v1/accounts/nobody", None, DESKS),
    ("GET", "/api/v1/charges", None, DESKS),
    ("GET", "/api/v1/billing-events", None, OFFICE | {"billing"}),
    ("POST", f"/api/v1/billing-events/{NOBODY}/retry", None, {"admin", "supervisor", "billing"}),
    ("POST", f"/api/v1/outbound-messages/{NOBODY}/replay", None, {"admin", "supervisor", "billing"}),
    # an analyst reads, and writes nothing
    ("POST", "/api/v1/readings", {"readings": []}, OFFICE | {"billing"}),
    ("POST", "/api/v1/devices", {"device": "d", "meter": "m"}, OFFICE),
    ("POST", "/api/v1/quarantine/replay", {"reason": "x"}, OFFICE),
    ("POST", "/api/v1/quarantine/dismiss", {"reason": "x", "why": "y"}, OFFICE),
    ("POST", "/api/v1/quarantine/reopen", {"reason": "x"}, OFFICE),
    ("POST", f"/api/v1/quarantine/{NOBODY}/dismiss", {"why": "y"}, OFFICE),
    ("POST", "/api/v1/imports/zones", None, {"admin", "supervisor", "billing"}),
    ("GET", "/api/v1/import-runs", None, {"admin", "supervisor", "billing"}),
    ("GET", f"/api/v1/import-runs/{NOBODY}/faults", None, {"admin", "supervisor", "billing"}),
    ("GET", "/api/v1/zones", None, set(ROLES)),
    ("GET", "/mobile/v1/sync/changes", None, {"crew"}),
    ("POST", "/mobile/v1/sync/mutations", {"commands": []}, {"crew"}),
    ("GET", "/metrics", None, {"admin", "supervisor"}),
]


@pytest.fixture
def clients(live: Live) -> dict[str | None, object]:
    with live.database.transaction() as session:
        crew = factories.crew(session)
    return {role: live.client(role, crew_id=crew.id if role == "crew" else None) for role in (*ROLES, None)}


def test_every_role_may_what_it_should_and_nothing_else(clients: dict) -> None:
    wrong = []
    for method, path, body, allowed in RULES:
        for role, client in clients.items():
            status = client.request(method, path, json=body, headers=MATCH if method == "POST" else {}).status_code
            expected = 401 if role is None else None if role in allowed else 403
            if (expected is None and status in (401, 403)) or (expected is not None and status != expected):
                wrong.append((method, path, role, status))
            assert status < 500, (method, path, role)
    assert wrong == []
