"""All tests run on a real PostGIS; those that need one, on a real Mosquitto, real HTTP servers and a real Chromium."""
