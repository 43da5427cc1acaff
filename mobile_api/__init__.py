"""The crew API, offline first: what a crew must know (`feed`), and what it reports (`mutations`)."""
