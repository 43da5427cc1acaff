"""Devices, readings, quarantine, consumption."""
