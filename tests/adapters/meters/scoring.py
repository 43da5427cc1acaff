"""What a sample declares against what the decoders made of it.

A sample is a JSON file `{adapter, topic, payload, payload_encoding, config?, received_at?, disposition, expected,
flags_open?, must_not_flags?}`; `expected` lists the readings in the words of `curbstop decode --json`.
"""

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from hub.metering.decode import config_from, described


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """What the decoders make of a sample."""
    payload, encoding = sample["payload"], sample["payload_encoding"]
    if encoding == "json":
        data = json.dumps(payload).encode()
    else:
        data = payload.encode() if encoding == "utf8" else base64.b64decode(payload)
    config = dict(sample.get("config") or {})
    if sample.get("needs_codec"):
        config["decoder"] = sample["needs_codec"]
    at = sample.get("received_at")
    adapter = sample.get("adapter", sample.get("format", "").replace("-", "_"))
    return described(
        sample["topic"],
        data,
        adapter=None if adapter in ("", "malformed") else adapter,
        config=config_from(config),
        received_at=datetime.fromisoformat(at) if at else None,
    )


def differences(sample: dict[str, Any]) -> list[str]:
    """Every way in which a sample does not yield exactly what it declares."""
    found = decoded(sample)
    wrong = []
    if found["disposition"] != sample["disposition"]:
        wrong.append(f"{found['disposition']} ({found['reason']}), declared {sample['disposition']}: {found['steps']}")
    left = list(found["readings"])
    for declared in sample["expected"]:
        match = next((reading for reading in left if _same(reading, declared, sample)), None)
        if match is None:
            wrong.append(f"nothing like {declared} among {left[:3]}")
        else:
            left.remove(match)
    return wrong + [f"not declared: {reading}" for reading in left]


def _same(reading: dict[str, Any], declared: dict[str, Any], sample: dict[str, Any]) -> bool:
    identities = {(name or "").lower() for name in (declared["device_id"], *declared.get("device_id_alt", ()))}
    if (reading["device_id"] or "").lower() not in identities:
        return False
    if (reading["register"], reading["unit"]) != (declared["register"], declared["unit"]):
        return False
    value, wanted = reading["value"], declared["value"]
    if (value is None) != (wanted is None) or (
        value is not None and abs(value - wanted) > 1e-6 * max(abs(wanted), 1e-9)
    ):
        return False
    if declared["timestamp"] is not None:
        if reading["timestamp"] is None:
            return False
        if datetime.fromisoformat(reading["timestamp"]) != datetime.fromisoformat(declared["timestamp"]):
            return False
        if declared.get("timestamp_source") not in (None, reading["timestamp_source"]):
            return False
    flags, must = set(reading["flags"]), set(declared["flags"])
    surplus = flags - must
    return (
        must <= flags
        and (not surplus or bool(sample.get("flags_open")))
        and not flags & set(sample.get("must_not_flags", ()))
    )


def load(path: Path) -> dict[str, Any]:
    """One sample file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
