"""Threads and blocking calls."""
