"""The canonical billing message: strict JSON `{"type", "timestamp", "data"}`, or the same as a CloudEvent.

Pure: bytes in, `BillingEvent` out, or `MalformedEvent`. CloudEvents 1.0.2 are taken in structured mode only; in binary
mode type and time travel in headers, which a Standard Webhooks signature does not cover.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from math import nan
from typing import Any

from adapters import strict_json
from adapters.billing.fields import INSTANT, UNPRINTABLE, Fields, shown_value
from adapters.contracts import (
    AccountClosed,
    AccountOpened,
    BillingEvent,
    ChargeAnswer,
    ConsumptionBilled,
    Contact,
    CutList,
    DelinquencyCleared,
    Delinquent,
    EventData,
    ExchangeDue,
    Heading,
    Heartbeat,
    HoldLifted,
    HoldPlaced,
    MalformedEvent,
    Notice,
    NoticeSent,
    Payment,
    PaymentReversed,
    ReadingDoubted,
    ServiceCancelled,
    ServiceRequested,
)

_CE_ATTRIBUTE = re.compile(r"[a-z0-9]+", re.ASCII)
_CE_KNOWN = {"data_base64"}  # every other name of the specification is an attribute name like any


def read(body: bytes) -> BillingEvent:
    """The event in `body`. Raises MalformedEvent (see there for its reasons); nothing else, whatever the bytes."""
    document = _json_of(body)
    if not isinstance(document, dict):
        raise MalformedEvent("not_an_event", "The body is JSON, but no object with type, timestamp and data.")
    if "specversion" in document:
        document = _opened_envelope(document)
    heading = heading_of(document)
    fields = Fields(document, "", heading)
    kind = fields.identifier("type")
    at = fields.instant("timestamp")
    data = fields.inside("data")
    if kind not in READERS:
        raise MalformedEvent("unknown_type", f"There is no event type {shown_value(kind)}.", heading)
    account = data.optional_identifier("account")
    if account is None and kind not in WITHOUT_ACCOUNT:
        raise data.missing("account")
    return BillingEvent(
        type=kind,
        at=at,
        account=account,
        seq=data.optional_count("seq"),
        reference=data.optional_identifier("reference"),
        data=READERS[kind](data, at),
    )


def _json_of(body: bytes) -> Any:
    try:
        return strict_json.parse(body)
    except ValueError as error:
        raise MalformedEvent("not_json", f"The body is {error}") from None


def heading_of(document: Mapping[str, Any]) -> Heading:
    """What a broken message still tells: each part that is well formed, None for the others."""
    data = document.get("data")
    inner: Mapping[str, Any] = data if isinstance(data, dict) else {}
    outer, nested = Fields(document, "", Heading()), Fields(inner, "data.", Heading())

    def attempt(reader: Callable[[str], Any], name: str) -> Any:
        try:
            return reader(name)
        except MalformedEvent:
            return None

    return Heading(
        type=attempt(outer.optional_identifier, "type"),
        account=attempt(nested.optional_identifier, "account"),
        seq=attempt(nested.optional_count, "seq"),
        at=attempt(outer.optional_instant, "timestamp"),
    )


def _opened_envelope(document: dict[str, Any]) -> dict[str, Any]:
    """A structured CloudEvent as our own document. Raises MalformedEvent `bad_envelope`."""

    def bad(detail: str) -> MalformedEvent:
        return MalformedEvent("bad_envelope", f"Not a CloudEvent 1.0: {detail}")

    if document["specversion"] != "1.0":
        raise bad(f"specversion is {shown_value(document['specversion'])}, not '1.0'.")
    for name in ("id", "source", "type"):
        value = document.get(name)
        if not isinstance(value, str) or not value or UNPRINTABLE.search(value):
            raise bad(f"{name} must be a text that is not empty.")
    for name in document:
        if name not in _CE_KNOWN and not _CE_ATTRIBUTE.fullmatch(name):
            raise bad(f"the attribute name {shown_value(name)} is not made of lower-case letters and digits.")
    if "time" in document and (not isinstance(document["time"], str) or not INSTANT.fullmatch(document["time"])):
        raise bad("time must be an RFC 3339 timestamp.")
    if "data" in document and "data_base64" in document:
        raise bad("data and data_base64 exclude each other.")
    data = document.get("data")
    if "data_base64" in document:
        try:
            data = _json_of(base64.b64decode(document["data_base64"], validate=True))
        except (TypeError, ValueError) as error:
            raise bad(f"data_base64 is not base64 of JSON: {str(error)[:120]}") from None
    opened = {"type": document["type"], "data": data}
    return opened | ({"timestamp": document["time"]} if "time" in document else {})


def _opened(f: Fields, at: datetime) -> AccountOpened:
    who = f.optional_inside("customer") or Fields({}, "", f.heading)
    contact = Contact(*(who.optional_text(name) for name in ("name", "phone", "email", "language")))
    return AccountOpened(
        f.identifier("service_point"),
        f.day("effective_date"),
        contact,
        f.optional_span("appointment"),
        f.optional_truth("read_required", True),
    )


def _closed(f: Fields, at: datetime) -> AccountClosed:
    return AccountClosed(
        f.optional_identifier("service_point"),
        f.day("effective_date"),
        f.optional_span("appointment"),
        f.optional_truth("read_required", True),
    )


def _delinquent(f: Fields, at: datetime) -> Delinquent:
    amount, stage = f.optional_money("amount_due"), f.identifier("stage")
    if amount is None:
        raise f.missing("amount_due")
    if stage not in ("notice", "cut"):
        raise f.bad("stage", "notice or cut")
    return Delinquent(
        f.optional_identifier("service_point"),
        amount,
        f.optional_identifier("currency"),
        f.optional_day("due_since"),
        stage,
        _cut_list(f),
        tuple(_notice(item) for item in f.items("notices")),
        f.optional_text("notices_attested_by"),
    )


def _cut_list(f: Fields) -> CutList | None:
    if not isinstance(f.values.get("cut_list"), dict):
        name = f.optional_identifier("cut_list")
        return None if name is None else CutList(name)
    inside = f.inside("cut_list")
    return CutList(inside.identifier("id"), inside.optional_instant("sent_at"))


def _notice(f: Fields) -> Notice:
    return Notice(f.identifier("channel"), f.moment("sent_at"))


def _payment(f: Fields, at: datetime) -> Payment:
    payment = Payment(
        f.optional_identifier("payment"),
        f.optional_money("amount"),
        f.optional_money("past_due"),
        f.optional_money("to_restore"),
        f.optional_money("balance"),
        f.optional_instant("paid_at"),
    )
    if payment.past_due is None and payment.balance is None:
        raise f.missing("past_due")
    return payment


def _reversed(f: Fields, at: datetime) -> PaymentReversed:
    return PaymentReversed(
        f.optional_identifier("payment"),
        f.optional_money("amount"),
        f.optional_money("past_due"),
        f.optional_text("reason"),
    )


def _doubted(disputed: bool) -> Callable[[Fields, datetime], ReadingDoubted]:
    def reader(f: Fields, at: datetime) -> ReadingDoubted:
        place, meter = f.optional_identifier("service_point"), f.optional_identifier("meter")
        if place is None and meter is None:
            raise f.missing("service_point")
        reading = f.optional_inside("reading") or Fields({}, "", f.heading)
        return ReadingDoubted(
            disputed,
            place,
            meter,
            reading.optional_decimal("value"),
            reading.optional_text("unit"),
            reading.optional_instant("read_at"),
            f.optional_text("reason"),
        )

    return reader


def _exchange(f: Fields, at: datetime) -> ExchangeDue:
    place, meter = f.optional_identifier("service_point"), f.optional_identifier("meter")
    if place is None and meter is None:
        raise f.missing("service_point")
    return ExchangeDue(place, meter, f.optional_text("reason"))


def _requested(f: Fields, at: datetime) -> ServiceRequested:
    place, position = f.optional_identifier("service_point"), _position(f)
    if place is None and position is None and f.optional_identifier("account") is None:
        raise f.missing("service_point")
    return ServiceRequested(
        place, position, f.identifier("work_type"), f.optional_span("wanted"), f.optional_text("note")
    )


def _position(f: Fields) -> tuple[float, float] | None:
    """`{lon, lat}`, or a GeoJSON point."""
    inside = f.optional_inside("position")
    if inside is None:
        return None
    values: Mapping[str, Any] = inside.values
    pair: Any = values.get("coordinates") if values.get("type") == "Point" else [values.get("lon"), values.get("lat")]
    if isinstance(pair, list) and len(pair) > 1:
        lon, lat = (float(n) if isinstance(n, int | Decimal) and -180 <= n <= 180 else nan for n in pair[:2])
        if abs(lon) <= 180 and abs(lat) <= 90:
            return lon, lat
    raise f.bad("position", "an object with lon and lat in degrees")


def _cancelled(f: Fields, at: datetime) -> ServiceCancelled:
    f.identifier("reference")
    return ServiceCancelled(f.optional_text("reason"))


def _billed(f: Fields, at: datetime) -> ConsumptionBilled:
    volume = f.decimal("volume")
    if volume < 0:
        raise f.bad("volume", "a volume from 0; a credit is a bill that replaces another")
    return ConsumptionBilled(
        f.identifier("service_point"),
        f.optional_identifier("meter"),
        f.optional_identifier("register"),
        f.moment("from"),
        f.moment("to"),
        volume,
        f.identifier("unit"),
        f.optional_truth("estimated", False),
        f.optional_identifier("bill"),
        f.optional_identifier("replaces"),
    )


def _charge(posted: bool) -> Callable[[Fields, datetime], ChargeAnswer]:
    def reader(f: Fields, at: datetime) -> ChargeAnswer:
        return ChargeAnswer(f.identifier("charge"), posted, f.optional_text("invoice"), f.optional_text("reason"))

    return reader


READERS: dict[str, Callable[[Fields, datetime], EventData]] = {
    "account.opened": _opened,
    "account.closed": _closed,
    "account.delinquent": _delinquent,
    "account.payment_received": _payment,
    "account.payment_reversed": _reversed,
    "account.delinquency_cleared": lambda f, at: DelinquencyCleared(f.optional_text("reason")),
    "account.hold_placed": lambda f, at: HoldPlaced(f.identifier("hold"), f.optional_end("until")),
    "account.hold_lifted": lambda f, at: HoldLifted(f.identifier("hold")),
    "account.notice_sent": lambda f, at: NoticeSent(_notice(f)),
    "reading.rejected": _doubted(disputed=False),
    "reading.disputed": _doubted(disputed=True),
    "meter.exchange_due": _exchange,
    "service.requested": _requested,
    "service.cancelled": _cancelled,
    "consumption.billed": _billed,
    "charge.posted": _charge(posted=True),
    "charge.rejected": _charge(posted=False),
    "source.heartbeat": lambda f, at: Heartbeat(f.optional_instant("as_of") or at),
}
TYPES = tuple(READERS)
# The other types must name the account; these may be about a place, an order, a charge or the source itself.
WITHOUT_ACCOUNT = frozenset(
    {
        "source.heartbeat",
        "charge.posted",
        "charge.rejected",
        "service.requested",
        "service.cancelled",
        "consumption.billed",
        "meter.exchange_due",
        "reading.rejected",
        "reading.disputed",
    }
)
