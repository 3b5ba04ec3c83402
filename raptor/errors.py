"""Errors of a build, worded for the person who started it."""


class RaptorError(Exception):
    """A build that cannot start or go on; `str()` is one sentence: what is wrong, and what to do."""
