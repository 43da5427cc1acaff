"""The crew's API, offline first, and the web app that uses it."""
