"""Invoice lines as arithmetic: tariffs, caps, rounding, reversals."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadInput
from hub.work import catalogue, charges
from hub.work.catalogue import Appointment, Completion, FormField, Tariff, WorkType

CAPS = st.one_of(st.none(), st.decimals("0.01", "500", places=2))
HOURS = st.decimals("0", "1000", places=3)
PRICES = st.decimals("0", "999", places=2)


def a_type(*tariff: Tariff) -> WorkType:
    """A work type with two number fields and these tariff lines."""
    return WorkType(
        type="digging",
        title="Digging",
        purpose="digging",
        trigger=[],
        priority=3,
        service_level_hours=24,
        duration_minutes=60,
        appointment=Appointment(offered=False),
        field=[
            FormField(name="hours", title="Hours", kind="number"),
            FormField(name="parts", title="Parts", kind="integer"),
        ],
        completion=[Completion(code="done", title="Done"), Completion(code="free", title="Free")],
        tariff=list(tariff),
    )


def line(**price: Decimal) -> Tariff:
    """A tariff line for code `done`."""
    field = {"per_hour": "hours", "per_field": "parts"}.get(next(iter(price)))
    return Tariff(code="x", title="X", when=["done"], field=field, cap="x", **price)


def test_the_shipped_tariffs() -> None:
    for type, code, amounts in (
        ("shutoff", "cut", ["35.00"]),
        ("shutoff", "already_off", []),
        ("reconnect", "restored", ["45.00"]),
        ("reread", "confirmed", ["25.00"]),
        ("reread", "corrected", []),
        ("move_in", "on", ["20.00"]),
        ("move_out", "read_left_on", []),
    ):
        found = charges.lines(catalogue.work_type(type), code, {})
        assert [str(one.amount) for one in found] == amounts, (type, code)


def test_free_work_and_unanswered_quantities_cost_nothing() -> None:
    kind = a_type(line(fixed=Decimal(10)), line(per_hour=Decimal(60)))
    assert charges.lines(kind, "done", {}, free=True) == []
    assert [one.amount for one in charges.lines(kind, "done", {})] == [Decimal("10.00")]
    assert charges.lines(kind, "free", {"hours": "3"}) == []


@given(price=PRICES, hours=HOURS, cap=CAPS)
def test_an_amount_is_price_times_quantity_in_cents_and_never_above_its_cap(
    price: Decimal, hours: Decimal, cap: Decimal | None
) -> None:
    caps = {} if cap is None else {"x": cap}
    found = charges.lines(a_type(line(per_hour=price)), "done", {"hours": str(hours)}, caps=caps)
    exact = price * hours
    for one in found:
        assert one.amount > 0 and one.amount == one.amount.quantize(Decimal("0.01"))
        assert cap is None or one.amount <= cap
        assert abs(one.amount - exact) <= Decimal("0.005") or one.amount == cap
    assert found or exact < Decimal("0.005")


@given(price=PRICES, parts=st.integers(0, 10_000), cap=CAPS)
def test_a_line_and_its_reversal_are_zero(price: Decimal, parts: int, cap: Decimal | None) -> None:
    caps = {} if cap is None else {"x": cap}
    for one in charges.lines(a_type(line(per_field=price)), "done", {"parts": parts}, caps=caps):
        quantity, amount = charges.reversal(one.quantity, one.amount)
        assert one.amount + amount == 0 and one.quantity + quantity == 0


def test_an_absurd_quantity_is_refused() -> None:
    with pytest.raises(BadInput):
        charges.lines(a_type(line(per_field=Decimal(999))), "done", {"parts": 10**9})
