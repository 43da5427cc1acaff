"""Signing in over plain HTTP: the cookie, where it leads, what keeps other sites and guessers out."""

import httpx
import pytest

from hub import auth
from tests.conftest import Live

PASSWORD = "three unrelated words"


@pytest.fixture
def people(live: Live) -> None:
    """A dispatcher, an analyst and somebody of a crew."""
    with live.database.transaction() as session:
        for role in ("dispatcher", "analyst", "crew"):
            auth.add_user(session, email=f"{role}@example.org", name=role, role=role, password=PASSWORD)


def enter(client: httpx.Client, role: str = "dispatcher", *, password: str = PASSWORD, **more: str) -> httpx.Response:
    """Send the form."""
    return client.post("/sign-in", data={"email": f"{role}@example.org", "password": password, **more})


def test_without_users_the_page_says_how_to_make_one(live: Live) -> None:
    page = live.client().get("/sign-in")
    assert page.status_code == 200
    assert "curbstop user add" in page.text


def test_session_cookie_opens_pages_and_the_api_until_sign_out(live: Live, people: None) -> None:
    client = live.client()
    answer = enter(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert client.get("/api/v1/work-orders").status_code == 200
    client.post("/sign-out")
    assert client.get("/api/v1/work-orders").status_code == 401


def test_over_https_the_cookie_is_bound_to_the_host(live: Live, people: None) -> None:
    client = live.client()
    client.headers["X-Forwarded-Proto"] = "https"
    cookie = enter(client).headers["set-cookie"]
    assert cookie.startswith("__Host-curbstop_session=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


def test_changes_need_the_token_of_the_page_and_its_own_site(live: Live, people: None) -> None:
    client = live.client()
    enter(client)
    token = client.get("/").text.split('data-csrf="')[1].split('"')[0]
    body = {"name": "North"}
    assert client.post("/api/v1/crews", json=body).status_code == 403
    elsewhere = {"X-CSRF-Token": token, "Origin": "https://elsewhere.example"}
    assert client.post("/api/v1/crews", json=body, headers=elsewhere).status_code == 403
    assert client.post("/api/v1/crews", json=body, headers={"X-CSRF-Token": token}).status_code == 201
    assert client.post("/sign-in", data={}, headers={"Origin": "https://elsewhere.example"}).status_code == 403


@pytest.mark.parametrize(
    ("asked", "leads"),
    [
        ("/accounts/A1?x=1", "/accounts/A1?x=1"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("https://elsewhere.example", "/"),
        ("/\t/elsewhere.example", "/"),
        ("/sign-out", "/"),
    ],
)
def test_sign_in_leads_only_into_the_hub(live: Live, people: None, asked: str, leads: str) -> None:
    assert enter(live.client(), next=asked).headers["location"] == leads


def test_roles_find_their_page(live: Live, people: None) -> None:
    assert enter(live.client(), "analyst").headers["location"] == "/zones"
    refused = enter(live.client(), "crew")
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


def test_guessing_is_slowed_down(live: Live, people: None) -> None:
    client = live.client()
    answers = [enter(client, password="wrong, wrong, wrong").status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
    assert enter(client).status_code == 429


def test_nothing_typed_breaks_the_page(live: Live, people: None) -> None:
    client = live.client()
    for email in ("\x00", "a" * 5000, "%ED%A0%80", "<script>"):
        assert client.post("/sign-in", data={"email": email, "password": "\x00"}).status_code == 401
    assert client.post("/sign-in", content=b"\xff\xfe=1").status_code == 401
    assert "<script>alert" not in client.post("/sign-in", data={"email": "<script>alert", "password": "x"}).text
