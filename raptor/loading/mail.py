"""Mail (.eml): its headers and the words of all its parts, and each attachment that can be read as its own document.

Of alternatives, such as plain words and the same as a page, one is read.
"""

import mimetypes
from collections.abc import Iterable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from itertools import chain
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
        parts = list(_read(mail))
        alone = len(parts) == 1 and parts[0] is mail and mail.get_content_maintype() == "text"
        yield _mail_text(file, mail, [part for part in parts if alone or _is_body(part)])
        yield from _attachments(file, [part for part in parts if not (alone or _is_body(part))])
    # A parser of hostile files fails in ways that no base error covers (LookupError, TypeError, RecursionError, ...).
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())
        yield Failure(
            str(file.path), f"it cannot be read as mail ({fault}); open it in its program and save it anew"
        )


def _mail_text(file: SourceFile, mail: EmailMessage, body: Iterable[EmailMessage]) -> Text:
    headers = {name: words for name in _HEADERS if (words := _header(mail, name))}
    top = "\n".join(f"{name}: {words}" for name, words in headers.items())
    text = "\n\n".join(filter(None, (top, *map(_text, body))))
    meta = {name.lower(): words for name, words in headers.items()}
    return Text(file.id, title_of(headers.get("Subject"), file.path.name), str(file.path), text, meta=meta)


def _header(mail: EmailMessage, name: str) -> str:
    try:
        value = str(mail[name] or "")
    except Exception:  # as above: a header that no program would write
        return ""
    return " ".join(_storable(value).split())


def _read(part: EmailMessage) -> Iterator[EmailMessage]:
    """The parts of a mail whose words or contents are read, in order; of alternatives the first that has plain words,
    else the last that has any."""
    if not _has_parts(part):
        yield part
        return
    parts = cast(list[EmailMessage], part.get_payload())
    if part.get_content_subtype() != "alternative":
        yield from chain.from_iterable(map(_read, parts))
        return
    listed = [list(_read(one)) for one in parts]
    spoken = [[part.get_content_type() for part in one if _is_body(part) and _text(part)] for one in listed]
    plain = (number for number, kinds in enumerate(spoken) if "text/plain" in kinds)
    chosen = next(plain, max((number for number, kinds in enumerate(spoken) if kinds), default=-1))
    for number, one in enumerate(listed):
        yield from one if number == chosen % len(listed) else filter(_is_sent_along, one)


def _has_parts(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "multipart" and part.is_multipart()


def _is_body(part: EmailMessage) -> bool:
    """Whether a part that has none below it is words of the mail itself, and nothing attached."""
    words = (
        part.get_content_type() in ("text/plain", "text/html") or part.get_content_maintype() == "multipart"
    )
    return words and not part.is_attachment() and not part.get_filename()


def _is_sent_along(part: EmailMessage) -> bool:
    """Whether a part of an alternative that is not read was attached to it, and is no picture in its layout."""
    is_picture = part.get_content_maintype() == "image"
    return part.is_attachment() or bool(part.get_filename() and not is_picture)


def _text(part: EmailMessage) -> str:
    """The words of a part, those of a page without its tags."""
    words = _words(part)
    is_page = part.get_content_type() == "text/html"
    return extract(words)[0].strip() if is_page else words.replace("\r\n", "\n").strip("\n")


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


def _attachments(file: SourceFile, attached: Iterable[EmailMessage]) -> Iterator[SourceFile]:
    taken: set[str] = set()
    for number, part in enumerate(attached, 1):
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
    if part.is_multipart():  # a mail, or the groups of headers of a report
        return b"\n".join(one.as_bytes() for one in cast(list[EmailMessage], part.get_payload()))
    return cast(bytes, part.get_payload(decode=True) or b"")
