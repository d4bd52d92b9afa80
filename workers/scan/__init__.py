"""The room in which uploaded files are judged: nothing is served that was not taken apart here."""
