"""The receiving half of an MQTT 5 client: a session that outlives its connections, acknowledged only when told to.

No database, no hub: the socket, the keepalive and the order of things, with the wire format left to `mqtt5`. One thread
owns the socket and hands over what one read brought, hundreds of messages at a time; that is what makes it several
times faster than a client that reads, selects and sends once per message.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import mqtt5

from hub.broker_url import broker

READ_BYTES = 256 * 1024
CONNECT_SECONDS = 15.0
LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 15.0
# How often the thread looks whether the taker has room again, and whether it is to end.
LOOK_S = 0.25
_MOST_LENGTH_BYTES = 4
_PUBLISH = 3
# From here on a reason code is a refusal.
_REFUSED = 128


class Arrived(NamedTuple):
    """One message. `mid` is its packet id, 0 when it came at QoS 0 and wants no acknowledgement."""

    mid: int
    topic: str
    payload: bytes
    retained: bool
    redelivered: bool


class Lost(Exception):
    """The connection ended, or never came about; the text says why."""


class Taker(Protocol):
    """Whom a subscriber tells what happens, always on the network thread. No method may raise."""

    def arrived(self, messages: list[Arrived]) -> None:
        """What one read from the socket brought, in order."""

    def has_room(self) -> bool:
        """False lets further messages wait in the socket, and so at the broker."""
        ...

    def subscribed(self, refused: Sequence[str]) -> None:
        """The broker keeps for us what is sent from here on, but for the `refused` filters."""

    def lost(self, why: str) -> None:
        """The connection is gone: packet ids seen so far mean nothing on the next one."""


class Subscriber:
    """`start()` connects and keeps connecting; `stop()` leaves the session behind at the broker.

    `filters` are subscribed at QoS 1 without retained messages. `receive_maximum` is how many messages the broker may
    send ahead of their acknowledgements.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        filters: Sequence[str],
        taker: Taker,
        *,
        receive_maximum: int,
        most_packet_bytes: int,
        session_expiry_s: int,
        keepalive_s: int,
    ) -> None:
        at = broker(url)
        self._url = url
        self._filters, self._taker, self._keepalive_s = list(filters), taker, keepalive_s
        self._most_packet_bytes = most_packet_bytes
        self._hello = mqtt5.ConnectPacket(
            client_id,
            username=at.user,
            password=at.password.encode() if at.user and at.password else None,
            clean_start=False,
            keep_alive=keepalive_s,
            session_expiry_interval=session_expiry_s,
            receive_max=receive_maximum,
            max_packet_size=most_packet_bytes,
        ).write()
        self._out = bytearray()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)

    def start(self) -> None:
        """Connect, now and again after every loss."""
        self._thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """Send the acknowledgements that are due and disconnect; the session stays."""
        self._closing.set()
        self._nudge()
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._wake.close()
            self._woken.close()

    def acknowledge(self, mids: Iterable[int]) -> None:
        """Acknowledge messages of the present connection; the caller knows that it is still the same one."""
        acknowledgements = b"".join([mqtt5.PubAckPacket(mid).write() for mid in mids])
        with self._lock:
            self._out += acknowledgements
        self._nudge()

    def _nudge(self) -> None:
        # a full pipe has woken the thread already, a closed one has ended
        with contextlib.suppress(OSError):
            self._wake.send(b"\x00")

    def _run(self) -> None:
        pause = LEAST_PAUSE_S
        while not self._closing.is_set():
            why, begun = "closed", time.monotonic()
            try:
                with self._connect() as connection:
                    _Conversation(self, connection).hold()
            except Exception as error:
                # whatever it was, the thread lives on and connects anew
                why = str(error) or type(error).__name__
            self._taker.lost(why)
            with self._lock:
                self._out.clear()
            pause = LEAST_PAUSE_S if time.monotonic() - begun > MOST_PAUSE_S else min(MOST_PAUSE_S, pause * 2)
            self._closing.wait(pause)

    def _connect(self) -> socket.socket:
        # certificates are read anew for each connection: they may have been renewed
        at = broker(self._url)
        connection = socket.create_connection((at.host, at.port), timeout=CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection if at.tls is None else at.tls.wrap_socket(connection, server_hostname=at.host)


class _Conversation:
    """One connection from CONNECT to its end."""

    def __init__(self, owner: Subscriber, connection: socket.socket) -> None:
        self._owner, self._taker, self._connection = owner, owner._taker, connection
        self._left = b""
        self._welcome = False
        self._keepalive_s = float(owner._keepalive_s)
        self._heard = self._said = time.monotonic()

    def hold(self) -> None:
        """Serve the connection until it is lost (raises Lost, OSError) or the owner is closing."""
        owner, connection = self._owner, self._connection
        connection.sendall(owner._hello)
        connection.setblocking(False)
        poll = select.poll()
        poll.register(owner._woken, select.POLLIN)
        while True:
            room = self._taker.has_room()
            poll.register(
                connection, (select.POLLIN if room else 0) | (select.POLLOUT if owner._out and self._welcome else 0)
            )
            # bytes that TLS has decrypted already do not show in the poll
            ready = room and isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
            poll.poll(0 if ready else LOOK_S * 1000)
            with contextlib.suppress(BlockingIOError):
                owner._woken.recv(4096)
            if room:
                self._read()
            self._write()
            self._keep_alive(room)
            if owner._closing.is_set():
                with contextlib.suppress(OSError):
                    connection.sendall(mqtt5.DisconnectPacket().write())
                return

    def _read(self) -> None:
        try:
            data = self._connection.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            raise Lost("the broker closed the connection")
        self._heard = time.monotonic()
        self._take(self._left + data if self._left else data)

    def _take(self, data: bytes) -> None:
        """Read every whole packet of `data`; a part of one stays for the next read."""
        view, at, found = memoryview(data), 0, []
        publish, mid_of = mqtt5.PublishPacket, Arrived
        while at < len(data):
            try:
                packet, size = mqtt5.read(view[at:])
            except BaseException as error:
                # beside its errors the codec knows panics; what is broken must neither end the thread nor be lost
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                size = _whole(view[at:], self._owner._most_packet_bytes)
                if not size:
                    break
                found.append(_by_hand(data[at : at + size], error))
                at += size
                continue
            at += size
            if type(packet) is publish:
                found.append(
                    mid_of(packet.packet_id or 0, packet.topic, packet.payload, packet.retain, packet.duplicate)
                )
            else:
                self._answer(packet)
        self._left = data[at:]
        if found:
            self._taker.arrived(found)

    def _answer(self, packet: mqtt5.Packet) -> None:
        owner = self._owner
        if isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                raise Lost(f"the broker refuses us: {_word(packet.reason_code)}")
            self._welcome = True
            if packet.server_keep_alive:
                self._keepalive_s = float(packet.server_keep_alive)
            never = mqtt5.RetainHandling.SEND_NEVER  # retained messages are old news without an age
            wanted = [
                mqtt5.TopicFilter(
                    one, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_as_published=False, retain_handling=never
                )
                for one in owner._filters
            ]
            with owner._lock:
                owner._out += mqtt5.SubscribePacket(1, wanted).write()
        elif isinstance(packet, mqtt5.SubAckPacket):
            answers = zip(owner._filters, packet.reason_codes, strict=False)
            self._taker.subscribed([one for one, code in answers if int(code) >= _REFUSED])
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise Lost(f"the broker sends us away: {_word(packet.reason_code)}")

    def _write(self) -> None:
        owner = self._owner
        if not self._welcome or not owner._out:
            return
        with owner._lock:
            waiting = bytes(owner._out)
        try:
            sent = self._connection.send(waiting)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        with owner._lock:
            del owner._out[:sent]
        self._said = time.monotonic()

    def _keep_alive(self, listening: bool) -> None:
        now = time.monotonic()
        if not self._welcome:
            if now - self._heard > CONNECT_SECONDS:
                raise Lost("the broker does not answer")
            return
        if now - self._said > self._keepalive_s / 2:
            with self._owner._lock:
                self._owner._out += mqtt5.PingReqPacket().write()
            self._said = now
        if not listening:
            self._heard = now
        elif now - self._heard > self._keepalive_s * 1.5:
            raise Lost("the broker fell silent")


def _word(code: object) -> str:
    return str(getattr(code, "name", code)).lower()


def _whole(view: memoryview, most: int) -> int:
    """The size of the packet at the beginning of `view`, 0 while part of it is missing. Raises Lost for no packet."""
    length = 0
    for position, byte in enumerate(view[1 : 1 + _MOST_LENGTH_BYTES]):
        length |= (byte & 127) << (7 * position)
        if not byte & 128:
            size = 2 + position + length
            if size > most:
                raise Lost("the broker sent more than we take")
            return size if size <= len(view) else 0
    if len(view) > _MOST_LENGTH_BYTES:
        raise Lost("what the broker sent is no packet")
    return 0


def _by_hand(packet: bytes, error: BaseException) -> Arrived:
    """A PUBLISH that the codec refuses: its packet id, so that it can be acknowledged, and its body as the payload.

    Left alone it would be delivered again for ever and hold up everything behind it. Raises Lost for other packets.
    """
    if packet[0] >> 4 != _PUBLISH:
        raise Lost(f"what the broker sent is no packet: {error}")
    body = packet[1:]
    while body[0] & 128:
        body = body[1:]
    body = body[1:]
    length = int.from_bytes(body[:2], "big")
    topic, rest = body[2 : 2 + length], body[2 + length :]
    mid = int.from_bytes(rest[:2], "big") if packet[0] & 6 else 0
    return Arrived(mid, topic.decode("utf-8", "replace"), rest[2:] if mid else rest, False, bool(packet[0] & 8))
