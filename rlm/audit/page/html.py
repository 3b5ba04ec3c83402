"""HTML built so that text cannot become markup: `tag` escapes every child that is not Html already."""

import base64
import hashlib
import html
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from index_store.terminal import count, visible

_VOID = frozenset({"input"})  # elements that have no end
TEXT_CHARS = 20_000  # of one text; the rest is in the trace, which the page is a view of


class Html(str):
    """Markup: from `tag` or `join`, or a constant of this package; never text from outside."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """One element. In the names of attributes `cls` stands for class, and `_` for `-`; one that is None or False is
    left out, and so is a child that is None."""
    written = "".join(
        _attribute(key, value) for key, value in attributes.items() if value not in (None, False)
    )
    return Html(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str | None]) -> Html:
    """The parts one after another, escaped where they are not Html; None is left out."""
    return Html("".join(_safe(part) for part in parts if part is not None))


def pre(text: str, cls: str = "") -> Html:
    """Text with its own line breaks, cut at TEXT_CHARS with a note of what is left out."""
    left = len(text) - TEXT_CHARS
    note = tag("span", f"\n… {count(left, 'more character')} in the trace", cls="cut") if left > 0 else None
    return tag("pre", text[:TEXT_CHARS], note, cls=cls or None, tabindex=scrolls(text))


def scrolls(text: str) -> str | None:
    """The tabindex of a text's box: a long one scrolls, and the keyboard must be able to enter it."""
    return "0" if len(text) > 300 or text.count("\n") > 12 else None


def fold(summary: str, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """A part that its reader opens and closes, without a script."""
    return tag("details", tag("summary", summary), *children, **attributes)


def stowed(*children: str | None) -> Html:
    """Markup that is one text to a browser with scripts, until the script of the page makes elements of it, and plain
    elements to one without. None may hold another: the first end would end both."""
    return tag("noscript", *children)


def facts(pairs: Iterable[tuple[str, str]], cls: str = "facts") -> Html:
    """Names and values as a definition list."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), cls=cls)


def document(title: str, body: Html, style: str, script: str) -> str:
    """A whole page that stands alone. `style`, `script`: those of the page, which its own policy lets run, and no
    other."""
    policy = (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(style)),
    ]
    page = tag("html", tag("head", *head), tag("body", body, tag("script", Html(script))), lang="en")
    return f"<!doctype html>\n{page}\n"


@cache
def asset(name: str) -> str:
    """A style or a script of our pages."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def style() -> str:
    """The style of pages that stand alone: how they look, which is also how the server's pages do, and their layout."""
    return asset("look.css") + asset("page.css")


def _source(text: str) -> str:
    """The name by which a page's own policy lets this text be its style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(visible(str(value)), quote=True)}"'


def _safe(part: str) -> str:
    return part if isinstance(part, Html) else html.escape(visible(part))
