"""The hub between a water utility's billing and its field work."""
