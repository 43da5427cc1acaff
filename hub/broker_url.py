"""The address of an MQTT broker: host, port, login and, for `mqtts`, the certificates of both sides. Reads files.

`mqtt://user:password@host:1883`, or `mqtts://host:8883?ca=FILE&cert=FILE&key=FILE` with the authority that signed the
broker's certificate (else those of the system) and a certificate of our own (else the login, if any).
"""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from hub.errors import ConfigurationError

_FILES = {"ca", "cert", "key"}


class Broker(NamedTuple):
    """Where a broker is and how to speak to it."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


def broker(url: str) -> Broker:
    """The broker at `url`. Raises ConfigurationError for an address or files that cannot be used."""
    parts = urlsplit(url)
    secure = parts.scheme in ("mqtts", "ssl")
    try:
        port = parts.port or (8883 if secure else 1883)
    except ValueError:
        port = 0
    if not (secure or parts.scheme == "mqtt") or not parts.hostname or not port:
        raise ConfigurationError(
            "The broker's address is none.", field="mqtt_url", remedy="It looks like mqtt://user:password@host:1883."
        )
    password = unquote(parts.password) if parts.password else None
    user = unquote(parts.username) if parts.username else None
    return Broker(parts.hostname, port, user, password, _tls(parts.query) if secure else None)


def _tls(query: str) -> ssl.SSLContext:
    files = {name: found[-1] for name, found in parse_qs(query).items()}
    if files.keys() - _FILES or ("cert" in files) != ("key" in files):
        raise ConfigurationError(
            "The broker's address names files that do not belong together.",
            field="mqtt_url",
            remedy="After ? may stand ca=FILE for the authority, and cert=FILE&key=FILE for a certificate of our own.",
        )
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"])
    except OSError as error:
        raise ConfigurationError(
            f"The broker's certificates cannot be read: {error.strerror or error}.",
            field="mqtt_url",
            remedy="Name PEM files that the hub may read.",
        ) from None
    return context
