"""The label of data blocks, offline: phrases that name what they share and what stands out in them.

Candidates are runs of one to three words between stop words and punctuation, as in RAKE (Rose et al., "Automatic
keyword extraction from individual documents", 2010). A phrase counts less for each time that it stands in a longer
one, as in C-value (Frantzi et al., IJODL 2000); rare words tell more, and no two phrases say the same words.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from rlm.gateway.blocks import Block
from rlm.gateway.offline.sentences import STOP_WORDS, words
from rlm.gateway.tokens import word_rank

UNTITLED = "untitled"  # the label of blocks without a name and without words
WORDS = 8
_HELD = 0.3  # what a further term for a block is worth, against its first
_RARE = 30_000  # the rank from which words count as equally rare
_LONGEST = 3  # words of a phrase
_CANDIDATES = 40
_LENT = 0.3  # of how often a phrase's rarest word is told, what counts for the phrase
_FEW = 20  # different words, below which each may name a text though it stands there once

# What is said in every text about code, in its keywords and in the headings of its descriptions.
_OF_CODE = """
none true false null nil self cls args kwargs arg raises raise raised returns return returned param params
parameters parameter arguments argument def class elif lambda import imported pass yield async await int str bool
float dict tuple todo fixme http https www com org html e.g i.e etc versionadded versionchanged deprecated noqa
pragma isinstance len print except try while global nonlocal assert del const let var func struct enum impl pub
mut fn void static
"""
# What makes no phrase at either end of one, and names little alone.
_WEAK = """
called calls call given gives following followed available able added changed new version versions based
different similar various several number way ways case cases example examples note notes default set sets
specified defined means mean value values current currently works work going okay yeah thank thanks think right
good great little big small long short start started end ended ago day days today lot part parts people user
users mr mrs ms kind actually basically simply however left came told took made asked answered thought looked
began became become brought found gave heard held kept knew needs show shows shown tell use useful happened
happens agree agreed uh um mm hmm mm-hmm bad died finished suppress allow allows allowed attr typical except
exactly line yields classed unset remove contains contain
"""
_NO_PHRASE, _NO_EDGE = frozenset(_OF_CODE.split()) | STOP_WORDS, frozenset(_WEAK.split())
_BREAK = re.compile(r"[^\w\s'’.-]+|\.(?=\s|\Z)|\n(?![ \t]{0,40}[a-z])|(?<=\s)[-.']|[-.'](?=\s)")
_WORD = re.compile(
    r"[^\W\d_][\w.’'-]{0,30}[^\W_]"
)  # begins with a letter; a name in code may hold points and bars
_NODE_ID = re.compile(r"^L\d+-\d+$")
_SPAN = re.compile(r"\s+\d+-\d+$")
_PAGE = re.compile(r"(?:, page \d+)?(?:; also in: .*)?$")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,5}$")


def label(blocks: Sequence[Block]) -> str:
    """Up to WORDS words: terms that the blocks' names share, then phrases that stand out in their texts.

    A block that holds a chunk is named after its title and headings, one that holds a summary by the summary's label.
    So the label over several summaries reads like a table of contents. "untitled" where there are no words at all.
    """
    terms: list[str] = []
    seen: set[str] = set()
    left = WORDS
    for term in chain(_named(blocks), _salient(blocks)):
        stems, size = set(words(term.replace("_", " "))), len(term.split())
        if size > left or (terms and 2 * len(stems - seen) <= len(stems)):
            continue
        terms.append(term)
        seen |= stems
        left -= size
        if left <= 1:
            break
    return ", ".join(terms) or UNTITLED


# -- from names --------------------------------------------------------------------------------------------


def _named(blocks: Sequence[Block]) -> Iterator[str]:
    """Terms of the blocks' names: each next one stands for as many blocks as possible that have none yet.

    Leading terms and rare words come first. A term of one summary's label counts, as it may speak for thousands of
    chunks; a title or heading only where most chunks have it.
    """
    names = [_name_terms(block) for block in blocks]
    places = [{term: place for place, term in reversed(list(enumerate(terms)))} for terms in names]
    times = Counter(chain.from_iterable(places))
    waiting = {
        term
        for block, terms in zip(blocks, names, strict=True)
        for term in terms
        if not _is_chunk(block) or 2 * times[term] > len(blocks)
    }
    held = [0] * len(blocks)
    while waiting:
        gains = {
            term: sum(_HELD**n / (1 + at[term]) for n, at in zip(held, places, strict=True) if term in at)
            for term in waiting
        }
        best = min(waiting, key=lambda term: (-gains[term] * _rarest(term) ** 0.5, term))
        waiting.remove(best)
        held = [n + (best in at) for n, at in zip(held, places, strict=True)]
        yield best


def _is_chunk(block: Block) -> bool:
    return bool(block.about or _SPAN.search(block.name))


def _name_terms(block: Block) -> list[str]:
    """The terms of a label; of a chunk its title and headings, else its name without span and ending; of an id none."""
    if block.about:
        parts = _PAGE.sub("", block.about).split(" › ")
    elif _is_chunk(block):
        parts = [_SPAN.sub("", block.name)]
    else:
        parts = block.name.split(",")[:WORDS]
    if _is_chunk(block):
        parts = [re.sub(r"[_/]+", " ", _EXTENSION.sub("", part)) for part in parts]
    terms = [_without_stops(part.split()[:4]) for part in parts]
    return [t for t in terms if any(map(str.isalpha, t)) and t != UNTITLED and not _NODE_ID.match(t)]


def _without_stops(listed: list[str]) -> str:
    """A heading's first words, without what a cut leaves hanging at their end."""
    while len(listed) > 1 and listed[-1].lower() in STOP_WORDS:
        listed = listed[:-1]
    return " ".join(listed).rstrip(",;:.…")


# -- from texts --------------------------------------------------------------------------------------------


def _salient(blocks: Sequence[Block]) -> list[str]:
    """Phrases of the texts, the most telling first: often here, in many blocks, of several words, and rare elsewhere.

    Capitals at the head of a sentence make no other phrase: it counts in all its forms and shows its commonest.
    """
    found = [_phrases(block.text) for block in blocks]
    forms = Counter(chain.from_iterable(found))
    shown = {form.lower(): form for form, _ in sorted(forms.items(), key=lambda item: (item[1], item[0]))}
    spread = Counter(chain.from_iterable(dict.fromkeys(map(str.lower, listed)) for listed in found))
    times = Counter(form.lower() for form in forms.elements())
    inside = Counter[str]()  # how often a phrase stands in a longer one that is itself told more than once
    for phrase, n in times.items():
        if n > 1 and " " in phrase:
            inside.update(dict.fromkeys(_parts(phrase), n))
    few = sum(" " not in phrase for phrase in times) < _FEW
    # A phrase of words that are each told more than once names what they are about, even where it stands once.
    rarest = {phrase: min(times[word] for word in phrase.split()) for phrase in times if " " in phrase}
    counts = {
        phrase: n - 0.7 * min(inside[phrase], n) + _LENT * (rarest.get(phrase, 1) - 1)
        for phrase, n in times.items()
        if n > 1 or rarest.get(phrase, 1) > 1 or (few and phrase not in rarest)
    }
    weights = {
        phrase: count**0.8 * (1 + spread[phrase]) * _worth(shown[phrase]) for phrase, count in counts.items()
    }
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return [shown[phrase] for phrase, weight in ranked[:_CANDIDATES] if weight > 0]


def _phrases(text: str) -> list[str]:
    """Every run of up to _LONGEST words between stop words and punctuation, and its shorter parts, as written."""
    phrases: list[str] = []
    for piece in _BREAK.split(text):
        run: list[str] = []
        for raw in piece.split():
            word = raw.removeprefix("self.").removesuffix("'s").removesuffix("’s")
            if not _WORD.fullmatch(word) or word.lower() in _NO_PHRASE:
                run = []
                continue
            run = [*run[1 - _LONGEST :], word]
            phrases += (
                " ".join(run[start:])
                for start in range(len(run))
                if start == len(run) - 1 or not {run[start].lower(), word.lower()} & _NO_EDGE
            )
    return phrases


def _parts(phrase: str) -> Iterator[str]:
    """The shorter phrases in a phrase."""
    listed = phrase.split()
    for size in range(1, len(listed)):
        yield from (" ".join(listed[at : at + size]) for at in range(len(listed) - size + 1))


def _worth(phrase: str) -> float:
    """What a phrase tells: more for several words, for a name, for words that are rare elsewhere."""
    listed = phrase.split()
    if phrase.lower() in _NO_EDGE:
        return 0.01
    several = (1.0, 2.5, 2.7)[len(listed) - 1]
    name = (
        1.3
        if "_" in phrase or any(word[1:] != word[1:].lower() or word[0].isupper() for word in listed)
        else 1.0
    )
    if listed[0][0].isupper() and listed[-1].islower():
        several *= 0.4  # a name, or the head of a sentence, with what is said of it
    rarity = _rarest(phrase) if phrase.istitle() else sum(map(_rarity, listed)) / len(listed)
    return several * name * rarity


def _rarest(term: str) -> float:
    return max(map(_rarity, term.split()))


@lru_cache(50_000)
def _rarity(word: str) -> float:
    """0.2 for the commonest words to 6 for rare ones: of two as frequent here, the rarer elsewhere tells more."""
    return math.log10(min(word_rank(word.lower()), _RARE) / 100 + 1) ** 2
