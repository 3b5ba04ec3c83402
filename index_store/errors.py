"""Errors of an index, worded for the person or the model that reads them."""


class IndexStoreError(Exception):
    """Any failure to read, write or query an index; `str()` is one sentence that says what to do."""


class BrokenIndex(IndexStoreError):
    """The folder is missing, incomplete, damaged, or of another format."""


class NoSuchNode(IndexStoreError):
    """A node, document or level that the index does not have."""


class BadQuery(IndexStoreError):
    """A search or a pattern that cannot be run as asked."""


class NoCache(IndexStoreError):
    """The user's cache, in which narrowed indexes are kept, cannot be used."""


class StoreError(IndexStoreError):
    """A store at a URL that cannot be reached, read or written, or whose name is none."""


class Overtaken(StoreError):
    """Somebody else has published at a URL meanwhile."""
