"""Webhooks out: the only writer of who is told of what, and of how it was delivered."""
