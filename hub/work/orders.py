"""Work orders, the door for everybody else: every verb of the life cycle under one name.

Each verb locks account, place and order, checks, changes, logs and owes its messages in the caller's transaction; the
modules named here do the work by subject.
"""

from hub.work.closing import close_settled
from hub.work.completion import complete, unable
from hub.work.dispatching import (
    ItemResult,
    acknowledge,
    arrive,
    assign,
    bulk_assign,
    had_by,
    note,
    pause,
    release,
    release_lapsed,
    reopen,
    resume,
    start_travel,
    unassign,
)
from hub.work.opening import Opened, follow_up, open_order, trigger
from hub.work.steps import CutRefused, lock
from hub.work.withdrawal import (
    cancel,
    cancel_acknowledge,
    confirm_told_by_radio,
    hold,
    unconfirmed,
    withdraw,
    withdraw_reference,
)

__all__ = [
    "CutRefused",
    "ItemResult",
    "Opened",
    "acknowledge",
    "arrive",
    "assign",
    "bulk_assign",
    "cancel",
    "cancel_acknowledge",
    "close_settled",
    "complete",
    "confirm_told_by_radio",
    "follow_up",
    "had_by",
    "hold",
    "lock",
    "note",
    "open_order",
    "pause",
    "release",
    "release_lapsed",
    "reopen",
    "resume",
    "start_travel",
    "trigger",
    "unable",
    "unassign",
    "unconfirmed",
    "withdraw",
    "withdraw_reference",
]
