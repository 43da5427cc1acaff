"""Who is asking: people with passwords and sessions, programs with tokens, and the role each acts in.

Writes users, sessions, tokens and sign-in attempts in the caller's transaction. Passwords are kept as argon2id, tokens
and sessions as SHA-256; none of them ever appears in a log or an answer after it was first shown. Sessions and tokens
live by real time, not business time.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from hub.errors import BadInput, Conflict, NotAuthenticated, NotFound, TooManyRequests, storable_text
from hub.models import ApiToken, Crew, SignInAttempt, User, WebSession
from hub.models.people import ROLES

TOKEN_PREFIX = "curb_"  # noqa: S105  (lets secret scanners recognise a leaked token)
SESSION_HOURS = 12
PASSWORD_MIN_LENGTH = 10
# OWASP Application Security Verification Standard 5, 6.3.1: limits that stop guessing but not a person with a typo.
ATTEMPTS_PER_ACCOUNT = 5
ATTEMPTS_PER_ADDRESS = 20
ATTEMPT_WINDOW = timedelta(minutes=5)
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
# verified when no such user exists, so that a guess takes as long as for one that does
_DECOY_HASH = _hasher.hash(secrets.token_hex(16))


@dataclass(frozen=True)
class Principal:
    """Somebody or something that is allowed in, in one role.

    `kind` is user, token or crew (a token that acts for a crew); `csrf_token` is set for a console session.
    """

    kind: str
    id: UUID
    name: str
    role: str
    crew_id: UUID | None = None
    source_id: UUID | None = None
    csrf_token: str | None = None

    @property
    def actor(self) -> str:
        """How the change log names this principal."""
        return f"{self.kind}:{self.name}"


def check_role(role: str) -> str:
    """`role` if it is one of the six; raises BadInput."""
    if role not in ROLES:
        raise BadInput(
            f"There is no role {role!r}.", field="role", value=role, remedy=f"Use one of {', '.join(ROLES)}."
        )
    return role


def add_user(session: Session, *, email: str, name: str, role: str, password: str) -> User:
    """A new person. Raises BadInput for a malformed address or a weak password, Conflict when the address is taken."""
    email = storable_text(email.strip().lower())
    if not _EMAIL.match(email):
        raise BadInput(
            "That is not an e-mail address.", field="email", value=email, remedy="Write it as name@example.org."
        )
    check_role(role)
    check_password(password, email)
    if session.scalar(select(User.id).where(User.email == email)):
        raise Conflict(f"There is already a user {email}.", field="email", value=email)
    user = User(email=email, name=storable_text(name.strip()) or email, role=role, password_hash=_hasher.hash(password))
    session.add(user)
    session.flush()
    return user


def check_password(password: str, email: str) -> None:
    """Raises BadInput for a password that is short, a single repeated character, or made from the address."""
    if len(password) < PASSWORD_MIN_LENGTH:
        raise BadInput(
            f"The password has {len(password)} characters.",
            field="password",
            remedy=f"Use at least {PASSWORD_MIN_LENGTH}; a few unrelated words are easy to remember.",
        )
    lowered = password.lower()
    local = email.split("@")[0]
    if (
        len(set(lowered)) < 4
        or (len(local) > 3 and local in lowered)
        or lowered.startswith(("password", "1234567890", "qwertyuiop"))
    ):
        raise BadInput("The password is easy to guess.", field="password", remedy="Use a few unrelated words.")


def sign_in(session: Session, *, email: str, password: str, address: str) -> tuple[User, str, str] | None:
    """(user, session token, CSRF token), or None when the pair is wrong (the attempt is then recorded: commit it).

    Raises TooManyRequests after five failures for an account or twenty from an address within five minutes.
    """
    email = storable_text(email.strip().lower())[:320]
    since = func.clock_timestamp() - ATTEMPT_WINDOW
    recent = select(func.count()).select_from(SignInAttempt).where(SignInAttempt.at > since)
    for column, value, limit in (
        (SignInAttempt.email, email, ATTEMPTS_PER_ACCOUNT),
        (SignInAttempt.address, address, ATTEMPTS_PER_ADDRESS),
    ):
        if session.scalar(recent.where(column == value)) >= limit:  # type: ignore[operator]
            raise TooManyRequests(
                "Too many failed attempts to sign in.", remedy="Wait five minutes, then try again.", retry_after=300
            )
    user = session.scalar(select(User).where(User.email == email, User.disabled_at.is_(None)))
    if not _verify(user.password_hash if user else _DECOY_HASH, password) or user is None:
        session.execute(insert(SignInAttempt).values(email=email, address=address))
        return None
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    session.execute(
        insert(WebSession).values(
            token_hash=_digest(token),
            user_id=user.id,
            csrf_token=csrf,
            expires_at=func.clock_timestamp() + timedelta(hours=SESSION_HOURS),
        )
    )
    session.execute(delete(SignInAttempt).where(SignInAttempt.email == email))
    return user, token, csrf


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False


def sign_out(session: Session, token: str) -> None:
    """End a console session."""
    session.execute(delete(WebSession).where(WebSession.token_hash == _digest(token)))


def by_session(session: Session, token: str) -> Principal:
    """The person behind a session cookie. Raises NotAuthenticated."""
    row = session.execute(
        select(User.id, User.email, User.role, WebSession.csrf_token)
        .join(User, User.id == WebSession.user_id)
        .where(
            WebSession.token_hash == _digest(token),
            WebSession.expires_at > func.clock_timestamp(),
            User.disabled_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        raise NotAuthenticated("Your session has ended.", remedy="Sign in again.")
    return Principal("user", row.id, row.email, row.role, csrf_token=row.csrf_token)


def create_token(
    session: Session,
    *,
    name: str,
    role: str,
    crew_id: UUID | None = None,
    source_id: UUID | None = None,
    lifetime: timedelta | None = None,
) -> str:
    """A new API token, returned this one time. A crew token needs a crew, and only a crew token has one."""
    check_role(role)
    if (role == "crew") != (crew_id is not None):
        raise BadInput(
            "A token of role crew acts for one crew, and no other token does.",
            field="crew",
            remedy="Name the crew with --crew.",
        )
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    session.execute(
        insert(ApiToken).values(
            name=storable_text(name),
            role=role,
            prefix=token[: len(TOKEN_PREFIX) + 6],
            token_hash=_digest(token),
            crew_id=crew_id,
            source_id=source_id,
            expires_at=None if lifetime is None else func.clock_timestamp() + lifetime,
        )
    )
    return token


def revoke_token(session: Session, prefix: str) -> int:
    """Revoke every token that begins with `prefix`; how many there were."""
    result = session.execute(
        update(ApiToken)
        .where(ApiToken.prefix == prefix, ApiToken.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
        .returning(ApiToken.id)
    )
    return len(result.all())


def by_token(session: Session, token: str) -> Principal:
    """The program behind a bearer token. Raises NotAuthenticated for an unknown, expired or revoked one."""
    row = session.execute(
        select(
            ApiToken.id,
            ApiToken.name,
            ApiToken.role,
            ApiToken.crew_id,
            ApiToken.source_id,
            Crew.name.label("crew_name"),
        )
        .outerjoin(Crew, Crew.id == ApiToken.crew_id)
        .where(
            ApiToken.token_hash == _digest(token),
            ApiToken.revoked_at.is_(None),
            (ApiToken.expires_at.is_(None)) | (ApiToken.expires_at > func.clock_timestamp()),
            (Crew.id.is_(None)) | Crew.active,
        )
    ).one_or_none()
    if row is None:
        raise NotAuthenticated(
            "The token is unknown, expired or revoked.", remedy="Make one with `curbstop token create`."
        )
    kind, name = ("crew", row.crew_name) if row.crew_id else ("token", row.name)
    return Principal(kind, row.id, name, row.role, crew_id=row.crew_id, source_id=row.source_id)


def disable_user(session: Session, email: str) -> None:
    """Nobody signs in as this person any more; open sessions end. Raises NotFound."""
    found = session.scalar(
        update(User)
        .where(User.email == email.strip().lower(), User.disabled_at.is_(None))
        .values(disabled_at=func.clock_timestamp())
        .returning(User.id)
    )
    if found is None:
        raise NotFound(f"There is no active user {email}.", field="email", value=email)
    session.execute(delete(WebSession).where(WebSession.user_id == found))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
