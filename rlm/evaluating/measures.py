"""The names of the figures that a run has. Quick to import: the command line takes its choices from here."""

from collections.abc import Mapping

#: What an answer and its way are held against, in the order in which they are shown, with a few words for each.
QUALITIES: Mapping[str, str] = {
    "exact": "exact match",
    "f1": "token F1",
    "numbers": "numbers",
    "citation_recall": "citation recall",
    "citation_precision": "citation precision",
    "standing": "citations that stand",
    "alce_recall": "ALCE recall",
    "alce_precision": "ALCE precision",
    "offered": "gold offered",
    "entered": "gold entered",
    "read": "gold read",
    "cited": "gold cited",
}
#: What a run takes.
COSTS: Mapping[str, str] = {"calls": "calls", "tokens": "tokens", "usd": "dollars", "seconds": "seconds"}
#: How far a run came towards a gold place, each a step further.
REACHED = ("offered", "entered", "read", "cited")
