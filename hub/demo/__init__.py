"""A simulated town with known leaks: its water, billing system, meters and crews. Speaks to the hub over the wire only."""
