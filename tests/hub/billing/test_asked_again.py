"""The same work asked for again while the request before it is cancelled: either word may come first."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from hub.models import OutboundMessage, WorkOrder
from hub.work import orders
from tests.hub.billing.conftest import NOW, Town, event
from tests.hub.billing.test_steering import drive

R1 = {"reference": "R1"}
R2 = {"reference": "R2"}
REREAD = {"service_point": "SP1", "work_type": "reread"}


def words() -> dict[str, bytes]:
    """What billing says, one after the other: R1 is wanted, R1 is not wanted, R2 is wanted, R2 is not wanted."""
    said = [
        ("ask 1", "service.requested", REREAD | R1),
        ("cancel 1", "service.cancelled", R1),
        ("ask 2", "service.requested", REREAD | R2),
        ("cancel 2", "service.cancelled", R2),
    ]
    return {
        name: event(type, at=NOW - timedelta(hours=1) + timedelta(minutes=n), seq=n + 1, **data)  # type: ignore[arg-type]
        for n, (name, type, data) in enumerate(said)
    }


def heard(town: Town) -> list[tuple[str, str]]:
    """What billing was told of these references, in order: (event, reference)."""
    rows = town.session.scalars(select(OutboundMessage).order_by(OutboundMessage.seq)).all()
    return [(row.type.removeprefix("work_order."), row.body["data"]["reference"]) for row in rows]


def open_orders(town: Town) -> list[WorkOrder]:
    town.session.expire_all()
    return [order for order in town.orders("reread") if order.status != "cancelled"]


@pytest.mark.parametrize(
    ("arrival", "statuses"),
    [
        (("ask 1", "cancel 1", "ask 2"), ["applied", "applied", "applied"]),
        (("ask 1", "ask 2", "cancel 1"), ["applied", "joined", "applied"]),
    ],
)
@pytest.mark.parametrize("on_the_road", [False, True], ids=["waiting", "on the road"])
def test_the_second_request_lives_on_whichever_word_comes_first(
    town: Town, arrival: tuple[str, ...], statuses: list[str], on_the_road: bool
) -> None:
    said = words()
    first = town.send(said["ask 1"])
    if on_the_road:
        drive(town, town.one("reread"))
    rest = [town.send(said[name]) for name in arrival[1:]]
    (order,) = open_orders(town)
    assert order.reference == "R2"
    assert heard(town)[-2:] == [("cancelled", "R1"), ("opened", "R2")]
    assert [one for one in heard(town) if one[0] != "assigned"] == [
        ("opened", "R1"), ("cancelled", "R1"), ("opened", "R2"),
    ]  # fmt: skip
    if on_the_road:
        # the crew that is on its way goes on, and nothing asks it back any more
        assert (order.status, order.cancel_requested) == ("en_route", None)
        statuses = ["applied" if name != "ask 2" else "joined" for name in arrival]
    assert [first.status, *(one.status for one in rest)] == statuses

    town.send(said["cancel 2"])
    if on_the_road:
        (order,) = open_orders(town)
        assert order.cancel_requested is not None
        orders.cancel_acknowledge(town.session, order.id, by="crew:North")
    assert open_orders(town) == []
    assert heard(town)[-1] == ("cancelled", "R2")


def test_work_wanted_again_under_its_own_reference_goes_on(town: Town) -> None:
    said = words()
    town.send(said["ask 1"])
    drive(town, town.one("reread"))
    town.send(said["cancel 1"])
    assert town.one("reread").cancel_requested is not None
    town.send(event("service.requested", at=NOW, seq=5, **REREAD, **R1))  # type: ignore[arg-type]
    (order,) = open_orders(town)
    assert (order.status, order.cancel_requested, order.reference) == ("en_route", None, "R1")
    assert [one for one in heard(town) if one[0] != "assigned"] == [("opened", "R1")]


def test_a_request_overtaken_by_its_own_cancellation_leaves_the_first_alone(town: Town) -> None:
    said = words()
    for name, status in (("ask 1", "applied"), ("cancel 2", "applied"), ("ask 2", "superseded")):
        assert town.send(said[name]).status == status
    (order,) = open_orders(town)
    assert order.reference == "R1"
    assert town.send(said["cancel 1"]).status == "applied"
    assert open_orders(town) == []
