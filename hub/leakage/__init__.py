"""Water-loss reports and the work they open, on top of `gis`."""
