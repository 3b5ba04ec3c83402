"""Mail (.eml): its headers and its words, and each attachment that can be read as a document of its own."""

import mimetypes
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from typing import cast

from raptor.loading.encodings import decode_bytes
from raptor.loading.html import extract
from raptor.loading.types import Failure, Loaded, SourceFile, Text, title_of

_HEADERS = ("From", "To", "Cc", "Date", "Subject")


def read_mail(file: SourceFile) -> Iterator[Loaded | SourceFile]:
    """The mail as one document titled by its subject, which begins with its headers; then its attachments.

    Raises OSError.
    """
    raw = file.raw()
    try:
        mail = message_from_bytes(raw, policy=policy.default)
        yield _mail_text(file, mail)
        yield from _attachments(file, mail)
    # A parser of hostile files fails in ways that no base error covers (LookupError, TypeError, RecursionError, ...).
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())
        yield Failure(
            str(file.path), f"it cannot be read as mail ({fault}); open it in its program and save it anew"
        )


def _mail_text(file: SourceFile, mail: EmailMessage) -> Text:
    headers = {name: words for name in _HEADERS if (words := _header(mail, name))}
    top = "\n".join(f"{name}: {words}" for name, words in headers.items())
    text = "\n\n".join(filter(None, (top, _body(mail))))
    meta = {name.lower(): words for name, words in headers.items()}
    return Text(file.id, title_of(headers.get("Subject"), file.path.name), str(file.path), text, meta=meta)


def _header(mail: EmailMessage, name: str) -> str:
    try:
        value = str(mail[name] or "")
    except Exception:  # as above: a header that no program would write
        return ""
    return " ".join(_storable(value).split())


def _body(mail: EmailMessage) -> str:
    part = mail.get_body(("plain", "html"))
    if part is None:
        return ""
    words = _words(part)
    return (
        extract(words)[0]
        if part.get_content_type() == "text/html"
        else words.replace("\r\n", "\n").strip("\n")
    )


def _words(part: MIMEPart) -> str:
    """The text of a part, in the encoding that it declares where that fits; ISO-2022-JP looks like ASCII."""
    raw = cast(bytes, part.get_payload(decode=True) or b"")
    declared = part.get_content_charset()
    try:
        return _storable(raw.decode(declared or "utf-8"))
    except (LookupError, ValueError):
        return _storable(decode_bytes(raw)[0])


def _storable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace").replace("\0", "")


def _attachments(file: SourceFile, mail: EmailMessage) -> Iterator[SourceFile]:
    taken: set[str] = set()
    for number, part in enumerate(mail.iter_attachments(), 1):
        name = _name(part, number)
        name = f"{number}-{name}" if name in taken else name
        taken.add(name)
        yield file.member(name, _content(part))


def _name(part: EmailMessage, number: int) -> str:
    kind = part.get_content_type()
    suffix = ".eml" if kind == "message/rfc822" else mimetypes.guess_extension(kind) or ""
    given = _storable(part.get_filename() or "").replace("\\", "/").rpartition("/")[2].strip(". ")
    return " ".join(given.split()) or f"attachment-{number}{suffix}"


def _content(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        return cast(EmailMessage, cast(list[object], part.get_payload())[0]).as_bytes()
    return cast(bytes, part.get_payload(decode=True) or b"")
