"""The life-cycle table, all pairs of it, and the page printed from it."""

from itertools import product
from pathlib import Path

import pytest

from hub.errors import IllegalTransition
from hub.models.work import OPEN_STATES, STATES
from hub.work import lifecycle
from hub.work.lifecycle import FINISHED, IN_HAND, ON_THE_ROAD, OPEN, TABLE, Event, State

# Written down a second time, by hand and another way round: for each event, where it leads from where.
EXPECTED = """
hold:               held>held ready>held assigned>held en_route>flag on_site>flag paused>flag
release:            held>ready
assign:             ready>assigned
unassign:           assigned>ready
acknowledge:        assigned>assigned en_route>en_route on_site>on_site paused>paused
start_travel:       assigned>en_route
arrive:             assigned>on_site en_route>on_site
pause:              on_site>paused
resume:             paused>on_site
complete:           assigned>completed en_route>completed on_site>completed paused>completed
claim:              assigned>held en_route>held on_site>held paused>held
unable:             assigned>unable en_route>unable on_site>unable paused>unable
cancel:             held>cancelled ready>cancelled assigned>cancelled en_route>flag on_site>flag paused>flag
cancel_acknowledge: held>held cancelled>cancelled
reopen:             completed>ready unable>ready
close:              completed>closed unable>closed cancelled>closed
"""


def expected() -> dict[tuple[State, Event], str]:
    """(state, event) → where it leads, without a flag."""
    found = {}
    for line in EXPECTED.strip().splitlines():
        event, _, pairs = line.partition(":")
        for pair in pairs.split():
            state, _, to = pair.partition(">")
            found[State(state), Event(event.strip())] = to
    return found


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_is_as_written(state: State, event: Event) -> None:
    if event is Event.LATE_REPORT:
        step = lifecycle.step(state, event)
        assert step.by_exception and step.to is state
        return
    wanted = expected().get((state, event))
    if wanted is None:
        with pytest.raises(IllegalTransition) as refused:
            lifecycle.step(state, event)
        assert refused.value.status == 409 and refused.value.kind == "illegal-transition"
        assert refused.value.extra["remedy"]
        return
    step = lifecycle.step(state, event)
    assert (step.asks_back, step.to) == ((True, state) if wanted == "flag" else (False, State(wanted)))


@pytest.mark.parametrize(("state", "event", "ends"), list(product(ON_THE_ROAD, Event, (State.CANCELLED, State.HELD))))
def test_with_the_flag_up_answers_lead_where_it_says(state: State, event: Event, ends: State) -> None:
    answers = {Event.UNABLE, Event.CLAIM, Event.CANCEL_ACKNOWLEDGE}
    if event in answers:
        assert lifecycle.step(state, event, flag_ends=ends).to is ends
    elif (state, event) in TABLE:
        assert lifecycle.step(state, event, flag_ends=ends) == lifecycle.step(state, event)
    else:
        with pytest.raises(IllegalTransition):
            lifecycle.step(state, event, flag_ends=ends)


def test_the_states_are_those_of_the_table_of_orders() -> None:
    assert tuple(State) == STATES
    assert tuple(OPEN) == OPEN_STATES
    assert set(OPEN) | set(FINISHED) == set(State) and not set(OPEN) & set(FINISHED)
    assert set(ON_THE_ROAD) < set(IN_HAND) < set(OPEN)


def test_nothing_leads_out_of_closed_and_everything_leads_to_it() -> None:
    assert lifecycle.events_from(State.CLOSED) == []
    reached = {State.CLOSED}
    while True:
        more = {state for (state, _), step in TABLE.items() if step.to in reached or step.answers_flag} - reached
        if not more:
            break
        reached |= more
    assert reached == set(State)


def test_skipped_steps_are_those_that_lead_to_the_place() -> None:
    assert lifecycle.skipped(State.ASSIGNED, Event.COMPLETE) == ["start_travel", "arrive"]
    assert lifecycle.skipped(State.EN_ROUTE, Event.UNABLE) == ["arrive"]
    assert lifecycle.skipped(State.ASSIGNED, Event.ARRIVE) == ["start_travel"]
    assert lifecycle.skipped(State.ON_SITE, Event.COMPLETE) == []


def test_the_published_page_is_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "life-cycle.md"
    assert page.read_text(encoding="utf-8") == lifecycle.document(), (
        "print it again: python -m hub.work.lifecycle docs/life-cycle.md"
    )
