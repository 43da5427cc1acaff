"""Keys of a utility as parts of an address: a serial may hold a slash, a per cent sign, a blank or a question mark.

Pure, but for Starlette's table of path parameters, which it changes when imported. Servers decode an address before it
is routed, and a slash inside a key then parts the address anew. Here a part keeps `/` and `%` written as `%2F` and
`%25` until it has become a parameter, which is decoded once.
"""

from urllib.parse import quote, unquote

from starlette.convertors import PathConvertor, StringConvertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send


def nameable(key: str) -> bool:
    """Whether an address can name `key`: browsers take `.` and `..` for steps of the way, however they are written."""
    return key not in (".", "..")


def segment(key: str) -> str:
    """`key` as one part of an address."""
    return quote(key, safe="")


def _kept(part: str) -> str:
    """A part of an address as it came, decoded but for the two characters that routing would misread."""
    return unquote(part).replace("%", "%25").replace("/", "%2F")


def _decoded(value: str) -> str:
    return value.replace("%2F", "/").replace("%25", "%")


class _Key(StringConvertor):
    def convert(self, value: str) -> str:
        return _decoded(value)


class _Keys(PathConvertor):
    def convert(self, value: str) -> str:
        return _decoded(value)


register_url_convertor("str", _Key())
register_url_convertor("path", _Keys())


class PartedPaths:
    """Routes an address by the parts it was written in, not by the slashes that decoding brings to light."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and b"%" in (scope.get("raw_path") or b"%"):
            written = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
            # a server that tells of no such address, or of another one, has parted the keys already
            same = unquote(written) == scope["path"]
            path = "/".join(_kept(part) for part in written.split("/")) if same else scope["path"].replace("%", "%25")
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)
