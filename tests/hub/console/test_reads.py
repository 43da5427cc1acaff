"""The console's own reads: what search finds for whom, orders as map points, the place at a click."""

import json

from sqlalchemy.orm import Session

from hub.auth import Principal
from hub.console import places, search, work
from hub.db import new_id
from hub.work import orders
from tests import factories


def town(session: Session) -> str:
    """One place with an account and a meter, and an order there; the order's number."""
    factories.zone(session)
    factories.service_point(session, "SP1", zone="Z1", address="5 Mill_Lane")
    source = factories.source(session)
    factories.account(session, "A100%", at="SP1", source_id=source.id, name="Ines Okafor")
    factories.meter(session, "M77", at="SP1")
    return orders.open_order(session, type="reread", by="user:t", service_point="SP1").order.number


def labels(session: Session, q: str, *, names: bool = True) -> list[str]:
    """What the search field shows."""
    return [found["label"] for found in search.find(session, q, names=names)]


def test_search_finds_each_kind(session: Session) -> None:
    number = town(session)
    assert labels(session, "okafor") == ["Ines Okafor"]
    assert labels(session, "A100%") == ["Ines Okafor"]
    assert labels(session, "mill_la") == ["5 Mill_Lane"]
    assert labels(session, "M77") == ["Meter M77"]
    assert labels(session, number) == [number]
    counted = number.rpartition("-")[2].lstrip("0")
    assert labels(session, counted.zfill(2)) == labels(session, f"wo-{counted}") == [number]
    assert labels(session, "m%l") == labels(session, "x") == labels(session, "\x00\ud800") == []


def test_search_tells_an_analyst_no_names(session: Session) -> None:
    number = town(session)
    assert labels(session, "okafor", names=False) == labels(session, number, names=False) == []
    assert labels(session, "M77", names=False) == ["Meter M77"]


def test_points_follow_the_filters_of_the_list(session: Session) -> None:
    number = town(session)

    def shown(role: str, **asked: str) -> bool:
        filters = work.filters_of(asked, Principal("user", new_id(), "p@example.org", role))
        found = json.loads(work.geojson(session, filters))["features"]
        return [one["properties"]["n"] for one in found] == [number]

    assert shown("dispatcher")
    assert shown("dispatcher", q="mill_", zone="Z1", type="reread,shutoff")
    assert not shown("dispatcher", status="held")
    assert not shown("dispatcher", zone="Z2\x00")
    # a clerk answers callers about any order
    assert shown("billing")


def test_a_click_finds_the_nearest_place_or_none(session: Session) -> None:
    town(session)
    near = places.nearest(session, factories.LON + 0.0005, factories.LAT)
    assert near == {"id": "SP1", "address": "5 Mill_Lane", "zone": "Z1", "account": "A100%"}
    assert places.nearest(session, factories.LON + 0.1, factories.LAT) is None


def test_box_and_names_of_the_network(session: Session) -> None:
    assert work.bounds(session) is None
    town(session)
    assert work.bounds(session) == [0.0, 0.0, 1.0, 1.0]
    assert [one["properties"]["code"] for one in work.zone_names(session)["features"]] == ["Z1"]
