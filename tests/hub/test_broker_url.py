"""Addresses of brokers: what they may say, and a remedy for what they may not."""

from pathlib import Path

import pytest

from hub.broker_url import broker
from hub.errors import ConfigurationError


def test_an_address_with_a_login() -> None:
    found = broker("mqtt://hub:p%40ss@broker.example")
    assert found == ("broker.example", 1883, "hub", "p@ss", None)


def test_tls_has_its_own_port_and_checks_the_broker() -> None:
    found = broker("mqtts://broker.example")
    assert (found.port, found.user) == (8883, None)
    assert found.tls is not None
    assert found.tls.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "mqtt://",
        "mqtt://host:99999",
        "mqtts://host?ca=/nonexistent.pem",
        "mqtts://host?cert=/a.pem",
        "mqtts://host?ca=a&what=b",
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        broker(url)
    assert refused.value.extra["remedy"]


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="certificates"):
        broker(f"mqtts://host?ca={tmp_path / 'ca.pem'}")
