"""The router: how hard a conversation is, read from its words in Arabic and English alike, and which model it takes."""
