"""`offline/navigator`: a stand-in for a root model, without a language model: rules that write real REPL code.

It climbs as a good model would: peek at the overview and search for seeds; climb to the seeds' parents; search and
grep inside those branches; let sub-calls read; answer with citations. A question in several parts is handed, part by
part, to children on branches of their own. Which cell comes next depends on what the last one printed.
"""

import re
from collections.abc import Sequence

from rlm.gateway.blocks import outside, quote, unquote
from rlm.gateway.offline.reader import NO_PASSAGE, read
from rlm.gateway.offline.registry import register_offline
from rlm.gateway.types import Message
from rlm.prompts import NEXT, OPENING, SINGLE

_SPLIT = re.compile(
    r"\?\s+(?:and\s+)?|;\s+|,?\s+and\s+(?=(?:what|which|how|who|whom|whose|when|where|why|does|do|did|is|are|was|were)\b)",
    re.IGNORECASE,
)
_NAMES = re.compile(r"[\"'`‘“]([^\"'`’”]{2,60})[\"'`’”]|\b(\w+(?:[._]\w+)+|\w*\d\w*|(?<!^)[A-Z]\w+)\b")

PEEK = """\
question = {question!r}
parts = {parts!r}
branches, found = {{}}, {{}}
view = context.overview()
print(view["documents"], "documents,", view["characters"], "characters. Branches at the top:")
for child in view["children"]:
    print(child["node"], child["label"])
seeds = {{part: context.search(part, k=12) for part in parts}}
for part, hits in seeds.items():
    print("SEEDS", repr(part))
    for hit in hits[:6]:
        print(" ", hit["node"], round(hit["score"], 2), hit.get("doc", ""), "|", hit["label"])
"""

CLIMB = """\
for part, hits in seeds.items():
    votes = collections.Counter()
    for rank, hit in enumerate(hits):
        for parent in context.parents(hit["node"])[:1]:
            votes[parent["node"]] += 1 / (rank + 1)
    branches[part] = [node for node, _ in votes.most_common(2)]
    print("BRANCHES for", repr(part))
    for node in branches[part]:
        near = context.peek(node)
        print(" ", near["node"], "|", near["label"], "|", near["text"][:160].replace("\\n", " "))
"""

DESCEND = """\
under = []
for part, hits in seeds.items():
    votes = collections.Counter()
    for rank, hit in enumerate(hits):
        steps = context.path(hit["node"])
        votes[steps[min(1, len(steps) - 1)]["node"]] += 1 / (rank + 1)
    under.append(votes.most_common(1)[0][0] if votes else None)
children = rlm_query_batched(parts, under=under)
for part, branch, child in zip(parts, under, children):
    found[part] = [c for c in child["citations"] if c["supported"] != "unsupported"]
    print("CHILD", repr(part), "under", branch, "found", len(found[part]), "passages")
print("MISSING", [part for part in parts if not found[part]])
"""

GATHER = """\
terms = {terms!r}
pool = {{}}
for part in {wanted!r}:
    hits = seeds[part] + [h for node in branches.get(part, []) for h in context.search(part, k=6, under=node)]
    nodes = [hit["node"] for hit in hits]
    for term in terms.get(part, []):
        matches = context.grep(re.escape(term), ignore_case=True, limit=6)
        print("grep", repr(term), len(matches), "matches")
        nodes += [match["node"] for match in matches]
    pool[part] = list(dict.fromkeys(nodes))[:24]
    print("POOL", repr(part), len(pool[part]), "chunks")
"""

WIDEN = """\
pool = {{}}
for part in {wanted!r}:
    summaries = [hit["node"] for hit in context.search(part, k=8, level=1)] if len(view["levels"] or [0, 0]) > 1 else []
    nodes = [leaf["node"] for node in summaries[:4] for leaf in context.leaves(node)]
    nodes += [hit["node"] for hit in context.search(part, k=40)]
    pool[part] = list(dict.fromkeys(nodes))[:48]
    print("POOL", repr(part), len(pool[part]), "chunks")
"""

READ = """\
asked, batches = [], []
for part, nodes in pool.items():
    for i in range(0, len(nodes), 12):
        asked.append(part)
        batches.append(nodes[i:i + 12])
replies = llm_query_batched(asked, nodes=batches)
quoted = re.compile(r'^\\[([^\\n\\]]+)\\] "(.*?)"$(?=\\n\\[|\\Z)', re.DOTALL | re.MULTILINE)
shortlist = {}
for part, reply in zip(asked, replies):
    for node, quote in quoted.findall(reply) if isinstance(reply, str) else []:
        shortlist.setdefault(part, []).append(node)
best = llm_query_batched(list(shortlist), nodes=[list(dict.fromkeys(n))[:12] for n in shortlist.values()])
for part, reply in zip(shortlist, best):
    notes = quoted.findall(reply) if isinstance(reply, str) else []
    found[part] = [{"node": node, "quote": quote} for node, quote in notes]
    for claim in found[part]:
        print("FOUND", claim["node"], "|", claim["quote"][:200])
print("MISSING", [part for part in parts if not found.get(part)])
"""

ANSWER = """\
lines, citations = [], []
for part in parts:
    claims = found.get(part) or []
    if len(parts) > 1:
        lines.append(part + ":")
    for claim in claims[:3]:
        citations.append(claim)
        lines.append(f'"{" ".join(claim["quote"].split())}" [{len(citations)}]')
    if not claims:
        lines.append("The documents do not say.")
answer["content"] = "\\n".join(lines) if citations else "Not in these documents."
answer["citations"] = citations
answer["ready"] = True
"""


GIVE_UP = """\
answer["content"] = {why!r}
answer["ready"] = True
"""


#: The sentence before each step's code, by which the step is recognised in the conversation.
SAYS = {
    "PEEK": "I look at the top of the tree and search for seeds.",
    "CLIMB": "I climb from the seeds to see which branches hold them.",
    "DESCEND": "The question has parts: a child for each, on the branch its seeds stand in.",
    "GATHER": "I gather chunks from these branches, and grep for names.",
    "WIDEN": "Some of it was not there: I look wider.",
    "READ": "Sub-calls read the chunks, then the best of them again.",
    "ANSWER": "I answer with what was found.",
    "GIVE_UP": "That failed, and nothing can be found without it.",
}


def navigate(messages: list[Message], max_tokens: int) -> str:
    """The reply to a conversation, which holds its next cell; without a REPL, what `offline/reader` would reply."""
    if messages[0]["content"].startswith(SINGLE):
        return _read(messages, max_tokens)
    question, messages = _asked_last(messages)
    parts = parts_of(question)
    steps = [_step_of(m["content"]) for m in messages if m["role"] == "assistant"]
    if not steps:
        return _cell("PEEK", PEEK.format(question=question, parts=parts))
    printed, ok = _last_output(messages)
    if not ok and steps[-1] in ("PEEK", "ANSWER", "GIVE_UP"):
        return _cell("GIVE_UP", GIVE_UP.format(why=_why(printed)))
    return _next_cell(steps, parts, _missing(printed, parts) if ok else parts)


def _read(messages: list[Message], max_tokens: int) -> str:
    """Quotes from the passages; of what cells printed the rules can make nothing."""
    prompt = "\n".join(message["content"] for message in messages)
    blocks = unquote(prompt)
    passages = [block for block in blocks if not block.name.startswith("output of cell")]
    if blocks and not passages:
        return NO_PASSAGE
    return read([{"role": "user", "content": f"{quote(passages)}\n{outside(prompt)}"}], max_tokens)


def _asked_last(messages: list[Message]) -> tuple[str, list[Message]]:
    """The question asked last, and the conversation since."""
    before = NEXT.partition("{question}")[0]
    for at in range(len(messages) - 1, 1, -1):
        _, marker, question = messages[at]["content"].rpartition(before)
        if messages[at]["role"] == "user" and marker and not unquote(question):
            return question, [*messages[:2], *messages[at + 1 :]]
    return question_of(messages), messages


def _next_cell(steps: Sequence[str], parts: Sequence[str], missing: Sequence[str]) -> str:
    """The cell that follows `steps`. `missing`: the parts for which the last step, if it looked, found no answer."""
    match steps[-1]:
        case "PEEK":
            return _cell("DESCEND", DESCEND) if len(parts) > 1 else _cell("CLIMB", CLIMB)
        case "CLIMB":
            return _gather(parts)
        case "DESCEND" if missing:
            return _gather(missing)
        case "GATHER" | "WIDEN":
            return _cell("READ", READ)
        case "READ" if missing and "WIDEN" not in steps:
            return _cell("WIDEN", WIDEN.format(wanted=list(missing)))
    return _cell("ANSWER", ANSWER)


def _gather(wanted: Sequence[str]) -> str:
    terms = {part: names_of(part) for part in wanted}
    return _cell("GATHER", GATHER.format(terms=terms, wanted=list(wanted)))


def _step_of(reply: str) -> str:
    return next((step for step, sentence in SAYS.items() if reply.startswith(sentence)), "")


def _cell(step: str, code: str) -> str:
    return f"{SAYS[step]}\n```python\n{code.strip()}\n```"


def question_of(messages: Sequence[Message]) -> str:
    """The question in the opening message of a conversation; the whole message where it has another form."""
    opening = next((m["content"] for m in messages if m["role"] == "user"), "")
    before, _, after = OPENING.partition("{question}")
    question, marker, _ = opening.removeprefix(before).rpartition(after.partition("{")[0])
    return question if marker else opening


def parts_of(question: str) -> list[str]:
    """The separate questions in one, at most 6: split at question marks, semicolons and "and" before a question word.

    A question that has no such parts is the only one.
    """
    parts = [p.strip(" ?.,;\n") for p in _SPLIT.split(question)]
    parts = [p for p in parts if len(p.split()) > 2]
    return list(dict.fromkeys(parts))[:6] if len(parts) > 1 else [question.strip()]


def names_of(part: str) -> list[str]:
    """The first 4 words worth a grep: in quotes, with dots or digits, or capitalised inside the question."""
    names = [quoted or bare for quoted, bare in _NAMES.findall(part)]
    return list(dict.fromkeys(names))[:4]


def _last_output(messages: Sequence[Message]) -> tuple[str, bool]:
    """What the last cell printed or raised, and whether it ended well."""
    last = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    return "\n".join(block.text for block in unquote(last)), bool(re.match(r"Cell \d+: ok\.", last))


def _why(printed: str) -> str:
    """An answer that gives the error itself, without the lines of code that follow it."""
    lines = [line for line in printed.splitlines() if line and not line.startswith("  ")]
    return f"The corpus could not be searched: {lines[-1] if lines else 'the code was stopped'}"


def _missing(printed: str, parts: Sequence[str]) -> list[str]:
    line = next((x for x in reversed(printed.splitlines()) if x.startswith("MISSING ")), "")
    return [part for part in parts if repr(part) in line]


def register() -> None:
    """Make `offline/navigator` a model that can be asked like any other."""
    register_offline("navigator", navigate)
