"""`raptor inspect`: an index as text, as JSON, or as a page."""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from index_store.files import replace_page
from index_store.graph import level_stats
from index_store.index import Index, Sharded, open_index
from index_store.manifest import SHARDS
from index_store.narrowing import Seen, seen_by_label
from index_store.picture import page
from index_store.provenance import nodes_above, sources
from index_store.terminal import byte_size, count, one_line, print_json, say, spelled
from index_store.types import Span
from raptor.commands.build import access_lines
from raptor.errors import RaptorError

LABEL_CHARS = 200
#: Of the children of one node that were shown before, so many are named again.
MOST_AGAIN = 20
MOST_SHARDS = 10  # that are named


def inspect(args: argparse.Namespace) -> int:
    """Show an index, its documents, one node, or what is above a range of characters."""
    if args.depth < 0:
        raise RaptorError(f"--depth is {args.depth}; give 0, which shows the root alone, or more")
    index = open_index(args.index, access=args.access, lazy=True)
    if args.html:
        return _draw(index, args.html)
    if args.documents:
        return _list_documents(index, args.json)
    if args.node or args.at:
        facts = _node_facts(index, args.node) if args.node else {"above": _above(index, args.at)}
        print_json(facts) if args.json else say(_facts_text(facts))
    elif args.json:
        print_json(_facts(index, args.index, args.depth))
    else:
        say(_index_text(index, args.index, args.depth))
    return 0


def _draw(index: Index, file: str) -> int:
    try:
        replace_page(Path(file), page(index))
    except OSError as e:
        raise RaptorError(f"cannot write the page {file}: {e.strerror or e}") from e
    say(spelled(file))
    return 0


# -- documents ---------------------------------------------------------------------------------------------


def _list_documents(index: Index, as_json: bool) -> int:
    """Each document with tabs between its fields, so that other programs can cut the lines."""
    for d in index.documents:
        facts = {
            "id": d.id,
            "characters": d.chars,
            "title": d.title,
            "source": d.source,
            "pages": len(d.pages),
        }
        if as_json:
            print_json(facts | {"meta": dict(d.meta)})
        else:
            say("\t".join([spelled(d.id), f"{d.chars:,}", spelled(d.title)]))
    return 0


# -- a node, or a place ------------------------------------------------------------------------------------


def _node_facts(index: Index, node: str) -> dict[str, Any]:
    """A node with its text, its neighbours in the tree, and the characters of documents that are below it."""
    return {
        "node": node,
        "label": index.node(node).label,
        "text": index.text(node),
        "path": [n.id for n in index.path_to(node)],
        "parents": [n.id for n in index.parents(node)],
        "guest_in": [index.id_of(p) for p in _away_from_home(index, index.number_of(node))],
        "children": [n.id for n in index.children(node)],
        "sources": [asdict(s.span) | {"pages": s.pages} for s in sources(index, node)],
    }


def _away_from_home(index: Index, number: int) -> list[int]:
    """Numbers of the parents whose summaries are not about a node: by its names it stands there too."""
    return [p for p in index.neighbours(number, "parents") if number in index.guests(p)]


def _above(index: Index, place: str) -> list[dict[str, Any]]:
    """The nodes over a range given as DOC:START-END."""
    parts = re.fullmatch(r"(.+):(\d{1,18})-(\d{1,18})", place, re.DOTALL | re.ASCII)
    if parts is None:
        raise RaptorError(f"--at is {place!r}; write it as DOC:START-END, for example notes.md:120-480")
    nodes = nodes_above(index, Span(parts[1], int(parts[2]), int(parts[3])))
    return [{"node": n.id, "level": n.level, "label": n.label} for n in nodes]


def _facts_text(facts: dict[str, Any]) -> str:
    return "\n".join(line for name, value in facts.items() for line in _fact_lines(name, value))


def _fact_lines(name: str, value: Any) -> list[str]:
    """What has lines of its own is set in, so that no text can pass for the fact after it."""
    if not isinstance(value, list):
        first, *rest = str(value).split("\n") if name == "text" else [spelled(str(value))]
        return [f"{name}: {first}", *(f"  {line}" for line in rest)]
    shown = [
        " ".join(str(v) for v in x.values() if v is not None) if isinstance(x, dict) else str(x)
        for x in value
    ]
    return [f"{name}: {len(value)}", *(f"  {spelled(line)}" for line in shown)]


# -- the whole index ---------------------------------------------------------------------------------------


def _facts(index: Index, named: str, depth: int) -> dict[str, Any]:
    manifest = index.manifest
    return {
        "index": named,
        "generation": manifest.generation,
        "digest": manifest.digest,
        "documents": len(index.documents),
        "characters": index.chars,
        "nodes": len(index),
        "levels": [asdict(s) for s in level_stats(index)],
        "models": dict(manifest.models),
        "settings": {name: value for name, value in manifest.settings.items() if name != SHARDS},
        **({"shards": [shard.name for shard in index.shards]} if isinstance(index, Sharded) else {}),
        "bytes": sum(f.size for one in index.manifests() for f in one.files.values()),
        "access": [asdict(one) for one in _seen(index)],
        "tree": _branch(index, len(index) - 1, depth, set()),
    }


def _branch(index: Index, number: int, depth: int, done: set[int]) -> dict[str, Any]:
    """A node and what is under it; what stands above already is named without what is under it."""
    node, children = index.at(number), index.neighbours(number, "children")
    shown = [_branch(index, c, depth - 1, done) for c in _unfolded(number, children, depth, done)]
    label = one_line(node.label, LABEL_CHARS)
    guests = len(index.guests(number))
    return {"node": node.id, "label": label, "children": len(children), "guests": guests, "shown": shown}


def _unfolded(number: int, children: Sequence[int], depth: int, done: set[int]) -> list[int]:
    """The children of a node to show below it: none the second time, and few of those that were shown before.

    So what is shown grows with the nodes of a tree and not with the ways through it, which a stranger can make many.
    """
    if number in done:
        return []
    done.add(number)
    if depth <= 0:
        return []
    left_out = set([c for c in children if c in done][MOST_AGAIN:])
    return [c for c in children if c not in left_out]


def _seen(index: Index) -> list[Seen]:
    """How much each label sees: nothing that is told to one of these readers."""
    return seen_by_label(index) if index.access is None else []


def _index_text(index: Index, named: str, depth: int) -> str:
    facts = _facts(index, named, 0)
    models = {k: one_line(v, LABEL_CHARS) for k, v in facts["models"].items() if "fingerprint" not in k}
    lines = [
        f"{spelled(facts['index'])}: generation {facts['generation']}, {count(facts['documents'], 'document')}, "
        f"{count(facts['characters'], 'character')}, {byte_size(facts['bytes'])}",
        f"models: {', '.join(f'{k} {v}' for k, v in models.items())}",
        f"digest: {one_line(facts['digest'], LABEL_CHARS)}",
        *_shards_lines(index),
        "",
    ]
    for s in reversed(facts["levels"]):
        children = f", {s['mean_children']} children each" if s["level"] else " (chunks)"
        size = f"{count(s['nodes'], 'node')}, {count(s['tokens'], 'token')}"
        lines.append(f"level {s['level']}: {size}{children}")
    lines += access_lines(_seen(index), facts["documents"], sum(index.levels[1:]))
    return "\n".join([*lines, "", *_tree_lines(index, len(index) - 1, depth, set())])


def _shards_lines(index: Index) -> list[str]:
    """A line that names the first shards, each with its chunks; none where there are no shards."""
    if not isinstance(index, Sharded):
        return []
    named = ", ".join(f"{one.name} ({count(one.levels[0], 'chunk')})" for one in index.shards[:MOST_SHARDS])
    more = len(index.shards) - MOST_SHARDS
    return [f"shards: {len(index.shards):,}: {named}{f' and {more:,} more' if more > 0 else ''}"]


def _tree_lines(
    index: Index, number: int, depth: int, done: set[int], indent: str = "", mark: str = ""
) -> Iterator[str]:
    """A line for a node and each below it; a guest is marked, as it is at home elsewhere."""
    node, children = index.at(number), index.neighbours(number, "children")
    again = ", shown above" if depth > 0 and number in done else ""
    guests = index.guests(number)
    as_guests = f", {count(len(guests), 'guest')} among them" if guests else ""
    below = f"  ({len(children)} below{as_guests}{again})" if children else ""
    yield f"{indent}{mark}{node.id}  {one_line(node.label, LABEL_CHARS)}{below}"
    for child in _unfolded(number, children, depth, done):
        also = "guest " if child in guests else ""
        yield from _tree_lines(index, child, depth - 1, done, indent + "  ", also)
