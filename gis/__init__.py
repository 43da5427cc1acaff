"""Zones and the water that is fed to and lost in them."""
