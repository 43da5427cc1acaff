"""Invoice lines: what a completion or a vain trip costs, as a pure function of type, code and answers.

Pure: writes nothing. `hub.work.ending` stores the lines and owes them to billing in its own transaction. A line never
changes; a mistake is mended by a line of the opposite amount that names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hub.errors import BadInput
from hub.work.catalogue import Tariff, WorkType

CENT = Decimal("0.01")
_MOST = Decimal("99999999.99")


@dataclass(frozen=True)
class Line:
    """One invoice line; `amount` = `quantity` × unit price in `currency`, rounded to cents, never above its cap."""

    code: str
    title: str
    quantity: Decimal
    amount: Decimal
    currency: str
    bill_to: str


def lines(
    work_type: WorkType,
    code: str,
    answers: Mapping[str, Any],
    *,
    caps: Mapping[str, Decimal] | None = None,
    free: bool = False,
) -> list[Line]:
    """The lines that `code` and `answers` give under the tariff of `work_type`, in the order of its file.

    `caps` holds the policy's highest amounts by name, in the type's currency; `free` work costs nothing. A tariff
    whose quantity was not answered, or whose amount is zero, gives no line.
    """
    if free:
        return []
    found = (_line(work_type, tariff, answers, caps or {}) for tariff in work_type.tariff if code in tariff.when)
    return [line for line in found if line is not None]


def _line(work_type: WorkType, tariff: Tariff, answers: Mapping[str, Any], caps: Mapping[str, Decimal]) -> Line | None:
    quantity = Decimal(1) if tariff.field is None else decimal_answer(answers.get(tariff.field))
    price = next(p for p in (tariff.fixed, tariff.per_hour, tariff.per_field) if p is not None)
    amount = (quantity * price).quantize(CENT, ROUND_HALF_UP) if quantity <= _MOST else _MOST + 1
    if tariff.cap is not None and tariff.cap in caps:
        amount = min(amount, caps[tariff.cap])
    if amount > _MOST:
        raise BadInput(
            f"{tariff.title}: the amount is too large.",
            field=f"answers.{tariff.field}",
            value=str(quantity),
            remedy="Check the quantity.",
        )
    if amount <= 0:
        return None
    return Line(tariff.code, tariff.title, quantity, amount, work_type.currency, tariff.bill_to)


def decimal_answer(value: Any) -> Decimal:
    """A quantity from an answer that `hub.work.forms` has checked; nothing answered is zero."""
    return Decimal(0) if value is None else Decimal(str(value))


def reversal(quantity: Decimal, amount: Decimal) -> tuple[Decimal, Decimal]:
    """(quantity, amount) of the line that takes a line back: together they are zero."""
    return -quantity, -amount


def day_range(begins: date | None, ends: date | None, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """The instants at which the local days [begins, ends) of `zone` begin and end; an open end stays open.

    Raises BadInput for days beyond all invoices, whose midnight may be no instant at all.
    """
    for field, day in (("from", begins), ("to", ends)):
        if day is not None and not 1900 <= day.year < 2200:
            raise BadInput("There are no invoice lines of that time.", field=field, value=str(day))

    def midnight(day: date | None) -> datetime | None:
        return None if day is None else datetime.combine(day, time(), zone).astimezone(UTC)

    return midnight(begins), midnight(ends)
