"""`Idempotency-Key`: a client that did not hear the answer may send the same request again and gets the same answer.

After draft-ietf-httpapi-idempotency-key-header-07. The key is written in the transaction of the effect, so a request
that failed or never committed has not used it. Keys are kept 30 days and belong to one caller, method and route.
"""

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from hub.errors import BadInput, Conflict, Malformed, storable_text
from hub.models import IdempotencyKey
from hub.web import Json, Tx, identify

KEPT = timedelta(days=30)
LONGEST = 255
_REPLAYED_HEADERS = ("etag", "location")


class KeyReused(BadInput):
    """The key was used for another request."""

    kind, title = "idempotency-key-reused", "This Idempotency-Key belongs to another request"


class KeyBusy(Conflict):
    """The first request with this key is still running."""

    kind, title = "idempotency-key-busy", "The first request with this Idempotency-Key is still running"


@dataclass(frozen=True)
class Once:
    """The key of a request that has not been answered yet."""

    principal: str
    route: str
    key: str
    fingerprint: bytes


class Replay(Exception):
    """Carries the answer of the first request out of the route."""

    def __init__(self, response: Response) -> None:
        super().__init__("replayed")
        self.response = response


async def _raw(request: Request) -> bytes:
    return await request.body()


def once(request: Request, session: Tx, body: Annotated[bytes, Depends(_raw)]) -> None:
    """Dependency of a router: answers a repeated request from memory; `remember` keeps a first answer.

    Raises Malformed for an empty or overlong key, KeyReused for another request under the same key, KeyBusy while the
    first is running.
    """
    header = request.headers.get("idempotency-key")
    if header is None or request.method not in ("POST", "PATCH"):
        return
    key = storable_text(_unquoted(header.strip()))
    if not 0 < len(key) <= LONGEST:
        raise Malformed(
            f"The Idempotency-Key has {len(key)} characters.",
            field="Idempotency-Key",
            remedy=f"Use 1 to {LONGEST} characters, a UUID for example.",
        )
    route = f"{request.method} {request.scope['route'].path}"
    seen = [request.method, route, sorted(request.path_params.items()), hashlib.sha256(body).hexdigest()]
    mine = Once(
        str(identify(request, session).id), route, key, hashlib.sha256(orjson.dumps(seen, default=str)).digest()
    )
    lock = func.hashtextextended(f"{mine.principal} {route} {key}", 0)
    if not session.scalar(select(func.pg_try_advisory_xact_lock(lock))):
        raise KeyBusy("The first request is still running.", remedy="Wait for its answer, then repeat.", retry_after=1)
    known = session.get(IdempotencyKey, (mine.principal, route, key))
    if known is None:
        session.info["once"] = mine
        return
    if known.fingerprint != mine.fingerprint:
        raise KeyReused("The same key came with another request before.", field="Idempotency-Key", value=key)
    headers = {**known.headers, "Idempotent-Replayed": "true"}
    raise Replay(Response(known.body, status_code=known.status, headers=headers, media_type="application/json"))


def remember(session: Session, response: Json) -> Json:
    """Keep `response` under the request's key, if it came with one; `response` itself."""
    mine: Once | None = session.info.pop("once", None)
    if mine is not None:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.written_at < func.clock_timestamp() - KEPT))
        session.execute(
            insert(IdempotencyKey).values(
                principal=mine.principal,
                route=mine.route,
                key=mine.key,
                fingerprint=mine.fingerprint,
                status=response.status_code,
                headers={name: response.headers[name] for name in _REPLAYED_HEADERS if name in response.headers},
                body=bytes(response.body),
            )
        )
    return response


def _unquoted(header: str) -> str:
    """The text of a structured-field string (RFC 8941, 3.3.3), or the bare header."""
    if len(header) >= 2 and header[0] == header[-1] == '"':
        return header[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return header


def replaying(**options: Any) -> APIRouter:
    """A router whose changing routes honour `Idempotency-Key`; their answers go through `remember`."""
    return APIRouter(dependencies=[Depends(once)], route_class=_ReplayingRoute, **options)


class _ReplayingRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Replay as replay:
                return replay.response

        return answer
