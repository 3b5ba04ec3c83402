"""Who may read a document: labels on documents, labels of a reader."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from index_store.errors import IndexStoreError
from index_store.terminal import brief
from index_store.types import Json

KEY = "access"  # the field of a document's metadata
EVERYBODY = "*"  # in the place of a document's labels
_CHARS, _MOST = 100, 100
_ALIKE = 0.8  # of which two letters swapped, doubled, wrong or left out are, and `success` is not
_OTHER_WORDS = {"accessed", "accession"}  # of a web page, and of what a museum holds


def labels(value: Json, whose: str) -> frozenset[str]:
    """The labels that are given as a list of texts, or as one text with commas between.

    Raises IndexStoreError where it is neither, or there is none, or one is blank, long or not printable: then nobody
    knows who may read, so nothing is guessed. `whose`: for the message.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise IndexStoreError(
            f"{whose} has the access {_quoted(value)}; give a label, a list of them, or {EVERYBODY!r} for everybody"
        )
    given = [str(part).strip() for part in parts]
    if not 0 < len(given) <= _MOST or not all(map(is_label, given)):
        raise IndexStoreError(
            f"{whose} has the access {_quoted(value)}; give at most {_MOST} labels, each of 1 to {_CHARS} "
            f"characters that can be printed and without a comma, or {EVERYBODY!r} for everybody"
        )
    if EVERYBODY in given and len(given) > 1:
        raise IndexStoreError(
            f"{whose} has the access {_quoted(value)}, which opens it to everybody and to some; give one of both"
        )
    return frozenset(given)


def _quoted(value: Json) -> str:
    """An access as an error quotes it; a list as Python writes it, unless that is long."""
    whole = repr(value)
    return brief(value) if isinstance(value, str) or len(whole) > _CHARS else whole


def is_label(label: str) -> bool:
    """Whether a text can be one label."""
    return 0 < len(label) <= _CHARS and label.isprintable() and "," not in label


@lru_cache(1_000)
def is_meant(field: str) -> bool:
    """Whether a field of metadata is not called `access`, but so nearly that a slip may have named it."""
    folded = field.strip().casefold()
    alike = difflib.SequenceMatcher(None, folded, KEY).ratio() >= _ALIKE
    return field != KEY and alike and folded not in _OTHER_WORDS


def written(value: Json, whose: str) -> str:
    """A document's access as its metadata keeps it: labels in order, with commas between. Raises as `labels` does."""
    return ", ".join(sorted(labels(value, whose)))


def of_document(meta: Mapping[str, str]) -> frozenset[str] | None:
    """The labels of a document with this metadata, none where it is open to all.

    None where they cannot be read, as in an index from elsewhere: then only who is not restricted may read it.
    """
    if KEY not in meta:
        return frozenset()
    try:
        return labels(meta[KEY], "a document") - {EVERYBODY}
    except IndexStoreError:
        return None


def of_reader(given: str | Collection[str] | None) -> frozenset[str] | None:
    """The labels of a reader: None is not restricted, "" or an empty list reads what is open to all.

    Raises IndexStoreError as `labels` does, and for EVERYBODY: whoever may read all is given no labels.
    """
    if given is None:
        return None
    if not given or (isinstance(given, str) and not given.strip()):
        return frozenset()
    parts = given if isinstance(given, str) else list(given)
    found = labels(parts, "a reader")
    if EVERYBODY in found:
        raise IndexStoreError(f"a reader has the access {EVERYBODY!r}; name no access to read everything")
    return found


def in_words(reader: Collection[str]) -> str:
    """The labels of a reader as a sentence names them."""
    return ", ".join(map(repr, sorted(reader))) if reader else "what is open to all"


def may_read(document: frozenset[str] | None, reader: Iterable[str] | None) -> bool:
    """Whether a reader with these labels may read a document with those: it needs one of them. A document without
    labels is open to all, and a reader of None is not restricted; who may read a document of None is not known."""
    if reader is None:
        return True
    return document is not None and (not document or not document.isdisjoint(reader))
