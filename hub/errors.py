"""The one error base. Every rule that says no raises a child of it; `hub.web` turns it into RFC 9457 problem details.

Writes nothing. The text of an error is read by people outside: it names the field, the value and what to do next, and
never carries SQL, a path of the server or a stack trace.
"""

import re
from typing import Any, ClassVar

_SURROGATE = re.compile("[\ud800-\udfff]")
DEEPEST = 64


class CurbstopError(Exception):
    """A refusal with its HTTP status, a stable `type` and a sentence a clerk can act on.

    `extra` members are added to the problem document as they are (JSON values).
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside the hub"

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        value: Any = None,
        remedy: str | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: dict[str, Any] = dict(extra)
        if field is not None:
            self.extra["field"] = field
        if value is not None and (shown := _shown(value)) is not None:
            self.extra["value"] = shown
        if remedy is not None:
            self.extra["remedy"] = remedy

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 document of this refusal."""
        return {"type": self.kind, "title": self.title, "status": self.status, "detail": self.detail, **self.extra}


class BadInput(CurbstopError):
    """A value that cannot be taken as it stands."""

    status, kind, title = 422, "invalid-input", "A value cannot be taken"


class Malformed(BadInput):
    """A request that is not even well formed (bad cursor, bad header, broken encoding)."""

    status, kind, title = 400, "malformed-request", "The request is not well formed"


class NotAuthenticated(CurbstopError):
    """Nobody is signed in, or the token is unknown, expired or revoked."""

    status, kind, title = 401, "not-authenticated", "Sign in first"


class Forbidden(CurbstopError):
    """The caller is known and may not do this."""

    status, kind, title = 403, "forbidden", "Not allowed for this role"


class NotFound(CurbstopError):
    """No such thing, or not one this caller may know of."""

    status, kind, title = 404, "not-found", "No such thing"


class Conflict(CurbstopError):
    """The state of the thing does not allow this now."""

    status, kind, title = 409, "conflict", "The present state does not allow this"


class IllegalTransition(Conflict):
    """A step that the life cycle of a work order does not have."""

    kind, title = "illegal-transition", "The life cycle does not have this step"


class Gone(CurbstopError):
    """Something that was there and cannot be continued (an expired cursor or permit)."""

    status, kind, title = 410, "gone", "No longer valid"


class StaleRevision(CurbstopError):
    """`If-Match` named an older revision; `current` in the problem is the present one."""

    status, kind, title = 412, "stale-revision", "Somebody changed this in the meantime"


class TooLarge(CurbstopError):
    """A body beyond the limit of its route."""

    status, kind, title = 413, "too-large", "The body is too large"


class PreconditionRequired(CurbstopError):
    """A verb that changes an order came without `If-Match`."""

    status, kind, title = 428, "precondition-required", "Say which revision you saw"


class TooManyRequests(CurbstopError):
    """A rate limit; `retry_after` seconds go into the `Retry-After` header."""

    status, kind, title = 429, "too-many-requests", "Slow down"


class Unavailable(CurbstopError):
    """A part the hub needs is not there at the moment (database, broker, storage)."""

    status, kind, title = 503, "unavailable", "A needed part is not available"


class ConfigurationError(CurbstopError):
    """A setting that cannot work; shown to the person who starts the hub."""

    kind, title = "configuration", "The configuration cannot work"


def _shown(value: Any) -> Any:
    """A refused value as an answer can repeat it; None for one that no JSON reader would take."""
    try:
        return storable(value)
    except BadInput:
        return None


def storable_text(text: str) -> str:
    """`text` as PostgreSQL can keep it: NUL and lone surrogates, which JSON may carry, become U+FFFD."""
    if "\x00" not in text and not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("\ufffd", text.replace("\x00", "\ufffd"))


def storable(value: Any, depth: int = 0) -> Any:
    """A JSON value as it can be kept: every text in it, keys included, passed through `storable_text`.

    Raises BadInput for an integer of more than 64 bits, which not every reader of JSON takes, and for a value nested
    more than 64 levels deep.
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadInput("A whole number is too large.", remedy="Whole numbers have 64 bits; write longer ones as text.")
    if depth > DEEPEST and isinstance(value, dict | list | tuple):
        raise BadInput(f"A value is nested more than {DEEPEST} levels deep.", remedy="Send a flatter value.")
    if isinstance(value, dict):
        return {storable(k): storable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [storable(v, depth + 1) for v in value]
    return value
