"""What kind of file one without a suffix is, by what it holds."""

import io
import re
import zipfile

_MAGIC = ((b"%PDF-", ".pdf"), (b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\0", ".xz"))
_PACKAGES = (("word/", ".docx"), ("ppt/", ".pptx"), ("xl/", ".xlsx"), ("META-INF/container.xml", ".epub"))
_HTML = re.compile(
    rb"(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_HEADERS = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]{0,60}:[ \t].*\r?\n(?:[ \t].*\r?\n)*){2,200}\r?\n")
_MAIL = re.compile(rb"^(?:from|date|message-id):", re.IGNORECASE | re.MULTILINE)
_ROW = re.compile(rb'\{\s*"_id"\s*:')


def suffix_by_content(raw: bytes) -> str:
    """The suffix that a file with these bytes would have; `.txt` for what is of no kind with a reader of its own."""
    known = next((suffix for mark, suffix in _MAGIC if raw.startswith(mark)), "")
    if raw[257:262] == b"ustar":
        return ".tar"
    if known or raw.startswith(b"PK\x03\x04"):
        return known or _package(raw)
    head = raw[:50_000].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _HTML.match(head):
        return ".html"
    if head.startswith(b"<?xml"):
        return ".html" if re.search(rb"<html\b", head[:2_000]) else ".xml"
    if _ROW.match(head):
        return ".jsonl"
    headers = _HEADERS.match(head)
    return ".eml" if headers and len(_MAIL.findall(headers[0])) >= 2 else ".txt"


def _package(raw: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as package:
            names = package.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return ".zip"
    return next(
        (suffix for part, suffix in _PACKAGES if any(name.startswith(part) for name in names)), ".zip"
    )
