"""Billing webhooks accepted per second, beside the same endpoint with the same signature check and one bare INSERT.

Both servers are one uvicorn process on one database that syncs to disk; both get the same signed messages over the same
number of connections, in turns. Compare the ratio, not machines.

    python -m benchmarks.webhooks [messages] [rounds]
"""

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from psycopg_pool import ConnectionPool
from sqlalchemy import text

from adapters.billing.signatures import new_secret, signed_headers, verify
from benchmarks._report import spread, table
from hub import migrations
from hub.api.webhooks import raw_body
from hub.app import create_app
from hub.billing import sources
from hub.db import Database, psycopg_url
from hub.private.cluster import PrivateCluster
from hub.settings import Settings
from tests.private_servers import scratch

CONNECTIONS = 16
ACCEPTED = b"HTTP/1.1 202"


def hub_app(url: str, secret: str) -> FastAPI:
    """The hub itself, its rate limit out of the way."""
    return create_app(Settings(database_url=url, webhook_rate=1_000_000))


def bare_app(url: str, secret: str) -> FastAPI:
    """The least an endpoint can do: check the signature, insert the bytes, commit, answer."""
    pool = ConnectionPool(psycopg_url(url), min_size=CONNECTIONS, max_size=CONNECTIONS, open=True)
    app = FastAPI(openapi_url=None)

    @app.post("/webhooks/billing/bench", status_code=202)
    def accept(request: Request, body: Annotated[bytes, Depends(raw_body)]) -> Response:
        webhook_id = verify([secret], request.headers, body, datetime.now(UTC))
        with pool.connection() as connection:
            connection.execute("INSERT INTO bare_event (webhook_id, body) VALUES (%s, %s)", [webhook_id, body])
        return Response(status_code=202)

    return app


APPS = {"hub": hub_app, "bare": bare_app}


def serve(name: str, url: str, secret: str) -> None:
    """Serve one of the two, and say on which port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(APPS[name](url, secret), log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def messages(secret: str, number: int, run: str) -> list[bytes]:
    """Signed requests, ready to be sent."""
    made = []
    for n in range(number):
        body = json.dumps(
            {
                "type": "account.payment_received",
                "timestamp": datetime.now(UTC).isoformat(),
                "data": {
                    "account": f"A{n % 5000}",
                    "payment": f"P{n}",
                    "amount": "42.00",
                    "past_due": "0.00",
                    "seq": n,
                },
            }
        ).encode()
        headers = signed_headers(secret, f"{run}-{n}", datetime.now(UTC), body)
        lines = [f"{key}: {value}" for key, value in headers.items()]
        head = ["POST /webhooks/billing/bench HTTP/1.1", "host: bench", "content-type: application/json", *lines]
        made.append("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
    return made


def load(port: int, requests: list[bytes]) -> float:
    """Seconds until all requests were answered with 202, over `CONNECTIONS` connections."""
    failures: list[bytes] = []
    barrier = threading.Barrier(CONNECTIONS + 1)

    def send(share: list[bytes]) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = connection.makefile("rb")
            barrier.wait()
            for request in share:
                connection.sendall(request)
                status, length = stream.readline(), 0
                while (line := stream.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)
                if not status.startswith(ACCEPTED):
                    failures.append(status)

    threads = [threading.Thread(target=send, args=(requests[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if failures:
        raise SystemExit(f"{len(failures)} messages were not accepted, e.g. {failures[0]!r}")
    return took


@contextmanager
def server(name: str, url: str, secret: str) -> Iterator[int]:
    """A server process; its port."""
    command = [sys.executable, "-m", "benchmarks.webhooks", "serve", name, url, secret]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def figures(number: int, rounds: int) -> dict[str, list[float]]:
    """Messages accepted per second, by server, one figure per round."""
    found: dict[str, list[float]] = {name: [] for name in APPS}
    with PrivateCluster(scratch()) as cluster:
        migrations.upgrade(cluster.url)
        database = Database(cluster.url)
        secret = new_secret()
        with database.transaction() as session:
            sources.add(session, name="bench", secret=secret, by="benchmark")
            session.execute(
                text(
                    "CREATE TABLE bare_event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                    " webhook_id text UNIQUE, body bytea, received_at timestamptz DEFAULT clock_timestamp())"
                )
            )
        with server("hub", cluster.url, secret) as hub_port, server("bare", cluster.url, secret) as bare_port:
            ports = {"hub": hub_port, "bare": bare_port}
            for name, port in ports.items():
                load(port, messages(secret, 200, f"warm-{name}"))
            for round_ in range(rounds):
                for name in sorted(ports, reverse=bool(round_ % 2)):
                    found[name].append(number / load(ports[name], messages(secret, number, f"{name}-{round_}")))
        database.dispose()
    return found


def main() -> None:
    """Run the rounds and print the table."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found = figures(number, rounds)
    bare = statistics.median(found["bare"])
    print(
        f"{number:,} signed messages, {CONNECTIONS} connections, {rounds} rounds in turns, median (lowest–highest):\n"
    )
    print(
        table(
            ["endpoint", "accepted per second", "of the bare one"],
            [
                [what, spread(found[name], ",.0f"), f"{statistics.median(found[name]) / bare:.2f}"]
                for name, what in (
                    ("hub", "hub: signature, duplicate check, event kept in order, 202 after the commit"),
                    ("bare", "bare: the same signature check, one INSERT, 202 after the commit"),
                )
            ],
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
