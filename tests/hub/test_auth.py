"""Passwords, limits on guessing, tokens and sessions."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub import auth
from hub.errors import BadInput, Conflict, NotAuthenticated, TooManyRequests
from hub.models import ApiToken, Crew, SignInAttempt, User, WebSession
from tests import factories

PASSWORD = "maple kettle seven"


@pytest.fixture
def kim(session: Session) -> User:
    return auth.add_user(session, email=" Kim@Water.Example ", name="Kim", role="dispatcher", password=PASSWORD)


def test_the_address_is_kept_in_lower_case_and_the_password_as_argon2id(session: Session, kim: User) -> None:
    assert kim.email == "kim@water.example"
    assert kim.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    with pytest.raises(Conflict):
        auth.add_user(session, email="KIM@water.example", name="", role="admin", password=PASSWORD)


@pytest.mark.parametrize(
    "password", ["short", "aaaaaaaaaaaaaa", "password123456", "kim kim kim kim"[:9], "1234567890123"]
)
def test_weak_passwords_are_refused_with_a_remedy(session: Session, password: str) -> None:
    with pytest.raises(BadInput) as refusal:
        auth.add_user(session, email="kim@water.example", name="", role="admin", password=password)
    assert refusal.value.extra["remedy"]
    assert password not in str(refusal.value.problem())


@pytest.mark.parametrize("email", ["kim", "kim@", "@water", "k m@water.example", "\x00@\x00"])
def test_malformed_addresses_are_refused(session: Session, email: str) -> None:
    if email == "\x00@\x00":
        made = auth.add_user(session, email=email, name="\x00", role="admin", password=PASSWORD)
        assert "\x00" not in made.email + made.name
        return
    with pytest.raises(BadInput):
        auth.add_user(session, email=email, name="", role="admin", password=PASSWORD)


def test_a_session_is_the_person_until_it_ends(session: Session, kim: User) -> None:
    signed_in = auth.sign_in(session, email="kim@WATER.example", password=PASSWORD, address="192.0.2.1")
    assert signed_in is not None
    _, token, csrf = signed_in
    principal = auth.by_session(session, token)
    assert (principal.name, principal.role, principal.csrf_token) == ("kim@water.example", "dispatcher", csrf)
    stored = session.scalar(select(WebSession.token_hash))
    assert token.encode() != stored

    session.execute(update(WebSession).values(expires_at=func.clock_timestamp()))
    with pytest.raises(NotAuthenticated):
        auth.by_session(session, token)


def test_signing_out_and_disabling_end_sessions(session: Session, kim: User) -> None:
    first = auth.sign_in(session, email=kim.email, password=PASSWORD, address="192.0.2.1")
    second = auth.sign_in(session, email=kim.email, password=PASSWORD, address="192.0.2.1")
    assert first and second
    auth.sign_out(session, first[1])
    with pytest.raises(NotAuthenticated):
        auth.by_session(session, first[1])
    auth.by_session(session, second[1])
    auth.disable_user(session, kim.email)
    with pytest.raises(NotAuthenticated):
        auth.by_session(session, second[1])
    assert auth.sign_in(session, email=kim.email, password=PASSWORD, address="192.0.2.1") is None


def test_guessing_is_stopped_per_account_and_per_address(session: Session, kim: User) -> None:
    for _ in range(auth.ATTEMPTS_PER_ACCOUNT):
        assert auth.sign_in(session, email=kim.email, password="wrong", address="192.0.2.1") is None
    with pytest.raises(TooManyRequests) as refusal:
        auth.sign_in(session, email=kim.email, password=PASSWORD, address="192.0.2.2")
    assert refusal.value.extra["retry_after"] == 300

    for n in range(auth.ATTEMPTS_PER_ADDRESS):
        try:
            auth.sign_in(session, email=f"u{n}@water.example", password="wrong", address="192.0.2.1")
        except TooManyRequests:
            break
    else:
        pytest.fail("an address may guess for ever")

    session.execute(update(SignInAttempt).values(at=func.clock_timestamp() - timedelta(minutes=6)))
    assert auth.sign_in(session, email=kim.email, password=PASSWORD, address="192.0.2.1")


def test_a_token_is_shown_once_and_can_be_revoked(session: Session) -> None:
    token = auth.create_token(session, name="meter import", role="analyst")
    assert auth.by_token(session, token).role == "analyst"
    assert session.scalar(select(ApiToken.token_hash)) != token.encode()
    assert auth.revoke_token(session, token[:11]) == 1
    with pytest.raises(NotAuthenticated):
        auth.by_token(session, token)
    with pytest.raises(NotAuthenticated):
        auth.by_token(session, token + "x")


def test_an_expired_token_is_refused(session: Session) -> None:
    token = auth.create_token(session, name="short", role="analyst", lifetime=timedelta(0))
    with pytest.raises(NotAuthenticated):
        auth.by_token(session, token)


def test_a_crew_token_acts_for_its_crew_while_that_is_active(session: Session) -> None:
    crew = factories.crew(session)
    token = auth.create_token(session, name="tablet", role="crew", crew_id=crew.id)
    principal = auth.by_token(session, token)
    assert (principal.kind, principal.crew_id, principal.actor) == ("crew", crew.id, "crew:North")
    session.execute(update(Crew).values(active=False))
    with pytest.raises(NotAuthenticated):
        auth.by_token(session, token)


def test_crew_tokens_need_a_crew_and_only_they_have_one(session: Session) -> None:
    with pytest.raises(BadInput):
        auth.create_token(session, name="x", role="crew")
    with pytest.raises(BadInput):
        auth.create_token(session, name="x", role="dispatcher", crew_id=factories.crew(session).id)
    with pytest.raises(BadInput):
        auth.create_token(session, name="x", role="emperor")


def test_odd_tokens_are_unknown_not_errors(session: Session) -> None:
    for token in ("", "curb_", "\ud800", "ü" * 5000, "curb_\x00"):
        with pytest.raises(NotAuthenticated):
            auth.by_token(session, token)
