"""Ids of documents as hashes, of which a sorted array is read in few places, whatever its length."""

from hashlib import blake2b


def id_hash(doc: str) -> int:
    """The hash of a document's id, 64 bits."""
    return int.from_bytes(blake2b(doc.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
