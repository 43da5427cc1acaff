"""Readings: the device registry, the one pipeline that books readings, and consumption derived from registers."""
