"""Servers of the hub's own for a machine that has none: a PostGIS cluster and an MQTT broker in the data folder."""
