"""Errors of a build, worded for the person who started it."""


class RaptorError(Exception):
    """A build that cannot go on; `str()` is one sentence: what was found, what to do."""
