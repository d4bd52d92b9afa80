"""The room in which batches are read: from a file of requests to lines that can become jobs."""
