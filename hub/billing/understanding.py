"""How the bytes of each billing system are understood: its adapter, chosen by name. Pure."""

from collections.abc import Callable

from adapters.billing import standard
from adapters.contracts import BillingEvent

ADAPTERS: dict[str, Callable[[bytes], BillingEvent]] = {"standard": standard.read}
