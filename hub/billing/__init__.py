"""Billing in: the inbox, what each event means, the sources."""
