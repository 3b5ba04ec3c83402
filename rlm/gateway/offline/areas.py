"""What the offline models say of a whole corpus: its areas one after another, by their labels and first sentences, or
by a sentence of a passage in each."""

import re
from collections.abc import Sequence

from rlm.gateway.blocks import Block
from rlm.gateway.offline.sentences import is_prose, split
from rlm.gateway.tokens import count_tokens

MODEL = "offline/reader"
#: What stands beside the id of an area that a prompt shows, after its share in percent.
OF_THE_TEXT = "of the text"
#: What stands before the share where a passage of the area is shown; the area's id and label follow, if it has any.
FROM = "from"
_AREA = re.compile(rf"(?P<share><?\d{{1,3}}%) {OF_THE_TEXT}")
_PART = re.compile(rf"{FROM} (?P<share><?\d{{1,3}}%) {OF_THE_TEXT}(?:, (?P<label>.*))?")
_LEAD = (
    "The text{documents} lies in these areas of its tree, told by their labels and a first sentence of each; no "
    "language model has read any of it:"
)
_LEAD_OF_PARTS = (
    "The text{documents} lies in these parts, each told by a sentence of one passage in it; no language model has read "
    "any of it:"
)
_DOCUMENTS = re.compile(r"In all there are ([\d,]{1,20} documents?)\.")  # as prompts.AREAS says it
MOST = 12  # areas that are told of one by one
#: What begins with no small letter, and ends as a sentence does; a passage may begin within one, or with a heading.
_WHOLE = re.compile(r"\W{0,9}[^\W\d_a-z].*[.!?]\W{0,9}", re.DOTALL)


def are_areas(blocks: Sequence[Block]) -> bool:
    """Whether all that a prompt shows are areas of a tree, or passages of them, as the route overview gives them."""
    return bool(blocks) and any(
        all(kind.fullmatch(block.about) for block in blocks) for kind in (_AREA, _PART)
    )


def tell(blocks: Sequence[Block], max_tokens: int, instructions: str = "") -> str:
    """A line for each area, with a quote of its words below all of them; MOST, or as many as fit. How many documents
    there are is told as the `instructions` tell it."""
    of_all = _DOCUMENTS.search(instructions)
    lead = _LEAD if _AREA.fullmatch(blocks[0].about) else _LEAD_OF_PARTS
    told, sources = [lead.format(documents=f" of {of_all[1]}" if of_all else "")], list[str]()
    for number, block in enumerate(blocks, 1):
        share, label, quote = _told_of(block)
        said = "" if quote == label else f': "{" ".join(quote.split())}"'
        line = f"- {f'{share} {label}'.strip()} ({block.name}){said} [{number}]"
        source = f'[{block.name}] "{quote}"'
        whole = "\n".join([*told, line, "", *sources, source])
        if sources and (number > MOST or count_tokens(MODEL, whole) > max_tokens):
            told.append(f"and {len(blocks) - number + 1:,} more")
            break
        told.append(line)
        sources.append(source)
    return "\n".join([*told, "", *sources])


def _told_of(block: Block) -> tuple[str, str, str]:
    """(share, label, quote) of an area, or of the part that a passage is from; '' for no label."""
    if part := _PART.fullmatch(block.about):
        sentences = [block.text[start:end] for start, end in split(block.text)]
        telling = (one for one in sentences if is_prose(one) and _WHOLE.fullmatch(one))
        quote = next(telling, (sentences or [block.text])[0])
        return part["share"], part["label"] or "", quote
    label, _, words = block.text.partition("\n")
    first = next((words[start:end] for start, end in split(words.partition("\nInside: ")[0])), "")
    quote = label if words.startswith("Inside: ") or not first else first
    return block.about.partition(" ")[0], label or words.rpartition("Inside: ")[2].partition("\n")[0], quote
