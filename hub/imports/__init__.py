"""Files in: all rows or none, every bad row named."""
