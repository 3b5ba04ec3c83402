"""What a run was shown of areas of the tree: their figures are the index's own, and stand in no document."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm.audit.events import RecordedEvent

_VERBS = frozenset({"areas", "branches", "overview"})
_NODE = re.compile(r"L\d{1,3}-\d{5,9}")
_MOST = 1_000  # areas of one question
_WORDS = 20_000  # characters of one that are looked at


@dataclass(frozen=True, slots=True)
class Areas:
    """By the id of each area that was shown, its figures and its words; `sizes`: how many documents and nodes the index
    has."""

    figures: Mapping[str, str]
    words: Mapping[str, str]
    sizes: str

    def about(self, sentence: str, content: str) -> str:
        """What a sentence of an answer may take from the areas: all of those that it names by their ids; of the others
        the figures alone, how many there are, and how many of them the answer does not name."""
        if named := [node for node in _NODE.findall(sentence) if node in self.figures]:
            return "\n".join(f"{self.figures[node]}\n{self.words[node]}" for node in named)
        if not self.figures:
            return ""
        untold = len(self.figures.keys() - {*_NODE.findall(content)})
        return "\n".join([self.sizes, f"{len(self.figures)} {untold}", *self.figures.values()])


def areas_shown(opened: RecordedEvent, events: Sequence[RecordedEvent]) -> Areas:
    """The areas that verbs gave among these events of a run; `opened`: its first event."""
    figures, words = dict[str, str](), dict[str, str]()
    for item in _items(events):
        node, share = item["node"], 100 * item["share"]
        least = "1" if share < 1 else ""
        figures[node] = f"{node} {share:.0f} {share:.1f} {least}"
        words[node] = f"{item.get('label') or ''}\n{item.get('text') or ''}"[:_WORDS]
        if len(figures) >= _MOST:
            break
    index = opened.get("index") or {}
    return Areas(figures, words, f"{index.get('documents')} {index.get('nodes')}")


def _items(events: Sequence[RecordedEvent]) -> Iterator[Mapping[str, Any]]:
    for event in events:
        if event["kind"] == "visited" and event["verb"] in _VERBS and isinstance(event["result"], list):
            yield from (item for item in event["result"] if isinstance(item, dict) and _is_area(item))


def _is_area(item: Mapping[str, Any]) -> bool:
    share = item.get("share")
    is_share = isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
    return is_share and isinstance(item.get("node"), str)
