"""Strict reading: what looks like a register but is not one is refused with a reason."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import meters, strict, units
from adapters.contracts import DeviceConfig, Envelope, Malformed
from hub.metering import decode


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_json"),
        (b'{"a": nan}', "not_json"),
        (b'{"a": NaN}', "not_a_number"),
        (b'{"a": -Infinity}', "not_a_number"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"b": {"a": 1, "a": 1}}', "duplicate_key"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'\xef\xbb\xbf{"a": 1}', "not_json"),
        (b'{"a": 1} trailing', "not_json"),
        (b'{"a": "\x01"}', "not_json"),
        (b"[" * 33 + b"]" * 33, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b"9" * 5000, "not_json"),
    ],
)
def test_what_is_not_strict_json_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        strict.json_value(payload)
    assert refused.value.reason == reason


def test_fractions_keep_every_digit() -> None:
    assert strict.json_value(b'{"v": 7842.4970000000000001}')["v"] == Decimal("7842.4970000000000001")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("008051.500", Decimal("8051.5")),
        (12, Decimal(12)),
        ("1e3", Decimal(1000)),
        (" 5 ", Decimal(5)),
        (Decimal("0.1"), Decimal("0.1")),
    ],
)
def test_numbers(value: Any, number: Decimal) -> None:
    assert strict.number(value) == number


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_value"),
        ("", "no_value"),
        ("nan", "not_a_number"),
        ("1,5", "not_a_number"),
        ("٣", "not_a_number"),
        ("0x10", "not_a_number"),
        (True, "not_a_number"),
        ([1], "not_a_number"),
        (10**15, "out_of_range"),
        (Decimal("1e400"), "out_of_range"),
        (Decimal("1e-400"), "out_of_range"),
        (Decimal("1e9912500"), "out_of_range"),
        (Decimal("-1e9912500"), "out_of_range"),
    ],
)
def test_what_is_no_number(value: Any, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        strict.number(value)
    assert refused.value.reason == reason


def test_nothing_with_an_exponent_is_nothing() -> None:
    assert repr(strict.number(Decimal("0e9912500"))) == "Decimal('0')"


def test_members_are_read_also_where_only_the_careful_reader_can() -> None:
    found = strict.members(b'{"a": {"b": "\\ud800"}, "c": [1, 2.5], "d": null}')
    assert (found.get("c"), found.get("d"), "d" in found) == ([1, Decimal("2.5")], None, True)
    inner = found.inner("a")
    assert inner is not None
    assert (inner.get("b"), inner.inner("b"), found.inner("c")) == ("\ud800", None, None)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2023-01-13T16:00:42+0100", datetime(2023, 1, 13, 15, 0, 42, tzinfo=UTC)),
        ("2025-05-06T03:41:27.123221268Z", datetime(2025, 5, 6, 3, 41, 27, 123221, tzinfo=UTC)),
        ("2020-02-07t22:09:37-05:00", datetime(2020, 2, 8, 3, 9, 37, tzinfo=UTC)),
        ("2021-12-31T09:39:59", None),
    ],
)
def test_instants(value: str, instant: datetime | None) -> None:
    assert strict.instant(value) == instant


def test_local_time_needs_a_zone() -> None:
    assert strict.instant("2024-07-01 00:59", zone="America/New_York") == datetime(2024, 7, 1, 4, 59, tzinfo=UTC)


def test_local_times_where_clocks_are_changed() -> None:
    chicago = "America/Chicago"
    assert strict.instant("2026-11-01T01:30", zone=chicago) == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert strict.instant("2026-11-01T01:30", zone=chicago, again=True) == datetime(2026, 11, 1, 7, 30, tzinfo=UTC)
    assert strict.instant("2026-03-08T03:00", zone=chicago) == datetime(2026, 3, 8, 8, 0, tzinfo=UTC)
    assert strict.instant("2026-07-01T12:00", zone=chicago, again=True) == datetime(2026, 7, 1, 17, 0, tzinfo=UTC)
    for never in ("2026-03-08T02:00", "2026-03-08T02:59:59.9"):
        with pytest.raises(Malformed) as refused:
            strict.instant(never, zone=chicago)
        assert (refused.value.reason, "never showed" in refused.value.detail) == ("bad_time", True)


@pytest.mark.parametrize(
    "value",
    ["2024-02-30T00:00:00Z", "0001-01-01T00:00:00+23:00", "20240101T000000Z", "@0.01s", "", None, 5, "2000-00-00"],
)
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(Malformed) as refused:
        strict.instant(value)
    assert refused.value.reason == "bad_time"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("m³", "1"),
        ("L", "0.001"),
        ("Gallons", "0.003785411784"),
        ("CCF", "2.831684659200"),
        ("ft3", "0.028316846592"),
        ("kgal", "3.785411784"),
    ],
)
def test_units_are_exact(unit: str, factor: str) -> None:
    assert units.to_m3(Decimal(1), unit) == Decimal(factor)


@pytest.mark.parametrize("unit", ["", None, "furlong", "m3/h", "MG", "kWh", "psi"])
def test_a_unit_is_never_guessed(unit: str | None) -> None:
    assert units.to_m3(Decimal(1), unit) is None


@given(st.binary(max_size=400), st.sampled_from(sorted(meters.ADAPTERS)))
def test_no_bytes_make_the_pipeline_raise(payload: bytes, adapter: str) -> None:
    opened = decode.open_message(adapter, "application/a/device/0102030405060708/event/up", payload)
    assert opened.reason not in ("adapter_error", "decoder_error")
    for envelope in opened.envelopes:
        _, found = decode.decode_envelope(envelope, DeviceConfig())
        assert found.reason not in ("adapter_error", "decoder_error")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(
    _JSON, st.sampled_from(sorted(meters.DECODERS)), st.binary(max_size=60), st.sampled_from([None, 1, 85, 100, 103])
)
def test_no_object_or_bytes_make_a_decoder_raise(fields: Any, decoder: str, data: bytes, port: int | None) -> None:
    envelope = Envelope("chirpstack_v4", "01", fields=fields, data=data, port=port)
    _, found = decode.decode_envelope(envelope, DeviceConfig(decoder=decoder))
    assert found.reason != "decoder_error", found.detail


_VALUES = st.recursive(
    st.one_of(
        st.integers(-(10**20), 10**20).map(str),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
        st.sampled_from(
            ["null", "true", "NaN", "1e5", "-0", "01", '"\\ud800"', '"\\u0000"', '"\\":"', '"a: b"', '":"']
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(
            st.tuples(
                st.sampled_from(['"a"', '"b"', '"\\u0061"', '"x\\":"', '":"']), st.sampled_from(["", " "]), inner
            ),
            max_size=4,
        ).map(lambda members: "{" + ",".join(f"{name}{space}:{value}" for name, space, value in members) + "}"),
    ),
    max_leaves=8,
)


@settings(max_examples=400)
@given(_VALUES)
def test_the_fast_reader_says_what_the_careful_one_says(text: str) -> None:
    def careful() -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strict, "_fast", lambda payload: None)
            return outcome()

    def outcome() -> Any:
        try:
            return strict.json_value(text.encode())
        except Malformed as error:
            return error.reason

    assert repr(outcome()) == repr(careful())


@settings(max_examples=400)
@given(_VALUES)
def test_members_left_unread_are_those_that_are_read(text: str) -> None:
    """What is asked for is what the strict reader finds; a key given twice, at whatever place, is refused."""
    whole: Any
    try:
        whole = strict.json_object(text.encode())
    except Malformed as error:
        whole = error.reason
    try:
        found = strict.members(text.encode())
        read = {name: found.get(name) for name in found}
    except Malformed as error:
        assert error.reason == whole
    else:
        assert repr(read) == repr(whole)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a" :2}',
        b'{"a":1,"\\u0061":2}',
        b'{ "a": 1, "a": 2 }',
        '{"\u00e4":1,"\u00e4":2}'.encode(),
        b'{"o":{"a":1,"a":2}}',
    ],
)
def test_a_key_given_twice_is_refused_where_members_are_read(payload: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        strict.members(payload).get("o")
    assert refused.value.reason == "duplicate_key"


def test_a_wrapping_nobody_reads_may_be_anything_that_is_json() -> None:
    deep = b"[" * 200 + b"]" * 200
    found = strict.members(b'{"rx":%b,"object":{"volume_m3":1.25},"n":null}' % deep)
    assert (found.get("object"), found.get("n"), found.get("none")) == ({"volume_m3": Decimal("1.25")}, None, None)
    assert found.inner("object") is not None and found.inner("n") is None and found.inner("rx") is None
    with pytest.raises(Malformed, match="nested"):
        found.get("rx")
    with pytest.raises(Malformed, match="not JSON"):
        strict.members(b'{"rx":[1,],"object":{}}')
