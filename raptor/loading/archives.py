"""What is packed: .gz and its like, .zip, .tar, .epub; read under limits, as a small file can stand for a vast one."""

import bz2
import gzip
import io
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote

from raptor.loading.encodings import Undecodable, decode_bytes
from raptor.loading.html import extract
from raptor.loading.types import MAX_PACKED_BYTES, Failure, Loaded, Section, SourceFile, Text, title_of
from raptor.loading.xml_text import Attributes, BadXml, walk_xml

MAX_BYTES = 256 * 2**20
MAX_MEMBERS = 10_000
MAX_DEPTH = 3
MAX_RATIO = 100  # what is packed more tightly than this is no text, from some size on
_RATIO_FROM_BYTES = 32 * 2**20
_XZ_BYTES = 256 * 2**20  # of memory, which the header of an .xz asks for
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError)

_NO_FILES = "it holds no files; leave it out, or check that the right one was named"
_LEADS_OUT = "its name leads out of the archive; unpack it yourself, if you trust it"
_IS_LINK = "it is a link; put the file that it leads to into the archive"


class TooMuch(Exception):
    """What one file holds is beyond the limits: the rest of a sentence that begins with the file."""


@dataclass(slots=True)
class Unpacked:
    """How much came out of one file so far, whatever was packed in what; `size`: bytes of the file."""

    size: int
    bytes: int = 0
    members: int = 0

    def add(self, count: int) -> None:
        """One member more, of so many bytes. Raises TooMuch."""
        self.bytes += count
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise TooMuch(f"it holds more than {MAX_MEMBERS:,} files; unpack it, and name the folder")
        if self.bytes > MAX_BYTES:
            raise TooMuch(f"it unpacks to more than {MAX_BYTES:,} bytes; unpack it, and name the folder")
        if self.bytes > max(_RATIO_FROM_BYTES, MAX_RATIO * self.size):
            raise TooMuch(
                f"it unpacks to more than {MAX_RATIO} times its size, as archives do that are made to fill a disk; "
                "unpack it, and name the folder, if you trust it"
            )


#: What follows the name of the file inside, for each suffix of one that is compressed alone.
COMPRESSED = {".gz": "", ".bz2": "", ".xz": "", ".tgz": ".tar", ".tbz2": ".tar", ".txz": ".tar"}


def read_compressed(file: SourceFile) -> Iterator[Loaded | SourceFile]:
    """The file inside, under the id of this one; its kind is that of the name without .gz. Raises OSError, TooMuch."""
    raw = file.raw(MAX_PACKED_BYTES)
    try:
        content = _checked(_uncompressed(raw))
    except (*_FAULTS, gzip.BadGzipFile, lzma.LZMAError, OSError) as error:
        yield Failure(
            str(file.path), f"it cannot be unpacked ({_brief(error)}); get it anew, or leave it out"
        )
        return
    suffix = file.path.suffix.lower()
    name = file.path.stem + COMPRESSED[suffix] if suffix in COMPRESSED else file.path.name
    yield file.member(name, content, file.id)


def _uncompressed(raw: bytes) -> bytes:
    """What was compressed, up to one byte more than there may be. Raises what the libraries do."""
    if raw.startswith(b"BZh"):
        with bz2.BZ2File(io.BytesIO(raw)) as packed:
            return packed.read(MAX_BYTES + 1)
    if raw.startswith(b"\xfd7zXZ\x00"):
        return _unxz(raw)
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
        return packed.read(MAX_BYTES + 1)


def _unxz(raw: bytes) -> bytes:
    """As `lzma.decompress`, which takes all the memory that a header asks for."""
    content = b""
    while raw and len(content) <= MAX_BYTES:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_BYTES)
        content += stream.decompress(raw, MAX_BYTES + 1 - len(content))
        if not stream.eof and len(content) <= MAX_BYTES:
            raise EOFError("it ends too early")
        raw = stream.unused_data.lstrip(b"\0")
    return content


def read_tar(file: SourceFile) -> Iterator[Loaded | SourceFile]:
    """Its files, each under this one's id and its own path; of those of one name the last. Raises OSError, TooMuch."""
    raw = file.raw(MAX_PACKED_BYTES)
    members: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:", errors="replace") as package:
            for count, info in enumerate(package, 1):
                if count > MAX_MEMBERS:
                    raise TooMuch(f"it holds more than {MAX_MEMBERS:,} files; unpack it, and name the folder")
                if not info.isdir() and not _is_hidden(info.name):
                    members[info.name] = info
            end = raw[package.offset : package.offset + tarfile.BLOCKSIZE]
            if any(end):
                raise tarfile.ReadError(f"it is damaged at byte {package.offset:,}")
            for name in sorted(members):
                yield _tar_member(file, package, members[name])
    except (*_FAULTS, tarfile.TarError, OverflowError, RecursionError) as error:
        yield Failure(str(file.path), f"it is no whole .tar ({_brief(error)}); get it anew, or leave it out")
        return
    if not members:
        yield Failure(str(file.path), _NO_FILES)


def _tar_member(file: SourceFile, package: tarfile.TarFile, info: tarfile.TarInfo) -> SourceFile | Failure:
    name = info.name.replace("\\", "/")
    source = f"{file.path}/{name}"
    if _leads_out(name):
        return Failure(source, _LEADS_OUT)
    if info.issym() or info.islnk():
        return Failure(source, _IS_LINK)
    if not info.isreg():
        return Failure(source, "it is a device or a pipe; leave it out of the archive")
    if info.issparse():
        return Failure(
            source, "it is a sparse file, which may stand for one of any size; pack it as a whole one"
        )
    packed = package.extractfile(info)
    content = b"" if packed is None else packed.read(MAX_BYTES + 1)
    if len(content) < min(info.size, MAX_BYTES):
        return Failure(source, "it is cut short; get the archive anew, or leave it out")
    return file.member(posixpath.normpath(name), _checked(content))


def read_zip(file: SourceFile) -> Iterator[Loaded | SourceFile]:
    """Its files, each under this one's id and its own path. Raises OSError, TooMuch."""
    raw = file.raw(MAX_PACKED_BYTES)
    try:
        package = zipfile.ZipFile(io.BytesIO(raw))
    except _FAULTS as error:
        yield Failure(str(file.path), f"it is no whole .zip ({_brief(error)}); get it anew, or leave it out")
        return
    with package:
        if len(package.infolist()) > MAX_MEMBERS:
            raise TooMuch(f"it holds more than {MAX_MEMBERS:,} files; unpack it, and name the folder")
        files = [info for info in package.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
        for info in sorted(files, key=lambda info: info.filename):
            yield _member(file, package, info)
        if not files:
            yield Failure(str(file.path), _NO_FILES)


def _leads_out(name: str) -> bool:
    """Whether a member's name, with `/` between its parts, would lead out of the archive."""
    return ".." in name.split("/") or name.startswith("/") or ":" in name.split("/")[0]


def _is_hidden(name: str) -> bool:
    """Whether it would be passed over in a folder, or is a Mac's note about a file."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _member(file: SourceFile, package: zipfile.ZipFile, info: zipfile.ZipInfo) -> SourceFile | Failure:
    name = info.filename.replace("\\", "/")
    source = f"{file.path}/{name}"
    if _leads_out(name):
        return Failure(source, _LEADS_OUT)
    if stat.S_ISLNK(info.external_attr >> 16):
        return Failure(source, _IS_LINK)
    if info.flag_bits & 1 and not file.password:
        return Failure(source, "it is encrypted; give --password")
    try:
        content = unpacked(package, info, file.password)
    except _FAULTS as error:
        if info.flag_bits & 1:
            return Failure(
                source, f"it cannot be decrypted ({_brief(error)}); check --password, or unpack it"
            )
        return Failure(
            source, f"it cannot be unpacked ({_brief(error)}); get the archive anew, or leave it out"
        )
    return file.member(posixpath.normpath(name), content)


def _checked(content: bytes) -> bytes:
    """What was read up to one byte more than there may be. Raises TooMuch."""
    Unpacked(len(content)).add(len(content))
    return content


def unpacked(package: zipfile.ZipFile, info: zipfile.ZipInfo, password: str = "") -> bytes:
    """The bytes of a member, whatever its header says of their number. Raises TooMuch, and one of _FAULTS."""
    with package.open(info, pwd=password.encode() or None) as packed:
        return _checked(packed.read(MAX_BYTES + 1))


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())


# -- books -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Book:
    """What the package document of a book says: files by id, the ids in reading order, and fields by name."""

    files: dict[str, str] = field(default_factory=dict)
    spine: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    inside: str = ""

    def start(self, name: str, attributes: Attributes) -> None:
        self.inside = name.rpartition(":")[2]
        if self.inside == "item":
            self.files[attributes.get("id", "")] = attributes.get("href", "")
        elif self.inside == "itemref":
            self.spine.append(attributes.get("idref", ""))

    def text(self, words: str) -> None:
        if self.inside in ("title", "creator", "language", "publisher", "date") and words.strip():
            self.fields.setdefault(self.inside, " ".join(words.split()))

    def end(self, _: str) -> None:
        self.inside = ""


def read_epub(file: SourceFile) -> Iterator[Loaded]:
    """The book as one document: its chapters in reading order, their headings as sections. Raises OSError, TooMuch."""
    raw = file.raw(MAX_PACKED_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as package:
            yield _book_text(file, package, Unpacked(len(raw)))
    except (*_FAULTS, BadXml) as error:
        fault = str(error) if isinstance(error, Undecodable | BadXml) else _brief(error)
        yield Failure(
            str(file.path), f"it cannot be read as .epub ({fault}); open it in a reader and save it anew"
        )


def _book_text(file: SourceFile, package: zipfile.ZipFile, so_far: Unpacked) -> Loaded:
    def part(name: str) -> str:
        content = unpacked(package, package.getinfo(name))
        so_far.add(len(content))
        return decode_bytes(content)[0]

    place = _package_document(part("META-INF/container.xml"))
    book = _Book()
    walk_xml(part(place), book.start, book.end, book.text)
    names = [
        posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(book.files[i])))
        for i in book.spine
    ]
    if "META-INF/encryption.xml" in package.namelist():
        locked = part("META-INF/encryption.xml")
        if any(name in unquote(locked) for name in names):
            return Failure(
                str(file.path), "its chapters are encrypted (DRM); get it without, or leave it out"
            )
    texts: list[str] = []
    sections: list[Section] = []
    at = 0
    for name in dict.fromkeys(names):
        text, title, headings = extract(part(name).removeprefix("\ufeff"))
        if not headings and title and text and title != book.fields.get("title"):
            headings = [(0, 1, title_of(title))]
        sections += [Section(at + start, level, words) for start, level, words in headings]
        texts.append(text)
        at += len(text) + 2
    meta = {name: value for name, value in book.fields.items() if name != "title"}
    title = title_of(book.fields.get("title"), file.path.name)
    return Text(file.id, title, str(file.path), "\n\n".join(texts), (), tuple(sections), meta)


def _package_document(container: str) -> str:
    """The path of the package document. Raises BadXml."""
    places: list[str] = []

    def start(name: str, attributes: Attributes) -> None:
        if name.rpartition(":")[2] == "rootfile":
            places.append(attributes.get("full-path", ""))

    walk_xml(container, start, lambda _: None, lambda _: None)
    if not places:
        raise BadXml("its container names no package document")
    return str(PurePosixPath(places[0]))
