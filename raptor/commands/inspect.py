"""`raptor inspect`: an index as text, as JSON, or as a page."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from index_store.terminal import count, human_size
from raptor.errors import RaptorError

if TYPE_CHECKING:
    from index_store.index import Index
    from index_store.types import Node


def _inspect(args: argparse.Namespace) -> int:
    from index_store.index import open_index

    index = open_index(args.index)
    if args.html:
        return _draw(index, args.html)
    if args.documents:
        return _list_documents(index, args.json)
    if args.node or args.at:
        facts = _node_facts(index, args.node) if args.node else {"above": _above(index, args.at)}
        print(json.dumps(facts) if args.json else _facts_said(facts))
        return 0
    print(json.dumps(_facts(index, args.depth)) if args.json else _picture(index, args.depth))
    return 0


def _draw(index: "Index", file: str) -> int:
    from pathlib import Path

    from index_store.picture import page

    try:
        partial = Path(f"{file}.partial")
        partial.write_text(page(index), encoding="utf-8")
        partial.replace(file)
    except OSError as e:
        raise RaptorError(f"cannot write the page {file}: {e.strerror or e}") from e
    print(file)
    return 0


def _list_documents(index: "Index", as_json: bool) -> int:
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
            print(json.dumps(facts | {"meta": dict(d.meta)}))
        else:
            print("\t".join([_plain(d.id), f"{d.chars:,}", _plain(d.title)]))
    return 0


def _node_facts(index: "Index", node: str) -> dict[str, Any]:
    """A node with its text, its neighbours in the tree, and the characters it stands on."""
    from dataclasses import asdict

    from index_store.provenance import sources

    return {
        "node": node,
        "label": index.node(node).label,
        "text": index.text(node),
        "path": [n.id for n in index.path_to(node)],
        "parents": [n.id for n in index.parents(node)],
        "children": [n.id for n in index.children(node)],
        "sources": [asdict(s.span) | {"pages": s.pages} for s in sources(index, node)],
    }


def _above(index: "Index", place: str) -> list[dict[str, Any]]:
    """The nodes over a range given as DOC:START-END."""
    import re

    from index_store.provenance import nodes_above
    from index_store.types import Span

    parts = re.fullmatch(r"(.+):(\d+)-(\d+)", place, re.DOTALL | re.ASCII)
    if parts is None:
        raise RaptorError(f"--at is {place!r}; write it as DOC:START-END, for example notes.md:120-480")
    found = nodes_above(index, Span(parts[1], int(parts[2]), int(parts[3])))
    return [{"node": n.id, "level": n.level, "label": n.label} for n in found]


def _facts_said(facts: dict[str, Any]) -> str:
    return "\n".join(line for name, value in facts.items() for line in _fact_lines(name, value))


def _fact_lines(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        return [f"{name}: {value}"]
    shown = [
        " ".join(str(v) for v in x.values() if v is not None) if isinstance(x, dict) else str(x)
        for x in value
    ]
    return [f"{name}: {len(value)}", *(f"  {line}" for line in shown)]


def _facts(index: "Index", depth: int) -> dict[str, Any]:
    from dataclasses import asdict

    from index_store.graph import level_stats

    manifest = index.manifest
    return {
        "index": str(index.path),
        "generation": manifest.generation,
        "digest": manifest.digest,
        "documents": manifest.documents,
        "characters": index.chars,
        "nodes": len(index),
        "levels": [asdict(s) for s in level_stats(index)],
        "models": dict(manifest.models),
        "settings": dict(manifest.settings),
        "bytes": sum(f.size for f in manifest.files.values()),
        "tree": _branch(index, index.root, depth),
    }


def _branch(index: "Index", node: "Node", depth: int) -> dict[str, Any]:
    children = index.children(node.id)
    shown = [_branch(index, c, depth - 1) for c in children] if depth > 0 else []
    return {"node": node.id, "label": node.label, "children": len(children), "shown": shown}


def _plain(text: str) -> str:
    """`text` for a terminal: what cannot be printed, and could command one, as `?`."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _picture(index: "Index", depth: int) -> str:
    facts = _facts(index, 0)
    models = {k: _plain(v) for k, v in facts["models"].items() if "fingerprint" not in k}
    lines = [
        f"{facts['index']}: generation {facts['generation']}, {count(facts['documents'], 'document')}, "
        f"{count(facts['characters'], 'character')}, {human_size(facts['bytes'])}",
        f"models: {', '.join(f'{k} {v}' for k, v in models.items())}",
        f"digest: {facts['digest']}",
        "",
    ]
    for s in reversed(facts["levels"]):
        children = f", {s['mean_children']} children each" if s["level"] else " (chunks)"
        size = f"{count(s['nodes'], 'node')}, {count(s['tokens'], 'token')}"
        lines.append(f"level {s['level']}: {size}{children}")
    return "\n".join([*lines, "", *_tree_lines(index, index.root, depth)])


def _tree_lines(index: "Index", node: "Node", depth: int, indent: str = "") -> list[str]:
    children = index.children(node.id)
    lines = [f"{indent}{node.id}  {_plain(node.label)}" + (f"  ({len(children)} below)" if children else "")]
    if depth > 0:
        for child in children:
            lines += _tree_lines(index, child, depth - 1, indent + "  ")
    return lines
