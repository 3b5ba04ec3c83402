"""JSON: the text is the file's own where it has lines, else it is laid out; its outer keys are the sections.

Numbers and the order of keys stay as they are written. Escapes become the characters that they stand for where the
text is laid out, since nobody searches for `\\u00e9`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from raptor.loading.plain import decode
from raptor.loading.types import Failure, Loaded, Section, SourceFile, Text, title_of

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}")
_LONG_LINE = 1_000
_MAX_DEPTH = 200


def read_json(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document; what is not JSON, as a file with comments, is the text that it is. Raises OSError."""
    whole = decode(file)
    yield whole if isinstance(whole, Failure) else _laid_out(whole)


def _laid_out(whole: Text) -> Text:
    text = whole.text.removeprefix("\ufeff")
    try:
        # Numbers are kept as written: one of 5,000 digits is JSON too.
        value = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        note = (
            "it is not JSON that can be parsed, and was read as plain text; check it where that is not meant"
        )
        return replace(whole, notes=(*whole.notes, note))
    readable = len(max(text.splitlines(), key=len, default="")) <= _LONG_LINE and not _ESCAPED.search(text)
    if not readable and _depth(text) <= _MAX_DEPTH:
        text = "".join(layout(text))
    title = value.get("title") or value.get("name") if isinstance(value, dict) else None
    named = title_of(title if isinstance(title, str) else None, whole.title)
    return replace(whole, text=text, title=named, sections=tuple(outer_keys(text)))


def layout(text: str) -> Iterator[str]:
    """The parts of a JSON text that is laid out with a member on each line, as two spaces a level."""
    depth, before = 0, ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        opens, closes = token in "{[", token in "}]"
        depth -= closes
        empty = closes and before in ("{", "[")
        if (before in ("{", "[", ",") and not closes) or (closes and not empty):
            yield "\n" + "  " * depth
        yield _unescaped(token) + (" " if token == ":" else "")
        depth += opens
        before = token
    yield "\n"


def _unescaped(token: str) -> str:
    return json.dumps(json.loads(token), ensure_ascii=False) if "\\u" in token else token


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _TOKEN.finditer(text):
        depth += (match[0] in "{[") - (match[0] in "}]")
        deepest = max(deepest, depth)
    return deepest


def outer_keys(text: str) -> Iterator[Section]:
    """The keys of the outermost object, each where it stands."""
    depth, before = 0, ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if depth == 1 and before in ("{", ",") and token[0] == '"' and text.lstrip()[:1] == "{":
            words = title_of(json.loads(token))
            if words:
                yield Section(match.start(), 1, words)
        depth += (token in "{[") - (token in "}]")
        before = token
