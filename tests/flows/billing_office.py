"""A billing system for the stories: signs its events, receives ours over real HTTP, books each invoice line once."""

import base64
import hashlib
import hmac
import json
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import SECRET

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))


def signature(id: str, timestamp: str, body: bytes) -> str:
    """The Standard Webhooks signature, computed apart from the hub's own code."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()


class BillingOffice:
    """What the billing system sent and what it received. `moody` counts requests it first refuses with 503."""

    def __init__(self, name: str = "city") -> None:
        self.name = name
        self.hub = ""
        self.received: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.deliveries = 0
        self.forged = 0
        self.moody = 0
        self.seqs: dict[str, int] = {}
        self.lock = threading.Lock()
        self.http = httpx.Client(timeout=30)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/from-the-hub"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        office = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = office.take(self.headers["webhook-id"], self.headers, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler

    def take(self, id: str, headers: Any, body: bytes) -> int:
        """Verify, deduplicate by id, book; the HTTP status to answer with."""
        with self.lock:
            self.deliveries += 1
            expected = signature(id, headers["webhook-timestamp"], body)
            if expected not in headers["webhook-signature"].split(" "):
                self.forged += 1
                return 401
            if self.moody:
                self.moody -= 1
                return 503
            event = json.loads(body)
            if id in self.received:
                assert self.received[id] == event, "one id, two bodies"
            else:
                self.received[id] = event
                self.order.append(id)
            return 200

    def says(self, type: str, *, at: str, id: str | None = None, **data: Any) -> str:
        """Send an event about an account, numbered in the account's own sequence; the hub's id of it."""
        if "account" in data and "seq" not in data:
            data["seq"] = self.seqs[data["account"]] = self.seqs.get(data["account"], 0) + 1
        answer = self.post({"type": type, "timestamp": at, "data": data}, id=id or f"evt_{uuid4().hex}")
        assert answer.status_code in (200, 202), answer.text
        event_id: str = answer.json()["event_id"]
        return event_id

    def post(self, event: dict[str, Any], *, id: str) -> httpx.Response:
        """One signed webhook, tried again while the web is down, as real senders do."""
        body = json.dumps(event).encode()
        deadline = time.monotonic() + 900
        while True:
            stamp = str(int(time.time()))
            headers = {
                "content-type": "application/json",
                "webhook-id": id,
                "webhook-timestamp": stamp,
                "webhook-signature": signature(id, stamp, body),
            }
            try:
                answer = self.http.post(f"{self.hub}/webhooks/billing/{self.name}", content=body, headers=headers)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the hub takes no webhooks"
            time.sleep(0.1)

    def events(self, type: str, **wanted: Any) -> list[dict[str, Any]]:
        """The distinct events of a type received so far, in order of arrival, whose data has these values."""
        with self.lock:
            all_of_them = [self.received[id] for id in self.order]
        return [
            e["data"]
            for e in all_of_them
            if e["type"] == type and all(e["data"].get(k) == v for k, v in wanted.items())
        ]

    def invoice(self, account: str) -> Decimal:
        """What the account's invoice says: every line received, reversals included."""
        lines = self.events("charge.created", account=account) + self.events("charge.reversed", account=account)
        return sum((Decimal(line["amount"]) for line in lines), Decimal(0))

    def forget(self) -> None:
        """Empty books, for the next story."""
        with self.lock:
            self.received, self.order, self.seqs, self.deliveries, self.moody = {}, [], {}, 0, 0

    def close(self) -> None:
        """Stop receiving and sending."""
        self.http.close()
        self.server.shutdown()
        self.server.server_close()
