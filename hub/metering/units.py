"""Units of water volume for the parts of the hub above metering; the one table of factors is the adapters'. Pure."""

from adapters.units import canonical, to_m3

__all__ = ["canonical", "to_m3"]
