"""A scripted HTTP receiver on loopback: one entry of its script per attempt, and everything it got kept for judging."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers by `script(n)`, n counting from 0: raw bytes to send, or None to stay silent until the end."""

    script: Callable[[int], bytes | None]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = _read(connection)
            if request is None:
                return
            with self._lock:
                number = len(self.requests)
                self.requests.append(request)
            answer = self.script(number)
            if answer is None:
                self.stopping.wait(60)
            else:
                connection.sendall(answer)

    def close(self) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _read(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, body = data.split(b"\r\n\r\n", 1)
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (entry.split(":", 1) for entry in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        chunk = connection.recv(65536)
        if not chunk:
            return None
        body += chunk
    return Request(line, headers, body)


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 response."""
    lines = [f"HTTP/1.1 {status} Scripted", *headers, f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def receiving(script: Callable[[int], bytes | None] | list[bytes | None]) -> Iterator[Receiver]:
    """A receiver for the length of a block. A list's last entry repeats."""
    steps = script if callable(script) else (lambda n, entries=script: entries[min(n, len(entries) - 1)])
    receiver = Receiver(steps)
    try:
        yield receiver
    finally:
        receiver.close()
