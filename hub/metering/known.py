"""What an ingest remembers of the registry from batch to batch, so that a reading costs no look-up. Reads only.

Triggers write a row of `registry_change` whenever a device or meter is written. A batch that sees other rows there than
the batch before forgets everything: it judges by exactly the registry that its transaction can see. Devices and meters
that are not registered are never remembered, so the first message after a registration finds it.
"""

from collections.abc import Iterable
from typing import Any

import psycopg

from hub.metering import devices
from hub.metering.booking import Registry
from hub.metering.devices import MeterRegister, Profile

# Entries kept, about 1 kB each; beyond that remembering starts anew.
MOST = 200_000


class Known:
    """The registry as far as it was asked for. One per ingest, or one per batch where nothing is to be remembered."""

    def __init__(self) -> None:
        self._state: Any = None
        self._profiles: dict[str, list[Profile]] = {}
        self._registers: dict[tuple[str, str], MeterRegister] = {}
        self._serials: set[str] = set()

    def as_of(self, state: Any) -> None:
        """Forget everything unless the registry is still in `state`."""
        if state != self._state or len(self._profiles) + len(self._registers) > MOST:
            self._profiles, self._registers, self._serials = {}, {}, set()
            self._state = state

    def profiles(
        self, connection: "psycopg.Connection[tuple[Any, ...]]", wanted: Iterable[str]
    ) -> dict[str, list[Profile]]:
        """The entries of `wanted` devices (in registry spelling) among all that are known."""
        missing = [name for name in wanted if name not in self._profiles]
        if missing:
            self._profiles.update(devices.profiles(connection, missing))
        return self._profiles

    def registry(self, connection: "psycopg.Connection[tuple[Any, ...]]", serials: Iterable[str]) -> Registry:
        """Everything known, with the registers of the meters `serials` among it."""
        missing = {serial for serial in serials if serial not in self._serials}
        if missing:
            self.add(devices.registers(connection, missing))
        return Registry(self._profiles, self._registers, self._serials)

    def add(self, registers: dict[tuple[str, str], MeterRegister]) -> None:
        """Remember registers that were found or made."""
        self._registers.update(registers)
        self._serials.update(serial for serial, _ in registers)
