"""The console of dispatchers, supervisors, billing clerks and analysts: pages, sign-in, and the event stream.

Pages read; every change goes through the JSON API with the session's cookie, its CSRF token and the revision seen.
"""
