"""The books of the town's billing system: accounts, debts, invoice lines, messages sent and received.

One SQLite file, its own; nothing of the hub's. Every method is one transaction. What is owed to the hub is a row
written with the change that made it true (`outgoing`), sent later by another thread; what the hub sends is booked
once, keyed by its message id and its charge id.
"""

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from hub.demo.calendar import utc_text

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (
    number TEXT PRIMARY KEY, service_point TEXT NOT NULL, meter TEXT, name TEXT NOT NULL, phone TEXT, email TEXT,
    address TEXT, past_due TEXT NOT NULL DEFAULT '0.00', due_since TEXT, listed_at TEXT, paid_at TEXT,
    service TEXT NOT NULL DEFAULT 'on', active INTEGER NOT NULL DEFAULT 1, seq INTEGER NOT NULL DEFAULT 0,
    holds TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS account_owing ON account (listed_at);
CREATE TABLE IF NOT EXISTS plan (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS plan_due ON plan (done, at);
CREATE TABLE IF NOT EXISTS outgoing (
    id INTEGER PRIMARY KEY, message TEXT NOT NULL UNIQUE, account TEXT, type TEXT NOT NULL, body TEXT NOT NULL,
    at TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', answer TEXT, tries INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS outgoing_state ON outgoing (state, id);
CREATE TABLE IF NOT EXISTS received (
    message TEXT PRIMARY KEY, type TEXT NOT NULL, account TEXT, work_order TEXT, body TEXT NOT NULL, at TEXT NOT NULL,
    copies INTEGER NOT NULL DEFAULT 1, position INTEGER);
CREATE INDEX IF NOT EXISTS received_account ON received (account);
CREATE TABLE IF NOT EXISTS invoice_line (
    charge TEXT PRIMARY KEY, account TEXT, code TEXT NOT NULL, quantity TEXT NOT NULL, amount TEXT NOT NULL,
    currency TEXT NOT NULL, work_order TEXT, number TEXT, bill_to TEXT, reverses TEXT,
    invoice TEXT NOT NULL, at TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS invoice_line_account ON invoice_line (account);
"""


class UnknownAccount(Exception):
    """No account bears that number."""


class Ledger:
    """The billing system's database. Safe to use from several threads: one connection, one lock."""

    def __init__(self, path: Path, currency: str = "EUR") -> None:
        self.currency = currency
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + _SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Read rows."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(statement, values)]

    def value(self, statement: str, *values: Any) -> Any:
        """Read one value, None when there is no row."""
        with self._lock:
            row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def open_book(self, book: dict[str, Any]) -> None:
        """Take over accounts, debts and plan, once in the file's life."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM state WHERE key = 'opened'").fetchone():
                return
            connection.execute("INSERT INTO state VALUES ('opened', ?)", (book["currency"],))
            columns = ("account", "service_point", "meter", "name", "phone", "email", "address")
            connection.executemany(
                "INSERT INTO account (number, service_point, meter, name, phone, email, address) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [tuple(entry[name] for name in columns) for entry in book["accounts"]],
            )
            connection.executemany(
                "UPDATE account SET past_due = ?, due_since = ?, holds = ? WHERE number = ?",
                [(d["past_due"], d["due_since"], " ".join(d["holds"]), number) for number, d in book["debts"].items()],
            )
            connection.executemany(
                "INSERT INTO plan (at, type, data) VALUES (?, ?, ?)",
                [(entry["at"], entry["type"], json.dumps(entry["data"])) for entry in book["plan"]],
            )

    def account(self, number: str) -> dict[str, Any]:
        """One account. Raises UnknownAccount."""
        found = self.rows("SELECT * FROM account WHERE number = ?", number)
        if not found:
            raise UnknownAccount(number)
        return found[0]

    # --- towards the hub -------------------------------------------------------------------------------------------

    def _owe(
        self,
        connection: sqlite3.Connection,
        kind: str,
        at: datetime,
        data: dict[str, Any],
        *,
        message: str | None = None,
    ) -> None:
        """A message to the hub, in the caller's transaction; an account's messages are numbered without a gap."""
        account = data.get("account")
        if account is not None:
            connection.execute("UPDATE account SET seq = seq + 1 WHERE number = ?", (account,))
            row = connection.execute("SELECT seq FROM account WHERE number = ?", (account,)).fetchone()
            if row is not None:
                data = {**data, "seq": row[0]}
        body = json.dumps({"type": kind, "timestamp": utc_text(at), "data": data})
        connection.execute(
            "INSERT INTO outgoing (message, account, type, body, at) VALUES (?, ?, ?, ?, ?)",
            (message or f"ltown_{uuid.uuid4().hex}", account, kind, body, utc_text(at)),
        )

    def heartbeat(self, at: datetime) -> None:
        """Tell the hub that nothing it should know is being held back."""
        with self._transaction() as connection:
            self._owe(connection, "source.heartbeat", at, {"as_of": utc_text(at)})

    def play(self, now: datetime, most: int = 50) -> int:
        """Let the planned events up to `now` happen; the number that did."""
        due = self.rows("SELECT * FROM plan WHERE done = 0 AND at <= ? ORDER BY at, id LIMIT ?", utc_text(now), most)
        for entry in due:
            data = json.loads(entry["data"])
            if entry["type"] == "payment":
                self.pay(data["account"], datetime.fromisoformat(entry["at"]), plan_id=entry["id"])
                continue
            with self._transaction() as connection:
                connection.execute("UPDATE plan SET done = 1 WHERE id = ?", (entry["id"],))
                self._happen(connection, entry["type"], datetime.fromisoformat(entry["at"]), data)
        return len(due)

    def _happen(self, connection: sqlite3.Connection, kind: str, at: datetime, data: dict[str, Any]) -> None:
        number = data.get("account")
        if kind == "account.delinquent":
            row = connection.execute("SELECT past_due FROM account WHERE number = ?", (number,)).fetchone()
            if row is None or Decimal(row["past_due"]) <= 0:
                return
            data = {**data, "amount_due": row["past_due"]}
            connection.execute("UPDATE account SET listed_at = ? WHERE number = ?", (utc_text(at), number))
        elif kind == "account.opened":
            who = data["customer"]
            connection.execute(
                "INSERT OR IGNORE INTO account (number, service_point, name, phone, email, service) "
                "VALUES (?, ?, ?, ?, ?, 'opening')",
                (number, data["service_point"], who["name"], who["phone"], who["email"]),
            )
        elif kind == "account.closed":
            connection.execute("UPDATE account SET active = 0 WHERE number = ?", (number,))
        self._owe(connection, kind, at, data)

    def pay(self, number: str, at: datetime, *, amount: Decimal | None = None, plan_id: int | None = None) -> Decimal:
        """Book a payment (the whole debt unless `amount` says less) and tell the hub; returns what was paid.

        Nothing owed: nothing is booked, nothing sent. Raises UnknownAccount.
        """
        with self._transaction() as connection:
            if plan_id is not None:
                connection.execute("UPDATE plan SET done = 1 WHERE id = ?", (plan_id,))
            row = connection.execute("SELECT past_due FROM account WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise UnknownAccount(number)
            owed = Decimal(row["past_due"])
            paid = owed if amount is None else min(amount, owed)
            if paid <= 0:
                return Decimal(0)
            left = owed - paid
            connection.execute(
                "UPDATE account SET past_due = ?, paid_at = ? WHERE number = ?", (f"{left:.2f}", utc_text(at), number)
            )
            data = {
                "account": number,
                "payment": f"PAY-{uuid.uuid4().hex[:12]}",
                "amount": f"{paid:.2f}",
                "past_due": f"{left:.2f}",
                "to_restore": f"{left:.2f}",
                "balance": f"{left:.2f}",
                "paid_at": utc_text(at),
            }
            self._owe(connection, "account.payment_received", at, data)
            return paid

    def waiting(self, most: int = 20) -> list[dict[str, Any]]:
        """Messages still to be sent, oldest first."""
        return self.rows("SELECT * FROM outgoing WHERE state = 'waiting' ORDER BY id LIMIT ?", most)

    def answered(self, message: str, *, sent: bool, final: bool, answer: str) -> None:
        """Record how a try to send ended; what is not `final` is tried again."""
        state = "sent" if sent else "refused" if final else "waiting"
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outgoing SET state = ?, answer = ?, tries = tries + 1 WHERE message = ?",
                (state, answer[:300], message),
            )

    # --- from the hub ----------------------------------------------------------------------------------------------

    def receive(self, message: str, body: dict[str, Any], at: datetime) -> bool:
        """Book a verified message of the hub. False when it was here before: then only its copies are counted."""
        data = body.get("data") or {}
        kind = str(body.get("type"))
        with self._transaction() as connection:
            seen = connection.execute("UPDATE received SET copies = copies + 1 WHERE message = ?", (message,))
            if seen.rowcount:
                return False
            connection.execute(
                "INSERT INTO received (message, type, account, work_order, body, at, position) "
                "VALUES (?, ?, ?, ?, ?, ?, (SELECT coalesce(max(position), 0) + 1 FROM received))",
                (message, kind, data.get("account"), data.get("work_order"), json.dumps(body), utc_text(at)),
            )
            if kind in ("charge.created", "charge.reversed"):
                self._book_line(connection, message, data, at)
            elif kind in ("service.disconnected", "service.restored"):
                service = "off" if kind == "service.disconnected" else "on"
                connection.execute("UPDATE account SET service = ? WHERE number = ?", (service, data.get("account")))
            elif kind == "customer.claimed" and data.get("claim") == "medical":
                self._place_hold(connection, str(data.get("account")), "medical", at)
        return True

    def _book_line(self, connection: sqlite3.Connection, message: str, data: dict[str, Any], at: datetime) -> None:
        """One invoice line per charge; a second message about the same charge changes nothing."""
        account = data.get("account")
        invoice = f"INV-{at:%Y%m}-{account}"
        booked = connection.execute(
            "INSERT OR IGNORE INTO invoice_line (charge, account, code, quantity, amount, currency, work_order, "
            "number, bill_to, reverses, invoice, at, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(data.get("charge")),
                account,
                str(data.get("code")),
                str(data.get("quantity", "1")),
                str(data.get("amount", "0")),
                str(data.get("currency") or self.currency),
                data.get("work_order"),
                data.get("number"),
                data.get("bill_to"),
                data.get("reverses"),
                invoice,
                utc_text(at),
                message,
            ),
        )
        if booked.rowcount and account is not None:
            self._owe(
                connection, "charge.posted", at, {"account": account, "charge": data.get("charge"), "invoice": invoice}
            )

    def _place_hold(self, connection: sqlite3.Connection, number: str, hold: str, at: datetime) -> None:
        row = connection.execute("SELECT holds FROM account WHERE number = ?", (number,)).fetchone()
        if row is None or hold in row["holds"].split():
            return
        connection.execute(
            "UPDATE account SET holds = ? WHERE number = ?", (" ".join([*row["holds"].split(), hold]), number)
        )
        self._owe(connection, "account.hold_placed", at, {"account": number, "hold": hold})

    def balance(self, number: str, at: datetime) -> dict[str, Any]:
        """What the hub asks before a cut: `{account, past_due, as_of, holds, seq}`. Raises UnknownAccount."""
        account = self.account(number)
        return {
            "account": number,
            "past_due": account["past_due"],
            "as_of": utc_text(at),
            "holds": account["holds"].split(),
            "seq": account["seq"],
        }
