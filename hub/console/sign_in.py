"""Signing in and out. Writes sessions and failed attempts in the request's transaction, through `hub.auth`."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import auth
from hub.console.pages import PageRoute, plain_page
from hub.errors import CurbstopError, NotAuthenticated, TooManyRequests
from hub.models import User
from hub.web import Tx, check_same_origin, identify, public, session_cookie_name

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def _inside(path: str) -> str:
    """`path` if it stays on this hub, else the start page: a sign-in must not forward to another site."""
    leads_away = not path.startswith("/") or path.startswith(("//", "/\\")) or any(ord(c) < 32 for c in path)
    return "/" if leads_away or path.startswith("/sign-") else path


def _form(request: Request, session: Session, *, next_path: str, status_code: int = 200, **context: str) -> Response:
    nobody = session.scalar(select(User.id).limit(1)) is None
    return plain_page(
        request,
        "sign_in.html",
        status_code=status_code,
        next=_inside(next_path),
        nobody=nobody,
        email=context.get("email", ""),
        wrong=context.get("wrong", ""),
    )


@router.get("/sign-in")
@public("whoever is not signed in must be able to sign in")
def show_sign_in(request: Request, session: Tx, next: str = "/") -> Response:
    """The sign-in form; somebody who is signed in already goes on."""
    try:
        identify(request, session)
    except NotAuthenticated:
        return _form(request, session, next_path=next)
    except CurbstopError:
        pass
    return RedirectResponse(_inside(next), status_code=303)


@router.post("/sign-in")
@public("whoever is not signed in must be able to sign in; limited per account and per address")
def sign_in(
    request: Request,
    session: Tx,
    email: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Check the pair and start a session."""
    check_same_origin(request)
    address = request.client.host if request.client else "unknown"
    try:
        found = auth.sign_in(session, email=email, password=password, address=address)
    except TooManyRequests as error:
        wrong = f"{error.detail} {error.extra.get('remedy', '')}"
        return _form(request, session, next_path=next, status_code=429, email=email, wrong=wrong)
    if found is None:
        wrong = "The e-mail address and the password do not belong together."
        return _form(request, session, next_path=next, status_code=401, email=email, wrong=wrong)
    user, token, _ = found
    if user.role == "crew":
        auth.sign_out(session, token)
        wrong = "The console is for the office. Crews work with their own app and token."
        return _form(request, session, next_path=next, status_code=403, email=email, wrong=wrong)
    target = _inside(next)
    if user.role == "analyst" and target == "/":
        target = "/zones"
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        session_cookie_name(request),
        token,
        max_age=auth.SESSION_HOURS * 3600,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
    return response


@router.post("/sign-out")
@public("ends only the session whose cookie it was sent with; another site cannot send it")
def sign_out(request: Request, session: Tx) -> Response:
    """End the session and forget its cookie."""
    check_same_origin(request)
    name = session_cookie_name(request)
    if token := request.cookies.get(name):
        auth.sign_out(session, token)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(name, path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax")
    return response
