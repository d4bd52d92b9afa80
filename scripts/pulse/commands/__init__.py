"""What may be typed: one file a command, each with its `command`."""
