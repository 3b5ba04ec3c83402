"""offline/judge: whether a cited text supports a sentence, by its words alone: a stand-in for a model that judges."""

from rlm.gateway.blocks import unquote
from rlm.gateway.offline.sentences import words
from rlm.gateway.types import Message

#: The names of the two data blocks that a judge is given.
CITED, SENTENCE = "cited text", "sentence"


def judge(messages: list[Message], max_tokens: int) -> str:
    """YES where each content word and number of the sentence stands in the cited text, else NO."""
    blocks = {block.name: block.text for message in messages for block in unquote(message["content"])}
    wanted, held = (set(words(blocks.get(name, ""))) for name in (SENTENCE, CITED))
    return "YES" if wanted and wanted <= held else "NO"
