"""What the offline models say of a whole corpus: its areas one after another, by their labels and first sentences."""

import re
from collections.abc import Sequence

from rlm.gateway.blocks import Block
from rlm.gateway.offline.sentences import split
from rlm.gateway.tokens import count_tokens

MODEL = "offline/reader"
#: What stands beside the id of an area that a prompt shows, after its share in percent.
OF_THE_TEXT = "of the text"
_SHARE = re.compile(rf"(<?\d{{1,3}}%) {OF_THE_TEXT}")
_LEAD = (
    "The text{documents} lies in these areas of its tree, told by their labels and a first sentence of each; no "
    "language model has read any of it:"
)
_DOCUMENTS = re.compile(r"In all there are ([\d,]{1,20} documents?)\.")  # as prompts.AREAS says it
MOST = 12  # areas that are told of one by one


def are_areas(blocks: Sequence[Block]) -> bool:
    """Whether all that a prompt shows are areas of a tree, as the route overview gives them."""
    return bool(blocks) and all(_SHARE.fullmatch(block.about) for block in blocks)


def tell(blocks: Sequence[Block], max_tokens: int, instructions: str = "") -> str:
    """A line for each area, with a quote of its words below all of them; MOST, or as many as fit. How many documents
    there are is told as the `instructions` tell it."""
    of_all = _DOCUMENTS.search(instructions)
    told, sources = [_LEAD.format(documents=f" of {of_all[1]}" if of_all else "")], list[str]()
    for number, block in enumerate(blocks, 1):
        label, _, words = block.text.partition("\n")
        first = next((words[start:end] for start, end in split(words.partition("\nInside: ")[0])), "")
        is_list = words.startswith("Inside: ")
        quote = label if is_list or not first else first
        share = block.about.partition(" ")[0]
        label = label or words.rpartition("Inside: ")[2].partition("\n")[0]
        said = "" if quote == label else f': "{" ".join(quote.split())}"'
        line = f"- {share} {label} ({block.name}){said} [{number}]"
        source = f'[{block.name}] "{quote}"'
        whole = "\n".join([*told, line, "", *sources, source])
        if sources and (number > MOST or count_tokens(MODEL, whole) > max_tokens):
            told.append(f"and {len(blocks) - number + 1:,} more")
            break
        told.append(line)
        sources.append(source)
    return "\n".join([*told, "", *sources])
