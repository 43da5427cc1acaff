"""Whatever order messages arrive in, the facts and the open orders end up the same."""

import itertools
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from hub.models import AccountFact, Occupancy
from tests.hub.billing.conftest import NOW, Town, delinquent, event

# Stories as a billing system tells them, in its own order; each line of a story gets the next number.
STORIES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "paid": [("delinquent", {}), ("account.payment_received", {"past_due": "0.00"})],
    "part paid, then held": [
        ("delinquent", {}),
        ("account.payment_received", {"past_due": "70.00"}),
        ("account.hold_placed", {"hold": "medical"}),
    ],
    "paid and returned": [
        ("delinquent", {}),
        ("account.payment_received", {"past_due": "0.00"}),
        ("account.payment_reversed", {"past_due": "120.00"}),
    ],
    "wanted again": [
        ("delinquent", {"notices": []}),
        ("account.payment_received", {"past_due": "0.00"}),
        ("account.payment_reversed", {"past_due": "120.00"}),
        ("delinquent", {"amount": "140.00", "notices_attested_by": "J. Doe"}),
    ],
    "two holds, one lifted": [
        ("account.hold_placed", {"hold": "medical"}),
        ("delinquent", {}),
        ("account.hold_placed", {"hold": "dispute", "until": "2026-12-01"}),
        ("account.hold_lifted", {"hold": "medical"}),
    ],
    "cleared and moved out": [
        ("delinquent", {}),
        ("account.delinquency_cleared", {"reason": "pledge"}),
        ("account.closed", {"service_point": "SP1", "effective_date": "2026-11-16", "read_required": False}),
    ],
    "requested and cancelled": [
        ("service.requested", {"service_point": "SP1", "work_type": "reread", "reference": "R1"}),
        ("service.cancelled", {"reference": "R1"}),
        ("delinquent", {"reference": "C1"}),
        ("service.cancelled", {"reference": "C1"}),
    ],
    "requested again": [
        ("service.requested", {"service_point": "SP1", "work_type": "reread", "reference": "R1"}),
        ("service.cancelled", {"reference": "R1"}),
        ("service.requested", {"service_point": "SP1", "work_type": "reread", "reference": "R2"}),
        ("service.cancelled", {"reference": "R2"}),
        ("service.requested", {"service_point": "SP1", "work_type": "reread", "reference": "R3"}),
    ],
}


def bodies(story: list[tuple[str, dict[str, Any]]], *, numbered: bool) -> list[bytes]:
    """The messages of a story, ordered by number or by time alone."""
    made = []
    for n, (type, data) in enumerate(story, start=1):
        order: dict[str, Any] = {"seq": n} if numbered else {}
        stamp = {"at": NOW - timedelta(hours=len(story) - n), **order}
        made.append(delinquent(**stamp, **data) if type == "delinquent" else event(type, **stamp, **data))
    return made


def picture(town: Town) -> tuple[Any, ...]:
    """Everything that must not depend on the order of arrival."""
    facts = town.session.execute(
        select(AccountFact.fact, AccountFact.value, AccountFact.seq, AccountFact.at)
        .where(AccountFact.account == "A1")
        .order_by(AccountFact.fact)
    ).all()
    shown = [(f.fact, {k: v for k, v in f.value.items() if k != "cut_list"}, f.seq, f.at) for f in facts]
    stays = town.session.execute(select(Occupancy.since, Occupancy.until).where(Occupancy.account == "A1")).all()
    town.session.expire_all()
    open_orders = sorted(
        (o.type, o.status, o.reference or "", str(o.amount_due), sorted(r["code"] for r in o.reasons), o.earliest_at)
        for o in town.orders()
        if o.status not in ("cancelled",)
    )
    return shown, [tuple(stay) for stay in stays], open_orders


def told(town: Town, messages: list[bytes]) -> tuple[Any, ...]:
    """The picture after these messages, in a savepoint that is undone."""
    nested = town.session.begin_nested()
    for body in messages:
        assert town.send(body).status != "pending"
    seen = picture(town)
    nested.rollback()
    town.session.expire_all()
    return seen


@pytest.mark.parametrize("numbered", [True, False], ids=["by seq", "by time"])
@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_arrival_ends_the_same(town: Town, name: str, numbered: bool) -> None:
    story = bodies(STORIES[name], numbered=numbered)
    wanted = told(town, story)
    arrivals = list(itertools.permutations(story))
    if len(arrivals) > 5:
        arrivals = random.Random(name).sample(arrivals, 5)
    for arrival in arrivals:
        assert told(town, list(arrival)) == wanted


MESSAGES = st.one_of(
    st.builds(
        lambda amount, list_: ("delinquent", {"amount": f"{amount}.00", "notices_attested_by": list_}),
        st.integers(0, 300),
        st.sampled_from(["J. Doe", None]),
    ),
    st.builds(
        lambda left, restore: ("account.payment_received", {"past_due": f"{left}.00", "to_restore": f"{restore}.00"}),
        st.integers(0, 2).map(lambda n: n * 50),
        st.integers(0, 1).map(lambda n: n * 50),
    ),
    st.builds(lambda left: ("account.payment_reversed", {"past_due": f"{left}.00"}), st.integers(1, 300)),
    st.just(("account.delinquency_cleared", {"reason": "adjusted"})),
    st.builds(lambda kind: ("account.hold_placed", {"hold": kind}), st.sampled_from(["medical", "dispute", "odd"])),
    st.builds(lambda kind: ("account.hold_lifted", {"hold": kind}), st.sampled_from(["medical", "dispute", "odd"])),
    st.just(("account.notice_sent", {"channel": "mail", "sent_at": "2026-10-30"})),
)


@settings(
    max_examples=7,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=st.lists(MESSAGES, min_size=2, max_size=6), shuffle=st.randoms(use_true_random=False), gone=st.booleans())
def test_any_story_ends_the_same_however_it_arrives(
    town: Town, story: list[tuple[str, dict[str, Any]]], shuffle: random.Random, gone: bool
) -> None:
    messages = bodies(story, numbered=True)
    if gone:
        # the water is off for nonpayment already
        town.session.execute(
            text(
                "UPDATE place_fact SET state = 'closed', reason = 'nonpayment', account = 'A1', since = :since"
                " WHERE service_point = 'SP1' AND fact = 'valve'"
            ),
            {"since": NOW - timedelta(days=1)},
        )
    in_order = told(town, messages)
    arrival = list(messages)
    shuffle.shuffle(arrival)
    repeated = [*arrival, *arrival[:2]]
    assert told(town, arrival) == in_order
    assert told(town, repeated) == in_order
