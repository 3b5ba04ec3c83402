"""Who may read a document: labels on documents, labels of a reader."""

from collections.abc import Iterable

from index_store.errors import IndexStoreError
from index_store.terminal import brief
from index_store.types import Json

KEY = "access"  # the field of a document's metadata
_CHARS, _MOST = 100, 100


def labels(value: Json, whose: str) -> frozenset[str]:
    """The labels that are given as a list of texts, or as one text with commas between.

    Raises IndexStoreError where it is neither, or a label is blank, long or not printable: then nobody knows who may
    read, so nothing is guessed. `whose`: for the message.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise IndexStoreError(
            f"{whose} has the access {brief(repr(value))}; give a label, a list of them, or none for everybody"
        )
    given = [str(part).strip() for part in parts]
    if len(given) > _MOST or not all(part and len(part) <= _CHARS and part.isprintable() for part in given):
        raise IndexStoreError(
            f"{whose} has the access {brief(repr(value))}; give at most {_MOST} labels, each of 1 to {_CHARS} "
            "characters that can be printed"
        )
    return frozenset(given)


def may_read(document: frozenset[str], reader: Iterable[str] | None) -> bool:
    """Whether a reader with these labels may read a document with those: it needs one of them. A document without
    labels is open to all, and a reader of None is not restricted."""
    return reader is None or not document or not document.isdisjoint(reader)
