"""The URLs of stores: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` and `file:///folder`."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, cast, get_args
from urllib.parse import unquote

from index_store.errors import StoreError
from index_store.own import own_folder
from index_store.paths import URL

Scheme = Literal["s3", "gs", "az", "file"]
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
MOST_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Url:
    """Where a store is. `bucket`: also called a container; "" of a folder. `prefix`: what the names of its objects
    begin with, without slashes around it; of `file` the path of the folder."""

    scheme: Scheme
    bucket: str
    prefix: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return Path(self.prefix).as_uri()
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """What an index there is called: the last part of the URL."""
        return PurePosixPath(self.prefix).name or self.bucket or "index"

    def __truediv__(self, below: str) -> "Url":
        return Url(
            self.scheme, self.bucket, f"{self.prefix.rstrip('/')}/{below}".lstrip("/" if self.bucket else "")
        )


def url_of(index: str | Path) -> Url:
    """The URL in a text. Raises StoreError for what is none, or could hold a password, which the message does not
    repeat."""
    match = URL.fullmatch(str(index))
    scheme, slashes, rest = match.groups() if match else ("", "", "")
    scheme = scheme.lower()
    if scheme not in get_args(Scheme):
        what = f"{scheme}:// is" if scheme else "what was given is"
        raise StoreError(f"{what} no URL of a store; give one of s3://, gs://, az:// or file:///")
    if len(rest) > MOST_CHARS or not rest.isprintable() or "\\" in rest:
        raise StoreError(f"the URL is longer than {MOST_CHARS:,} characters, or has signs that no URL has")
    if scheme == "file" and ("?" in rest or "#" in rest):
        raise StoreError("a URL has other uses for ? and #; write a folder's as %3F and %23")
    if "?" in rest or "#" in rest or "@" in rest.split("/")[0]:
        raise StoreError(
            f"a URL of a store is {scheme}://PLACE/PATH and no more; give keys and passwords by the environment, as "
            "the cloud's own tools have them"
        )
    if scheme == "file":
        return _folder(slashes, rest)
    bucket, _, path = rest.partition("/")
    prefix = path.strip("/")
    if not _BUCKET.fullmatch(bucket) or (prefix and not _is_plain(prefix)):
        raise StoreError(
            f"{scheme}://{rest} is no URL of a store; give {scheme}://BUCKET/PATH, without . and .."
        )
    return Url(cast(Scheme, scheme), bucket, prefix)


def _folder(slashes: str, rest: str) -> Url:
    if len(slashes) == 2:
        rest = rest.removeprefix("localhost")
        if not rest.startswith("/"):
            raise StoreError(f"file://{rest} names no folder of this machine; give file:///PATH")
    path = "/" + unquote(rest).strip("/")
    if "\0" in path or (path != "/" and not _is_plain(path[1:])):
        raise StoreError(f"file://{path} is no path of a folder; give one without . and ..")
    return Url("file", "", re.sub(r"^/(?=[A-Za-z]:)", "", path))


def _is_plain(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/"))


def own_place(url: Url) -> Path:
    """The folder of the user's own in which an index at a URL is changed; beside it stands what else is kept of it.
    Raises OSError where the system knows of no home."""
    return own_folder("data") / "stores" / hashlib.sha256(str(url).encode()).hexdigest()[:32] / url.name
