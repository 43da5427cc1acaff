"""A Mosquitto that runs the files of setup/compose with the secrets of setup/secrets: only places and ports differ."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hub.private import broker, folder, process

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for `holds`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


class ShippedBroker:
    """`start` runs it; `port` is the gateways' listener, `hub_port` the hub's, `check_port` the health check's."""

    def __init__(self, home: Path) -> None:
        self.home = home / "mosquitto"
        self.secrets = home / "secrets"
        self.port, self.hub_port, self.check_port = free_port(), free_port(), free_port()
        self._child: subprocess.Popen[bytes] | None = None
        self.make_secrets()

    def make_secrets(self, *words: str) -> str:
        """Run setup/secrets; what it prints."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "setup" / "secrets"), *words],
            env={**os.environ, "CURBSTOP_SECRETS": str(self.secrets)},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def configuration(self) -> str:
        """The shipped file with the container's places and ports exchanged for those of here."""
        text = (ROOT / "setup" / "compose" / "mosquitto.conf").read_text()
        here = {
            "listener 8883": f"listener {self.port} 127.0.0.1",
            "listener 8884": f"listener {self.hub_port} 127.0.0.1",
            "listener 1883": f"listener {self.check_port}",
            "/run/secrets/": f"{self.secrets}/",
            "/mosquitto/config/": f"{self.home}/",
            "/mosquitto/data/": f"{self.home}/",
        }
        for there, found in here.items():
            assert there in text, there
            text = text.replace(there, found)
        return text

    def start(self) -> "ShippedBroker":
        """Run it until it listens."""
        self.home.mkdir(exist_ok=True)
        self.home.chmod(0o777)
        shutil.copy(ROOT / "setup" / "compose" / "mosquitto.acl", self.home)
        (self.home / "mosquitto.conf").write_text(self.configuration())
        self.secrets.chmod(0o711)
        with (self.home.parent / "mosquitto.log").open("wb") as log:
            self._child = process.spawn(
                [broker.binary(), "-c", str(self.home / "mosquitto.conf")],
                account=folder.Account.for_server("mosquitto", "nobody"),
                dies_with=signal.SIGTERM,
                log=log,
            )
        until(lambda: accepts(self.port) and accepts(self.hub_port), "the broker")
        return self

    def stop(self) -> None:
        """End it; it keeps its queue."""
        if self._child is not None:
            process.stop(self._child, signal.SIGTERM)
        self._child = None

    def kill(self) -> None:
        """End it without a warning."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()
        self._child = None

    def files(self, name: str) -> Path:
        """The folder with a gateway's certificate, made if it has none."""
        folder_of = self.secrets / "gateways" / name
        return folder_of if folder_of.exists() else Path(self.make_secrets("gateway", name))

    def context(self, name: str | None) -> ssl.SSLContext:
        """What a gateway (None: one without certificate; "hub": the hub) speaks TLS with."""
        context = ssl.create_default_context(cafile=str(self.secrets / "mqtt_ca"))
        if name == "hub":
            context.load_cert_chain(self.secrets / "mqtt_certificate", self.secrets / "mqtt_key")
        elif name is not None:
            context.load_cert_chain(self.files(name) / "certificate.pem", self.files(name) / "key.pem")
        return context

    def client(self, name: str, *, client_id: str = "", keep_s: int = 0) -> mqtt.Client:
        """A client of that name on its way in; `keep_s` takes up its session and keeps it so many seconds."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        client.tls_set_context(self.context(name))
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = keep_s
        port = self.hub_port if name == "hub" else self.port
        client.connect("127.0.0.1", port, clean_start=not keep_s, properties=properties)
        return client

    def admits(self, context: ssl.SSLContext) -> bool:
        """Whether the broker lets in who speaks with `context`; TLS 1.3 refuses a certificate after the handshake."""
        connect = bytes.fromhex("100c00044d5154540402003c0000")
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(connect)
                answer = tls.recv(4)
        except OSError:
            return False
        return answer[:1] == b"\x20" and answer[3:4] == b"\x00"
