"""The crafts that several rooms need, one step below them: nothing here knows a room."""
