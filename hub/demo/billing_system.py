"""The town's billing system: a program of its own that knows the hub only by webhooks, in both directions.

Keeps its books in `Ledger` (its own SQLite file). A thread lets planned events happen and sends what is owed to the
hub, signed; the web server takes the hub's messages, verifies them, books invoice lines once, and shows it all.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hub.demo.businesstime import BusinessClock
from hub.demo.calendar import STORY
from hub.demo.ledger import Ledger, UnknownAccount
from hub.demo.webpages import page, prepare

HEARTBEAT_EVERY = timedelta(minutes=30)
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class BillingSettings:
    """Where the hub's door is, what both sides sign with, and links for the pages."""

    webhook_url: str
    secret: str
    clock: BusinessClock
    hub_url: str = ""
    guide_url: str = ""


class Sender:
    """Lets the plan happen and sends what is owed, oldest first, until stopped. Delivery is at least once."""

    def __init__(self, ledger: Ledger, settings: BillingSettings) -> None:
        self.ledger = ledger
        self.settings = settings
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self._last_heartbeat: datetime | None = None
        self._signer = Webhook(settings.secret)

    def run(self) -> None:
        """The thread's body."""
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self.stopping.is_set():
                now = self.settings.clock.now()
                if self._last_heartbeat is None or now - self._last_heartbeat >= HEARTBEAT_EVERY:
                    self.ledger.heartbeat(now)
                    self._last_heartbeat = now
                self.ledger.play(now)
                pause = self.send_all(client)
                self.wake.wait(pause)
                self.wake.clear()

    def send_all(self, client: httpx.Client) -> float:
        """Send everything that waits; returns the seconds to wait before the next look."""
        while waiting := self.ledger.waiting():
            for message in waiting:
                if self.stopping.is_set():
                    return 0.0
                if not self.send(client, message):
                    return 1.0
        return 0.25

    def send(self, client: httpx.Client, message: dict[str, Any]) -> bool:
        """One try. False when the hub could not take it now, so that order is kept and it is tried again."""
        body, at = message["body"], datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": message["message"],
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(message["message"], at, body),
        }
        try:
            answer = client.post(self.settings.webhook_url, content=body, headers=headers)
        except httpx.HTTPError as error:
            self.ledger.answered(message["message"], sent=False, final=False, answer=type(error).__name__)
            return False
        sent = answer.status_code in (200, 202)
        final = 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429)
        self.ledger.answered(
            message["message"], sent=sent, final=final, answer=f"{answer.status_code} {'' if sent else answer.text}"
        )
        return sent or final


def create_not_yet(hub_url: str, guide_url: str) -> FastAPI:
    """What answers while the town is being prepared: 503, and a page that tries again by itself."""
    app = FastAPI(title="L-Town Billing", docs_url=None, redoc_url=None, openapi_url=None)
    prepare(app)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    def not_yet(path: str) -> Response:
        answer = page("preparing.html", 503, hub_url=hub_url, guide_url=guide_url, now=STORY)
        answer.headers["Retry-After"] = "2"
        return answer

    return app


def create_app(ledger: Ledger, settings: BillingSettings, sender: Sender | None = None) -> FastAPI:
    """The billing system's web server."""
    app = FastAPI(title="L-Town Billing", docs_url=None, redoc_url=None, openapi_url=None)
    prepare(app)

    def show(name: str, status: int = 200, **values: Any) -> Response:
        links = {"hub_url": settings.hub_url, "guide_url": settings.guide_url}
        return page(name, status, **{**links, **values, "now": settings.clock.now()})

    def wake() -> None:
        if sender:
            sender.wake.set()

    _hub_routes(app, ledger, settings, wake)
    _payment_route(app, ledger, settings, wake, show)
    _page_routes(app, ledger, show)
    return app


def _hub_routes(app: FastAPI, ledger: Ledger, settings: BillingSettings, wake: Callable[[], None]) -> None:
    """What the hub calls: its messages come in, and it may ask for a balance."""
    verifier = Webhook(settings.secret)

    @app.post("/hooks")
    async def hooks(request: Request) -> Response:
        body = await request.body()
        if len(body) > _MOST_BYTES:
            return JSONResponse({"problem": "too large"}, 413)
        try:
            verifier.verify(body, dict(request.headers))
            document = json.loads(body)
        except (WebhookVerificationError, ValueError, KeyError):
            return JSONResponse({"problem": "bad signature"}, 401)
        if not isinstance(document, dict):
            return JSONResponse({"problem": "not a message"}, 422)
        ledger.receive(request.headers["webhook-id"], document, settings.clock.now())
        wake()
        return Response(status_code=204)

    @app.get("/balance")
    def balance(account: str) -> Response:
        try:
            return JSONResponse(ledger.balance(account, settings.clock.now()))
        except UnknownAccount:
            return JSONResponse({"problem": "unknown account"}, 404)

    app.get("/balance/{account}")(balance)


def _payment_route(
    app: FastAPI, ledger: Ledger, settings: BillingSettings, wake: Callable[[], None], show: Callable[..., Response]
) -> None:
    """The Pay button."""

    @app.post("/accounts/{number}/pay")
    def pay(number: str, back: Annotated[str, Form()] = "/") -> Response:
        try:
            paid = ledger.pay(number, settings.clock.now())
        except UnknownAccount:
            return show("missing.html", 404, number=number)
        wake()
        target = f"/accounts/{number}" if back == "account" else "/"
        return RedirectResponse(f"{target}?paid={number}" if paid else target, 303)


def _page_routes(app: FastAPI, ledger: Ledger, show: Callable[..., Response]) -> None:
    """What people see."""

    @app.get("/")
    def debts(paid: str = "") -> Response:
        values = {"debts": debtors(ledger), "totals": totals(ledger), "last": latest(ledger, 12)}
        return show("debts.html", paid=_name_of(ledger, paid), **values)

    @app.get("/invoices")
    def invoices() -> Response:
        return show("invoices.html", lines=invoice_lines(ledger), totals=totals(ledger))

    @app.get("/messages")
    def messages() -> Response:
        sent = ledger.rows("SELECT * FROM outgoing ORDER BY id DESC LIMIT 150")
        return show("messages.html", received=latest(ledger, 150), sent=sent, totals=totals(ledger))

    @app.get("/accounts/{number}")
    def account(number: str, paid: str = "") -> Response:
        try:
            found = ledger.account(number)
        except UnknownAccount:
            return show("missing.html", 404, number=number)
        received = ledger.rows("SELECT * FROM received WHERE account = ? ORDER BY position DESC", number)
        sent = ledger.rows("SELECT * FROM outgoing WHERE account = ? ORDER BY id DESC", number)
        lines = invoice_lines(ledger, number)
        return show("account.html", account=found, paid=bool(paid), lines=lines, received=received, sent=sent)

    @app.get("/state.json")
    def state() -> Response:
        return JSONResponse(totals(ledger))


def _name_of(ledger: Ledger, number: str) -> str:
    return str(ledger.value("SELECT name FROM account WHERE number = ?", number) or "") if number else ""


def debtors(ledger: Ledger) -> list[dict[str, Any]]:
    """Accounts on a cut list, owing first, then those that paid; each with what the hub said of it last."""
    return ledger.rows(
        "SELECT a.*, (SELECT type FROM received r WHERE r.account = a.number ORDER BY position DESC LIMIT 1) "
        "AS last_word FROM account a WHERE listed_at IS NOT NULL "
        "ORDER BY (CAST(past_due AS REAL) <= 0), listed_at DESC, name LIMIT 120"
    )


def latest(ledger: Ledger, count: int) -> list[dict[str, Any]]:
    """The hub's last messages, newest first."""
    return ledger.rows("SELECT * FROM received ORDER BY position DESC LIMIT ?", count)


def invoice_lines(ledger: Ledger, account: str | None = None) -> list[dict[str, Any]]:
    """Invoice lines, newest first, each with its account's name and how often its message came."""
    return ledger.rows(
        "SELECT l.*, a.name, r.copies FROM invoice_line l LEFT JOIN account a ON a.number = l.account "
        "LEFT JOIN received r ON r.message = l.message WHERE ? IS NULL OR l.account = ? "
        "ORDER BY r.position DESC LIMIT 400",
        account,
        account,
    )


def totals(ledger: Ledger) -> dict[str, Any]:
    """The figures at the top of the pages."""
    return {
        "owing": ledger.value(
            "SELECT count(*) FROM account WHERE listed_at IS NOT NULL AND CAST(past_due AS REAL) > 0"
        ),
        "owed": ledger.value(
            "SELECT coalesce(sum(CAST(past_due AS REAL)), 0) FROM account WHERE listed_at IS NOT NULL"
        ),
        "lines": ledger.value("SELECT count(*) FROM invoice_line"),
        "billed": ledger.value("SELECT coalesce(sum(CAST(amount AS REAL)), 0) FROM invoice_line"),
        "doubled_lines": ledger.value(
            "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM invoice_line "
            "WHERE reverses IS NULL GROUP BY work_order, code, bill_to HAVING count(*) > 1)"
        ),
        "messages": ledger.value("SELECT count(*) FROM received"),
        "repeats": ledger.value("SELECT coalesce(sum(copies - 1), 0) FROM received"),
        "waiting": ledger.value("SELECT count(*) FROM outgoing WHERE state = 'waiting'"),
        "sent": ledger.value("SELECT count(*) FROM outgoing WHERE state = 'sent'"),
        "refused": ledger.value("SELECT count(*) FROM outgoing WHERE state = 'refused'"),
        "currency": ledger.currency,
    }
