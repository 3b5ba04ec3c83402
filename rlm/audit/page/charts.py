"""Tokens and dollars over time, as two small step lines."""

from collections.abc import Callable, Sequence
from typing import Any

from index_store.terminal import count
from rlm.audit.costs import Cost, Reuse, in_dollars, reuse
from rlm.audit.events import AMOUNT, RecordedEvent
from rlm.audit.page.html import Html, tag
from rlm.gateway.types import Usage

_WIDE, _HIGH, _LEFT, _TOP, _BASE = 560, 180, 8, 26, 154
_MOST_DOTS = 400


def cost_section(events: Sequence[RecordedEvent], after: Sequence[Cost]) -> Html:
    """The tokens and dollars that the run had used after each model call; `after` as from rlm.audit.costs.costs."""
    if not after:
        return tag(
            "section", tag("h2", "Cost"), tag("p", "No model call was paid for or counted."), id="cost"
        )
    end_s = max(events[-1]["time_s"], 0.001)
    limits = events[0].get("limits", {})
    tokens = _chart(
        "Tokens",
        after,
        end_s,
        lambda usage: usage.tokens,
        lambda value: f"{value:,.0f}",
        limits.get("tokens"),
    )
    dollars = _chart("Dollars", after, end_s, lambda usage: usage.usd, in_dollars, limits.get("usd"))
    free = tag("p", "No call of this run had a price.", cls="meta")
    charts = tag("div", tokens, dollars if after[-1].usage.usd > 0 else free, cls="charts")
    return tag("section", tag("h2", "Cost"), charts, _begun_alike(reuse(events)), id="cost")


def _begun_alike(had: Reuse) -> Html | None:
    """How much of the prompts the ones before them had begun with, which a provider may have kept."""
    shares = had.shares_in_words()
    words = "Share of each prompt that is the beginning of the one before, which a provider may read from its cache"
    return tag("p", f"{words}: {shares}.", cls="meta") if shares else None


def _chart(
    name: str,
    after: Sequence[Cost],
    end_s: float,
    value: Callable[[Usage], float],
    words: Callable[[float], str],
    limit: Any,
) -> Html:
    """A line that steps up at each call, from 0 at the start to the whole at the end."""
    values = [value(cost.usage) for cost in after]
    most = values[-1] or 1.0
    across = [_LEFT + (_WIDE - 2 * _LEFT) * cost.time_s / end_s for cost in after]
    up = [_BASE - (_BASE - _TOP) * used / most for used in values]
    line = f"M{_LEFT} {_BASE}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in zip(across, up, strict=True))
    line += f"H{_WIDE - _LEFT}"
    dots = [_dot(*dot, words) for dot in list(zip(across, up, values, after, strict=True))[:_MOST_DOTS]]
    allowed = f" of {words(limit)} allowed" if not AMOUNT.problem(limit) else ""
    spent = words(values[-1]) + allowed
    caption = f"{name}: {spent} after {count(len(after), 'call')} in {end_s:.1f} s"
    return tag(
        "figure",
        tag("figcaption", tag("b", name), f" {spent}"),
        tag(
            "svg",
            tag("path", d=f"{line}V{_BASE}Z", cls="area"),
            tag("path", d=line, cls="line"),
            tag("path", d=f"M{_LEFT} {_BASE}H{_WIDE - _LEFT}", cls="axis"),
            *dots,
            tag("text", "0 s", x=_LEFT, y=_HIGH - 8),
            tag("text", f"{end_s:.1f} s", x=_WIDE - _LEFT, y=_HIGH - 8, text_anchor="end"),
            viewBox=f"0 0 {_WIDE} {_HIGH}",
            role="group",
            aria_label=caption,
        ),
    )


def _dot(x: float, y: float, value: float, cost: Cost, words: Callable[[float], str]) -> Html:
    title = tag("title", f"call {cost.usage.calls} at {cost.time_s:.2f} s: {words(value)} so far")
    circle = tag("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r="4")
    return tag("a", circle, href=f"#e{cost.seq}", aria_label=f"call {cost.usage.calls}")
