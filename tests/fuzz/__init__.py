"""Hostile input without end: `python -m tests.fuzz` plays made-up documents, indexes, traces, replies and frames
against the code that meets them, and says what it did not expect."""
