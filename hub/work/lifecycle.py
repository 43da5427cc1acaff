"""The life cycle of a work order: one table of (state, event), the same for every work type.

Pure: writes nothing. `hub.work.orders` asks it before every step, `docs/life-cycle.md` is printed from it
(`python -m hub.work.lifecycle docs/life-cycle.md`), and the tests walk through all its pairs.
"""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hub.errors import IllegalTransition


class State(StrEnum):
    """Where an order is in its life."""

    HELD = "held"
    READY = "ready"
    ASSIGNED = "assigned"
    EN_ROUTE = "en_route"
    ON_SITE = "on_site"
    PAUSED = "paused"
    COMPLETED = "completed"
    UNABLE = "unable"
    CANCELLED = "cancelled"
    CLOSED = "closed"


class Event(StrEnum):
    """What can happen to an order."""

    HOLD = "hold"
    RELEASE = "release"
    ASSIGN = "assign"
    UNASSIGN = "unassign"
    ACKNOWLEDGE = "acknowledge"
    START_TRAVEL = "start_travel"
    ARRIVE = "arrive"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    CLAIM = "claim"
    UNABLE = "unable"
    CANCEL = "cancel"
    CANCEL_ACKNOWLEDGE = "cancel_acknowledge"
    LATE_REPORT = "late_report"
    REOPEN = "reopen"
    CLOSE = "close"


S, E = State, Event

MEANINGS: dict[State, str] = {
    S.HELD: "not now: the policy, a missing fact, a claim or a person says so; the order carries the reasons",
    S.READY: "may be given to a crew",
    S.ASSIGNED: "a crew has it and has not left; whether it was seen is a time on the order",
    S.EN_ROUTE: "the crew drives there",
    S.ON_SITE: "the crew is at the place",
    S.PAUSED: "work at the place is interrupted",
    S.COMPLETED: "done, with a completion code",
    S.UNABLE: "could not be done, with a code that says what happens next",
    S.CANCELLED: "no longer wanted",
    S.CLOSED: "finished, and billing has everything it is owed",
}
HAPPENINGS: dict[Event, str] = {
    E.HOLD: "a dispatcher, billing or the policy stops the order for now",
    E.RELEASE: "the reasons to hold it are gone",
    E.ASSIGN: "a dispatcher gives it to a crew",
    E.UNASSIGN: "a dispatcher takes it from a crew that has not left",
    E.ACKNOWLEDGE: "the crew says that it has seen the order",
    E.START_TRAVEL: "the crew leaves for the place",
    E.ARRIVE: "the crew is there",
    E.PAUSE: "the crew interrupts its work",
    E.RESUME: "the crew goes on",
    E.COMPLETE: "the work is done",
    E.CLAIM: "the customer claims at the door something that forbids the work",
    E.UNABLE: "the work cannot be done",
    E.CANCEL: "a dispatcher or billing no longer wants it",
    E.CANCEL_ACKNOWLEDGE: "the crew has understood that the order was taken back",
    E.LATE_REPORT: "a crew that no longer has the order reports work on it",
    E.REOPEN: "a finished order was not finished",
    E.CLOSE: "the last message owed to billing is delivered",
}

OPEN = (S.HELD, S.READY, S.ASSIGNED, S.EN_ROUTE, S.ON_SITE, S.PAUSED)
IN_HAND = (S.ASSIGNED, S.EN_ROUTE, S.ON_SITE, S.PAUSED)
ON_THE_ROAD = (S.EN_ROUTE, S.ON_SITE, S.PAUSED)
FINISHED = (S.COMPLETED, S.UNABLE, S.CANCELLED, S.CLOSED)


@dataclass(frozen=True)
class Step:
    """What one event does in one state.

    `to` is the next state. `asks_back`: the order stays with its crew and the flag `cancel_requested` goes up, to end
    in the state that the event alone would lead to. `answers_flag`: the step is the crew's answer to that flag, so
    with the flag up it leads to the state the flag names; `only_with_flag`: without a flag there is no such step.
    `by_exception`: the state stays, both sides are kept for the dispatcher.
    """

    to: State
    asks_back: bool = False
    answers_flag: bool = False
    only_with_flag: bool = False
    by_exception: bool = False


def _table() -> dict[tuple[State, Event], Step]:
    table: dict[tuple[State, Event], Step] = {
        (S.HELD, E.HOLD): Step(S.HELD),
        (S.READY, E.HOLD): Step(S.HELD),
        (S.ASSIGNED, E.HOLD): Step(S.HELD),
        (S.HELD, E.RELEASE): Step(S.READY),
        (S.READY, E.ASSIGN): Step(S.ASSIGNED),
        (S.ASSIGNED, E.UNASSIGN): Step(S.READY),
        (S.ASSIGNED, E.START_TRAVEL): Step(S.EN_ROUTE),
        (S.ASSIGNED, E.ARRIVE): Step(S.ON_SITE),
        (S.EN_ROUTE, E.ARRIVE): Step(S.ON_SITE),
        (S.ON_SITE, E.PAUSE): Step(S.PAUSED),
        (S.PAUSED, E.RESUME): Step(S.ON_SITE),
        (S.HELD, E.CANCEL): Step(S.CANCELLED),
        (S.READY, E.CANCEL): Step(S.CANCELLED),
        (S.ASSIGNED, E.CANCEL): Step(S.CANCELLED),
        # an order that a crew lost before it left: the answer only confirms that the crew knows
        (S.CANCELLED, E.CANCEL_ACKNOWLEDGE): Step(S.CANCELLED),
        (S.HELD, E.CANCEL_ACKNOWLEDGE): Step(S.HELD),
        (S.COMPLETED, E.REOPEN): Step(S.READY),
        (S.UNABLE, E.REOPEN): Step(S.READY),
        (S.COMPLETED, E.CLOSE): Step(S.CLOSED),
        (S.UNABLE, E.CLOSE): Step(S.CLOSED),
        (S.CANCELLED, E.CLOSE): Step(S.CLOSED),
    }
    for state in IN_HAND:
        table[state, E.ACKNOWLEDGE] = Step(state)
        # crews may report from `assigned` onward: what they did not tap is recorded as skipped
        table[state, E.COMPLETE] = Step(S.COMPLETED)
        table[state, E.CLAIM] = Step(S.HELD, answers_flag=True)
        table[state, E.UNABLE] = Step(S.UNABLE, answers_flag=True)
    for state in ON_THE_ROAD:
        table[state, E.HOLD] = Step(state, asks_back=True)
        table[state, E.CANCEL] = Step(state, asks_back=True)
        table[state, E.CANCEL_ACKNOWLEDGE] = Step(state, answers_flag=True, only_with_flag=True)
    for state in State:
        table[state, E.LATE_REPORT] = Step(state, by_exception=True)
    return table


TABLE: dict[tuple[State, Event], Step] = _table()


def step(state: State | str, event: Event | str, *, flag_ends: State | str | None = None) -> Step:
    """The step that `event` makes in `state`; `flag_ends` is where a raised `cancel_requested` ends, else None.

    Raises IllegalTransition, naming what could happen instead.
    """
    at, happened = State(state), Event(event)
    found = TABLE.get((at, happened))
    if found is None or (found.only_with_flag and flag_ends is None):
        possible = [str(e) for e in events_from(at) if flag_ends is not None or not TABLE[at, e].only_with_flag]
        raise IllegalTransition(
            f"An order that is {at} cannot take the step {happened}.",
            remedy=_REMEDIES.get((at, happened), f"Possible now: {', '.join(possible) or 'nothing'}."),
            state=str(at),
            event=str(happened),
            possible=possible,
        )
    if found.answers_flag and flag_ends is not None:
        return Step(State(flag_ends), answers_flag=True)
    return found


_REMEDIES: dict[tuple[State, Event], str] = {
    (S.ASSIGNED, E.ASSIGN): "Another crew has it: unassign it first.",
    (S.HELD, E.ASSIGN): "Release it first.",
    **{
        (
            state,
            E.UNASSIGN,
        ): "The crew has left: ask for the order back with hold or cancel, then record that the crew was told."
        for state in ON_THE_ROAD
    },
    **{(state, E.COMPLETE): "Assign it to the crew that did the work first." for state in (S.HELD, S.READY)},
}


def events_from(state: State) -> list[Event]:
    """Every event that has a step in `state`, reports by former crews left out."""
    return [event for event in Event if (state, event) in TABLE and event != E.LATE_REPORT]


def skipped(state: State, event: Event) -> list[str]:
    """The steps a crew did not tap before `event`: those that lead from `state` to the place."""
    if event in (E.COMPLETE, E.CLAIM, E.UNABLE):
        return {S.ASSIGNED: ["start_travel", "arrive"], S.EN_ROUTE: ["arrive"], S.PAUSED: ["resume"]}.get(state, [])
    if event == E.ARRIVE and state == S.ASSIGNED:
        return ["start_travel"]
    return []


def document() -> str:
    """The table as the Markdown page `docs/life-cycle.md`."""
    lines = [
        "# The life cycle of a work order",
        "",
        "Printed from the table in `hub/work/lifecycle.py` with `python -m hub.work.lifecycle docs/life-cycle.md`;",
        "a test compares the two. Every work type lives by this table; no type has states of its own.",
        "",
        "| state | meaning |",
        "|---|---|",
        *(f"| `{state}` | {meaning} |" for state, meaning in MEANINGS.items()),
        "",
        "| event | happens when |",
        "|---|---|",
        *(f"| `{event}` | {happening} |" for event, happening in HAPPENINGS.items()),
        "",
        "## Every pair",
        "",
        "A state name is the next state. `flag`: the crew is on the road, so `cancel_requested` goes up and the order",
        "ends `held` (after hold) or `cancelled` (after cancel) when the crew answers. A star marks such answers: with",
        "the flag up they lead where the flag says. `exception`: the state stays, both sides are kept. An empty cell",
        "is refused with 409 `illegal-transition`. Notes are taken in every state and change none.",
        "",
        f"| event | {' | '.join(f'`{state}`' for state in State)} |",
        "|---|" + "---|" * len(State),
    ]
    for event in Event:
        cells = [_cell(TABLE.get((state, event))) for state in State]
        lines.append(f"| `{event}` | {' | '.join(cells)} |")
    lines += [
        "",
        "Reopening takes a finished order back until billing has been told of its end; after that it opens a linked",
        "follow-up order instead. A shutoff passes the policy when it is opened, given out, driven to and reached, and",
        "is judged once more when it is completed; that last judgement is recorded and refuses nothing.",
        "",
    ]
    return "\n".join(lines)


def _cell(found: Step | None) -> str:
    if found is None:
        return ""
    if found.asks_back:
        return "flag"
    if found.by_exception:
        return "exception"
    if found.only_with_flag:
        return "as the flag says *"
    return f"{found.to} *" if found.answers_flag else str(found.to)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
