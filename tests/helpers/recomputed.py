"""The figures of an evaluation once more, from its traces alone: by other code than that which made them.

    python -m tests.helpers.recomputed my.eval my.index questions.jsonl...

Of rlm only what cuts an answer into sentences is imported; of index_store the chunks of the index. Traces are read as
lines of JSON. What is compared is each figure of each row, and of each system over all questions and each set; a
difference is a line, and the exit code is 1.
"""

import json
import math
import re
import string
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from index_store.index import open_index

Events = list[dict[str, Any]]
Place = tuple[str, int, int]
GROUP = re.compile(r"\[\d{1,3}(?:\s?[,;–-]\s?\d{1,3})*\]")
DATA = re.compile(r"^<<<DATA ([0-9a-f]{4,64}) (.*?)>>>\n", re.MULTILINE)
PIECE = re.compile(r"L0-(\d+)\.\.L0-(\d+)")
UNITS = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "bn": 10**9,
}
REACHED = ("offered", "entered", "read", "cited")
QUALITY = (
    "exact",
    "f1",
    "numbers",
    "citation_recall",
    "citation_precision",
    "standing",
    "alce_recall",
    "alce_precision",
)
COST = ("calls", "tokens", "usd", "seconds")


def differences(folder: Path, index_path: Path, questions: Sequence[Path]) -> list[str]:
    """A line for each figure in figures.json that does not come out of the traces."""
    told = json.loads((folder / "figures.json").read_text())
    asked = {
        str(row["_id"]): row | {"set": file.stem}
        for file in questions
        for row in map(json.loads, filter(str.strip, file.read_text(encoding="utf-8").split("\n")))
    }
    leaves = [(leaf.id, leaf.span) for leaf in open_index(index_path).nodes(0)]
    chunks: dict[str, Place] = {id: (span.doc, span.start, span.end) for id, span in leaves if span}
    found: list[str] = []
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in told["rows"]:
        events = read(folder / row["run"] / "trace.jsonl")
        ours = figures(
            events, asked[row["_id"]], chunks, folder / row["run"] / "judge.jsonl" if told["judge"] else None
        )
        rows[row["system"], row["_id"]] = ours | {"stop": events[-1]["stop"], "set": asked[row["_id"]]["set"]}
        found += [
            f"{row['run']}: {name} is {row[name]}, and by its trace {value}"
            for name, value in ours.items()
            if not same(row[name], value)
        ]
    first = told["systems"][0]["name"]
    parts: list[tuple[str, Any]] = [("all", told["all"]), *told["sets"].items()]
    for part, summaries in parts:
        for name, summary in summaries.items():
            own, base = (
                {id: r for (system, id), r in rows.items() if system == one and part in ("all", r["set"])}
                for one in (name, first)
            )
            found += [f"{part}, {name}: {line}" for line in summed(summary, own, base, name == first)]
    return found


def read(trace: Path) -> Events:
    return [json.loads(line) for line in trace.read_bytes().split(b"\n") if line]


def same(told: Any, ours: Any) -> bool:
    if told is None or ours is None:
        return told is ours
    return math.isclose(told, ours, rel_tol=1e-9, abs_tol=1e-12)


# -- one run -----------------------------------------------------------------------------------------------


def figures(
    events: Events, asked: dict[str, Any], chunks: dict[str, Place], judge: Path | None
) -> dict[str, Any]:
    answered = [e for e in events if e["kind"] == "answered" and e["conversation"] == "0"]
    content, citations = (answered[-1]["content"], answered[-1]["citations"]) if answered else ("", [])
    answers = [str(a) for a in asked.get("answers") or []]
    gold = [(g["doc"], g.get("start"), g.get("end")) for g in asked.get("gold") or []]
    gold = list(dict.fromkeys(gold))
    standing = [c for c in citations if c["supported"] in ("verbatim", "respaced")]
    reached = [reach(events, one, chunks, standing) for one in gold]
    usage = events[-1]["usage"]
    ours: dict[str, Any] = {
        "exact": None,
        "f1": None,
        "numbers": None,
        "citation_recall": mean([one["cited"] for one in reached]),
        "citation_precision": mean([any(overlap(one, c) for one in gold) for c in standing], len(citations))
        if gold and citations
        else None,
        "standing": len(standing) / len(citations) if citations else None,
        "alce_recall": None,
        "alce_precision": None,
        **{name: mean([one[name] for one in reached]) for name in REACHED},
        "calls": usage["calls"],
        "tokens": usage["prompt_tokens"] + usage["completion_tokens"],
        "usd": usage["usd"],
        "seconds": events[-1]["seconds"],
    }
    if answers:
        words = (
            "Not in these documents" if not_found(content) else re.sub(r"\s?" + GROUP.pattern, "", content)
        )
        wanted = [numbers(a) for a in answers if numbers(a)]
        ours["exact"] = float(bool(content) and any(normal(words) == normal(a) for a in answers))
        ours["f1"] = (
            max(overlap_f1(normal(words).split(), normal(a).split()) for a in answers) if content else 0.0
        )
        ours["numbers"] = float(numbers(words) in wanted) if wanted else None
    if judge is not None and content and not not_found(content):
        ours |= alce(content, citations, judge)
    return ours


def not_found(content: str) -> bool:
    return content.lower().lstrip(" \"'“‘*_>#").startswith("not in these documents")


def mean(values: Sequence[float], n: int | None = None) -> float | None:
    return sum(values) / (n or len(values)) if values or n else None


def normal(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def overlap_f1(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum(min(n, theirs.count(word)) for word, n in Counter(ours).items())
    return 2 * common / (len(ours) + len(theirs))


def numbers(text: str) -> set[Fraction]:
    """Of numbers as these texts have them; what is special about others, the unit tests hold."""
    found = re.finditer(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", text)
    values = set()
    for match in found:
        unit = re.match(
            r"[ -]?(hundred|thousand|million|billion|trillion|bn)\b", text[match.end() :], re.IGNORECASE
        )
        minus = re.search(r"(?:^|[\s(])[-−][$€£¥]?$", text[: match.start()])
        value = Fraction(match[0].replace(",", "")) * (UNITS[unit[1].lower()] if unit else 1)
        values.add(-value if minus else value)
    return values


def reach(events: Events, gold: Any, chunks: dict[str, Place], standing: Events) -> dict[str, bool]:
    own = {
        id
        for id, place in chunks.items()
        if overlap(gold, dict(zip(("doc", "start", "end"), place, strict=True)))
    }
    seen: set[str] = set()
    entered: set[str] = set()
    is_read = False
    asks_of_calls = {
        child
        for e in events
        if e["kind"] == "child_called" and e["verb"].startswith("llm_query")
        for child in e["children"]
    }
    first_ask = next(
        (e["seq"] for e in events if e["kind"] == "model_asked" and e["conversation"] == "0"), None
    )
    for e in events:
        if e["kind"] == "visited":
            seen |= {ref["node"] for ref in (*e["shown"], *e["not_taken"])}
            if e["verb"] == "packs":
                seen |= {node for pack in e["result"] or [] for node in pack}
    for e in events:
        if e["kind"] == "visited" and not e.get("error"):
            if e["verb"] not in ("parents", "path"):
                entered |= (
                    set(
                        strings(
                            [v for k, v in e["arguments"].items() if k not in ("query", "pattern", "doc")]
                        )
                    )
                    & seen
                )
            if e["verb"] in ("gather", "peek", "read"):
                entered |= {ref["node"] for ref in e["shown"]}
            if e["verb"] in ("gather", "read", "slice", "text"):
                is_read |= bool({ref["node"] for ref in e["shown"]} & own)
        elif e["kind"] == "child_called":
            entered |= set(e["under"]) & seen
        elif e["kind"] == "model_asked" and (e["seq"] == first_ask or e["conversation"] in asks_of_calls):
            names = {name for message in e["messages"] for name in blocks(message["content"])}
            entered |= names & seen
            is_read |= bool(names & own) or gold[0] in names
    is_entered = is_read or bool(entered & own)
    return {
        "offered": is_entered or bool(seen & own),
        "entered": is_entered,
        "read": is_read,
        "cited": any(overlap(gold, c) for c in standing),
    }


def overlap(gold: Any, place: dict[str, Any]) -> bool:
    doc, start, end = gold
    if place["doc"] != doc or place["start"] is None:
        return False
    return start is None or (max(start, place["start"]) < min(end, place["end"]))


def blocks(prompt: str) -> Iterator[str]:
    """The names of the data blocks of a prompt, each as far as the bar; of a piece, those of its chunks."""
    for match in DATA.finditer(prompt):
        name = match[2].split(" | ")[0]
        piece = PIECE.fullmatch(name)
        yield from (f"L0-{n:05d}" for n in range(int(piece[1]), int(piece[2]) + 1)) if piece else (name,)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def alce(content: str, citations: Events, judge: Path) -> dict[str, float]:
    """From what the judge said; the sentences are those that it was asked of, by their words."""
    said = [json.loads(line) for line in judge.read_text().split("\n") if line] if judge.exists() else []
    entails = {(row["cited"], row["sentence"]): bool(row["entails"]) for row in said}
    texts = [
        (c.get("found") or c["quote"]) if c["supported"] in ("verbatim", "respaced") else ""
        for c in citations
    ]
    recalls, precise = [], []
    for words, named in sentences(content):
        cited = [texts[n - 1] for n in named if n <= len(texts)] if GROUP.search(content) else texts

        def yes(some: list[str], words: str = words) -> bool:
            joined = "\n\n".join(filter(None, some))
            return bool(joined) and entails[joined, words]

        recalls.append(yes(cited))
        for i in range(len(cited)):
            others = cited[:i] + cited[i + 1 :]
            precise.append(recalls[-1] and (yes([cited[i]]) or not yes(others)))
    return {"alce_recall": mean(recalls) or 0.0, "alce_precision": mean(precise) or 0.0} if recalls else {}


def sentences(content: str) -> Iterator[tuple[str, list[int]]]:
    """The sentences of an answer and the citations that each names: cut by the project's splitter, which is not at
    test."""
    from rlm.gateway.offline.sentences import split  # what is a sentence is said there, and nowhere else

    parts = [content[a:b] for a, b in split(content)]
    lead = re.compile(rf"(?:\s*{GROUP.pattern}[.,;]?)+\s*")
    leads = [m[0] if (m := lead.match(part)) else "" for part in parts]
    for i, part in enumerate(parts):
        own = part[len(leads[i]) :]
        marks = GROUP.findall(own + (leads[i + 1] if i + 1 < len(parts) else ""))
        words = re.sub(r"\s?" + GROUP.pattern, "", own).strip()
        if any(map(str.isalnum, words)):
            yield words, list(dict.fromkeys(n for mark in marks for n in expanded(mark)))


def expanded(mark: str) -> list[int]:
    numbers: set[int] = set()
    for part in re.split(r"[,;]", mark.strip("[]")):
        low, _, high = part.replace("–", "-").partition("-")
        numbers |= set(range(int(low), int(high or low) + 1))
    return sorted(numbers)


# -- over all ----------------------------------------------------------------------------------------------


def summed(told: dict[str, Any], own: dict[str, Any], base: dict[str, Any], is_first: bool) -> Iterator[str]:
    """What differs in the summary of one system. `own`, `base`: rows by question, of the system and of the first."""
    if told["questions"] != len(own):
        yield f"{told['questions']} questions, and by the traces {len(own)}"
    for name in (*QUALITY, *REACHED):
        values = [row[name] for row in own.values() if row[name] is not None]
        if told["quality"][name]["n"] != len(values) or not same(told["quality"][name]["mean"], mean(values)):
            yield f"{name} is {told['quality'][name]}, and by the traces {mean(values)} of {len(values)}"
    for name in COST:
        values = sorted(row[name] for row in own.values())
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2 if values else None
        p95 = next((v for i, v in enumerate(values, 1) if 100 * i >= 95 * len(values)), None)
        ours = {"n": len(values), "sum": sum(values), "mean": mean(values), "median": middle, "p95": p95}
        if wrong := [part for part, value in ours.items() if not same(told["cost"][name][part], value)]:
            yield f"{name}, {wrong}: {told['cost'][name]}, and by the traces {ours}"
    if is_first:
        return
    for name in (*QUALITY, *REACHED, *COST):
        pairs = [
            row[name] - base[id][name]
            for id, row in own.items()
            if row[name] is not None and id in base and base[id][name] is not None
        ]
        if not pairs:
            if name in told["against_first"]:
                yield f"{name} is compared, and no question has it by both"
            continue
        n, compared = len(pairs), told["against_first"][name]
        picks = np.random.default_rng(0).integers(0, n, (2000, n))
        means = np.sort(np.array(pairs, dtype=float)[picks].mean(axis=1))
        ours = {"n": n, "difference": sum(pairs) / n, "low": means[49], "high": means[1949]}
        if wrong := [part for part, value in ours.items() if not same(compared[part], value)]:
            yield f"{name}, {wrong} against the first: {compared}, and by the traces {ours}"


if __name__ == "__main__":
    lines = differences(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
    sys.stdout.write("\n".join([*lines, f"{len(lines)} differences"]) + "\n")
    sys.exit(bool(lines))
