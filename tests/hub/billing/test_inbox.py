"""Exactly one outcome per message: order of arrival, gaps, what is not known yet, failures, many workers."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from hub import accounts
from hub.billing import effects, inbox, sources
from hub.db import Database, new_id
from hub.errors import BadInput, Conflict, NotFound
from hub.models import BillingEvent, Change, OrderTrigger, WorkOrder
from hub.work import policy, shutoffs
from tests import factories
from tests.hub.billing.conftest import NOW, Town, delinquent, event, populated

LATER = NOW + timedelta(minutes=5)


def reasons(town: Town) -> list[str]:
    """Why the shutoff of A1 may not be cut now."""
    decision = policy.may_cut(town.session, account="A1", service_point="SP1", stage="start")
    return [reason.code for reason in decision.reasons]


# ------------------------------------------------------------------------------------------------ one outcome, in order


def test_every_outcome_is_in_the_change_log(town: Town) -> None:
    rows = [
        town.send(delinquent(seq=1)),
        town.send(delinquent(seq=1)),
        town.send(delinquent(seq=2)),
        town.send(event("meter.dance", seq=3)),
    ]
    assert [row.status for row in rows] == ["applied", "superseded", "joined", "parked"]
    # What cannot be understood is parked at the door, the rest by the worker.
    logged = town.session.execute(
        select(Change.subject_id, Change.verb).where(Change.subject_type == "billing_event").order_by(Change.cursor)
    ).all()
    assert [tuple(line) for line in logged] == [(str(row.id), row.status) for row in rows]


def test_same_business_key_again_is_superseded(town: Town) -> None:
    town.send(delinquent(seq=1))
    assert town.send(delinquent(seq=1)).status == "superseded"
    assert town.one().status == "ready"


def test_payment_before_the_delinquency_it_settles(town: Town) -> None:
    town.send(event("account.payment_received", seq=2, past_due="0.00"))
    assert town.send(delinquent(seq=1)).status == "superseded"
    assert town.orders() == []


def test_late_medical_hold_still_counts(town: Town) -> None:
    town.send(delinquent(seq=2), event("account.payment_received", seq=3, past_due="100.00"))
    assert town.send(event("account.hold_placed", seq=1, hold="medical")).status == "applied"
    assert [r["code"] for r in town.one().reasons] == ["hold_medical"]


def test_hold_before_the_delinquency(town: Town) -> None:
    town.send(event("account.hold_placed", seq=1, hold="medical"), delinquent(seq=2))
    assert (town.one().status, [r["code"] for r in town.one().reasons]) == ("held", ["hold_medical"])


def test_without_seq_the_timestamp_decides_and_a_tie_protects(town: Town) -> None:
    town.send(delinquent(at=NOW), event("account.payment_received", at=NOW, past_due="0.00"))
    assert town.one().status == "cancelled"
    town.send(event("account.payment_reversed", at=NOW, past_due="120.00"))
    facts = accounts.facts(town.session, "A1")
    assert facts is not None and facts.past_due == 0


# ----------------------------------------------------------------------------------------------------------- certainty


def test_a_gap_delays_nothing_and_blocks_cuts_of_that_account_only(town: Town) -> None:
    town.send(event("account.notice_sent", seq=5, channel="mail", sent_at="2026-10-30"))
    town.send(delinquent(seq=7))
    town.send(delinquent(account="A2", service_point="SP2", seq=1))
    assert {o.account: o.status for o in town.orders()} == {"A1": "held", "A2": "ready"}
    assert [r["code"] for r in town.orders()[0].reasons] == ["event_missing"]
    town.send(event("account.hold_lifted", seq=6, hold="medical"))
    assert {o.account: o.status for o in town.orders()} == {"A1": "ready", "A2": "ready"}


def test_a_number_below_the_first_one_opens_the_gap_between(town: Town) -> None:
    town.send(delinquent(seq=4))
    assert town.one().status == "ready"
    town.send(event("account.notice_sent", seq=2, channel="mail", sent_at="2026-10-30"))
    assert (town.one().status, reasons(town)) == ("held", ["event_missing"])


def test_a_parked_event_blocks_until_a_person_dismisses_it(town: Town) -> None:
    town.send(delinquent(seq=1))
    row = town.send(event("meter.dance", seq=2))
    assert row.status == "parked"
    assert row.reason == "There is no event type 'meter.dance'."
    assert reasons(town) == ["event_parked"]
    assert shutoffs.judge_due(town.session) == 1
    assert town.one().status == "held"
    assert inbox.retry(town.session, row.id, by="user:s").status == "pending"
    town.process()
    assert town.row(row.id).status == "parked"
    dismissed = inbox.dismiss(town.session, row.id, by="user:s", reason="not ours")
    assert (dismissed.status, dismissed.reason) == ("superseded", "Dismissed by user:s: not ours")
    assert (reasons(town), town.one().status) == ([], "ready")
    with pytest.raises(Conflict):
        inbox.retry(town.session, row.id, by="user:s")
    with pytest.raises(NotFound):
        inbox.dismiss(town.session, new_id(), by="user:s", reason="x")


def test_a_waiting_event_blocks_the_start_and_not_the_creation(town: Town) -> None:
    town.send(delinquent())
    inbox.receive(town.session, sender=town.sender, webhook_id="w", body=delinquent(at=LATER))
    assert reasons(town) == ["event_waiting"]
    town.process()
    assert reasons(town) == []


def test_a_silent_source_blocks(town: Town) -> None:
    town.send(delinquent())
    town.at(NOW + timedelta(hours=25))
    assert "source_silent" in reasons(town)


def test_a_timestamp_from_the_future_is_parked(town: Town) -> None:
    row = town.send(delinquent(at=NOW + timedelta(days=30)))
    assert (row.status, town.orders()) == ("parked", [])
    assert row.outcome is not None and row.outcome["code"] == "time_ahead"


# ---------------------------------------------------------------------------------------------------------- not known


def test_unknown_account_waits_until_an_event_makes_it_known(town: Town) -> None:
    factories.service_point(town.session, "SP3")
    row = town.send(delinquent(account="A3", service_point="SP3", seq=2))
    assert row.status == "parked"
    assert row.outcome is not None and row.outcome["waiting_for"] == {"account": "A3"}
    town.send(event("account.opened", account="A3", seq=1, service_point="SP3", effective_date="2026-01-01"))
    assert inbox.revive_known(town.session) == 1
    town.process()
    assert town.row(row.id).status == "applied"
    assert town.one().account == "A3"


def test_unknown_place_waits_until_an_import_makes_it_known(town: Town) -> None:
    body = event("account.opened", account="A3", service_point="SP9", effective_date="2026-11-16")
    row = town.send(body)
    assert row.outcome is not None and row.outcome["waiting_for"] == {"service_point": "SP9"}
    assert inbox.revive_known(town.session) == 0
    factories.service_point(town.session, "SP9")
    assert inbox.revive_known(town.session) == 1
    town.process()
    assert town.row(row.id).status == "applied"


def test_an_account_that_has_left_is_not_waited_for_in_circles(town: Town) -> None:
    town.send(event("account.closed", effective_date="2026-11-01", read_required=False))
    row = town.send(delinquent(service_point=None))
    assert (row.status, town.orders()) == ("applied", [])
    row = town.send(event("reading.disputed", account=None, meter="M-GONE"))
    assert row.outcome is not None and row.outcome["waiting_for"] == {"meter": "M-GONE"}
    factories.meter(town.session, "M-GONE", at="SP2")
    assert inbox.revive_known(town.session) == 1
    town.process()
    assert town.row(row.id).status == "applied"


def test_an_account_of_another_billing_system_is_out_of_reach(town: Town) -> None:
    other = factories.source(town.session, "district")
    row = Town(town.session, other.id, other.name).send(event("account.payment_received", past_due="0.00"))
    assert row.status == "parked"
    assert row.outcome is not None and row.outcome["code"] == "account_of_another"
    facts = accounts.facts(town.session, "A1")
    assert facts is not None and (facts.past_due, facts.parked) == (None, 0)


# ------------------------------------------------------------------------------------------------- failures and workers


def test_what_the_work_cannot_take_is_parked_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise BadInput("The appointment ends before it begins.")

    whole = effects.EFFECTS["service.requested"]
    monkeypatch.setitem(effects.EFFECTS, "service.requested", effects.Effect(whole.facts, whole.work, refuse))
    row = town.send(event("service.requested", service_point="SP1", work_type="reread"))
    assert (row.status, row.reason) == ("parked", "The appointment ends before it begins.")


def test_a_message_that_always_fails_is_parked_after_ten_tries(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_id = populated(database)
    keep(database, source_id, "w1", delinquent())
    keep(database, source_id, "w2", event("account.notice_sent", channel="mail", sent_at="2026-10-30"))

    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    whole = effects.EFFECTS["account.delinquent"]
    broken_effect = effects.Effect(whole.facts, whole.work, broken)
    monkeypatch.setitem(effects.EFFECTS, "account.delinquent", broken_effect)
    for _ in range(12):
        inbox.process_pending(database)
        with database.transaction() as session:
            session.execute(update(BillingEvent).values(next_attempt_at=func.clock_timestamp()))
    with database.transaction() as session:
        rows = {r.webhook_id: r for r in session.scalars(select(BillingEvent))}
        assert (rows["w1"].status, rows["w1"].attempts) == ("parked", 10)
        assert rows["w1"].reason == "Processing failed (RuntimeError)."
        assert rows["w2"].status == "applied"
    monkeypatch.setitem(effects.EFFECTS, "account.delinquent", whole)
    with database.transaction() as session:
        inbox.retry(session, rows["w1"].id, by="user:s")
    inbox.process_pending(database)
    with database.transaction() as session:
        assert session.scalars(select(WorkOrder.status)).all() == ["ready"]


def test_ten_workers_and_one_message_make_one_order(database: Database) -> None:
    source_id = populated(database)
    for round_ in range(5):
        at = NOW + timedelta(minutes=round_)
        keep(database, source_id, f"d{round_}", delinquent(at=at))
        in_parallel(10, lambda: inbox.process_one(database))
        drain(database)
        with database.transaction() as session:
            assert session.scalar(select(func.count()).select_from(WorkOrder)) == 1
    with database.transaction() as session:
        hows = session.scalars(select(OrderTrigger.how).order_by(OrderTrigger.at)).all()
        assert hows == ["opened", "joined", "joined", "joined", "joined"]


def test_many_accounts_and_many_workers_lose_and_double_nothing(database: Database) -> None:
    source_id = populated(database)
    numbers = [f"B{n}" for n in range(6)]
    with database.transaction() as session:
        for n, number in enumerate(numbers):
            factories.service_point(session, f"P{n}")
            factories.account(session, number, at=f"P{n}", source_id=source_id)
    for seq in (3, 1, 2):
        for n, number in enumerate(numbers):
            body = {
                1: delinquent(account=number, service_point=f"P{n}", seq=1, at=NOW),
                2: event("account.payment_received", account=number, seq=2, at=NOW, past_due="40.00"),
                3: event("account.hold_placed", account=number, seq=3, at=NOW, hold="dispute"),
            }[seq]
            keep(database, source_id, f"{number}-{seq}", body)
    in_parallel(4, lambda: inbox.process_pending(database))
    drain(database)
    with database.transaction() as session:
        assert set(session.scalars(select(BillingEvent.status))) == {"applied"}
        orders = session.execute(select(WorkOrder.account, WorkOrder.status, WorkOrder.amount_due)).all()
        assert sorted((a, s, str(m)) for a, s, m in orders) == [(n, "held", "40.00") for n in numbers]


def keep(database: Database, source_id: UUID, webhook_id: str, body: bytes) -> None:
    """A message, committed and waiting."""
    with database.transaction() as session:
        Town(session, source_id).keep(webhook_id, body)


def drain(database: Database) -> None:
    """Process until nothing is pending, failed tries included."""
    for _ in range(50):
        inbox.process_pending(database)
        with database.transaction() as session:
            session.execute(
                text("UPDATE billing_event SET next_attempt_at = clock_timestamp() WHERE status = 'pending'")
            )
            if not session.scalar(select(func.count()).where(BillingEvent.status == "pending")):
                return
    raise AssertionError("messages stay pending")


def in_parallel(count: int, work: Any) -> None:
    """Run `work` in threads that start together; the first error is raised."""
    barrier, errors = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# ------------------------------------------------------------------------------------------------------------- sources


def test_a_source_gets_a_secret_of_its_own(town: Town) -> None:
    source, made = sources.add(town.session, name="district", by="cli")
    assert made is not None and made.startswith("whsec_") and source.secrets == [made]
    kept, none_made = sources.add(town.session, name="county", secret=factories.SECRET, by="cli")
    assert (none_made, kept.secrets) == (None, [factories.SECRET])
    with pytest.raises(Conflict):
        sources.add(town.session, name="district", by="cli")
    details = town.session.scalars(select(Change.detail).where(Change.subject_type == "billing_source")).all()
    assert details and not any("secret" in detail or made in str(detail) for detail in details)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no spaces"},
        {"name": "x/y"},
        {"name": ""},
        {"name": "ok", "adapter": "tryton9"},
        {"name": "ok", "secret": "whsec_c2hvcnQ="},
        {"name": "ok", "endpoint": "http://169.254.169.254/x"},
        {"name": "ok", "balance_url": "ftp://billing.example.org"},
    ],
)
def test_a_source_that_cannot_work_is_refused(town: Town, wrong: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        sources.add(town.session, by="cli", **wrong)
