"""The JSON API for billing clerks, dispatchers, analysts and administrators: schemas and permissions, never rules."""
