"""The `pulse` command: a client of the API, and the operator's look into the studio on this machine."""
