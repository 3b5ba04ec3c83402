"""Choose how a question is answered: in one call, over the whole text, what a search finds, or the upper levels of the
tree; or by the loop."""

from dataclasses import dataclass, replace

from index_store.terminal import count
from rlm import prompts
from rlm.errors import RlmError
from rlm.gateway.ledger import Caps
from rlm.gateway.models import highest_price, price, window
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Usage
from rlm.limits import LOOPS, ROUTES, Route
from rlm.loop.budget import last_call
from rlm.loop.run import Run
from rlm.loop.single import RETRIEVED_TOKENS
from rlm.loop.whole import is_about_all, is_about_every
from rlm.mapping.types import PACK_TOKENS

#: The share of a model's window that the whole text may fill to be read in one call: models lose the thread long
#: before the end of their windows, and on small texts one call is better and cheaper than the loop (arXiv 2512.24601,
#: section 4).
WELL_INSIDE = 0.25
#: English has about 4.5 characters a token; few texts have fewer than this.
CHARS_A_TOKEN = 3.0
#: The fewest calls with which the loop is tried: look, climb, read, answer, and one in reserve.
LOOP_CALLS = 5
#: The fewest tokens with which the loop is tried.
LOOP_TOKENS = 12_000
#: Prompts and replies of a map over the tokens of its rows, rather too much than too little.
ROWS_OVER_TEXT, REPLIES_OVER_TEXT = 1.2, 0.6
#: The tokens of passages without which a question that searches is not begun: with fewer, its one call is a waste.
FEW_PASSAGES = RETRIEVED_TOKENS // 4


@dataclass(frozen=True, slots=True)
class Choice:
    """The route of a question, and why it was chosen, for the trace."""

    route: Route
    why: str


def choose(run: Run, route: Route, question: str) -> Choice:
    """The route asked for; for "auto" the one that fits the budget and the model's window.

    Raises RlmError where there is no such route, or the text is too long for "direct".
    """
    if route not in ROUTES:
        raise RlmError(f"there is no route {route!r}; there are {', '.join(ROUTES)}")
    model, tokens, size = run.models.root, text_tokens(run), window(run.models.root)
    if route == "direct" and size is not None and tokens + run.limits.reply_tokens > size:
        raise RlmError(
            f"the text has about {count(tokens, 'token')} and {model} takes {size:,}; use --route retrieve, or "
            "--route rlm"
        )
    if route != "auto":
        return Choice(route, "it was asked for")
    left = run.budget.ledger.left()
    is_whole = is_about_all(question) and run.demands.schema is None
    if size is not None and tokens <= WELL_INSIDE * size and _pays(left, first_call(run, question, "direct")):
        return Choice(
            "direct",
            f"the whole text, about {count(tokens, 'token')}, fits well inside the {size:,} of {model}",
        )
    if is_whole and _pays(left, first_call(run, question, "overview")):
        return Choice(
            "overview",
            "the question is about all that there is, and the upper levels of the tree, or passages from all over, "
            "tell of that",
        )
    if left.calls is not None and left.calls < LOOP_CALLS:
        few = count(left.calls, "call is", "calls are")
        return Choice(
            "retrieve",
            f"{few} too few to climb the tree, which takes {LOOP_CALLS}",
        )
    if left.tokens is not None and left.tokens < LOOP_TOKENS:
        few = count(left.tokens, "token is", "tokens are")
        return Choice(
            "retrieve",
            f"{few} too few to climb the tree, which takes {LOOP_TOKENS:,}",
        )
    needed = price(model, LOOP_TOKENS, run.limits.reply_tokens) or 0.0
    if left.usd is not None and left.usd < needed:
        return Choice(
            "retrieve", f"${left.usd:.4f} is too little to climb the tree, which may need ${needed:.4f}"
        )
    if is_about_every(question) and _pays_all(left, mapped(run)):
        return Choice("map", "the question counts or lists over everything, so every row is asked")
    than_window = (
        f"more than a quarter of the {size:,} of {model}"
        if size
        else f"and the window of {model} is not known"
    )
    return Choice("rlm", f"the text has about {count(tokens, 'token')}, {than_window}")


def _pays(left: Caps, call: Usage) -> bool:
    """Whether what is left pays for a call, with as much again for it to be tried once more."""
    return (left.tokens is None or 2 * call.tokens <= left.tokens) and (
        left.usd is None or 2 * call.usd <= left.usd
    )


def _pays_all(left: Caps, calls: Usage) -> bool:
    """Whether what is left pays for so many calls."""
    amounts = (left.calls, calls.calls), (left.tokens, calls.tokens), (left.usd, calls.usd)
    return all(most is None or needed <= most for most, needed in amounts)


def text_tokens(run: Run) -> int:
    """An estimate of the tokens of the whole text, rather too high than too low."""
    return int(run.view.chars / CHARS_A_TOKEN)


def first_call(run: Run, question: str, way: Route) -> Usage:
    """About the most that the first call of a question may use, rather too high than too low."""
    model, reply = run.models.root, run.limits.reply_tokens
    told = prompts.system(model) if way in LOOPS else prompts.SINGLE
    read = {"direct": text_tokens(run), "retrieve": FEW_PASSAGES, "overview": FEW_PASSAGES}.get(way, 0)
    prompt = int(1.1 * (count_tokens(model, told + question) + read)) + 200
    return Usage(1, prompt, reply, highest_price(model, prompt, reply) or 0.0)


def mapped(run: Run) -> Usage:
    """About what it takes to ask every row once, rather too much than too little."""
    model, tokens = run.models.child, text_tokens(run)
    prompt, reply = int(ROWS_OVER_TEXT * tokens), int(REPLIES_OVER_TEXT * tokens)
    calls = LOOP_CALLS + prompt // PACK_TOKENS
    return Usage(calls, prompt, reply, price(model, prompt, reply) or 0.0)


def to_begin(run: Run, question: str, route: Route) -> Usage:
    """What a question takes from its budget as it begins, at most: its first call, and in the loop the call that is set
    aside for its end, and as many calls as the loop is tried with. Raises as `choose`."""
    way, left = choose(run, route, question).route, run.budget.ledger.left()
    first = first_call(run, question, way)
    if way not in LOOPS:
        return first
    least = first + (last_call(run.models.root, left, left, first) or Usage())
    return replace(
        least, calls=max(least.calls, min(LOOP_CALLS, LOOP_CALLS if left.calls is None else left.calls))
    )
