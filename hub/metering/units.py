"""Units of water volume for the parts of the hub above metering; the one table of factors is the adapters'. Pure."""

from adapters.units import FACTORS_M3, canonical, to_m3

__all__ = ["FACTORS_M3", "canonical", "to_m3"]
