"""Object stores of clouds, by obstore: S3 and what speaks as it does, Google Cloud Storage, Azure.

obstore alone, and not fsspec, which copies by one request for a whole file, knows no conditions, and gives errors of
each cloud's own: here everything goes in bounded pieces, each asked for again a few times at most. Credentials are
those that obstore finds in the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`) or the machine has. Its errors name
addresses, which can be signed, and headers; so none of their words is shown.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from index_store.errors import StoreError
from index_store.stores.objects import PIECE, Changed, Missing, Stored, Told
from index_store.stores.urls import Url

LACKING = "an index at {url} needs the extra `store`: pip install 'raptor-rlm[store]'"
REQUEST = {"timeout": "120s", "connect_timeout": "10s"}  # of one request, which carries a piece
RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=120)}
_ENDPOINTS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "GOOGLE_BASE_URL",
)
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and its like",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_*",
}
#: What stores say where not the object is missing, but all that it would be in.
_NO_BUCKET = ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<")


class CloudObjects:
    """The objects of a bucket whose keys begin with a prefix."""

    def __init__(self, url: Url) -> None:
        try:
            import obstore
            from obstore.store import AzureStore, GCSStore, S3Store
        except ModuleNotFoundError as e:
            raise StoreError(LACKING.format(url=url)) from e
        self.url, self._obstore = url, obstore
        _check_endpoints()
        # A name in the clear is the user's own choice, by their environment.
        clear = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options: dict[str, Any] = {
            "prefix": url.prefix or None,
            "client_options": REQUEST | ({"allow_http": True} if clear else {}),
            "retry_config": RETRIES,
        }
        with self._worded():
            if url.scheme == "s3":
                # Each object is sent with its sha256, which the store compares.
                self._store: Any = S3Store(url.bucket, config={"checksum_algorithm": "sha256"}, **options)
            else:
                self._store = (GCSStore if url.scheme == "gs" else AzureStore)(url.bucket, **options)

    def read(self, key: str, most: int) -> tuple[bytes, str]:
        with self._worded(key):
            found = self._obstore.get(self._store, key)
            tag, size = found.meta["e_tag"], found.meta["size"]
            content = b"" if size > most else b"".join(_bounded(found.stream(), size))
        if size > most or tag is None:
            fault = f"has {size:,} bytes, which no such file has" if size > most else "has no tag (ETag)"
            raise StoreError(f"{self.url}/{key} {fault}; name another store")
        if len(content) != size:
            raise StoreError(f"{self.url}/{key} did not come as large as it is said to be; try again")
        return content, str(tag)

    def fetch(self, key: str, start: int, size: int, file: Path, told: Told) -> None:
        with file.open("r+b") as to:
            to.seek(start)
            for at in range(start, start + size, PIECE):
                length = min(PIECE, start + size - at)
                with self._worded(key):
                    found = self._obstore.get(self._store, key, options={"range": (at, at + length)})
                    part = b"".join(_bounded(found.stream(), length))
                if len(part) != length:
                    raise StoreError(f"{self.url}/{key} did not come as large as it is said to be; try again")
                to.write(part)
                told(length)

    def send(self, key: str, file: Path, told: Told) -> str:
        digest = hashlib.sha256()
        with self._worded(key), file.open("rb") as source:
            pieces = _pieces(source, digest, told)
            first = next(pieces, b"")
            if len(first) < PIECE:
                self._obstore.put(self._store, key, first)
            else:
                self._obstore.put(
                    self._store, key, chain([first], pieces), chunk_size=PIECE, max_concurrency=2
                )
        return digest.hexdigest()

    def put(self, key: str, content: bytes, tag: str | None) -> None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._worded(key):
            try:
                mode: Any = "create" if tag is None else {"e_tag": tag}
                self._obstore.put(self._store, key, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                raise Changed from None

    def list(self, below: str) -> Iterator[Stored]:
        with self._worded():
            for page in self._obstore.list(self._store, prefix=below):
                for one in page:
                    yield Stored(one["path"], one["size"], one["last_modified"])

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                with self._worded(key):
                    self._obstore.delete(self._store, key)
            except Missing:  # not so on S3, where it is all the same
                continue

    @contextmanager
    def _worded(self, key: str = "") -> Iterator[None]:
        from obstore import exceptions

        place = f"{self.url}/{key}" if key else str(self.url)
        try:
            yield
        except FileNotFoundError as e:
            if e.errno is not None:  # a file of this machine
                raise
            if any(code in str(e) for code in _NO_BUCKET):
                raise StoreError(
                    f"there is no bucket {self.url.bucket!r} for {self.url}; mend its name, or make it first, with the "
                    "cloud's own tools"
                ) from None
            raise Missing from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise StoreError(
                f"the store does not let you use {place}; give {_KEYS[self.url.scheme]} of who may"
            ) from None
        except exceptions.BaseError as e:
            raise self._unusable(place, _reason(e)) from None
        except BaseException as e:
            if type(e).__name__ != "PanicException":  # of obstore's own language, which is no Exception
                raise
            raise self._unusable(place, "what the environment gives it has no form that it knows") from None

    def _unusable(self, place: str, reason: str) -> StoreError:
        return StoreError(
            f"cannot use {place} ({reason}); see that the store can be reached, that the bucket is there, and that "
            f"your environment names what it needs ({_KEYS[self.url.scheme]})"
        )


def _check_endpoints() -> None:
    """Raise StoreError where the environment names a store by what is no address; it is not repeated, as it may hold a
    password."""
    for name in _ENDPOINTS:
        address = os.environ.get(name, "")
        try:
            parts = urlsplit(address)
            is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of a port or of brackets
            is_one = False
        if address and not is_one:
            raise StoreError(f"{name} is set to what is no address of a store; write it as https://HOST:PORT")


def _reason(error: Exception) -> str:
    """What kind of trouble it is, in words of ours: those of the error can hold addresses and keys."""
    words = str(error)
    for told, reason in (
        ("timed out", "it does not answer in time"),
        ("error sending request", "no connection"),
        ("non-2xx status code", f"it answers {words.partition('non-2xx status code: ')[2][:3]}"),
        ("builder error", "its address is not allowed"),
        ("redirect", "it sends elsewhere: is AWS_REGION that of the bucket?"),
        ("Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
        ("access key", "AZURE_STORAGE_ACCOUNT_KEY is no key"),
        ("service account", "GOOGLE_APPLICATION_CREDENTIALS names no file of a service account"),
    ):
        if told in words:
            return reason
    return type(error).__name__


def _bounded(pieces: Iterable[Any], most: int) -> Iterator[bytes]:
    """The pieces of a body, until there is more than was announced."""
    size = 0
    for piece in pieces:
        size += len(piece)
        yield bytes(piece)
        if size > most:
            return


def _pieces(source: Any, digest: Any, told: Told) -> Iterator[bytes]:
    while part := source.read(PIECE):
        digest.update(part)
        told(len(part))
        yield part
