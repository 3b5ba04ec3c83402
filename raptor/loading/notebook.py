"""Notebooks (.ipynb): their cells in order, prose as it is written, code, and what it printed."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from raptor.loading.markdown import markdown_sections
from raptor.loading.plain import decode
from raptor.loading.types import Failure, Loaded, Section, SourceFile, title_of

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read_notebook(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, the headings of its prose as sections, titled by the first of them. Raises OSError."""
    whole = decode(file)
    if isinstance(whole, Failure):
        yield whole
        return
    try:
        book = json.loads(whole.text.removeprefix("\ufeff"))
        cells = list(_cells(book))
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError, IndexError) as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())
        yield Failure(whole.source, f"it is no notebook ({fault}); open it in Jupyter and save it anew")
        return
    parts: list[str] = []
    sections: list[Section] = []
    at = 0
    for words, is_prose in cells:
        headings = markdown_sections(words) if is_prose else ()
        sections += [replace(section, start=at + section.start) for section in headings]
        parts.append(words)
        at += len(words) + 2
    title = title_of(sections[0].heading if sections else "", whole.title)
    yield replace(whole, text="\n\n".join(parts), title=title, sections=tuple(sections), meta=_language(book))


def _cells(book: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The words of each cell and output that has some, and whether they are Markdown. A wrong shape raises."""
    sheets = book.get("worksheets", [book])  # the format had sheets up to version 3
    for cell in (cell for sheet in sheets for cell in sheet["cells"]):
        kind = cell["cell_type"]
        words = _joined(cell.get("source", cell.get("input", "")))
        if kind == "heading":  # of version 3
            words, kind = f"{'#' * int(cell.get('level', 1))} {words}", "markdown"
        if words.strip():
            yield words, kind == "markdown"
        for output in cell.get("outputs") or ():
            if (shown := _ANSI.sub("", _shown(output))).strip():
                yield shown, False


def _shown(output: Mapping[str, Any]) -> str:
    """The text of an output: what was printed, what a value looks like, or an error; "" for a picture."""
    if "ename" in output:
        return f"{output['ename']}: {output.get('evalue', '')}"
    data = output.get("data") or {}
    return _joined(output.get("text") or data.get("text/markdown") or data.get("text/plain") or "")


def _joined(lines: str | list[str]) -> str:
    return (lines if isinstance(lines, str) else "".join(lines)).strip("\n")


def _language(book: Mapping[str, Any]) -> dict[str, str]:
    metadata = book.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    language = kernel.get("language") if isinstance(kernel, dict) else None
    return {"language": language} if isinstance(language, str) and language else {}
