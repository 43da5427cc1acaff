"""Standard Webhooks signatures: known answers, every malformed message a sender can make, and rotation."""

import base64
import hashlib
import hmac
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from adapters.billing.signatures import BadSecret, BadSignature, key_of, new_secret, sign, signed_headers, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime.fromtimestamp(1614265330, UTC)
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def message(**changes: str) -> dict[str, str]:
    names = {"id": "webhook-id", "timestamp": "webhook-timestamp", "signature": "webhook-signature"}
    headers = {"webhook-id": ID, "webhook-timestamp": "1614265330", "webhook-signature": SIGNATURE}
    return headers | {names[key]: value for key, value in changes.items()}


def signature_of(body: bytes, *, timestamp: str = "1614265330", webhook_id: str = ID) -> str:
    """The HMAC written out, so that the code under test does not judge itself."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, webhook_id.encode() + b"." + timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def test_the_known_answer_is_accepted_and_its_id_returned():
    assert verify([SECRET], message(), BODY, AT) == ID
    assert sign(SECRET, ID, AT, BODY) == SIGNATURE


def test_header_names_are_case_blind_and_a_secret_may_lack_prefix_and_padding():
    headers = {key.upper(): value for key, value in message().items()}
    assert verify([SECRET.removeprefix("whsec_")], headers, BODY, AT) == ID
    padded = base64.b64encode(bytes(range(32))).decode()
    assert key_of("whsec_" + padded) == key_of(padded.rstrip("=")) == bytes(range(32))


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_five_minutes_either_way_are_tolerated(offset):
    assert verify([SECRET], message(), BODY, AT + timedelta(seconds=offset)) == ID


@pytest.mark.parametrize("offset", [-301, -300.001, 300.001, 301])
def test_a_clock_further_away_is_refused(offset):
    with pytest.raises(BadSignature, match="300 s"):
        verify([SECRET], message(), BODY, AT + timedelta(seconds=offset))


@pytest.mark.parametrize(
    "timestamp",
    [
        "", "hello", "1614265330.0", "1614265330.5", "1.61426533e9", " 1614265330", "1614265330 ", "01614265330",
        "1_614_265_330", "１６１４２６５３３０", "+1614265330", "-1", "0x60378A32", "inf", "nan", "9" * 11, "9" * 400,
        "1614265330\n", "1614265330\x00",
    ],
)  # fmt: skip
def test_only_a_plain_decimal_timestamp_counts_even_when_signed(timestamp):
    headers = message(timestamp=timestamp, signature=signature_of(BODY, timestamp=timestamp))
    with pytest.raises(BadSignature):
        verify([SECRET], headers, BODY, AT)


@pytest.mark.parametrize("webhook_id", ["", "a.b", "a b", "ä", "a" * 256, "a\n", "a/b", "\ud800", "１"])
def test_an_id_has_its_own_alphabet_even_when_signed(webhook_id):
    try:
        signature = signature_of(BODY, webhook_id=webhook_id)
    except UnicodeEncodeError:
        signature = SIGNATURE
    with pytest.raises(BadSignature):
        verify([SECRET], message(id=webhook_id, signature=signature), BODY, AT)


def test_the_longest_id_is_accepted():
    longest = "a" * 255
    headers = message(id=longest, signature=signature_of(BODY, webhook_id=longest))
    assert verify([SECRET], headers, BODY, AT) == longest


@pytest.mark.parametrize(
    "signature",
    [
        "", "invalid_signature", "v1,", "v1", ",", "v1," + "A" * 43 + "=", SIGNATURE.replace("v1,", "v2,"),
        SIGNATURE.replace("v1,", "v1a,"), SIGNATURE.replace("v1,", "V1,"), SIGNATURE.replace("v1,", "v1 ,"),
        SIGNATURE + ",x", SIGNATURE.rstrip("="), SIGNATURE + "=", SIGNATURE[:20] + "\n" + SIGNATURE[20:],
        SIGNATURE.replace("+", "-").replace("/", "_"), SIGNATURE.replace("OE=", "OF="),
        SIGNATURE[:10] + "!" + SIGNATURE[10:], "\t" + SIGNATURE, SIGNATURE.replace("g0h", "ｇ0h"), "\ud800",
        "v1,\udcff",
    ],
)  # fmt: skip
def test_anything_but_the_exact_signature_is_refused(signature):
    with pytest.raises(BadSignature):
        verify([SECRET], message(signature=signature), BODY, AT)


@pytest.mark.parametrize("others", ["v1,Zm9v", "v2,abc", "nonsense", "v1,a,b", "", "v1a," + "B" * 86 + "=="])
def test_one_valid_entry_stands_among_others(others):
    assert verify([SECRET], message(signature=f"{others} {SIGNATURE}"), BODY, AT) == ID
    assert verify([SECRET], message(signature=f"{SIGNATURE} {others}"), BODY, AT) == ID


def test_ten_entries_are_read_and_eleven_refused():
    assert verify([SECRET], message(signature=" ".join(["v1,Zm9v"] * 9 + [SIGNATURE])), BODY, AT) == ID
    with pytest.raises(BadSignature, match="more than 10"):
        verify([SECRET], message(signature=" ".join(["v1,Zm9v"] * 10 + [SIGNATURE])), BODY, AT)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed_exactly_once(missing):
    headers = message()
    value = headers.pop(missing)
    with pytest.raises(BadSignature, match=missing):
        verify([SECRET], headers, BODY, AT)
    with pytest.raises(BadSignature, match=missing):
        verify([SECRET], message() | {missing.title(): value}, BODY, AT)


def test_another_body_is_refused():
    with pytest.raises(BadSignature):
        verify([SECRET], message(), BODY + b" ", AT)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", b"not json", b"[" * 100_000])
def test_the_body_is_bytes_and_need_not_be_text(body):
    assert verify([SECRET], message(signature=signature_of(body)), body, AT) == ID


def test_during_a_rotation_old_and_new_secret_count():
    old, new = new_secret(), new_secret()
    for secret in (old, new):
        headers = signed_headers(secret, "evt_1", AT, BODY)
        assert verify([new, old], headers, BODY, AT) == "evt_1"
    with pytest.raises(BadSignature):
        verify([new], signed_headers(old, "evt_1", AT, BODY), BODY, AT)
    both = sign(old, "evt_1", AT, BODY) + " " + sign(new, "evt_1", AT, BODY)
    headers = signed_headers(old, "evt_1", AT, BODY) | {"webhook-signature": both}
    assert verify([new], headers, BODY, AT) == "evt_1"


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_QQ==", "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_****", "whsec_" + "A" * 33,
     "whsec_" + base64.b64encode(b"x" * 65).decode(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "whsec_é" + "A" * 40],
)  # fmt: skip
def test_an_unusable_secret_is_a_mistake_of_configuration_and_never_shown(secret):
    with pytest.raises(BadSecret) as caught:
        verify([secret], message(), BODY, AT)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)
    with pytest.raises(BadSecret):
        verify([SECRET, secret], message(), BODY, AT)
    with pytest.raises(BadSecret):
        sign(secret, ID, AT, BODY)


def test_no_secret_at_all_is_a_mistake_of_configuration():
    with pytest.raises(BadSecret):
        verify([], message(), BODY, AT)


def test_new_secrets_differ_and_have_32_bytes():
    made = {new_secret() for _ in range(20)}
    assert len(made) == 20
    assert all(secret.startswith("whsec_") and len(key_of(secret)) == 32 for secret in made)


def test_our_signature_satisfies_the_library_of_the_field():
    at = datetime.now(UTC)
    secret = new_secret()
    body = '{"street":"Łódź 東京"}'.encode()
    assert Webhook(secret).verify(body, signed_headers(secret, "msg_1", at, body)) == {"street": "Łódź 東京"}


def test_a_timestamp_in_another_zone_signs_the_same_instant():
    from zoneinfo import ZoneInfo

    there = AT.astimezone(ZoneInfo("America/Chicago"))
    assert signed_headers(SECRET, ID, there, BODY) == message()


@given(
    st.text(max_size=40), st.text(max_size=40), st.text(max_size=200),
    st.binary(max_size=50), st.sampled_from([SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]),
)  # fmt: skip
def test_no_foreign_exception_whatever_the_headers(webhook_id, timestamp, signature, body, secret):
    headers = {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(BadSignature):
        verify([secret], headers, body, AT)


def public_vectors() -> list[dict[str, object]]:
    samples = Path(os.environ.get("CURBSTOP_SAMPLES", "/nonexistent"))
    path = samples / "reliability/standard_webhooks_public_vectors.json"
    return json.loads(path.read_text())["cases"] if path.exists() else []


@pytest.mark.parametrize("case", public_vectors(), ids=lambda case: str(case["name"]))
def test_public_vector(case):
    if str(case["key"]).startswith("whpk_"):
        pytest.skip("asymmetric scheme v1a is not spoken")
    try:
        verify([case["key"]], case["headers"], case["body"].encode(), datetime.fromtimestamp(case["now"], UTC))
        verdict = "accept"
    except BadSignature:
        verdict = "reject"
    except BadSecret:
        verdict = "configuration_error"
    assert verdict == case["expect"]
