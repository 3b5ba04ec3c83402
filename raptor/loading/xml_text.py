"""XML: the words of its elements, each on a line of its own, a short value after the name of its element.

Nothing is fetched, and a file that declares entities is refused: a few of them stand for gigabytes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from xml.parsers import expat

from raptor.loading.plain import decode
from raptor.loading.types import Failure, Loaded, Section, SourceFile, title_of

_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})")
_TITLES = frozenset({"title", "head", "heading"})
_MAX_DEPTH = 1_000
_VALUE_CHARS = 100  # what is longer speaks for itself, and is not led by the name of its element

Attributes = Mapping[str, str]


class BadXml(ValueError):
    """Why a text is no XML that is read here: the rest of a sentence that begins with the file."""


@dataclass(slots=True)
class _Element:
    """An element that is open. `mixed`: it has words of its own; `inline`: so has its parent, before it."""

    name: str
    attributes: Attributes
    inline: bool
    mixed: bool = False
    blocks: bool = False
    inlines: bool = False


@dataclass(slots=True)
class XmlPage:
    """The lines so far and the headings among them; `words` of the next line, and `held`: the element they are all of.

    An element whose words stand alone gets a line of its own, unless words of its parent follow: then it was a part
    of their line, as in `<p><b>Two</b> masts</p>`.
    """

    lines: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    chars: int = 0
    words: list[str] = field(default_factory=list)
    held: _Element | None = None
    stack: list[_Element] = field(default_factory=list)

    def start(self, name: str, attributes: Attributes) -> None:
        """An element begins."""
        parent = self.stack[-1] if self.stack else None
        inline = parent is not None and parent.mixed
        if parent is not None and inline:
            parent.inlines = True
        else:
            self.break_line()
            if parent is not None and not parent.blocks:
                self._add(_label(parent) if parent.attributes else "")
                parent.blocks = True
        self.stack.append(_Element(_local(name), _shown(attributes), inline))

    def text(self, words: str) -> None:
        """Words of the element that is open."""
        if self.stack and words.strip():
            self.stack[-1].mixed, self.held = True, None
        self.words.append(words)

    def end(self, _: str) -> None:
        """The element that is open ends."""
        element = self.stack.pop()
        if element.blocks and not element.inline:
            self.break_line()
        elif not element.inline:
            self.held = element

    def break_line(self) -> None:
        """What is held of words becomes a line."""
        line, element = " ".join("".join(self.words).split()), self.held
        self.words.clear()
        self.held = None
        if element is not None and line and element.name.lower() in _TITLES:
            level = min(max(len(self.stack) - 1, 1), 6)
            self.sections.append(Section(self.chars, level, title_of(line)))
        elif element is not None and len(line) <= _VALUE_CHARS and not element.inlines:
            line = ": ".join(filter(None, (_label(element), line))) if line or element.attributes else ""
        self._add(line)

    def _add(self, line: str) -> None:
        if line:
            self.lines.append(line)
            self.chars += len(line) + 1


def read_xml(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, its titles as sections, titled by the first. Raises OSError."""
    declared = _DECLARED.search(file.raw()[:1024])
    whole = decode(file, declared[1].decode() if declared else "")
    if isinstance(whole, Failure):
        yield whole
        return
    page = XmlPage()
    try:
        walk_xml(whole.text, page.start, page.end, page.text)
    except BadXml as fault:
        yield Failure(whole.source, str(fault))
        return
    page.break_line()
    title = title_of(page.sections[0].heading if page.sections else "", whole.title)
    yield replace(whole, title=title, text="\n".join(page.lines), sections=tuple(page.sections))


def walk_xml(
    source: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
) -> None:
    """Call `start`, `end` and `text` for what an XML text holds. Raises BadXml."""
    depth = 0

    def began(name: str, attributes: Attributes) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise BadXml(
                f"its elements are nested more than {_MAX_DEPTH:,} deep; flatten it, or leave it out"
            )
        start(name, attributes)

    def ended(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    def declared(name: str, *_: object) -> None:
        raise BadXml(
            f"it declares the entity {name[:80]!r}, and a few of those can stand for gigabytes; "
            "write out what they stand for, for example with: xmllint --noent"
        )

    parser = expat.ParserCreate("utf-8")  # whatever it declares: it is decoded
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = began, ended
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, declared
    try:
        parser.Parse(source.removeprefix("\ufeff").lstrip().encode(errors="replace"), True)
    except expat.ExpatError as error:
        raise BadXml(
            f"it is not well-formed XML ({error}); repair it, or name it .txt to load it as it stands"
        ) from error


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _shown(attributes: Attributes) -> dict[str, str]:
    return {
        _local(name): " ".join(value.split())
        for name, value in attributes.items()
        if value.strip() and not name.startswith(("xmlns", "xsi:"))
    }


def _label(element: _Element) -> str:
    shown = ", ".join(f"{name}={value}" for name, value in element.attributes.items())
    return f"{element.name} ({shown})" if shown else element.name
