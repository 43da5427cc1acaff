"""The shapes both sides of an edge agree on. Plain values: no I/O, no clock, no database.

Meters: an *envelope adapter* opens what a network delivered (`Envelope`), a *device decoder* reads the inside of it
(`Decoded`, holding `MeterReading`s). Both raise `Malformed` for what cannot be read at all; one bad value among good
ones is a `Refused` beside them. Billing: one message becomes one `BillingEvent`, or raises `MalformedEvent`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

# ------------------------------------------------------------------------------------------------------------- meters

# Registers with a meaning of their own; any other name is a counting register of a compound meter.
VOLUME = "volume"
VOLUME_REVERSE = "volume_reverse"
VOLUME_INTERVAL = "volume_interval"
PULSE_COUNT = "pulse_count"
INDEX_RAW = "index_raw"
ALARM = "alarm"

# The quality word of a stored value that is sent again or late: it says nothing about now.
HISTORIC = "q:historic"

Disposition = Literal["readings", "event_only", "no_reading", "quarantine", "ambiguous"]
TimeSource = Literal["meter", "gateway", "network", "headend", "receipt"]


class Malformed(ValueError):
    """Something that cannot be read: `reason` is a stable word to count by, the text says what is wrong with it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class MeterReading(NamedTuple):
    """One register value, or one alarm (register `alarm`, no value), as a device stated it.

    `value` counts in `unit`, a unit as sent and known to `adapters.units`, or None when the payload does not state
    one; pulses count in `count`. `measured_at` is aware and None when the payload gives no usable time, `time_source`
    says whose clock it was; a payload that only says "so many seconds ago" gives `age_s` instead, for the receiver to
    subtract from the arrival. `flags` are alarm words and `q:` quality words. `meter` is set when the payload names the
    meter by serial; `seq` is the sender's own counter.
    """

    device: str | None
    register: str
    value: Decimal | None
    unit: str | None
    measured_at: datetime | None
    time_source: TimeSource
    flags: tuple[str, ...] = ()
    channel: str | None = None
    meter: str | None = None
    seq: int | None = None
    interval_s: int | None = None
    age_s: Decimal | None = None


class Refused(NamedTuple):
    """One value of a readable message that cannot be trusted, with as much of its identity as could be read."""

    reason: str
    detail: str
    device: str | None = None
    register: str | None = None
    measured_at: datetime | None = None
    value: str | None = None
    position: int | None = None


@dataclass(slots=True)
class Envelope:
    """What a network wrapped around a device's message.

    `fields` is the object a codec upstream made of it, `data` the bytes as transmitted; either may be missing.
    `time` is the network's or gateway's stamp. `device` is the identity as published (radio EUIs in lower case).
    `decoder` is set when the format leaves nothing open and brings its own decoder. `kind` is `uplink` for what may
    hold readings, else the word of the format (status, join, log, …). `session` names a sender whose messages need what
    its earlier ones said; `remembered` is that, from the receiver's memory.
    """

    network: str
    device: str | None
    kind: str = "uplink"
    fields: Any = None
    data: bytes | None = None
    port: int | None = None
    counter: int | None = None
    time: datetime | None = None
    time_source: TimeSource = "network"
    dedup_id: str | None = None
    decoder: str | None = None
    aliases: tuple[str, ...] = ()
    session: str | None = None
    remembered: "Session | None" = None


@dataclass(slots=True, frozen=True)
class Session:
    """What a sender's messages so far said that later ones leave out. `known` holds plain values for JSON and changes
    seldom; `seq` is the counter of the newest message."""

    known: Mapping[str, Any]
    seq: int | None = None


@dataclass(slots=True, frozen=True)
class DeviceConfig:
    """What the registry knows of a device that its payload does not say."""

    decoder: str | None = None
    unit: str | None = None
    multiplier: Decimal = Decimal(1)
    time_zone: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Decoded:
    """What became of one envelope. `reason` and `detail` explain a disposition other than readings.

    `session` is what to remember of the sender from now on (None: as before); `fault` says why what is remembered does
    not fit the message, so that the sender should be asked to begin anew (`EnvelopeAdapter.restart`). `channels` are
    those that the sender is known to have beside the ones in this message.
    """

    disposition: Disposition
    readings: list[MeterReading] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    reason: str | None = None
    detail: str | None = None
    session: Session | None = None
    fault: str | None = None
    channels: frozenset[str] = frozenset()


@dataclass(slots=True, frozen=True)
class EnvelopeAdapter:
    """One network's or publisher's format.

    `topics` are the MQTT filters it is usually published under; `recognises(topic, payload)` is a cheap test;
    `read(topic, payload)` gives the envelopes in it or raises Malformed. `restart(session, at)` is the message (topic,
    payload) that asks a sender to say again what later messages leave out; None where nothing of the kind exists.
    """

    name: str
    title: str
    topics: tuple[str, ...]
    recognises: Callable[[str, bytes], bool]
    read: Callable[[str, bytes], list[Envelope]]
    restart: Callable[[str, datetime], tuple[str, bytes]] | None = None


@dataclass(slots=True, frozen=True)
class DeviceDecoder:
    """One device's or codec's format.

    `recognises` is asked only when the registry does not name a decoder; `wide` ones, which take many devices' objects
    for theirs, after all others. None where the decoder is always named: by the registry or the format's own adapter.
    """

    name: str
    version: str
    title: str
    recognises: Callable[[Envelope], bool] | None
    decode: Callable[[Envelope, DeviceConfig], Decoded]
    wide: bool = False


# ------------------------------------------------------------------------------------------------------------ billing
#
# A billing adapter turns the bytes of one message into one `BillingEvent`, or raises `MalformedEvent`. Identifiers are
# texts without control characters, money is a Decimal with at most two places, instants are aware, a plain day stays a
# `date`: the hub, which knows the utility's time zone, decides when such a day begins.

Moment = datetime | date


class Heading(NamedTuple):
    """As much of a message as orders it and names its subject; every part may be missing."""

    type: str | None = None
    account: str | None = None
    seq: int | None = None
    at: datetime | None = None


class MalformedEvent(Malformed):
    """A billing message that cannot be understood.

    `reason` is `not_json`, `bad_envelope`, `not_an_event`, `unknown_type`, `missing_field` or `bad_value`; `heading`
    is what could still be read of it.
    """

    def __init__(self, reason: str, detail: str, heading: Heading = Heading()) -> None:
        super().__init__(reason, detail)
        self.heading = heading


class Contact(NamedTuple):
    """How to reach a customer."""

    name: str | None = None
    phone: str | None = None
    email: str | None = None
    language: str | None = None


class Notice(NamedTuple):
    """A disconnection notice that billing sent; `sent_at` is a day when billing tells no time."""

    channel: str
    sent_at: Moment


class CutList(NamedTuple):
    """The cut list an account is on. `sent_at`, when billing states it, tells one sending of the list from the next;
    without it a list is sent again when an account on it appears once more."""

    id: str
    sent_at: datetime | None = None


class AccountOpened(NamedTuple):
    service_point: str
    effective_date: date
    customer: Contact
    appointment: tuple[datetime, datetime] | None
    read_required: bool


class AccountClosed(NamedTuple):
    service_point: str | None
    effective_date: date
    appointment: tuple[datetime, datetime] | None
    read_required: bool


class Delinquent(NamedTuple):
    """`stage` is `notice` or `cut`; `attested_by` names who vouches that all notices of the list were sent."""

    service_point: str | None
    amount_due: Decimal
    currency: str | None
    due_since: date | None
    stage: str
    cut_list: CutList | None
    notices: tuple[Notice, ...]
    attested_by: str | None


class Heartbeat(NamedTuple):
    """The source lives, and everything it had to say up to `as_of` has been sent."""

    as_of: datetime


class ChargeAnswer(NamedTuple):
    """What billing did with one of our charges: posted on `invoice`, or rejected for `reason`."""

    charge: str
    posted: bool
    invoice: str | None
    reason: str | None


class Payment(NamedTuple):
    """`past_due` is what must still be paid to stop a cut, `to_restore` what must be paid to get the water back."""

    payment: str | None
    amount: Decimal | None
    past_due: Decimal | None
    to_restore: Decimal | None
    balance: Decimal | None
    paid_at: datetime | None


class PaymentReversed(NamedTuple):
    payment: str | None
    amount: Decimal | None
    past_due: Decimal | None
    reason: str | None


class DelinquencyCleared(NamedTuple):
    reason: str | None


class HoldPlaced(NamedTuple):
    """`until` is the first moment at which the hold no longer counts; a day counts to its end. None: until lifted."""

    hold: str
    until: Moment | None


class HoldLifted(NamedTuple):
    hold: str


class NoticeSent(NamedTuple):
    notice: Notice


class ReadingDoubted(NamedTuple):
    """A reading that failed billing's validation, or that the customer disputes (`disputed`)."""

    disputed: bool
    service_point: str | None
    meter: str | None
    value: Decimal | None
    unit: str | None
    read_at: datetime | None
    reason: str | None


class ExchangeDue(NamedTuple):
    service_point: str | None
    meter: str | None
    reason: str | None


class ServiceRequested(NamedTuple):
    """`position` is (longitude, latitude) in degrees, WGS 84."""

    service_point: str | None
    position: tuple[float, float] | None
    work_type: str
    wanted: tuple[datetime, datetime] | None
    note: str | None


class ServiceCancelled(NamedTuple):
    reason: str | None


class ConsumptionBilled(NamedTuple):
    """A volume billed over local days [from_day, to_day); `replaces` names the bill that it cancels and rebills."""

    service_point: str
    meter: str | None
    register: str | None
    from_day: Moment
    to_day: Moment
    volume: Decimal
    unit: str
    estimated: bool
    bill: str | None
    replaces: str | None


EventData = (
    AccountOpened
    | AccountClosed
    | Delinquent
    | Heartbeat
    | ChargeAnswer
    | Payment
    | PaymentReversed
    | DelinquencyCleared
    | HoldPlaced
    | HoldLifted
    | NoticeSent
    | ReadingDoubted
    | ExchangeDue
    | ServiceRequested
    | ServiceCancelled
    | ConsumptionBilled
)


class BillingEvent(NamedTuple):
    """One thing that happened at a billing system.

    `at` orders events of an account that carry no `seq`; `reference` is billing's own name for what it asked for.
    """

    type: str
    at: datetime
    account: str | None
    seq: int | None
    reference: str | None
    data: EventData

    @property
    def heading(self) -> Heading:
        """The parts that order the event and name its subject."""
        return Heading(self.type, self.account, self.seq, self.at)
