"""The canonical billing message: strict JSON `{"type", "timestamp", "data"}`, or the same as a CloudEvent.

Pure: bytes in, `BillingEvent` out, or `MalformedEvent`. CloudEvents 1.0.2 are taken in structured mode only; in binary
mode type and time travel in headers, which a Standard Webhooks signature does not cover.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from math import nan
from typing import Any

from adapters import strict_json
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
    Moment,
    Notice,
    NoticeSent,
    Payment,
    PaymentReversed,
    ReadingDoubted,
    ServiceCancelled,
    ServiceRequested,
)

LONGEST_ID = 128
# A day of another time is a slip of the pen; the end of something may lie beyond, as many systems write "never".
YEARS = range(1900, 2201)
LONGEST_TEXT = 4000
MOST_ITEMS = 100_000
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
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
    fields = _Fields(document, "", heading)
    kind = fields.identifier("type")
    at = fields.instant("timestamp")
    data = fields.inside("data")
    if kind not in READERS:
        raise MalformedEvent("unknown_type", f"There is no event type {_shown(kind)}.", heading)
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
    outer, nested = _Fields(document, "", Heading()), _Fields(inner, "data.", Heading())

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


def _shown(value: Any) -> str:
    return ascii(value)[:80]


def _opened_envelope(document: dict[str, Any]) -> dict[str, Any]:
    """A structured CloudEvent as our own document. Raises MalformedEvent `bad_envelope`."""

    def bad(detail: str) -> MalformedEvent:
        return MalformedEvent("bad_envelope", f"Not a CloudEvent 1.0: {detail}")

    if document["specversion"] != "1.0":
        raise bad(f"specversion is {_shown(document['specversion'])}, not '1.0'.")
    for name in ("id", "source", "type"):
        value = document.get(name)
        if not isinstance(value, str) or not value or _UNPRINTABLE.search(value):
            raise bad(f"{name} must be a text that is not empty.")
    for name in document:
        if name not in _CE_KNOWN and not _CE_ATTRIBUTE.fullmatch(name):
            raise bad(f"the attribute name {_shown(name)} is not made of lower-case letters and digits.")
    if "time" in document and (not isinstance(document["time"], str) or not _INSTANT.fullmatch(document["time"])):
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


class _Fields:
    """The fields of one JSON object, each read as what it must be; refusals name the field by its path."""

    def __init__(self, values: Mapping[str, Any], path: str, heading: Heading) -> None:
        self.values, self.path, self.heading = values, path, heading

    def missing(self, name: str) -> MalformedEvent:
        return MalformedEvent("missing_field", f"{self.path}{name} is missing.", self.heading)

    def bad(self, name: str, wanted: str) -> MalformedEvent:
        shown = _shown(self.values.get(name))
        return MalformedEvent("bad_value", f"{self.path}{name} is {shown}; it must be {wanted}.", self.heading)

    def inside(self, name: str) -> "_Fields":
        """The object under `name`."""
        value = self.values.get(name)
        if value is None:
            raise self.missing(name)
        if not isinstance(value, dict):
            raise self.bad(name, "an object")
        return _Fields(value, f"{self.path}{name}.", self.heading)

    def optional_inside(self, name: str) -> "_Fields | None":
        return None if self.values.get(name) is None else self.inside(name)

    def items(self, name: str) -> list["_Fields"]:
        """The objects of the list under `name`; an absent list is empty."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MOST_ITEMS or not all(isinstance(v, dict) for v in value):
            raise self.bad(name, "a list of objects")
        return [_Fields(v, f"{self.path}{name}[{i}].", self.heading) for i, v in enumerate(value)]

    def optional_identifier(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**LONGEST_ID:
            value = str(value)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or _UNPRINTABLE.search(value):
            raise self.bad(name, f"a text of 1 to {LONGEST_ID} printable characters")
        return value

    def optional_text(self, name: str) -> str | None:
        """Free text as it can be stored: NUL and lone surrogates become U+FFFD, overlong text is cut."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(name, "a text")
        return _UNSTORABLE.sub("\ufffd", value[:LONGEST_TEXT])

    def optional_count(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            raise self.bad(name, "a whole number from 0")
        return value

    def optional_truth(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def optional_decimal(self, name: str) -> Decimal | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            value = Decimal(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**20:
            value = Decimal(value)
        digits = value.as_tuple().digits if isinstance(value, Decimal) else ()
        if not isinstance(value, Decimal) or len(digits) > 30 or (value and not -20 < value.adjusted() < 20):
            raise self.bad(name, "a number or a decimal text")
        return value

    def optional_money(self, name: str) -> Decimal | None:
        value = self.optional_decimal(name)
        if value is None:
            return None
        if abs(value) >= 10**11 or value != round(value, 2):
            raise self.bad(name, "an amount of money with at most two decimal places")
        return round(value, 2)

    def optional_instant(self, name: str) -> datetime | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _INSTANT.fullmatch(value):
            try:
                instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
            except (ValueError, OverflowError):
                instant = None
            if instant is not None and instant.year in YEARS:
                return instant
        raise self.bad(name, "an RFC 3339 timestamp of our time, such as 2026-11-23T07:30:00Z")

    def optional_moment(self, name: str) -> Moment | None:
        value = self.values.get(name)
        if isinstance(value, str) and _DAY.fullmatch(value):
            try:
                day = date.fromisoformat(value)
            except ValueError:
                day = date.min
            if day.year not in YEARS:
                raise self.bad(name, "a day of our time such as 2026-11-23, or an RFC 3339 timestamp")
            return day
        return self.optional_instant(name)

    def optional_end(self, name: str) -> Moment | None:
        """Until when something holds; None, and any day after the last of YEARS, is without end."""
        value = self.values.get(name)
        written = isinstance(value, str) and (_DAY.fullmatch(value) or _INSTANT.fullmatch(value))
        if isinstance(value, str) and written and int(value[:4]) >= YEARS.stop:
            return None
        return self.optional_moment(name)

    def optional_day(self, name: str) -> date | None:
        """A calendar day; of an instant the day as it was written, in the offset it was written with."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, str) and (_DAY.fullmatch(value) or _INSTANT.fullmatch(value)):
            try:
                day = date.fromisoformat(value[:10])
            except ValueError:
                day = date.min
            if day.year in YEARS:
                return day
        raise self.bad(name, "a day of our time such as 2026-11-23")

    def optional_span(self, name: str) -> tuple[datetime, datetime] | None:
        inside = self.optional_inside(name)
        if inside is None:
            return None
        begin, end = inside.instant("from"), inside.instant("to")
        if end <= begin:
            raise self.bad(name, "a span whose `to` lies after its `from`")
        return begin, end

    def identifier(self, name: str) -> str:
        value = self.optional_identifier(name)
        if value is None:
            raise self.missing(name)
        return value

    def instant(self, name: str) -> datetime:
        value = self.optional_instant(name)
        if value is None:
            raise self.missing(name)
        return value

    def moment(self, name: str) -> Moment:
        value = self.optional_moment(name)
        if value is None:
            raise self.missing(name)
        return value

    def day(self, name: str) -> date:
        value = self.optional_day(name)
        if value is None:
            raise self.missing(name)
        return value

    def decimal(self, name: str) -> Decimal:
        value = self.optional_decimal(name)
        if value is None:
            raise self.missing(name)
        return value


def _opened(f: _Fields, at: datetime) -> AccountOpened:
    who = f.optional_inside("customer") or _Fields({}, "", f.heading)
    contact = Contact(*(who.optional_text(name) for name in ("name", "phone", "email", "language")))
    return AccountOpened(
        f.identifier("service_point"),
        f.day("effective_date"),
        contact,
        f.optional_span("appointment"),
        f.optional_truth("read_required", True),
    )


def _closed(f: _Fields, at: datetime) -> AccountClosed:
    return AccountClosed(
        f.optional_identifier("service_point"),
        f.day("effective_date"),
        f.optional_span("appointment"),
        f.optional_truth("read_required", True),
    )


def _delinquent(f: _Fields, at: datetime) -> Delinquent:
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


def _cut_list(f: _Fields) -> CutList | None:
    if not isinstance(f.values.get("cut_list"), dict):
        name = f.optional_identifier("cut_list")
        return None if name is None else CutList(name)
    inside = f.inside("cut_list")
    return CutList(inside.identifier("id"), inside.optional_instant("sent_at"))


def _notice(f: _Fields) -> Notice:
    return Notice(f.identifier("channel"), f.moment("sent_at"))


def _payment(f: _Fields, at: datetime) -> Payment:
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


def _reversed(f: _Fields, at: datetime) -> PaymentReversed:
    return PaymentReversed(
        f.optional_identifier("payment"),
        f.optional_money("amount"),
        f.optional_money("past_due"),
        f.optional_text("reason"),
    )


def _doubted(disputed: bool) -> Callable[[_Fields, datetime], ReadingDoubted]:
    def reader(f: _Fields, at: datetime) -> ReadingDoubted:
        place, meter = f.optional_identifier("service_point"), f.optional_identifier("meter")
        if place is None and meter is None:
            raise f.missing("service_point")
        reading = f.optional_inside("reading") or _Fields({}, "", f.heading)
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


def _exchange(f: _Fields, at: datetime) -> ExchangeDue:
    place, meter = f.optional_identifier("service_point"), f.optional_identifier("meter")
    if place is None and meter is None:
        raise f.missing("service_point")
    return ExchangeDue(place, meter, f.optional_text("reason"))


def _requested(f: _Fields, at: datetime) -> ServiceRequested:
    place, position = f.optional_identifier("service_point"), _position(f)
    if place is None and position is None and f.optional_identifier("account") is None:
        raise f.missing("service_point")
    return ServiceRequested(
        place, position, f.identifier("work_type"), f.optional_span("wanted"), f.optional_text("note")
    )


def _position(f: _Fields) -> tuple[float, float] | None:
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


def _cancelled(f: _Fields, at: datetime) -> ServiceCancelled:
    f.identifier("reference")
    return ServiceCancelled(f.optional_text("reason"))


def _billed(f: _Fields, at: datetime) -> ConsumptionBilled:
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


def _charge(posted: bool) -> Callable[[_Fields, datetime], ChargeAnswer]:
    def reader(f: _Fields, at: datetime) -> ChargeAnswer:
        return ChargeAnswer(f.identifier("charge"), posted, f.optional_text("invoice"), f.optional_text("reason"))

    return reader


READERS: dict[str, Callable[[_Fields, datetime], EventData]] = {
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
