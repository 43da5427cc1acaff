"""Pure translators at the edges: bytes in, domain facts out, or the reverse. No I/O, no clock, nothing of the hub."""
