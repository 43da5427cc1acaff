"""An event on its way to its effect, and what can become of it. Plain values; writes nothing."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from adapters.contracts import BillingEvent
from hub.accounts import Stamp


class Park(Exception):
    """The event cannot be applied now. `waiting_for` names what has to become known first, and then it is taken up."""

    def __init__(self, code: str, reason: str, waiting_for: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.waiting_for = code, reason, waiting_for or {}


@dataclass
class Outcome:
    """What became of an event: applied, superseded, joined or parked; `detail` lists facts, orders and volumes."""

    status: str
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass
class Arrival:
    """An event on its way to its effect. `neighbours` are other accounts with open work at its place."""

    event: BillingEvent
    event_id: UUID
    source_id: UUID
    source: str
    stamp: Stamp
    now: datetime
    neighbours: list[str] = field(default_factory=list)

    @property
    def by(self) -> str:
        """How the change log names the source."""
        return f"billing:{self.source}"

    @property
    def account(self) -> str:
        """The account; the adapter guarantees it for the types that are about one."""
        assert self.event.account is not None
        return self.event.account
