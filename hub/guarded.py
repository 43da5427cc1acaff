"""The only HTTP client to other people's servers: billing endpoints, balance checks, forecasts.

Writes nothing. Addresses come from settings that people type, so a call is refused unless it goes over https, on port
443 or 8443, to a public address — or into a network that the utility itself named. The name is resolved here, every
address it has is judged, and the very address that was judged is dialled; nothing is followed, no proxy of the
environment is used, and one deadline bounds the whole exchange, resolving and reading included.
"""

import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from hub.errors import BadInput, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 20.0
LONGEST_BODY = 64 * 1024
PUBLIC_PORTS = frozenset({443, 8443})
_WRITE_SLICE = 16 * 1024

_HOST = re.compile(rb"[A-Za-z0-9._:-]{1,253}")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Reserved for documentation, routing or transition, and yet "global" to Python's own tables.
_NEVER_PUBLIC: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv6Network("2001::/23"),
    ipaddress.IPv6Network("3fff::/20"),
)


class Refused(BadInput):
    """The address may not be called. Nothing was sent."""

    kind, title = "address-refused", "The hub does not call this address"


class Unreachable(Unavailable):
    """No status line came back: no such name, no connection, broken TLS, or the deadline passed."""

    kind, title = "unreachable", "The other side could not be reached"


@dataclass(frozen=True)
class Answer:
    """What came back. `body` holds at most 64 kB; `complete` is false when there was more or it broke off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


@dataclass
class _Deadline:
    """A point in time that every step of one exchange must respect."""

    seconds: float
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.seconds

    def left(self, most: float | None = None) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise Unreachable(f"No complete answer within {self.seconds:g} s.")
        return left if most is None else min(left, most)


class Guard:
    """Judges addresses, and calls the ones that pass. Safe to share between threads.

    `allowed` are the networks (CIDRs) that may be reached besides the public internet, also by http and on other
    ports. Link-local is never reachable; loopback only when a network inside loopback is named.
    """

    def __init__(self, allowed: Iterable[str] = (), *, resolve: Resolver | None = None) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(entry, strict=False) for entry in allowed)
        self._resolve = resolve or _system_resolver
        self._tls = httpx.create_ssl_context()

    def check(self, url: str) -> None:
        """Refuse at once what no network makes right: for the moment when a person types an address.

        Names are not resolved here, since what they point to is judged at every call. Raises Refused.
        """
        parsed = _parse(url)
        try:
            address = ipaddress.ip_address(parsed.host)
        except ValueError:
            return
        self._judge(address, parsed.scheme, _port(parsed))

    def post(self, url: str, *, content: bytes, headers: Mapping[str, str], total: float = TOTAL_SECONDS) -> Answer:
        """POST `content`. Raises Refused or Unreachable; every status, redirects included, is an Answer."""
        return self._exchange("POST", url, headers, content, total)

    def get(self, url: str, *, headers: Mapping[str, str] | None = None, total: float = TOTAL_SECONDS) -> Answer:
        """GET. Raises Refused or Unreachable; every status, redirects included, is an Answer."""
        return self._exchange("GET", url, headers or {}, b"", total)

    def candidates(self, host: str, port: int, scheme: str, deadline: float = TOTAL_SECONDS) -> list[str]:
        """The addresses of `host`, all of which may be dialled. Raises Refused when a single one may not."""
        return self._candidates(host, port, scheme, _Deadline(deadline))

    def _candidates(self, host: str, port: int, scheme: str, deadline: _Deadline) -> list[str]:
        found: list[str] = []
        for text in _within(deadline, lambda: self._resolve(host, port), host):
            self._judge(ipaddress.ip_address(text), scheme, port)
            if text not in found:
                found.append(text)
        if not found:
            raise Unreachable(f"The name {host} has no address.")
        return found

    def _judge(self, address: Address, scheme: str, port: int) -> None:
        bare = _unwrapped(address)
        if any(a.is_link_local or a.is_multicast or a.is_unspecified for a in (address, bare)) or _reserved(bare):
            raise Refused(f"{address} is an address the hub never calls.", remedy="Give an address of a server.")
        inside = any(bare.version == net.version and bare in net for net in self._allowed)
        if bare.is_loopback:
            inside = any(bare.version == net.version and bare in net and net.is_loopback for net in self._allowed)
        if inside:
            return
        if not _public(bare):
            raise Refused(
                f"{address} is not on the public internet.",
                remedy="If it is yours, name its network in CURBSTOP_ALLOW_PRIVATE_ENDPOINTS.",
            )
        if scheme != "https" or port not in PUBLIC_PORTS:
            raise Refused(
                f"{scheme} on port {port} is not allowed to the public internet.",
                remedy="Use https on port 443 or 8443.",
            )

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], content: bytes, total: float) -> Answer:
        deadline = _Deadline(total)
        parsed = _parse(url)
        backend = _Backend(self, parsed.scheme, deadline)
        target = httpcore.URL(
            scheme=parsed.raw_scheme, host=parsed.raw_host, port=_port(parsed), target=parsed.raw_path or b"/"
        )
        # The name as typed goes into Host and TLS; a connection serves one exchange, so that each one is judged anew.
        sent = {"host": parsed.netloc.decode("ascii"), "user-agent": "curbstop", "connection": "close", **headers}
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._tls, max_connections=1, network_backend=backend, retries=0
                ) as pool,
                pool.stream(method, target, headers=list(sent.items()), content=content) as response,
            ):
                body, complete = _read(response)
                named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return Answer(response.status, named, body, complete)
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise Unreachable(f"{parsed.host} did not answer within {total:g} s.") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            raise Unreachable(f"{parsed.host} could not be reached: {_why(error)}.") from error
        except (UnicodeError, ValueError) as error:
            raise Refused("The request could not be written down as HTTP.") from error


class _Backend(httpcore.NetworkBackend):
    """Dials only judged addresses, and puts the one deadline on every step."""

    def __init__(self, guard: Guard, scheme: str, deadline: _Deadline) -> None:
        self._guard, self._scheme, self._deadline = guard, scheme, deadline
        self._sync = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._guard._candidates(host, port, self._scheme, self._deadline)
        until = _Deadline(CONNECT_SECONDS)
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = self._sync.connect_tcp(address, port, timeout=self._deadline.left(until.left()))
                return _Stream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise Refused("Only servers on a network are called.")


class _Stream(httpcore.NetworkStream):
    """A stream whose every operation gets no more than what is left of the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_SLICE):
            self._inner.write(buffer[start : start + _WRITE_SLICE], self._deadline.left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        port = parsed.port
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise Refused("This is not a web address.", remedy="Write it like https://billing.example.org/x.") from error
    if parsed.scheme not in ("http", "https") or not _HOST.fullmatch(parsed.raw_host):
        raise Refused("Only https addresses of servers are called (http inside networks that were named).")
    if port is not None and not 0 < port < 65536:
        raise Refused(f"There is no port {port}.")
    if parsed.userinfo:
        raise Refused("An address must not carry a user name or password.", remedy="Remove everything before the @.")
    return parsed


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _read(response: httpcore.Response) -> tuple[bytes, bool]:
    """The body up to 64 kB. A status line has been received: whatever breaks later does not undo it."""
    body = b""
    try:
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                return body[:LONGEST_BODY], False
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError, Unreachable):
        return body, False
    return body, True


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside a mapped, NAT64, 6to4 or compatible IPv6 address; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _reserved(address: Address) -> bool:
    """Addresses that can be nobody's server, whatever network a person names: 0/8, 240/4 and the broadcast."""
    return isinstance(address, ipaddress.IPv4Address) and (address.is_reserved or int(address) < 1 << 24)


def _public(address: Address) -> bool:
    if not address.is_global or any(address.version == net.version and address in net for net in _NEVER_PUBLIC):
        return False
    return address.version == 4 or address in _GLOBAL_UNICAST


def _system_resolver(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


def _within(deadline: _Deadline, resolve: Callable[[], Sequence[str]], host: str) -> Sequence[str]:
    """The system's resolver knows no deadline of ours, so it runs aside and is left behind when it is too slow."""
    answer: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolve())
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        result = answer.get(timeout=deadline.left(CONNECT_SECONDS))
    except queue.Empty:
        raise Unreachable(f"The name {host} was not resolved within {CONNECT_SECONDS:g} s.") from None
    if isinstance(result, Exception):
        raise Unreachable(f"The name {host} could not be resolved.") from result
    return result


def _why(error: Exception) -> str:
    """What a person may read of a network failure: no address that the name hides, no library's name."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or 'handshake'})"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    broken = isinstance(error, httpcore.NetworkError | OSError)
    return "the connection broke" if broken else "it does not speak HTTP/1.1"
