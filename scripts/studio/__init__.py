"""The studio: every process of the Procfile on one machine, with the servers it has not got, under one Ctrl-C."""

import time

#: Read before anything else is imported, so that the time the studio says it took is the whole of it.
STARTED_S = time.monotonic()
