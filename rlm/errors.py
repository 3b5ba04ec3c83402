"""Errors of a run, worded for the person or the model that reads them."""


class RlmError(Exception):
    """A run that cannot start or go on; `str()` is one sentence: what was found, what to do."""
