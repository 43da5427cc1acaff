"""The JSON API for billing clerks, dispatchers, analysts and administrators: schemas and permissions, never rules."""

from importlib import import_module

from fastapi import APIRouter

# One module per subject; each has a `router` whose routes declare who may call them.
ROUTERS = (
    "health",
    "webhooks",
    "billing_events",
    "sources",
    "accounts",
    "service_points",
    "work_orders",
    "work_types",
    "crews",
    "charges",
    "exceptions",
    "outbound_messages",
    "reconciliation",
    "readings",
    "quarantine",
    "raw_messages",
    "devices",
    "meters",
    "network",
    "reading_exceptions",
    "findings",
    "zones",
    "tiles",
    "ogc",
    "topology",
    "leaks",
    "imports",
)


def routers() -> list[APIRouter]:
    """The routers of all modules of this package, in a fixed order."""
    return [import_module(f"hub.api.{name}").router for name in ROUTERS]
