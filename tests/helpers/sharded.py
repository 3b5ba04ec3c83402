"""The same content as one index and as an index of shards, made by hand, so that all that they give can be compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from index_store.embedder import BUILT_IN
from index_store.index import Index, Sharded, open_index
from index_store.name_table import NameTable, name_table
from index_store.outline import Outline
from index_store.shards.layout import settings_of, shard_of
from index_store.shards.shared import write_shared
from index_store.types import Document
from index_store.writer import Draft, publish
from tests.helpers.toy import DIM, unit_rows

MODELS = {"embedder": BUILT_IN, "embedder_fingerprint": "toy", "summarizer": "hand"}
NAMES = ("Tyrell", "Joachim Hansen", "Zürich", "Rachael", "Ælfred", "Voight-Kampff", "Bryant", "Nexus-6")
WORDS = ("rain", "owl", "glass", "street", "memory", "dove", "neon", "spinner", "unicorn", "größe", "–", "🍎")


def random_part(name: str, seed: int, documents: int, height: int) -> Draft:
    """Documents of some chunks, under a tree of `height` levels in which nodes may have several parents and guests."""
    draw = Random(f"{name} {seed}")
    texts, chunks = list[tuple[Document, str]](), list[tuple[int, int, int]]()
    for number in range(documents):
        cuts, text = [0], ""
        for _ in range(1 if height == 1 else draw.randint(1, 4)):
            text += " ".join(draw.choices(WORDS, k=draw.randint(3, 12)) + draw.choices(NAMES, k=2)) + ".\n"
            cuts.append(len(text))
        chunks += [(number, start, end) for start, end in pairwise(cuts)]
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        meta = {"kind": draw.choice(["letter", "novel"])}
        if number == documents - 1:
            meta["access"] = "legal"
        title = draw.choice([*NAMES, f"Report {number}"])
        sections = ((0, 1, draw.choice(["Rain", "Snow"])),)
        texts.append(
            (Document(f"{name}/{number}.txt", title, name, sha256, len(text), (), sections, meta), text)
        )
    levels, children, guests = [len(chunks)], list[npt.NDArray[np.int64]](), list[npt.NDArray[np.int64]]()
    for level in range(1, height):
        first, below = sum(levels[:-1]), levels[-1]
        size = 1 if level == height - 1 else max(1, (below + 2) // 3)
        for own in range(size):
            members = {below * own // size, *range(below * own // size, below * (own + 1) // size)}
            further = {draw.randrange(below)} - members if size > 1 else set[int]()
            children.append(np.array(sorted(members | further)) + first)
            is_guest = draw.random() < 0.5
            guests.append(np.array(sorted(further if is_guest else ()), dtype=np.int64) + first)
        levels.append(size)
    above = sum(levels[1:])
    return Draft(
        documents=texts,
        chunks=np.array(chunks, dtype=np.int64),
        labels=[f"{name} {draw.choice(WORDS)} {i}" for i in range(above)],
        summaries=[" ".join(draw.choices([*WORDS, *NAMES], k=9)) for _ in range(above)],
        levels=levels,
        children=children,
        guests=guests,
        tokens=np.array([draw.randint(1, 9) for _ in range(sum(levels))], dtype=np.int64),
        vectors=unit_rows(sum(levels), seed=draw.randrange(2**32)),
        is_shard=True,
    )


def random_sharded(path: Path, seed: int, shapes: Sequence[tuple[int, int]]) -> tuple[Index, Sharded]:
    """One index of all, and one of shards, at `path`; `shapes`: how many documents and levels each shard has."""
    parts = {f"part-{i}": random_part(f"part-{i}", seed, *shape) for i, shape in enumerate(shapes)}
    return published(path, parts, seed)


def published(path: Path, parts: dict[str, Draft], seed: int = 0) -> tuple[Index, Sharded]:
    """Shards of this content as one index, and as an index of shards."""
    roots = [_root(part) for part in parts.values()]
    upper = _upper(list(parts), roots, seed)
    one = _one(list(parts.values()), roots, upper)
    names = name_table(_passages(one))
    alike = _alike(one)
    publish(path / "one" / "a.index", replace(one, names=names, alike=alike), MODELS, {"seed": seed})
    first, shards = 0, []
    for name, part in parts.items():
        past = first + len(part.chunks)
        folder = path / "many" / "a.index" / "shards" / name
        digest = publish(folder, replace(part, names=_cut(names, first, past)), MODELS, {}).digest
        shards.append((digest, open_index(folder)))
        first = past
    told = [shard_of(name, digest, tree) for name, (digest, tree) in zip(parts, shards, strict=True)]
    trees = [tree for _, tree in shards]
    draft = replace(upper, of_shards=partial(write_shared, shards=trees, alike=np.array(alike)))
    publish(path / "many" / "a.index", draft, MODELS, {"seed": seed} | settings_of(told))
    many = open_index(path / "many" / "a.index")
    assert isinstance(many, Sharded)
    return open_index(path / "one" / "a.index"), many


def _root(part: Draft) -> tuple[str, str]:
    """The label and the text of the root."""
    if part.labels:
        return part.labels[-1], part.summaries[-1]
    document, text = part.documents[0]
    alone = replace(document, title="") if document.title == document.id else document
    return Outline(alone).label(text[:800], 0), text


def _upper(names: Sequence[str], roots: Sequence[tuple[str, str]], seed: int) -> Draft:
    """The upper tree: over the roots, where there are several, two levels, of which the first shares a root."""
    count, draw = len(names), Random(seed)
    texts = [
        (Document(name, name, name, hashlib.sha256(text.encode()).hexdigest(), len(text)), text)
        for name, (_, text) in zip(names, roots, strict=True)
    ]
    half = (count + 1) // 2
    above = [] if count == 1 else [np.arange(half), np.arange(half - 1, count), np.array([count, count + 1])]
    return Draft(
        documents=texts,
        chunks=np.array([(i, 0, len(text)) for i, (_, text) in enumerate(texts)], dtype=np.int64),
        labels=[f"Half {i}" for i in range(len(above))],
        summaries=[" ".join(draw.choices([*WORDS, *NAMES, "orion"], k=7)) for _ in above],
        levels=[count] if count == 1 else [count, 2, 1],
        children=above,
        tokens=np.full(count + len(above), 7, dtype=np.int64),
        vectors=unit_rows(count + len(above), seed=seed),
        is_shard=True,
    )


def _one(parts: Sequence[Draft], roots: Sequence[tuple[str, str]], upper: Draft) -> Draft:
    """All as one draft: level by level, in each the shards' nodes in order; and the roots that are repeated."""
    height = max(len(part.levels) for part in parts)
    sizes = [[part.levels[i] if i < len(part.levels) else 1 for part in parts] for i in range(height)]
    places = [*accumulate((size for level in sizes for size in level), initial=0)]
    firsts = [places[i * len(parts) : (i + 1) * len(parts)] for i in range(height)]
    labels, summaries, tokens, rows = list[str](), list[str](), list[int](), list[npt.NDArray[np.float32]]()
    children, guests = list[npt.NDArray[np.int64]](), list[npt.NDArray[np.int64]]()
    for i in range(height):
        for s, part in enumerate(parts):
            if i >= len(part.levels):
                label, text = roots[s]
                labels.append(label)
                summaries.append(text)
                tokens.append(int(part.tokens[-1]))
                rows.append(part.vectors[-1:])
                children.append(np.array([firsts[i - 1][s]]))
                guests.append(np.empty(0, dtype=np.int64))
                continue
            start, past = sum(part.levels[:i]), sum(part.levels[: i + 1])
            tokens += part.tokens[start:past].tolist()
            rows.append(part.vectors[start:past])
            if i:
                above = slice(start - part.levels[0], past - part.levels[0])
                shift = firsts[i - 1][s] - sum(part.levels[: i - 1])
                labels += part.labels[above]
                summaries += part.summaries[above]
                children += [own + shift for own in part.children[above]]
                guests += [own + shift for own in part.guests[above]]
    count, top = len(parts), firsts[-1][0]
    for part, (_, row) in zip(parts, enumerate(upper.vectors[:count]), strict=True):
        row[:] = part.vectors[-1]  # the upper tree's chunks are the roots
    upper.tokens[:count] = [part.tokens[-1] for part in parts]
    labels += upper.labels
    summaries += upper.summaries
    children += [own + top for own in upper.children]
    guests += [np.empty(0, dtype=np.int64)] * len(upper.children)
    tokens += upper.tokens[count:].tolist()
    rows.append(upper.vectors[count:])
    moved = [*accumulate((len(part.documents) for part in parts), initial=0)]
    return Draft(
        documents=[pair for part in parts for pair in part.documents],
        chunks=np.concatenate(
            [p.chunks + np.array([first, 0, 0]) for p, first in zip(parts, moved, strict=False)]
        ),
        labels=labels,
        summaries=summaries,
        levels=[*map(sum, sizes), *upper.levels[1:]],
        children=children,
        guests=guests,
        tokens=np.array(tokens, dtype=np.int64),
        vectors=np.concatenate(rows),
    )


def _passages(draft: Draft) -> list[tuple[str, Sequence[str]]]:
    outlines = [Outline(document) for document, _ in draft.documents]
    return [(draft.documents[d][1][a:b], outlines[d].parts(a)) for d, a, b in draft.chunks.tolist()]


def _cut(table: NameTable, first: int, past: int) -> NameTable:
    """The part of a table that is of the chunks first:past."""
    here = (table.bearers >= first) & (table.bearers < past)
    name_of = np.repeat(np.arange(len(table.listed)), np.diff(table.offsets))[here]
    used, sizes = np.unique(name_of, return_counts=True)
    return NameTable(
        [table.listed[name] for name in used.tolist()],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        table.bearers[here] - np.int32(first),
        table.titles[here],
        past - first,
    )


def _alike(draft: Draft) -> list[int]:
    """Each document is like the first of the same text; and the last is like the first."""
    first = dict[str, int]()
    found = [first.setdefault(text, i) for i, (_, text) in enumerate(draft.documents)]
    return [*found[:-1], 0]


__all__ = ["DIM", "published", "random_part", "random_sharded"]
