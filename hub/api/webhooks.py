"""The door for billing systems: verify, keep, answer. What a message means is worked out afterwards.

One transaction per message with one INSERT; the answer leaves after the commit.
"""

import threading
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from hub.billing import inbox
from hub.errors import BadInput, Conflict, NotFound, TooLarge, TooManyRequests
from hub.web import Config, Json, database_of, public

router = APIRouter(tags=["billing"])
MOST_BYTES = 10_000_000
# What a CloudEvent in binary mode says beside its body, where no signature covers it.
UNSIGNED = ("ce-specversion", "ce-id", "ce-source", "ce-type")


class NotJson(BadInput):
    """The body is no JSON, or no proper CloudEvent; it is kept all the same."""

    kind, title = "not-json", "The body cannot be read"


class Rate:
    """Token buckets in memory, one per source: bursts up to one second's worth, then `per_second`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_second: int) -> None:
        """Count one message. Raises TooManyRequests."""
        with self._lock:
            now = time.monotonic()
            left, since = self._buckets.get(name, (float(per_second), now))
            left = min(float(per_second), left + (now - since) * per_second)
            self._buckets[name] = (max(left - 1, 0.0) if left >= 1 else left, now)
            if left < 1:
                raise TooManyRequests(
                    f"More than {per_second} messages a second.", remedy="Send it again later.", retry_after=1
                )


def rate_of(request: Request) -> Rate:
    """The counters of this web process."""
    if not hasattr(request.app.state, "webhook_rate"):
        request.app.state.webhook_rate = Rate()
    rate: Rate = request.app.state.webhook_rate
    return rate


async def raw_body(request: Request) -> bytes:
    """The bytes as sent, up to the limit. Raises TooLarge without reading further."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > MOST_BYTES:
        raise TooLarge(f"A message may have {MOST_BYTES} bytes at most.")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLarge(f"A message may have {MOST_BYTES} bytes at most.")
        parts.append(part)
    return b"".join(parts)


@router.post("/webhooks/billing/{source}", status_code=202, name="receive_billing_event")
@public("the signature says who sent it")
def receive_billing_event(
    source: str,
    request: Request,
    config: Config,
    body: Annotated[bytes, Depends(raw_body)],
    rate: Annotated[Rate, Depends(rate_of)],
) -> Json:
    """Keep a message of a billing system (Standard Webhooks 1.0.0). 202 new, 200 seen before with the same body."""
    with database_of(request).transaction() as session:
        known = inbox.sender_called(session, source)
        if known is None:
            raise NotFound("There is no billing system of this name.", field="source", value=source[:80])
        webhook_id = inbox.verified_id(known, request.headers, body)
        rate.take(source, config.webhook_rate)
        received = inbox.receive(session, sender=known, webhook_id=webhook_id, body=body)
    if not received.new:
        if received.same_body:
            return Json({"event_id": str(received.event_id)}, status_code=200)
        raise Conflict(
            f"Message {webhook_id} was received before with another body.",
            field="webhook-id",
            value=webhook_id,
            remedy="Give every message an id of its own.",
            event_id=str(received.event_id),
        )
    problem, kept = received.problem, str(received.event_id)
    if problem is not None and problem.reason in inbox.NOT_JSON:
        raise NotJson(problem.detail, event_id=kept)
    if problem is not None and problem.heading.type is None and any(name in request.headers for name in UNSIGNED):
        detail = "This is a CloudEvent in binary mode; no signature covers its headers."
        raise NotJson(detail, remedy="Send it in structured mode, as application/cloudevents+json.", event_id=kept)
    return Json({"event_id": str(received.event_id)}, status_code=202)
