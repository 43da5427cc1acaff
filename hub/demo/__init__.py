"""A simulated town with known leaks: water, billing system, meters and crews. It speaks to the hub over the wire."""
