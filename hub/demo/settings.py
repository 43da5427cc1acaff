"""The contract between `curbstop demo` and the demo's processes: what they are told, and through which files.

    CURBSTOP_DEMO_FOLDER         where the demo keeps its town, its books and its keys
    CURBSTOP_DEMO_HUB_URL        address of the hub
    CURBSTOP_DEMO_MQTT_URL       address of the broker
    CURBSTOP_DEMO_SOURCE         name of the billing system at the hub
    CURBSTOP_DEMO_BILLING_PORT   port of the billing system's pages (on 127.0.0.1)
    CURBSTOP_DEMO_GUIDE_PORT     port of the tour's pages (on 127.0.0.1)
    CURBSTOP_DEMO_SUPERVISOR     process id of the hub's supervisor, whose worker the tour may kill

Files in the folder: `keys.json` (readable by its owner only) holds `{webhook_secret, dispatcher, analyst, crews: [{id,
name, token}], logins: [{email, role, password}]}`; `story.json` holds `{clock}` (real instant | business instant it
stands for | rate) once the story runs; `progress.json` holds `[{label, done, total}]`. Pure but for reading these.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.demo.businesstime import BusinessClock

_PREFIX = "CURBSTOP_DEMO_"
# What a story cannot begin without, and what may arrive while it runs: (kind of import, file, what a bar calls it).
FIRST_FILES = (
    ("zones", "zones.geojson", "Zones"),
    ("mains", "mains.geojson", "Mains"),
    ("service-points", "service-points.csv", "Places"),
    ("meters", "meters.csv", "Meters"),
    ("accounts", "accounts.csv", "Accounts"),
    ("balances", "balances.csv", "Balances"),
)
LATER_FILES = (
    ("tank-levels", "tank-levels.csv", "Tank levels"),
    ("consumption", "consumption.csv", "Billed volumes of two months"),
    ("readings", "readings-zones.csv", "Zone meters, hourly for two months"),
    ("readings", "readings-january.csv", "Customers' meters, January"),
    ("readings", "readings-february.csv", "Customers' meters, February"),
    ("readings", "readings-hourly.csv", "A sample of meters, hourly for a week"),
)


@dataclass(frozen=True)
class DemoSettings:
    """What every process of the demo needs to know."""

    folder: Path
    hub_url: str
    mqtt_url: str
    source: str
    billing_port: int
    guide_port: int
    supervisor: int = 0

    @property
    def billing_url(self) -> str:
        """Address of the billing system."""
        return f"http://127.0.0.1:{self.billing_port}"

    @property
    def guide_url(self) -> str:
        """Address of the tour."""
        return f"http://127.0.0.1:{self.guide_port}"

    @property
    def webhook_url(self) -> str:
        """The hub's door for the billing system."""
        return f"{self.hub_url}/webhooks/billing/{self.source}"

    @property
    def town(self) -> Path:
        """Folder of the town's import files and book."""
        return self.folder / "town"

    def keys(self) -> dict[str, Any]:
        """Secrets and tokens."""
        found: dict[str, Any] = json.loads((self.folder / "keys.json").read_text(encoding="utf-8"))
        return found

    def book(self) -> dict[str, Any]:
        """The billing system's first morning and the plan of the weeks to come."""
        found: dict[str, Any] = json.loads((self.town / "book.json").read_text(encoding="utf-8"))
        return found

    def clock(self) -> BusinessClock | None:
        """The town's clock; None until the story has begun."""
        text = self.document("story.json", {}).get("clock")
        return BusinessClock.parse(text) if text else None

    def document(self, name: str, default: Any) -> Any:
        """A JSON document that another process rewrites; `default` while there is none."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return default

    def environment(self) -> dict[str, str]:
        """As environment variables."""
        return {
            f"{_PREFIX}FOLDER": str(self.folder),
            f"{_PREFIX}HUB_URL": self.hub_url,
            f"{_PREFIX}MQTT_URL": self.mqtt_url,
            f"{_PREFIX}SOURCE": self.source,
            f"{_PREFIX}BILLING_PORT": str(self.billing_port),
            f"{_PREFIX}GUIDE_PORT": str(self.guide_port),
            f"{_PREFIX}SUPERVISOR": str(self.supervisor),
        }

    @classmethod
    def from_environment(cls, values: Mapping[str, str] = os.environ) -> "DemoSettings":
        """The reverse. Raises KeyError naming the variable that is missing."""
        return cls(
            folder=Path(values[f"{_PREFIX}FOLDER"]),
            hub_url=values[f"{_PREFIX}HUB_URL"].rstrip("/"),
            mqtt_url=values[f"{_PREFIX}MQTT_URL"],
            source=values[f"{_PREFIX}SOURCE"],
            billing_port=int(values[f"{_PREFIX}BILLING_PORT"]),
            guide_port=int(values[f"{_PREFIX}GUIDE_PORT"]),
            supervisor=int(values[f"{_PREFIX}SUPERVISOR"]),
        )


def write_document(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace a JSON file as a whole, so that no reader sees half of it."""
    half = path.with_name(f"{path.name}.part")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
    half.replace(path)
