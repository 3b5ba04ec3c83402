"""What this project has set out to reach, target by target, and which part or test says whether it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks._report import Claim, Part, verdict


@dataclass(frozen=True, slots=True)
class Target:
    """Words that say what is wanted. `part`: the part whose claims answer it; or `test`: the file that holds it."""

    text: str
    part: str = ""
    test: str = ""


#: In the order in which they are shown. A key is what a `Claim` names.
TARGETS: Mapping[str, Target] = {
    # the tree in retrieval
    "gain": Target(
        "One fixed setting gains 5 points of recall@5 on the multi-hop sets over search without names, as it "
        "ranked before; and on no other set does it lose more than noise",
        "retrieval",
    ),
    "not fitted": Target("Settings chosen without a set serve it as well as the fixed ones do", "retrieval"),
    "tree counts": Target(
        "Leaving the tree out of ranking costs points on the multi-hop sets: it is left out, as what branches gather "
        "ranks no better than what names do, and shards would rank otherwise than one index",
        "retrieval",
    ),
    "plain": Target("Search is behind no plain way of searching by more than noise, on any set", "retrieval"),
    "pairs": Target(
        "Two passages that a question needs share a branch of level 1 at least twice as often as in clusters by "
        "meaning alone, with the same number of clusters, of paid calls, and at most 1.5 parents on the average",
        "tree",
    ),
    "equal characters": Target(
        "At equal characters read, gather finds 5 points more gold than flat search on the multi-hop sets, and nowhere "
        "less by more than noise",
        "tree",
    ),
    "pool": Target("The same of what the navigator reads", "tree"),
    "topics": Target(
        "Upper levels show more of a corpus's topics and documents than the same tokens spent in any flat way",
        "topics",
    ),
    # what a question takes
    "lean": Target("A question takes at most half of the 14,000 prompt tokens that it took", "growth"),
    "blocks": Target("Prompts of passages are at most 1.05 times as long as the passages", "growth"),
    "growth": Target(
        "With 50 times the corpus at least 0.9 of the gold is cited that is cited at 1 time, without a key",
        "growth",
    ),
    "reading": Target("What is read grows at most 1.2 times while the corpus grows 50 times", "growth"),
    "yes or no": Target(
        "A question of yes or no, or of how many, is never answered by quotes that do not say what they are",
        "growth",
    ),
    "reduce": Target(
        "Citations of a reduction reach as many gold spans as those of retrieval and of the loop, for as many tokens",
        "reduce",
    ),
    "shards": Target(
        "Four shards give the hits of one index, 0.99 of the first ten, and the same citations, for at most 1.2 times "
        "the characters read",
        "shards",
    ),
    # speed
    "walk": Target("The walk over names takes about 7 ms of a query, and its graph 1 s of a build", "speed"),
    "hybrid": Target("Hybrid search is near dense search, also among 10,000 chunks", "growth"),
    "embedding": Target(
        "Embedding takes 1 / 1.8 of the processor time of float32, where the processor has bfloat16", "speed"
    ),
    "first event": Target("The first event of a question without a key comes within 0.5 s", "speed"),
    "compiled": Target("What is compiled for clustering is compiled once, not in each build", "speed"),
    "fiftieth": Target(
        "Clustering takes a fiftieth of the reference's processor time at 10,000 vectors", "index"
    ),
    "bench": Target(
        "All parts that need no key, from nothing, take less than 40 minutes on 2 cores", "whole"
    ),
    "sandbox": Target("A session is ready in 8 ms, an empty cell takes 0.2 ms, a verb 0.1 ms", "sandbox"),
    "estimates": Target("A build takes what its estimate said", "estimates"),
    # the audit
    "routing": Target(
        "The check of a trace tells runs that go right from runs that go wrong, planted over sets with gold",
        "audit",
    ),
    "losing": Target("It names how a run lost what it needed: not offered, entered, read or cited", "audit"),
    # questions that need every row, by a simulated model
    "map best": Target("Over every row, the map scores best at every length, by a simulated model", "map"),
    "map cost": Target("And is at most 1.1 times as dear as code that a model writes for itself", "map"),
    "calibrated": Target(
        "Of models that err otherwise, packs of a calibrated size score more than those of a fixed one, or as much for "
        "less",
        "map",
    ),
    "map tokens": Target(
        "Tokens sent are at most 1.15 times those of the text for rows of 25 tokens, 1.05 times for chunks, and calls "
        "at most 1.05 times what full packing needs",
        "map",
    ),
    "map exact": Target("Whatever fails on the way, every row has its own answer", "map"),
    # larger corpora
    "embed fast": Target(
        "Embedding is as fast as sentence-transformers alone: 0.95 times on one core, and 1.8 times that on two",
        "scale",
    ),
    "scale reads": Target(
        "What a question reads grows at most 1.2 times while the corpus grows 100 times", "scale"
    ),
    "simulated": Target("The simulation of a build on one node takes what a build took", "scale"),
    # on real models
    "models": Target(
        "On real models navigating the tree answers more than one direct call, than retrieval, and than no recursion",
        "models",
    ),
    # what a figure does not show
    "branches": Target(
        "context.branches ranks the branches that hold the evidence, each with its share, and the trace records them",
        test="tests/index_store/test_branches.py",
    ),
    "grep": Target("grep says where its list was cut", test="tests/index_store/test_grep.py"),
    "eval": Target(
        "rlm eval over two sets, killed and resumed, gives the figures that a second script takes from its traces",
        test="tests/rlm/evaluating/test_evaluating.py",
    ),
}

COLUMNS = ("target", "holds", "what was measured", "wanted", "figure", "against", "interval")


def rows(parts: Mapping[str, Part]) -> Iterator[tuple[str, ...]]:
    """A row for each claim that answers a target, or one that says why there is none."""
    for key, target in TARGETS.items():
        claims = [claim for part in parts.values() for claim in part.of(Claim) if claim.target == key]
        if claims:
            yield from _claim_rows(target, claims)
        elif target.test:
            yield target.text, "by a test", f"`{target.test}`", "", "", "", ""
        else:
            why = "does not measure it yet" if target.part in parts else "was not run"
            yield target.text, "not measured", f"the part {target.part} {why}", "", "", "", ""


def _claim_rows(target: Target, claims: Sequence[Claim]) -> Iterator[tuple[str, ...]]:
    for place, claim in enumerate(claims):
        told = target.text if place == 0 else ""
        yield told, verdict(claim), claim.text, claim.wanted, claim.figure, claim.peer, claim.interval
