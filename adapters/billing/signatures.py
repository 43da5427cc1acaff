"""Standard Webhooks 1.0.0 signatures, HMAC scheme `v1`: who sent these bytes, and when. Pure; callers give the time.

Signing is the work of the `standardwebhooks` library. Its verifying is not used: it reads the machine's clock, takes
timestamps such as `1e9` or full-width digits, junk inside base64 and secrets of one byte, cannot check a body that is
no UTF-8, and lets foreign exceptions out on malformed headers. What stands here instead compares over the raw bytes
and knows two outcomes only: the webhook's id, or BadSignature. The asymmetric scheme `v1a` is not spoken; its entries
are passed over like any unknown version.
"""

import base64
import binascii
import hmac
import re
import secrets as random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from standardwebhooks.webhooks import Webhook, hmac_data

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret, as the specification asks
TOLERANCE = timedelta(seconds=300)
MOST_ENTRIES = 10

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

_RULE = "A webhook secret is whsec_ followed by base64 of 24 to 64 random bytes"
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,10}", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class BadSignature(Exception):
    """The message does not prove who sent it or when; the text says why and is safe to show."""


class BadSecret(ValueError):
    """A secret that must not be used: a mistake of configuration, not of the sender. Never carries the secret."""


def new_secret() -> str:
    """A fresh signing secret of 32 random bytes, in the form both sides configure (`whsec_` and base64)."""
    return PREFIX + base64.b64encode(random.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key bytes of a secret, written with or without `whsec_` and with or without padding.

    Raises BadSecret when it is no base64 or has fewer than 24 or more than 64 bytes.
    """
    text = secret.removeprefix(PREFIX)
    if not _BASE64.fullmatch(text):
        raise BadSecret(f"{_RULE}; this one is no base64.")
    bare = text.rstrip("=")
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise BadSecret(f"{_RULE}; this one is cut off.") from error
    if not SHORTEST <= len(key) <= LONGEST:
        raise BadSecret(f"{_RULE}; this one has {len(key)}.")
    return key


def sign(secret: str, webhook_id: str, timestamp: datetime, body: bytes) -> str:
    """The `webhook-signature` value (`v1,…`) of a UTF-8 body sent at `timestamp` (aware; whole seconds count)."""
    return Webhook(key_of(secret)).sign(webhook_id, timestamp.astimezone(UTC), body.decode())


def signed_headers(secret: str, webhook_id: str, timestamp: datetime, body: bytes) -> dict[str, str]:
    """The three headers that go out with `body`."""
    return {
        ID: webhook_id,
        TIMESTAMP: str(int(timestamp.timestamp())),
        SIGNATURE: sign(secret, webhook_id, timestamp, body),
    }


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The webhook id of a message that one of `secrets` signed within 300 s (inclusive) of `now`.

    Several secrets are the overlap of a rotation. Any one valid `v1` entry is enough; entries of other versions and
    malformed ones prove nothing and are passed over, up to ten in all. Raises BadSignature for everything a sender
    can do wrong, BadSecret when a configured secret is unusable.
    """
    keys = [key_of(secret) for secret in secrets]
    if not keys:
        raise BadSecret("No webhook secret is configured.")
    webhook_id, timestamp, signatures = (_single(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not _ID.fullmatch(webhook_id):
        raise BadSignature(f"{ID} must be 1 to 255 letters, digits, '-' or '_'.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature(f"{TIMESTAMP} must be whole seconds since 1970 in decimal digits.")
    sent_at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(timestamp))
    if abs(now - sent_at) > TOLERANCE:
        raise BadSignature(f"{TIMESTAMP} is more than 300 s away from the hub's clock.")
    entries = signatures.split(" ")
    if len(entries) > MOST_ENTRIES:
        raise BadSignature(f"{SIGNATURE} has more than {MOST_ENTRIES} entries.")
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    # Compared as text: only the canonical base64 of the right bytes can be equal.
    wanted = [b"v1," + base64.b64encode(hmac_data(key, signed)) for key in keys]
    given = [entry.encode("utf-8", "surrogatepass") for entry in entries]
    if not any(hmac.compare_digest(ours, theirs) for ours in wanted for theirs in given):
        raise BadSignature(f"No entry of {SIGNATURE} matches the body and a secret of this source.")
    return webhook_id


def _single(headers: Mapping[str, str], name: str) -> str:
    values = [value for key, value in headers.items() if key.lower() == name]
    if len(values) != 1 or not values[0]:
        raise BadSignature(f"The header {name} must be there once and not be empty.")
    return values[0]
