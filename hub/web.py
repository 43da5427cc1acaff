"""What every face shares: one transaction per request, who is asking, problem details, revisions, pages of lists.

The transaction dependency commits before the answer leaves (`scope="function"`): with FastAPI's default scope a commit
that fails would come after a 200.
"""

import base64
import hmac
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import orjson
import psycopg
import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import hub.paths  # noqa: F401  (every route's parameters are keys as they were written)
from hub import auth
from hub.auth import Principal
from hub.db import Database
from hub.errors import (
    CurbstopError,
    Forbidden,
    Malformed,
    NotAuthenticated,
    PreconditionRequired,
    StaleRevision,
    storable,
)
from hub.settings import Settings

log = structlog.get_logger()
SESSION_COOKIE = "curbstop_session"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def database_of(request: Request) -> Database:
    """The database of the application that serves this request."""
    database: Database = request.app.state.database
    return database


def settings_of(request: Request) -> Settings:
    """The settings of the application that serves this request."""
    settings: Settings = request.app.state.settings
    return settings


def _transaction(request: Request) -> Iterator[Session]:
    with database_of(request).transaction() as session:
        yield session


Tx = Annotated[Session, Depends(_transaction, scope="function")]
Config = Annotated[Settings, Depends(settings_of)]


class Allowed:
    """The permission of a route: the roles that may call it. Depending on it yields the `Principal`."""

    def __init__(self, *roles: str) -> None:
        self.roles = tuple(auth.check_role(role) for role in roles)

    def __call__(self, request: Request, session: Tx) -> Principal:
        principal = identify(request, session)
        if principal.role not in self.roles:
            raise Forbidden(
                f"Role {principal.role} may not do this.", remedy=f"Ask somebody who is {' or '.join(self.roles)}."
            )
        return principal


def allow(*roles: str) -> Any:
    """`who: Principal = allow("dispatcher", "supervisor")` declares who may call a route."""
    return Depends(Allowed(*roles))


class AllowedBeforehand(Allowed):
    """A permission that is looked up in a short transaction of its own.

    For a route whose body takes longer to arrive, or its work longer to do, than a transaction may wait.
    """

    def __call__(self, request: Request) -> Principal:  # type: ignore[override]
        with database_of(request).transaction() as session:
            return super().__call__(request, session)


class Public:
    """Marks a route that anybody may call, with the reason why."""

    reasons: ClassVar[dict[Callable[..., Any], str]] = {}


def public(reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator for a route that needs no sign-in (its signature or nature protects it); `reason` says why."""

    def mark(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        Public.reasons[endpoint] = reason
        return endpoint

    return mark


def session_cookie_name(request: Request) -> str:
    """`__Host-` binds the cookie to this host and to https; plain http (loopback) cannot carry that prefix."""
    return f"__Host-{SESSION_COOKIE}" if request.url.scheme == "https" else SESSION_COOKIE


def identify(request: Request, session: Session) -> Principal:
    """Who is asking, from a bearer token or a console session. Raises NotAuthenticated or Forbidden.

    A console session that changes something must also show its CSRF token and come from our own pages.
    """
    header = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return auth.by_token(session, token.strip())
    cookie = request.cookies.get(session_cookie_name(request))
    if not cookie:
        raise NotAuthenticated("This needs a sign-in or a token.", remedy="Send Authorization: Bearer … or sign in.")
    principal = auth.by_session(session, cookie)
    if request.method not in SAFE_METHODS:
        check_same_origin(request)
        if not hmac.compare_digest(
            request.headers.get(CSRF_HEADER, "").encode(), (principal.csrf_token or "").encode()
        ):
            raise Forbidden("The page is older than your session.", remedy="Load the page again, then repeat.")
    return principal


def check_same_origin(request: Request) -> None:
    """Raises Forbidden when a browser says that another site sent this request."""
    origin = request.headers.get("origin")
    if origin and origin != "null" and urlsplit(origin).netloc == request.headers.get("host"):
        return
    if origin or request.headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
        raise Forbidden("The request came from another site.", remedy="Use the hub's own pages.")


def etag(rev: int) -> str:
    """The strong entity tag of a revision."""
    return f'"{rev}"'


def if_match(request: Request) -> int | None:
    """The revision the caller saw, from `If-Match`; None for `*`. Raises PreconditionRequired or Malformed."""
    header = request.headers.get("if-match")
    if header is None:
        raise PreconditionRequired(
            "If-Match is missing.", field="If-Match", remedy='Send If-Match with the ETag you were given, e.g. "3".'
        )
    value = header.strip()
    if value == "*":
        return None
    if value.startswith("W/"):
        raise StaleRevision("A weak ETag never matches.", field="If-Match", value=value)
    text = value[1:-1] if len(value) > 2 and value[0] == value[-1] == '"' else value
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Malformed("If-Match is not an ETag of ours.", field="If-Match", value=value, remedy='Send e.g. "3".')
    return int(text)


Revision = Annotated[int | None, Depends(if_match)]


def encode_cursor(*parts: Any) -> str:
    """An opaque cursor of a list: where the next page begins."""
    return base64.urlsafe_b64encode(orjson.dumps(parts, default=str)).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """The parts of a cursor that `encode_cursor` made. Raises Malformed."""
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(parts, list) and len(parts) == length:
            return parts
    except (ValueError, UnicodeEncodeError):
        pass
    raise Malformed(
        "The cursor is not one of ours.", field="cursor", value=cursor[:80], remedy="Start without a cursor."
    )


def problem_response(error: CurbstopError) -> JSONResponse:
    """`error` as application/problem+json."""
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if "retry_after" in error.extra:
        headers["Retry-After"] = str(error.extra["retry_after"])
    return Problem(error.problem(), status_code=error.status, headers=headers)


class Problem(JSONResponse):
    """A problem document; whatever a client sent in can be shown back without breaking the encoding."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(storable(content), default=str, option=orjson.OPT_NON_STR_KEYS)


class Json(JSONResponse):
    """JSON by orjson: aware datetimes as RFC 3339 in UTC with Z, Decimal as decimal strings."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(
            content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
        )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)


def rfc3339(value: datetime) -> str:
    """`value` in UTC, as the contract writes instants."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def install_problem_handlers(app: FastAPI) -> None:
    """Turn every refusal and failure into problem details; no SQL, path or stack trace leaves the process."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, CurbstopError)
        if error.status >= 500:
            log.error("request failed", path=request.url.path, error=error.detail)
        return problem_response(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Problem(_invalid(error), status_code=422)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        document = {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": str(error.detail),
        }
        return Problem(document, status_code=error.status_code, headers=error.headers)

    async def database_trouble(request: Request, error: Exception) -> Response:
        return Problem(*_database_problem(request, error))

    for kind, handler in (
        (CurbstopError, refused),
        (RequestValidationError, invalid),
        (HTTPException, http),
        (DBAPIError, database_trouble),
        (psycopg.Error, database_trouble),
        (PoolTimeout, database_trouble),
        (StaleDataError, database_trouble),
    ):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


# What to do about the common faults of a request, by the kind pydantic gives them.
_REMEDIES = {
    "missing": "Add it.",
    "extra_forbidden": "Leave it out, or mend its name.",
    "json_invalid": "Send well-formed JSON.",
}
_SECRET = ("password", "secret", "token")
# More faults than these help nobody.
_MOST_FAULTS = 50


def _invalid(error: RequestValidationError) -> dict[str, Any]:
    """The problem of a request that does not fit its route: the first fault in full, and all of them by field."""
    faults = error.errors()[:_MOST_FAULTS]
    first = faults[0]
    where = [str(part) for part in first.get("loc", ())]
    field = ".".join(where[1:]) or "body"
    document = {
        "type": "invalid-input",
        "title": "A value cannot be taken",
        "status": 422,
        "detail": f"{'.'.join(where[1:]) or where[0] if where else 'body'}: {first['msg']}",
        "field": field,
        "remedy": _REMEDIES.get(first["type"], "See what this route takes in /openapi.json."),
        "errors": [
            {"field": ".".join(str(p) for p in fault.get("loc", ())[1:]), "message": fault["msg"]} for fault in faults
        ],
    }
    given = first.get("input")
    if isinstance(given, str | int | float | bool) and not any(word in field.lower() for word in _SECRET):
        document["value"] = str(given)[:80]
    return document


def _database_problem(request: Request, error: Exception) -> tuple[dict[str, Any], int]:
    log.warning("database refused", path=request.url.path, error=type(error).__name__, reason=str(error).split("\n")[0])
    if isinstance(error, IntegrityError | StaleDataError):
        detail = "Somebody changed the same thing at the same moment."
        return {"type": "conflict", "title": "Conflict", "status": 409, "detail": detail, "remedy": "Try again."}, 409
    if isinstance(error, OperationalError | PoolTimeout | psycopg.OperationalError) or getattr(
        error, "connection_invalidated", False
    ):
        detail = "The database does not answer at the moment."
        return {
            "type": "unavailable",
            "title": "Unavailable",
            "status": 503,
            "detail": detail,
            "remedy": "Try again.",
        }, 503
    detail = "A value in the request cannot be stored."
    return {"type": "invalid-input", "title": "A value cannot be taken", "status": 422, "detail": detail}, 422


async def _gone(request: Request, error: Exception) -> Response:
    """Whoever asked hung up before the question was complete: nobody reads this answer, and nothing went wrong here."""
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return Problem(
        {"type": "internal-error", "title": "Something went wrong inside the hub", "status": 500}, status_code=500
    )
