"""Passages in documents that read like instructions to a model: found by rules a reviewer can check, never acted on.

A flag is a note in the trace. It changes nothing that a run may do: documents are marked data either way, and what no
rule here knows is held by the same marks. So the rules aim at few false alarms rather than at every phrasing.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCAN_CHARS = 2_000_000  # of one text; a page of a corpus is far shorter
SENTENCE_CHARS = 1_000  # of one sentence; more is a table or a listing
SHORTEST = 6  # characters: "[INST]"
FLAGS = 1_000  # in one run: a corpus of nothing but instructions must not fill the trace


@dataclass(frozen=True, slots=True)
class Flag:
    """The characters `start:end` of a text read like an instruction, by the rule of this name."""

    start: int
    end: int
    rule: str


@dataclass(slots=True)
class Alarm:
    """The flags of one run: each text is read once, each wording flagged once. Any thread may ask for `new` ones."""

    _read: set[int] = field(default_factory=set)
    _flagged: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new(self, text: str) -> list[Flag]:
        """The flags of a text whose wordings were not flagged before; [] once the run has FLAGS of them."""
        with self._lock:
            if hash(text) in self._read or self.is_full:
                return []
            self._read.add(hash(text))
        return [flag for flag in instructions_in(text) if self._is_news(text[flag.start : flag.end])]

    @property
    def is_full(self) -> bool:
        """Whether the run has FLAGS flags, and gets no more."""
        return len(self._flagged) >= FLAGS

    def _is_news(self, words: str) -> bool:
        with self._lock:
            if words in self._flagged or self.is_full:
                return False
            self._flagged.add(words)
            return True


def texts_shown(result: Any, shown: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(place, text) of each text in the result of a verb. The place is the id of the text's node or document; for a
    text over several nodes, the first to the last in `shown`; "" where nothing names one."""
    if isinstance(result, str):
        nodes = [str(ref["node"]) for ref in shown]
        yield " to ".join(dict.fromkeys(nodes[:1] + nodes[-1:])), result
    elif isinstance(result, list):
        for item in result:
            yield from texts_shown(item, shown)
    elif isinstance(result, dict):
        place = str(result.get("node") or result.get("doc") or next((ref["node"] for ref in shown), ""))
        texts = {name: result[name] for name in _TEXTS if isinstance(result.get(name), str)}
        if "label" in texts:
            texts["label"] = _without(texts["label"], texts.get("text", ""))
        yield from ((place, text) for text in texts.values() if text)
        yield from (pair for name in ("root", "children") for pair in texts_shown(result.get(name), shown))


def _without(label: str, text: str) -> str:
    """A chunk's label without the first words of its text: title and headings."""
    first = " ".join(text[:100].split())[:20]
    return label.partition(first)[0] if first else label


_TEXTS = ("text", "line", "summary", "title", "label")
_REPLY = r"(?:your\s+(?:\w+\s+)?(?:answers?|repl(?:y|ies)|responses?|outputs?|messages?|summary)\b)"
_CHANGE = (
    r"(?:add|append|alter|anagram|augment|begin|change|combine|convert|embed|end|enhance|extend|finish|group|include"
    r"|incorporate|inject|insert|integrate|introduce|jumble|misspell|mention|modify|prefix|prepend|provide|put"
    r"|rearrange|remove|render|repeat|replace|rephrase|rewrite|scramble|start|substitute|translate|use|write)"
)
_OPENING = r"(?:please\s+|now\s+|also\s+|then\s+|kindly\s+|you\s+(?:must|should)\s+)*"
_ASKED = (
    r"(?:add|advise|ask|compose|convince|create|describe|draft|encourage|explain|hint|include|insert|invite|mention"
    r"|offer|promote|provide|recommend|remind|say|send|suggest|tease|tell|write)"
)

# In the order of trust: a sentence is flagged by the first rule that fits.
_RULES: tuple[tuple[str, str], ...] = (
    (
        "forget what was said",
        r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?\n]{0,20}\b(?:previous|prior|above|earlier|preceding"
        r"|system|original|your|all)\s+(?:\w+\s+){0,2}(?:instructions?|prompts?|rules?|directions?|guidelines?)\b",
    ),
    (
        "a role for the model",
        r"\b(?:you\s+are\s+(?:now|no\s+longer)\s+(?:an?|in|the|bound)\b"
        r"|from\s+now\s+on,?\s+you\s+(?:are|will|must)\b|pretend\s+(?:to\s+be|you\s+are)\s+an?\b"
        r"|as\s+an?\s+(?:ai|artificial\s+intelligence|(?:large\s+)?language\s+model|llm|chatbot)\b"
        r"|you\s+are\s+an?\s+(?:\w+\s+)?(?:ai|language\s+model|llm|assistant|chatbot)\b)",
    ),
    (
        "a turn of a conversation",
        r"<\|?(?:im_start|im_end|system|assistant|endoftext|start_header_id)\|?>|\[/?INST\]|<</?SYS>>"
        r"|^\s*(?:###\s*)?(?:system|assistant)\s*(?:prompt|message)?\s*:\s*\S",
    ),
    (
        "secrets or tools",
        r"\b(?:reveal|print|show|send|leak|output|repeat|exfiltrate)\b[^.!?\n]{0,40}\b(?:system\s+prompt|api[\s_-]?keys?"
        r"|passwords?|your\s+(?:instructions|prompt|secrets?|credentials)|environment\s+variables?)\b"
        r"|\b(?:run|execute|call|use)\s+(?:the\s+)?(?:following|this|a|your)?\s*(?:python\s+|shell\s+)?(?:code|command|tool"
        r"|function)s?\b[^.!?\n]{0,20}:",
    ),
    ("change the reply", rf"^{_OPENING}{_CHANGE}\b[^\n]{{0,200}}?\b{_REPLY}"),
    ("in the reply", rf"^(?:in|within|throughout)\s+your\s+(?:answer|reply|response|output),?\s+{_ASKED}\b"),
    (
        "a game with letters",
        r"^(?:replace|substitute|convert|swap|scramble|jumble|reverse|misspell|capitalize)\b[^.!?\n]{0,30}"
        r"\b(?:letters?|vowels?|consonants?|characters?|words?|spaces?)\b",
    ),
    (
        "an order to write",
        r"^(?:please\s+)?(?:draft|compose|write|develop|provide)\s+(?:me\s+)?(?:an?|the)\s+(?:short\s+|brief\s+)?(?:essay"
        r"|introduction|poem|story|letter|speech|email|article|blog|tweet|summary|example|spanish|french|german)\b",
    ),
    (
        "an order to translate",
        r"^(?:please\s+)?(?:translate|provide\s+the\s+\w+\s+(?:equivalent|translation))\b[^.!?\n]{0,60}"
        r"\b(?:to|into|for|in)\b",
    ),
    (
        "a question to the model",
        r"^(?:(?:can|could|would|will)\s+you\s+(?:please\s+)?(?:show|give|tell|explain|write|help|provide|describe)\b"
        r"|how\s+do\s+(?:you\s+say|i\s+(?:solve|write|fix|install|use|make|create|get))\b"
        r"|explain\s+(?:the|how|why|what)\b[^.!?\n]{0,60}(?:in\s+simple\s+terms|with\s+an?\s+example|theory|works?)\b"
        r"|what(?:'s|\s+is)\s+['\"‘“][^'\"’”\n]{1,60}['\"’”]\s+in\s+[A-Z])",
    ),
)
# What begins with ^ is only tried at a sentence's start: `search` would try it everywhere.
_COMPILED = tuple(
    (name, compiled.match if pattern.startswith("^") else compiled.search)
    for name, pattern in _RULES
    for compiled in [re.compile(pattern, re.IGNORECASE)]
)
# A sentence ends at a line's end, or at a full stop, question or exclamation mark before a space.
_SENTENCE = re.compile(r"\S[^\n.!?]*+(?:[.!?](?!\s)[^\n.!?]*+)*+[.!?]*+")


def instructions_in(text: str) -> list[Flag]:
    """The sentences of `text` that read like instructions to a model, in order. Takes time linear in the text, of which
    the first SCAN_CHARS are read."""
    flags = []
    for sentence in _SENTENCE.finditer(text[:SCAN_CHARS]):
        if sentence.end() - sentence.start() < SHORTEST:
            continue
        rule = _rule_for(sentence.group()[:SENTENCE_CHARS])
        if rule is not None:
            end = min(sentence.end(), sentence.start() + SENTENCE_CHARS)
            flags.append(Flag(sentence.start(), end, rule))
    return flags


def _rule_for(sentence: str) -> str | None:
    bare = sentence.lstrip("\"'“”‘’-–—*•>#() \t0123456789.")
    return next((name for name, fits in _COMPILED if fits(bare)), None)
