"""Random walks of verbs against the life-cycle table: the database does what the table says, step by step."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.db import Database
from hub.errors import IllegalTransition
from hub.models import Change, Charge, OutboundMessage, WorkOrder
from hub.work import lifecycle, orders
from hub.work.lifecycle import Event, State
from tests.hub.work.conftest import BY, Cast, people

CREW = {
    Event.ACKNOWLEDGE: orders.acknowledge,
    Event.START_TRAVEL: orders.start_travel,
    Event.ARRIVE: orders.arrive,
    Event.PAUSE: orders.pause,
    Event.RESUME: orders.resume,
}


class Walk(RuleBasedStateMachine):
    """One shutoff, pushed around by dispatcher, billing and crew; `state` and `flag` are what the table predicts."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.database.engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)

    def teardown(self) -> None:
        """Forget everything."""
        self.session.close()
        self.outer.rollback()
        self.connection.close()

    @initialize(type=st.sampled_from(["shutoff", "reread"]))
    def open(self, type: str) -> None:
        """The order everything happens to."""
        self.cast: Cast = people(self.session)
        self.order: WorkOrder = self.cast.order(type)
        self.state, self.flag = State.READY, None
        self.was_with_north = False

    def expect(self, event: Event, act: Any, **arguments: Any) -> None:
        """Do it; it must end as the table says, or be refused and change nothing."""
        rev = self.order.rev
        try:
            step = lifecycle.step(self.state, event, flag_ends=self.flag)
        except IllegalTransition:
            try:
                act(self.session, self.order.id, **arguments)
            except IllegalTransition:
                assert self.order.rev == rev
                return
            raise AssertionError(f"{event} is not in the table for {self.state}") from None
        act(self.session, self.order.id, **arguments)
        assert self.order.rev == rev + 1
        if step.asks_back:
            ends = State.CANCELLED if event is Event.CANCEL or self.flag is State.CANCELLED else State.HELD
            self.flag = ends
        else:
            self.state = step.to
            if step.to not in lifecycle.ON_THE_ROAD:
                self.flag = None

    @rule()
    def assign(self) -> None:
        """To crew North."""
        self.expect(Event.ASSIGN, orders.assign, crew_id=self.cast.north.id, by=BY)
        self.was_with_north |= self.state is State.ASSIGNED

    @rule()
    def unassign(self) -> None:
        """Back from the crew."""
        self.expect(Event.UNASSIGN, orders.unassign, by=BY)

    @rule()
    def hold(self) -> None:
        """Wait."""
        self.expect(Event.HOLD, orders.hold, by=BY, reasons=[{"code": "by_hand", "text": "wait"}])

    @rule()
    def release(self) -> None:
        """Go on."""
        self.expect(Event.RELEASE, orders.release, by=BY)

    @rule(billing=st.booleans())
    def cancel(self, billing: bool) -> None:
        """No longer wanted, by hand or by billing."""
        verb = orders.withdraw if billing else orders.cancel
        self.expect(Event.CANCEL, verb, by=BY, reason="not needed")

    @rule(event=st.sampled_from(list(CREW)))
    @precondition(lambda self: self.state in lifecycle.IN_HAND)
    def drive(self, event: Event) -> None:
        """Something the crew taps on its way."""
        self.expect(event, CREW[event], by="crew:North", crew_id=self.cast.north.id)

    @rule()
    @precondition(lambda self: self.state in lifecycle.IN_HAND)
    def complete(self) -> None:
        """Done."""
        code = "already_off" if self.order.type == "shutoff" else "stopped_meter"
        self.expect(
            Event.COMPLETE, orders.complete, by="crew:North", answers={"code": code}, crew_id=self.cast.north.id
        )

    @rule()
    @precondition(lambda self: self.state in lifecycle.IN_HAND and self.order.type == "shutoff")
    def claim(self) -> None:
        """The customer says that it is paid."""
        code = {"code": "paid_at_door"}
        self.expect(Event.CLAIM, orders.complete, by="crew:North", answers=code, crew_id=self.cast.north.id)

    @rule()
    @precondition(lambda self: self.state in lifecycle.IN_HAND)
    def unable(self) -> None:
        """Could not be done, and somebody else decides what then."""
        self.expect(Event.UNABLE, orders.unable, by="crew:North", code="wrong_address", crew_id=self.cast.north.id)

    @rule()
    @precondition(lambda self: self.state in lifecycle.ON_THE_ROAD)
    def answer(self) -> None:
        """The crew answers the flag."""
        self.expect(Event.CANCEL_ACKNOWLEDGE, orders.cancel_acknowledge, by="crew:North", crew_id=self.cast.north.id)

    @rule()
    @precondition(lambda self: self.state not in lifecycle.IN_HAND and self.was_with_north)
    def late(self) -> None:
        """The crew that had it reports work all the same: nothing moves, nothing is lost."""
        before = (self.order.status, self.order.rev)
        code = {"code": "already_off" if self.order.type == "shutoff" else "stopped_meter"}
        orders.complete(self.session, self.order.id, by="crew:North", answers=code, crew_id=self.cast.north.id)
        assert (self.order.status, self.order.rev) == before and "late_report" in self.cast.exceptions()

    @rule()
    @precondition(lambda self: self.state in (State.COMPLETED, State.UNABLE, State.READY, State.ON_SITE))
    def reopen(self) -> None:
        """It was not finished after all."""
        self.expect(Event.REOPEN, orders.reopen, by=BY, reason="not finished")

    @rule()
    def note(self) -> None:
        """A remark moves nothing."""
        rev = self.order.rev
        orders.note(self.session, self.order.id, by=BY, text="hello")
        assert self.order.rev == rev

    @invariant()
    def the_row_is_as_predicted(self) -> None:
        """State, flag and crew of the stored row."""
        if not hasattr(self, "order"):
            return
        row = self.session.execute(
            select(WorkOrder.status, WorkOrder.crew_id, WorkOrder.cancel_requested, WorkOrder.reasons).where(
                WorkOrder.id == self.order.id
            )
        ).one()
        assert row.status == self.state
        assert (row.cancel_requested or {}).get("ends") == self.flag
        assert (row.crew_id is not None) == (self.state in (*lifecycle.IN_HAND, State.COMPLETED, State.UNABLE))
        assert bool(row.reasons) == (self.state in (State.HELD, State.CANCELLED))

    @invariant()
    def nothing_happens_in_silence(self) -> None:
        """Every revision has its line in the change log, every ending its message, no charge without a completion."""
        if not hasattr(self, "order"):
            return
        logged = set(self.session.scalars(select(Change.rev).where(Change.order_id == self.order.id)))
        assert set(range(1, self.order.rev + 1)) <= logged
        types = set(self.session.scalars(select(OutboundMessage.type)))
        assert "work_order.opened" in types
        if self.state in (State.COMPLETED, State.UNABLE, State.CANCELLED):
            assert f"work_order.{self.state}" in types
        assert not self.session.scalar(select(func.sum(Charge.amount)))


def test_verbs_follow_the_table(shared_database: Database) -> None:
    Walk.database = shared_database
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=12,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
