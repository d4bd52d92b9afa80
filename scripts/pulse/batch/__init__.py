"""Batches as the command hands them over, watches them and brings their results home."""
