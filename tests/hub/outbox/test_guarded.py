"""The guarded client: what it refuses before a byte leaves, and what it bears from the other side."""

import contextlib
import csv
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from hub.guarded import LONGEST_BODY, Guard, Refused, Unreachable
from tests.hub.outbox.receivers import answer, receiving

PUBLIC = "93.184.215.14"
LOOPBACK = ["127.0.0.0/8", "::1/128"]


def guard(*answers: str, allowed: list[str] | None = None) -> Guard:
    """A guard whose every name has the given addresses; literals are themselves, as for the system's resolver."""

    def resolve(host: str, port: int) -> list[str]:
        try:
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]
        except socket.gaierror:
            return list(answers)

    return Guard(allowed or [], resolve=resolve)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.7", "198.18.0.1", "198.51.100.1",
        "203.0.113.9", "192.88.99.1", "192.0.0.8", "::", "::1", "::127.0.0.1", "::10.1.2.3",
        "::ffff:127.0.0.1", "::ffff:10.0.0.5",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:5", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:a00:5::1", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
        "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "100::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
def test_an_address_off_the_public_internet_is_refused(address):
    with pytest.raises(Refused):
        guard(address).candidates("hooks.example.com", 443, "https")
    with pytest.raises(Refused):
        guard(PUBLIC, address).candidates("hooks.example.com", 443, "https")


@pytest.mark.parametrize("address", [PUBLIC, "2606:4700::6810:84e5", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"])
@pytest.mark.parametrize("port", [443, 8443])
def test_a_public_address_may_be_called_by_https(address, port):
    assert guard(address).candidates("hooks.example.com", port, "https") == [address]


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("http", 443), ("https", 22), ("https", 80)])
def test_http_and_other_ports_are_for_named_networks_only(scheme, port):
    with pytest.raises(Refused):
        guard(PUBLIC).candidates("hooks.example.com", port, scheme)
    named = guard("10.1.2.3", allowed=["10.1.0.0/16"])
    assert named.candidates("billing.internal", port, scheme) == ["10.1.2.3"]
    with pytest.raises(Refused):
        guard("10.1.2.3", PUBLIC, allowed=["10.1.0.0/16"]).candidates("billing.internal", port, scheme)


def test_a_mapped_address_is_inside_the_network_of_its_ipv4():
    assert guard("::ffff:10.1.2.3", allowed=["10.0.0.0/8"]).candidates("x", 80, "http") == ["::ffff:10.1.2.3"]


@pytest.mark.parametrize("wide", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/0", "::/0"]])
def test_loopback_must_be_named_itself_and_link_local_never_passes(wide):
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        with pytest.raises(Refused):
            guard(address, allowed=wide).candidates("x", 443, "https")
        assert guard(address, allowed=LOOPBACK).candidates("x", 80, "http") == [address]
    for address in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1"):
        with pytest.raises(Refused):
            guard(address, allowed=[*wide, "169.254.0.0/16", "fe80::/10"]).candidates("x", 443, "https")


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks", "//hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd", "https://", "https:///x",
        "https://user:pass@hooks.example.com/", "https://user@hooks.example.com/", "gopher://x/", "https://x:0/",
        "https://x:99999/", "https://[::1", "https://a b/", "https://exa\nmple.com/", "javascript:alert(1)", "https://\x00/",
        "https://127.0.0.1/", "https://[::1]/", "http://93.184.215.14/", "https://10.0.0.5/", "https://[::ffff:127.0.0.1]/",
    ],
)  # fmt: skip
def test_an_address_that_can_never_work_is_refused_when_typed_and_when_called(url):
    with pytest.raises(Refused):
        guard(PUBLIC).check(url)
    with pytest.raises(Refused):
        guard(PUBLIC).post(url, content=b"{}", headers={})


@pytest.mark.parametrize(
    "url", ["https://2130706433/", "https://0x7f.1/", "https://017700000001/", "https://localhost/"]
)
def test_other_spellings_of_loopback_reach_nothing(url):
    with pytest.raises((Refused, Unreachable)):
        Guard().post(url, content=b"{}", headers={})


def test_public_examples():
    path = Path(os.environ.get("CURBSTOP_SAMPLES", "/nonexistent")) / "reliability/ssrf_public_examples.csv"
    if not path.exists():
        pytest.skip("CURBSTOP_SAMPLES is not set")
    for row in csv.DictReader(path.read_text().splitlines()):
        if not row["target"].startswith(("http", "ftp")) or " " in row["target"]:
            continue
        url = row["target"]
        host = url.split("/")[2]
        try:
            judge = guard(PUBLIC) if "example.com" in host else Guard()
            judge.check(url)
            if row["expect"] != "allow":
                judge.post(url, content=b"", headers={})
            verdict = "allow"
        except Refused:
            verdict = "block"
        assert verdict == row["expect"].split()[0], row


def test_the_address_that_was_judged_is_the_one_that_is_dialled():
    answers = iter([["127.0.0.1"], ["10.0.0.5"]])
    with receiving([answer(200)]) as receiver:
        changing = Guard(["127.0.0.1/32"], resolve=lambda host, port: next(answers))
        got = changing.post(f"http://billing.example:{receiver.port}/hooks?a=b", content=b"{}", headers={"x-a": "b"})
        assert got.status == 200
        assert receiver.requests[0].line == "POST /hooks?a=b HTTP/1.1"
        assert receiver.requests[0].headers["host"] == f"billing.example:{receiver.port}"
        assert receiver.requests[0].headers["x-a"] == "b"
        with pytest.raises(Refused):
            changing.post(f"http://billing.example:{receiver.port}/hooks", content=b"{}", headers={})
        assert len(receiver.requests) == receiver.connections == 1


def test_a_refused_address_gets_no_connection():
    with receiving([answer(200)]) as receiver:
        with pytest.raises(Refused):
            Guard(["10.0.0.0/8"]).post(receiver.url, content=b"{}", headers={})
        assert receiver.connections == 0


def test_redirects_are_answers_and_environment_proxies_are_not_used(monkeypatch):
    with receiving([answer(200)]) as other, receiving([answer(302, f"location: {other.url}")]) as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        got = Guard(LOOPBACK).post(receiver.url, content=b"{}", headers={})
        assert got.status == 302
        assert other.connections == 0


def test_one_deadline_bounds_silence_and_trickle():
    stop = threading.Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"x-filler: y\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=trickle, args=(server,))
        sender.start()
        started = time.monotonic()
        with pytest.raises(Unreachable):
            Guard(LOOPBACK).get(f"http://127.0.0.1:{server.getsockname()[1]}/", total=1.0)
        stop.set()
        sender.join()
        assert time.monotonic() - started >= 1.0
    with receiving([None]) as receiver, pytest.raises(Unreachable):
        Guard(LOOPBACK).get(receiver.url, total=0.5)


def test_a_name_that_never_resolves_does_not_hang_the_call():
    waiting = threading.Event()
    stuck = Guard(resolve=lambda host, port: [str(waiting.wait(60))])
    with pytest.raises(Unreachable):
        stuck.get("https://hooks.example.com/", total=0.3)
    waiting.set()


def test_a_status_line_counts_even_when_the_body_breaks_off():
    broken = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nshort"
    with receiving([broken]) as receiver:
        got = Guard(LOOPBACK).post(receiver.url, content=b"{}", headers={})
    assert (got.status, got.body, got.complete) == (200, b"short", False)


def test_no_more_than_64_kb_are_read():
    with receiving([answer(200, body=b"x" * (LONGEST_BODY + 1))]) as receiver:
        got = Guard(LOOPBACK).get(receiver.url)
    assert len(got.body) == LONGEST_BODY
    assert not got.complete
    with receiving([answer(200, body=b"x" * LONGEST_BODY)]) as receiver:
        assert Guard(LOOPBACK).get(receiver.url).complete


@pytest.mark.parametrize("rubbish", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100])
def test_rubbish_is_unreachable_and_never_a_foreign_error(rubbish):
    with receiving([rubbish]) as receiver, pytest.raises(Unreachable):
        Guard(LOOPBACK).post(receiver.url, content=b"{}", headers={})


def test_tls_is_verified():
    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"220 not tls at all\r\n")
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        greeter = threading.Thread(target=greet, args=(server,))
        greeter.start()
        with pytest.raises(Unreachable, match="TLS"):
            Guard(LOOPBACK).get(f"https://127.0.0.1:{server.getsockname()[1]}/")
        greeter.join()


def test_a_closed_port_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        Guard(LOOPBACK).get(f"http://127.0.0.1:{port}/")
