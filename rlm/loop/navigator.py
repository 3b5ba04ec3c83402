"""`offline/navigator`: a stand-in for a root model, without a language model: rules that write real REPL code.

It goes as a good model would, in one cell for a simple question: see which branches hold the evidence, gather what to
read, let a sub-call read it, answer with its quotes. Where nothing was there it looks wider in a second cell. A
question in several parts is handed, part by part, to children on branches of their own.
"""

import re
from collections.abc import Sequence

from rlm.gateway.blocks import outside, quote, unquote
from rlm.gateway.offline.questions import what_quotes_are
from rlm.gateway.offline.reader import NO_PASSAGE, read
from rlm.gateway.offline.registry import register_offline
from rlm.gateway.types import Message
from rlm.prompts import ASK_EVERY_ROW, NEXT, OPENING, SINGLE

#: What is in quotes, or where another question begins.
_SPLIT = re.compile(
    r"(\"[^\"\n]*\"|“[^”\n]*”)|"
    r"\?\s+(?:and\s+)?|;\s+|,?\s+and\s+(?=(?:what|which|how|who|whom|whose|when|where|why|does|do|did|is|are|was|were)\b)",
    re.IGNORECASE,
)
_TOO_FEW = "give more"  # how the refusal of so few characters that no passage fits ends
_NAMES = re.compile(r"[\"'`‘“]([^\"'`’”]{2,60})[\"'`’”]|\b(\w+(?:[._]\w+)+|\w*\d\w*|(?<!^)[A-Z]\w+)\b")

FIRST_CHARS, MORE_CHARS = 5_000, 24_000  # that are read for a part, at first and where that held nothing
LOOKED = 30  # branches
SHARE = 0.01  # of the evidence; a branch that has less is passed by
SEARCHED_CHARS = 1_000  # of a question, which its code repeats; a reply holds no more of the longest words
CUT = "Of the question, which is long, the first {chars} of {whole} characters were searched for:"

#: What a row is, by the words of a question.
_SPLITS = (
    (r"\b(?:documents|files|articles|papers|reports|contracts|agreements)\b", "document", "documents"),
    (r"\b(?:sections|chapters)\b", "section", "sections"),
    (r"\b(?:lines|rows)\b", "line", "lines"),
    ("", "record", "records"),
)
PARTS, CITED = 40, 200  # of an answer that counts: documents or months, and rows
PERIODS = {"month": "YYYY-MM", "year": "YYYY"}
_DATED = re.compile(r"\b(?:by|per|(?:in|for) (?:each|every)) (month|year)\b", re.IGNORECASE)
BY_WORDS = (
    "No language model has read them: a row counts where it has every word that carries the question, in whatever "
    "sense, and one that says it in other words does not count."
)

BEGIN = """\
parts, found = {parts!r}, {{}}
"""

BRANCHES = """\
pool = {{}}
for part in {wanted!r}:
    branches = context.branches(part, k={looked})
    taken = [branch for branch in branches if branch["share"] >= {share}]
    print(len(taken), "of", len(branches), "BRANCHES for", repr(part))
    for branch in taken[:4]:
        print(" ", branch["node"], branch["share"], "of the evidence |", branch["label"])
    pool[part] = context.gather(part, chars={chars}, under=[branch["node"] for branch in taken])
"""

GATHER = """\
pool = {{part: context.gather(part, chars={chars}) for part in {wanted!r}}}
"""

GREP = """\
for part, terms in {terms!r}.items():
    for term in terms:
        matches = context.grep(re.escape(term), ignore_case=True, limit=6)
        print("grep", repr(term), len(matches), "matches")
        pool[part] += [match["node"] for match in matches]
"""

READ = """\
quoted = re.compile(r'^\\[([^\\n\\]]+)\\] "(.*?)"$(?=\\n\\[|\\Z)', re.DOTALL | re.MULTILINE)
for part, reply in zip(pool, llm_query_batched(list(pool), nodes=list(pool.values()))):
    if isinstance(reply, dict):
        raise RuntimeError(reply["error"])
    found[part] = [{"node": node, "quote": quote} for node, quote in quoted.findall(reply)]
"""

DESCEND = """\
under = []
for part in parts:
    best = context.branches(part, k=1)
    under.append(best[0]["node"] if best and best[0]["share"] > 0.5 else None)
for part, branch, child in zip(parts, under, rlm_query_batched(parts, under=under)):
    found[part] = [c for c in child["citations"] if c["supported"] != "unsupported"]
    print("CHILD", repr(part), "under", branch or "the whole corpus", "found", len(found[part]), "passages")
"""

MISSING = """\
missing = [part for part in parts if not found.get(part)]
print("MISSING", missing)
"""

ANSWER = """\
lines, citations = {first_lines!r}, []
for part in parts:
    claims = found.get(part) or []
    if len(parts) > 1:
        lines.append(part + ":")
    for claim in claims:
        citations.append(claim)
        lines.append(f'"{{" ".join(claim["quote"].split())}}" [{{len(citations)}}]')
    if not claims:
        lines.append("The documents do not say.")
answer["content"] = "\\n".join(lines) if citations else "Not in these documents."
answer["citations"] = citations
answer["ready"] = {ready}
"""


MAP = """\
rows, held, failed, at = context.rows({split!r}), [], 0, 0
while at < len(rows):
    part = llm_map({question!r}, rows[at : at + 50_000], {fields!r})
    held += [row for row in part if row.get("holds")]
    failed, at = failed + sum("error" in row for row in part), at + 50_000
print(len(held), "of", len(rows), "rows hold what is asked;", failed, "have no answer")
lines = [f"{{len(held):,}} of {{len(rows):,}} {rows} hold what is asked.", {beside!r}]
if failed:
    lines.append(f"{{failed:,}} could not be asked.")
counts = sorted(collections.Counter(row.get({by!r}) or "no date" for row in held).items())
lines += [f"{{count:,}} in {{part}}" for part, count in counts[:{most}]]
if len(counts) > {most}:
    lines.append(f"and {{len(counts) - {most}:,}} more")
answer["content"] = "\\n".join(lines)
answer["citations"] = held[:{cited}]
answer["ready"] = True
"""


GIVE_UP = """\
answer["content"] = {why!r}
answer["ready"] = True
"""


#: The sentence before each step's code, by which the step is recognised in the conversation.
SAYS = {
    "LOOK": "I look which branches hold the evidence, gather the best of it, let a sub-call read it, and answer.",
    "DESCEND": "The question has parts: a child for each, on the branch that holds most of its evidence.",
    "MAP": "The question is about everything: I ask every row, and count in code.",
    "WIDEN": "Some of it was not there: I gather more, grep for names, and answer with what there is.",
    "GIVE_UP": "That failed, and nothing can be found without it.",
}


def navigate(messages: list[Message], max_tokens: int) -> str:
    """The reply to a conversation, which holds its next cell; without a REPL, what `offline/reader` would reply."""
    if messages[0]["content"].startswith(SINGLE):
        return _read(messages, max_tokens)
    question, messages = _asked_last(messages)
    parts = parts_of(question[:SEARCHED_CHARS])
    steps = [_step_of(m["content"]) for m in messages if m["role"] == "assistant"]
    if not steps and ASK_EVERY_ROW in "".join(m["content"] for m in messages[1:2]):
        return _map(question)
    if not steps:
        return _descend(question, parts) if len(parts) > 1 else _look(question, parts, parts)
    printed, ok = _last_output(messages)
    if not ok and steps[-1] != "DESCEND" and not (steps[-1] == "LOOK" and _TOO_FEW in printed):
        return _cell("GIVE_UP", GIVE_UP.format(why=_why(printed)))
    missing = _missing(printed, parts) if ok else parts
    return _look(question, parts, missing) if steps[-1] == "DESCEND" else _widen(question, parts, missing)


def _look(question: str, parts: Sequence[str], wanted: Sequence[str]) -> str:
    begin = BEGIN.format(parts=parts) if wanted == parts else ""
    look = BRANCHES.format(wanted=list(wanted), looked=LOOKED, share=SHARE, chars=FIRST_CHARS)
    return _cell("LOOK", begin, look, READ, MISSING, _answer(question, "not missing"))


def _descend(question: str, parts: Sequence[str]) -> str:
    return _cell("DESCEND", BEGIN.format(parts=parts), DESCEND, MISSING, _answer(question, "not missing"))


def _map(question: str) -> str:
    split, rows = next((one for pattern, *one in _SPLITS if re.search(pattern, question, re.IGNORECASE)))
    asked = question[:SEARCHED_CHARS].strip()
    dated = _DATED.search(question)
    period = dated[1].lower() if dated else ""
    fields = {"holds": "yes/no"} | ({period: PERIODS[period]} if period else {})
    told = {"by": period or "doc", "beside": BY_WORDS, "most": PARTS, "cited": CITED}
    return _cell("MAP", MAP.format(split=split, rows=rows, question=asked, fields=fields, **told))


def _widen(question: str, parts: Sequence[str], wanted: Sequence[str]) -> str:
    gather = GATHER.format(chars=MORE_CHARS, wanted=list(wanted))
    grep = GREP.format(terms={part: names_of(part) for part in wanted})
    return _cell("WIDEN", gather, grep, READ, MISSING, _answer(question, "True"))


def _answer(question: str, ready: str) -> str:
    whole = len(question)
    cut = CUT.format(chars=f"{SEARCHED_CHARS:,}", whole=f"{whole:,}") if whole > SEARCHED_CHARS else ""
    return ANSWER.format(first_lines=list(filter(None, [cut, what_quotes_are(question)])), ready=ready)


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


def _step_of(reply: str) -> str:
    return next((step for step, sentence in SAYS.items() if reply.startswith(sentence)), "")


def _cell(step: str, *code: str) -> str:
    return f"{SAYS[step]}\n```python\n{''.join(code).strip()}\n```"


def question_of(messages: Sequence[Message]) -> str:
    """The question in the opening message of a conversation; the whole message where it has another form."""
    opening = next((m["content"] for m in messages if m["role"] == "user"), "")
    before, _, after = OPENING.partition("{question}")
    question, marker, _ = opening.removeprefix(before).rpartition(after.partition("{")[0])
    return question if marker else opening


def parts_of(question: str) -> list[str]:
    """The separate questions in one, at most 6: split at question marks, semicolons and "and" before a question word,
    but not inside quotes, as titles have them too.

    A question that has no such parts is the only one.
    """
    cuts = [match.span() for match in _SPLIT.finditer(question) if not match[1]]
    starts, ends = [0, *(end for _, end in cuts)], [*(start for start, _ in cuts), len(question)]
    parts = [question[start:end].strip(" ?.,;\n") for start, end in zip(starts, ends, strict=True)]
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
