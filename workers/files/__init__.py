"""Files: the only writer of what accounts keep as bytes, and of the store behind it."""
