"""Notes that models take on a question, and the exact words of the passages that each rests on.

A reply is a stranger's text: what it names must be in its prompt, and what it quotes must stand in the passage named.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from rlm.gateway.blocks import Block, quote
from rlm.gateway.types import Message
from rlm.mapping.lines import objects_in
from rlm.prompts import REDUCE_ANSWER, REDUCE_LEAF, REDUCE_NOTES

#: Characters of a longer quote, or of a longer note, are not read.
QUOTE_CHARS, NOTE_CHARS = 2_000, 2_000
#: Of one reply no more objects are read: no model writes so many, and each may quote what takes long to look for.
MOST_NOTES = 200
_ASKED = "QUESTION: {question}\n\n{data}"
_MARK = re.compile(r"\s*\[\d{1,9}(?:\s?[,;–-]\s?\d{1,9})*\]")
_SILENT = re.compile(r"[\s`'\"*.\[\]]*(?:json)?[\s`'\"*.\[\]]*(?:NONE)?[\s`'\"*.\[\]]*", re.IGNORECASE)
_SILENT_CHARS = 40


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Exact words of a passage: the characters start:end of block `block` of pack `pack`."""

    pack: int
    block: int
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Note:
    """A point on the question, in one line, and where it stands: one source or more, each once."""

    text: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """What a reply holds. `dropped`: notes that rest on nothing that was in the prompt. `is_empty`: it says that there
    is nothing to note."""

    notes: tuple[Note, ...]
    dropped: int = 0
    is_empty: bool = False

    @property
    def is_bad(self) -> bool:
        """Whether it is to be asked again."""
        return not (self.notes or self.is_empty)


Messages: TypeAlias = tuple[Message, ...]


def leaf_messages(question: str, blocks: Sequence[Block]) -> Messages:
    """The prompt about a pack of passages: what is the same for all stands first."""
    return _messages(REDUCE_LEAF, question, blocks)


def parent_messages(question: str, notes: Sequence[Note]) -> Messages:
    """The prompt that makes fewer notes of many."""
    return _messages(REDUCE_NOTES, question, [_numbered(notes)])


def answer_messages(question: str, notes: Sequence[Note]) -> Messages:
    """The prompt that makes an answer of all notes."""
    return _messages(REDUCE_ANSWER, question, [_numbered(notes)])


def _messages(system: str, question: str, blocks: Sequence[Block]) -> Messages:
    asked = _ASKED.format(question=question.strip(), data=quote(blocks))
    return ({"role": "system", "content": system}, {"role": "user", "content": asked})


def _numbered(notes: Sequence[Note]) -> Block:
    return Block("notes", "\n".join(note_line(number, note.text) for number, note in enumerate(notes, 1)))


def note_line(number: int, text: str) -> str:
    """A note as it stands in a prompt: one line, so that no note can look like another."""
    return f"{number}: {text}"


# -- replies -----------------------------------------------------------------------------------------------


def read_leaf(reply: str, pack: int, blocks: Sequence[Block], cut: bool = False) -> Read:
    """The notes of a reply on the passages of a pack. Where the reply was `cut`, silence says nothing."""

    def sources(one: dict[str, Any]) -> Iterator[Source]:
        named, words = _listed(one.get("from")), one.get("quote")
        if isinstance(words, str):
            for number, block in enumerate(blocks):
                if block.name in named and (at := place(block.text, words)):
                    yield Source(pack, number, *at, block.text[slice(*at)])

    return _read(reply, "note", lambda one: tuple(sources(one)), cut)


def read_parent(reply: str, notes: Sequence[Note], cut: bool = False) -> Read:
    """The notes of a reply on numbered notes, each with the sources of those it rests on."""
    return _read(reply, "note", lambda one: _united(one, notes), cut)


def read_answer(reply: str, notes: Sequence[Note], cut: bool = False) -> Read:
    """The statements of an answer, each with the sources of the notes it rests on. Marks such as [2] are taken out of
    them: they would name sources that nobody checked."""
    read = _read(reply, "statement", lambda one: _united(one, notes), cut)
    bare = (Note(_MARK.sub("", note.text).strip(), note.sources) for note in read.notes)
    stating = tuple(note for note in bare if note.text)
    return Read(stating, read.dropped + len(read.notes) - len(stating), read.is_empty)


def _read(reply: str, name: str, sources: Callable[[dict[str, Any]], tuple[Source, ...]], cut: bool) -> Read:
    notes, dropped = dict[Note, None](), 0
    for one in islice(objects_in(reply), MOST_NOTES):
        words = _line(one.get(name))
        found = sources(one) if words else ()
        if found:
            notes[Note(words, found)] = None
        else:
            dropped += 1
    bare = reply.strip()
    silent = len(bare) <= _SILENT_CHARS and _SILENT.fullmatch(bare) is not None
    return Read(tuple(notes), dropped, silent and not cut)


def _line(text: object) -> str:
    """A note in one line, without halves of surrogate pairs, which cannot be sent; '' for what is no text."""
    words = " ".join(text[:NOTE_CHARS].split()) if isinstance(text, str) else ""
    return words.encode("utf-8", "replace").decode()


def _united(one: dict[str, Any], notes: Sequence[Note]) -> tuple[Source, ...]:
    """The sources of the notes with the numbers that an object names, each once, in the order of the numbers."""
    numbers = (_number(item) for item in _listed(one.get("from")))
    chosen = [notes[n - 1] for n in dict.fromkeys(numbers) if 0 < n <= len(notes)]
    return tuple(dict.fromkeys(source for note in chosen for source in note.sources))


def _number(item: object) -> int:
    if isinstance(item, str) and re.fullmatch(r"\d{1,9}", item, re.ASCII):
        return int(item)
    return item if type(item) is int else 0


def _listed(value: object) -> list[str | int]:
    """What an object says it rests on; of a name with its title, as it stands in the marked line, the name."""
    items = value if isinstance(value, list) else [value]
    return [
        one.partition(" | ")[0].strip() if isinstance(one, str) else one
        for one in items
        if isinstance(one, str) or type(one) is int
    ]


def place(text: str, words: str) -> tuple[int, int] | None:
    """(start, end) of the first occurrence of words in a text, whatever white space is between them; None where they do
    not stand there, or only as a part of other words. Longer words than QUOTE_CHARS are not looked for."""
    parts = words.split() if len(words) <= QUOTE_CHARS else []
    if not parts:
        return None
    before, after = (r"\b" if re.match(r"\w", end) else "" for end in (parts[0][0], parts[-1][-1]))
    found = re.search(before + r"\s+".join(map(re.escape, parts)) + after, text)
    return found.span() if found else None
