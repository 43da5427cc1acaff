"""Two people at one order at the same moment: real sessions on real connections, both starting at a barrier."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.db import Database
from hub.errors import Conflict, CurbstopError
from hub.models import Change, OutboundMessage, WorkOrder
from hub.work import orders
from tests import factories
from tests.hub.work.conftest import BY, Cast, people

ROUNDS = 60
READ = {"code": "stopped_meter"}
Act = Callable[[Session, UUID], Any]


def prepare(database: Database, state: str) -> tuple[Cast, list[UUID]]:
    """As many orders as there are rounds, all in `state`."""
    ids = []
    with database.transaction() as session:
        cast = people(session)
        for number in range(ROUNDS):
            point = factories.service_point(session, f"R{number}", zone="Z1")
            order = orders.open_order(
                session, type="reread", by=BY, service_point=point.id, source_id=cast.source_id
            ).order
            if state == "assigned":
                cast.assigned(order)
            elif state == "on_site":
                cast.on_site(order)
            ids.append(order.id)
    return cast, ids


def column(session: Session, ids: list[UUID], wanted: Any) -> dict[UUID, Any]:
    """One column of the orders, by order."""
    return {row[0]: row[1] for row in session.execute(select(WorkOrder.id, wanted).where(WorkOrder.id.in_(ids)))}


def race(database: Database, ids: list[UUID], *acts: Act) -> list[list[CurbstopError | None]]:
    """Every actor does its act to every order, one order after the other and all actors at once: what each was told."""
    barrier = Barrier(len(acts), timeout=60)

    def run(act: Act) -> list[CurbstopError | None]:
        told: list[CurbstopError | None] = []
        for order_id in ids:
            barrier.wait()
            try:
                with database.transaction() as session:
                    act(session, order_id)
                told.append(None)
            except CurbstopError as error:
                told.append(error)
            except BaseException:
                barrier.abort()
                raise
        return told

    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result() for future in [pool.submit(run, act) for act in acts]]


def test_two_dispatchers_give_one_order_to_two_crews(database: Database) -> None:
    cast, ids = prepare(database, "ready")
    north, south = cast.north.id, cast.south.id
    one, two = race(
        database,
        ids,
        lambda session, order_id: orders.assign(session, order_id, crew_id=north, by="user:a"),
        lambda session, order_id: orders.assign(session, order_id, crew_id=south, by="user:b"),
    )
    with database.transaction() as session:
        crews = column(session, ids, WorkOrder.crew_id)
        given = session.scalars(select(Change.order_id).where(Change.verb == "assigned")).all()
    for order_id, first, second in zip(ids, one, two, strict=True):
        losers = [error for error in (first, second) if error is not None]
        assert len(losers) == 1 and losers[0].status == 409
        assert crews[order_id] == (north if first is None else south)
        assert given.count(order_id) == 1


@pytest.mark.parametrize("state", ["assigned", "on_site"])
def test_a_crew_completes_while_a_dispatcher_cancels(database: Database, state: str) -> None:
    cast, ids = prepare(database, state)
    north = cast.north.id
    crew, desk = race(
        database,
        ids,
        lambda session, order_id: orders.complete(
            session, order_id, by="crew:North", answers=READ, crew_id=north, via="device"
        ),
        lambda session, order_id: orders.cancel(session, order_id, by="user:a", reason="not needed"),
    )
    assert all(error is None for error in crew), "what was done is never refused"
    with database.transaction() as session:
        states = column(session, ids, WorkOrder.status)
        ends = session.execute(
            select(OutboundMessage.order_id, OutboundMessage.type).where(
                OutboundMessage.type.in_(("work_order.completed", "work_order.cancelled"))
            )
        ).all()
    assert sorted((row[0], row[1]) for row in ends) == sorted((i, f"work_order.{s}") for i, s in states.items())
    for order_id, error in zip(ids, desk, strict=True):
        # the dispatcher loses with 409, or was first: then the order is gone, or the crew was asked and finished anyway
        assert isinstance(error, Conflict) or states[order_id] == "cancelled" or state == "on_site"
        if state == "on_site":
            assert states[order_id] == "completed"


def test_many_triggers_open_one_order(database: Database) -> None:
    with database.transaction() as session:
        people(session)
    how: list[str] = []

    def trigger(session: Session, _: UUID) -> None:
        how.append(orders.open_order(session, type="reread", by=BY, service_point="SP1").how)

    with database.transaction() as session:
        nobody = session.execute(select(func.gen_random_uuid())).scalar_one()
    race(database, [nobody] * 10, trigger, trigger, trigger, trigger)
    assert sorted(how) == ["joined"] * 39 + ["opened"]
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(WorkOrder)) == 1


def test_bulk_assignments_in_opposite_orders_do_not_wait_for_each_other(database: Database) -> None:
    cast, ids = prepare(database, "ready")
    some = ids[:30]

    def give(crew_id: UUID, items: list[UUID]) -> Act:
        return lambda session, _: orders.bulk_assign(session, [(i, None) for i in items], crew_id=crew_id, by=BY)

    race(database, ids[:5], give(cast.north.id, some), give(cast.south.id, some[::-1]))
    with database.transaction() as session:
        counted = session.scalar(select(func.count()).where(WorkOrder.id.in_(some), WorkOrder.status == "assigned"))
    assert counted == len(some)
