"""Acceptance stories: the running processes, driven over HTTP and MQTT, told so that they can be read aloud."""
