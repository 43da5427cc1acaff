"""Work of leakage: whole zones as targets, what follows what, the answers that feed the balance."""

import pytest
from sqlalchemy import select

from hub.errors import BadInput, NotFound
from hub.models import WorkOrder
from hub.work import orders
from tests.hub.work.conftest import BY, Cast

SURVEYED = {"code": "found", "surveyed_km": "1.5", "located_at": "2026-03-10T09:30:00-05:00"}
REPAIRED = {
    "code": "repaired",
    "locate_ticket": "T-1",
    "locate_valid_from": "2026-03-09T06:00:00Z",
    "pipe": "main",
    "flow_m3_h": "4.2",
    "stopped_at": "2026-03-10T10:00:00Z",
}


def survey(cast: Cast, **more: object) -> WorkOrder:
    return orders.open_order(cast.session, type="leak_survey", by="hub", zone="Z1", **more).order  # type: ignore[arg-type]


def test_a_zone_has_one_open_survey(cast: Cast) -> None:
    first = survey(cast, details={"evidence": {"size_m3h": 3}})
    again = orders.open_order(cast.session, type="leak_survey", by=BY, zone="Z1")
    assert (again.order.id, again.how) == (first.id, "joined")
    assert first.zone == "Z1" and first.service_point is None and first.position is not None
    orders.cancel(cast.session, first.id, by=BY, reason="done")
    assert survey(cast).id != first.id
    with pytest.raises(NotFound):
        orders.open_order(cast.session, type="leak_survey", by=BY, zone="Z9")


def test_a_leak_found_is_repaired_where_the_crew_stood(cast: Cast) -> None:
    order = survey(cast, details={"leak_event": "E1", "evidence": {"size_m3h": 3}})
    cast.on_site(order)
    orders.complete(
        cast.session, order.id, by="crew:North", answers=SURVEYED, crew_id=cast.north.id,
        position={"lon": 0.25, "lat": 0.75, "accuracy_m": 5},
    )  # fmt: skip
    repair = cast.session.scalars(select(WorkOrder).where(WorkOrder.follow_up_of == order.id)).one()
    assert (repair.type, repair.zone, repair.status, repair.service_point) == ("leak_repair", "Z1", "ready", None)
    assert repair.details["leak_event"] == "E1" and repair.details["found_by"] == order.number
    # two leaks of one zone are two repairs: positions do not join
    assert order.completion is not None and order.completion["answers"]["located_at"] == "2026-03-10T14:30:00+00:00"

    cast.assigned(repair)
    orders.complete(cast.session, repair.id, by="crew:North", answers=REPAIRED, crew_id=cast.north.id)
    assert cast.message(repair, "leak.confirmed")["side"] == "utility_side"
    assert cast.message(repair, "leak.confirmed")["found"]["flow_m3_h"] == "4.2"


def test_a_survey_without_a_position_leads_to_a_repair_in_its_zone(cast: Cast) -> None:
    order = cast.assigned(survey(cast))
    orders.complete(cast.session, order.id, by="crew:North", answers=SURVEYED, crew_id=cast.north.id)
    repair = cast.session.scalars(select(WorkOrder).where(WorkOrder.follow_up_of == order.id)).one()
    assert (repair.type, repair.zone) == ("leak_repair", "Z1")


def test_a_survey_that_could_not_be_done_is_tried_again(cast: Cast) -> None:
    order = cast.assigned(survey(cast))
    orders.unable(cast.session, order.id, by="crew:North", code="weather", crew_id=cast.north.id)
    again = cast.session.scalars(select(WorkOrder).where(WorkOrder.follow_up_of == order.id)).one()
    assert (again.type, again.zone, again.details["target"]) == ("leak_survey", "Z1", "zone")


@pytest.mark.parametrize("at", ["2026-02-30T10:00:00Z", "2026-03-10T10:00:00", "yesterday", "2026-03-10T25:00:00Z", 5])
def test_times_that_are_none_are_refused(cast: Cast, at: object) -> None:
    order = cast.assigned(survey(cast))
    with pytest.raises(BadInput) as refused:
        orders.complete(
            cast.session, order.id, by="crew:North", answers={**SURVEYED, "located_at": at}, crew_id=cast.north.id
        )
    assert refused.value.extra["field"] == "answers.located_at"
