"""The canonical billing message: what is read of it, what is refused and in which words."""

import base64
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import strict_json
from adapters.billing import standard
from adapters.contracts import (
    AccountOpened,
    ConsumptionBilled,
    Contact,
    CutList,
    Delinquent,
    Heading,
    HoldPlaced,
    MalformedEvent,
    Notice,
    Payment,
    ServiceRequested,
)

AT = "2026-11-16T10:00:00-06:00"
OCTOBER = {"from": "2026-10-01", "to": "2026-11-01"}


def body(type: str, **data: Any) -> bytes:
    """A message as a billing system writes it."""
    return json.dumps({"type": type, "timestamp": AT, "data": {"account": "A1", **data}}).encode()


def refusal(raw: bytes) -> MalformedEvent:
    """How a message is refused."""
    with pytest.raises(MalformedEvent) as error:
        standard.read(raw)
    return error.value


def test_a_delinquency_whole() -> None:
    event = standard.read(
        body(
            "account.delinquent",
            seq=7,
            reference="C-1",
            service_point="SP1",
            amount_due=120.5,
            currency="USD",
            due_since="2026-08-01T23:00:00-06:00",
            stage="cut",
            cut_list="week-47",
            notices=[{"channel": "mail", "sent_at": "2026-10-01"}, {"channel": "sms", "sent_at": AT}],
            notices_attested_by="J. Doe",
        )
    )
    at = datetime(2026, 11, 16, 16, tzinfo=UTC)
    assert (event.type, event.at, event.account, event.seq, event.reference) == (
        "account.delinquent",
        at,
        "A1",
        7,
        "C-1",
    )
    assert event.data == Delinquent(
        "SP1",
        Decimal("120.50"),
        "USD",
        date(2026, 8, 1),
        "cut",
        CutList("week-47"),
        (Notice("mail", date(2026, 10, 1)), Notice("sms", at)),
        "J. Doe",
    )
    assert event.heading == Heading("account.delinquent", "A1", 7, at)


def test_other_types() -> None:
    opened = standard.read(
        body("account.opened", account=1042, service_point="SP1", effective_date="2026-11-18", customer={"name": "Ada"})
    )
    assert (opened.account, opened.data) == (
        "1042",
        AccountOpened("SP1", date(2026, 11, 18), Contact("Ada"), None, True),
    )
    paid = standard.read(body("account.payment_received", past_due="0", balance="-12.30"))
    assert paid.data == Payment(None, None, Decimal("0.00"), None, Decimal("-12.30"), None)
    held = standard.read(body("account.hold_placed", hold="medical", until="2026-12-24"))
    assert held.data == HoldPlaced("medical", date(2026, 12, 24))
    billed = standard.read(
        body(
            "consumption.billed",
            service_point="SP1",
            volume="12.5",
            unit="m3",
            **{"from": "2026-10-01", "to": "2026-11-01"},
        )
    )
    assert isinstance(billed.data, ConsumptionBilled)
    assert (billed.data.volume, billed.data.from_day) == (Decimal("12.5"), date(2026, 10, 1))
    for position in ({"lon": 1.5, "lat": -2}, {"type": "Point", "coordinates": [1.5, -2]}):
        asked = standard.read(body("service.requested", account=None, position=position, work_type="leak_repair"))
        assert isinstance(asked.data, ServiceRequested) and asked.data.position == (1.5, -2.0)


@pytest.mark.parametrize(
    ("raw", "reason", "says"),
    [
        (b"", "not_json", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not_json", "UTF-8"),
        (b'{"type": "x", "type": "y"}', "not_json", "twice"),
        (b'{"data": NaN}', "not_json", "NaN"),
        (b'{"data": 1e99999999999999999999}', "not_json", "out of range"),
        (b"[" * 100 + b"]" * 100, "not_json", "64 levels"),
        (b"[" * 100_000, "not_json", "64 levels"),
        (b"3", "not_an_event", "no object"),
        (b"{}", "missing_field", "type is missing"),
        (b'{"type": "account.opened"}', "missing_field", "timestamp is missing"),
        (body("meter.dance"), "unknown_type", "meter.dance"),
        (body("account.hold_placed"), "missing_field", "data.hold is missing"),
        (body("account.hold_placed", account=None, hold="x"), "missing_field", "data.account is missing"),
        (body("account.hold_placed", account="A\u0000", hold="x"), "bad_value", "data.account"),
        (body("account.hold_placed", account=True, hold="x"), "bad_value", "data.account"),
        (body("account.hold_placed", hold="x", seq=-1), "bad_value", "data.seq"),
        (body("account.hold_placed", hold="x", seq=1.5), "bad_value", "data.seq"),
        (body("account.hold_placed", hold="x", seq=2**70), "bad_value", "data.seq"),
        (body("account.hold_placed", hold="x", until="2026-02-30"), "bad_value", "data.until"),
        (body("account.hold_placed", hold="x", until="2026-02-03T10:00:00"), "bad_value", "data.until"),
        (body("account.hold_placed", hold="x", until="0001-01-01T00:00:00+14:00"), "bad_value", "data.until"),
        (body("account.hold_placed", hold="x", until="0202-12-01"), "bad_value", "data.until"),
        (body("account.opened", service_point="S", effective_date="9999-12-31"), "bad_value", "data.effective_date"),
        (body("account.notice_sent", channel="x", sent_at="9999-12-31T23:59:59Z"), "bad_value", "data.sent_at"),
        (body("account.payment_received", amount="1.00"), "missing_field", "data.past_due is missing"),
        (body("account.payment_received", past_due="1.005"), "bad_value", "two decimal places"),
        (body("account.payment_received", past_due="1e12"), "bad_value", "data.past_due"),
        (body("account.payment_received", past_due="lots"), "bad_value", "data.past_due"),
        (body("account.delinquent", amount_due="1", stage="soon"), "bad_value", "notice or cut"),
        (body("account.delinquent", amount_due="1", stage="cut", notices="mail"), "bad_value", "list of objects"),
        (body("account.delinquent", amount_due="1", stage="cut", notices=[{"channel": "sms"}]), "missing_field",
         "data.notices[0].sent_at"),
        (body("service.requested", account=None, work_type="reread"), "missing_field", "service_point"),
        (body("service.requested", position={"lon": 200, "lat": 0}, work_type="reread"), "bad_value", "position"),
        (body("service.cancelled"), "missing_field", "data.reference"),
        (body("service.requested", service_point="S", work_type="r", wanted={"from": AT, "to": AT}), "bad_value",
         "wanted"),
        (body("consumption.billed", service_point="S", volume="-1", unit="m3", **OCTOBER),
         "bad_value", "data.volume"),
    ],
)  # fmt: skip
def test_refusals_say_which_field_and_what_it_must_be(raw: bytes, reason: str, says: str) -> None:
    error = refusal(raw)
    assert error.reason == reason
    assert says in str(error)


@pytest.mark.parametrize("never", ["9999-12-31", "9999-12-31T23:59:59-12:00", None])
def test_a_hold_may_have_no_end(never: str | None) -> None:
    assert standard.read(body("account.hold_placed", hold="medical", until=never)).data == HoldPlaced("medical", None)


def test_a_refused_message_still_tells_whose_it_is() -> None:
    assert refusal(body("meter.dance", seq=3)).heading[:3] == ("meter.dance", "A1", 3)
    assert refusal(body("account.hold_placed", seq="x")).heading == Heading(
        "account.hold_placed", "A1", None, datetime(2026, 11, 16, 16, tzinfo=UTC)
    )


# ---------------------------------------------------------------------------------------------------------- CloudEvents

ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/billing",
    "type": "account.hold_placed",
    "time": AT,
    "data": {"account": "A1", "hold": "medical"},
}


def test_a_cloudevent_is_the_same_event() -> None:
    plain = standard.read(body("account.hold_placed", hold="medical"))
    assert standard.read(json.dumps(ENVELOPE).encode()) == plain
    packed = {**ENVELOPE, "data_base64": base64.b64encode(json.dumps(ENVELOPE["data"]).encode()).decode()}
    del packed["data"]
    assert standard.read(json.dumps(packed | {"extension1": "x"}).encode()) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "9.9"},
        {"id": ""},
        {"source": None},
        {"type": 3},
        {"time": "yesterday"},
        {"MyExt": "x"},
        {"data_base64": "e30="},
    ],
)
def test_a_wrong_envelope(change: dict[str, Any]) -> None:
    assert refusal(json.dumps(ENVELOPE | change).encode()).reason == "bad_envelope"


def test_public_cloudevents(samples: Path) -> None:
    cases = json.loads((samples / "reliability" / "cloudevents_http_public_cases.json").read_text(encoding="utf-8"))
    for case in cases["accept"]:
        if case["mode"] == "structured":
            assert refusal(case["body"].encode()).reason == "unknown_type"
    for case in cases["reject"]:
        if case["name"].startswith("structured"):
            assert refusal(case["body"].encode()).reason == "bad_envelope"


# ----------------------------------------------------------------------------------------------------- any bytes at all


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(raw: bytes) -> None:
    try:
        standard.read(raw)
    except MalformedEvent as error:
        assert error.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "account", "seq", "reference", "service_point", "amount_due", "stage", "cut_list", "notices", "past_due",
        "hold", "until", "effective_date", "customer", "appointment", "position", "wanted", "volume", "from", "to",
        "charge",
    ]
)  # fmt: skip


@given(type=st.sampled_from(standard.TYPES), data=st.dictionaries(NAMES, JSON, max_size=8))
def test_any_data_is_an_event_or_refused(type: str, data: dict[str, Any]) -> None:
    raw = json.dumps({"type": type, "timestamp": AT, "data": data}).encode()
    try:
        event = standard.read(raw)
    except MalformedEvent as error:
        assert error.reason in ("missing_field", "bad_value", "not_json")
    else:
        assert event.type == type


def test_naughty_strings_in_every_kind_of_field(samples: Path) -> None:
    listed = json.loads((samples / "reliability" / "naughty_strings_public.json").read_text(encoding="utf-8"))
    for entry in listed["strings"]:
        text = base64.b64decode(entry).decode("utf-8", "replace")
        for raw in (
            body("account.hold_placed", account=text, hold=text),
            body("account.hold_placed", hold="x", until=text),
            body("account.payment_received", past_due=text),
            body("service.requested", service_point="S", work_type="reread", note=text),
            body(text),
        ):
            try:
                event = standard.read(raw)
            except MalformedEvent as error:
                assert error.reason in ("bad_value", "unknown_type", "missing_field")
            else:
                assert event.account


def test_the_json_suite(samples: Path) -> None:
    for line in (samples / "reliability" / "json_parsing_suite.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if "body_b64" not in case:
            continue
        try:
            strict_json.parse(base64.b64decode(case["body_b64"]))
            parsed = True
        except ValueError:
            parsed = False
        if case["expect"] == "must_reject" or "duplicated_key" in case["name"]:
            assert not parsed, case["name"]
        elif case["expect"] == "must_parse":
            assert parsed, case["name"]
