"""Pages that are pictures, read by tesseract where it is installed, with the extra `ocr`.

The pictures come from strangers and tesseract is native code: it gets one on its standard input, and no network, no
file to write and no look into other processes, as far as the kernel gives that.
"""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from raptor.errors import RaptorError
from raptor.loading.confined import confine, limit_memory, python
from raptor.loading.pdf import page_starts, ranges, storable, without_text
from raptor.loading.types import Section, Text

LIMIT_S = 120.0
MEMORY_BYTES = 4 * 2**30
_RUN = "from raptor.loading.ocr import main; main(*sys.argv[-2:])"


def available() -> bool:
    """Whether pages can be read: tesseract is on the PATH, and the package that unpacks pictures is installed.

    Not on Windows, where no process can become another.
    """
    return (
        os.name != "nt"
        and shutil.which("tesseract") is not None
        and importlib.util.find_spec("PIL") is not None
    )


def check_language(language: str) -> None:
    """Raise RaptorError where tesseract is there and lacks one of the languages in `language`, such as deu+eng."""
    if not language or not available():
        return
    there = _languages(shutil.which("tesseract") or "")
    if there and (missing := [name for name in language.split("+") if name not in there]):
        raise RaptorError(
            f"tesseract has no language {missing[0]!r}; install it (tesseract-ocr-{missing[0]}), or name some of: "
            f"{', '.join(sorted(there - {'osd'}))}"
        )


@cache
def _languages(tesseract: str) -> frozenset[str]:
    """The languages that it has; none where it does not say."""
    try:
        done = subprocess.run([tesseract, "--list-langs"], capture_output=True, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(done.stdout.decode(errors="replace").split("\n")[1:]) - {""}


def recognised(text: Text, picture: Callable[[int], bytes], language: str = "") -> Text:
    """A PDF's text with the words of its pages that held none; `picture`: a page, from 1, as PNG, b"" for none.

    `language`: as in `check_language`.
    """
    ends = [*(start - 1 for start in text.pages[1:]), len(text.text)]
    pages = [text.text[start:end] for start, end in zip(text.pages, ends, strict=True)]
    empty = [number for number, page in enumerate(pages, 1) if not page.strip()]
    read = partial(read_picture, language=language) if language else read_picture
    found = {number: words for number in empty if (words := read(picture(number))).strip()}
    if not found:
        return text
    new = [found.get(number, page) for number, page in enumerate(pages, 1)]
    starts = page_starts(new)
    sections = tuple(_moved(section, text.pages, starts) for section in text.sections)
    left = [number for number in empty if number not in found]
    notes = [
        f"its pages {ranges(sorted(found))} are pictures, read by OCR; look at them where a word matters"
    ]
    notes += [without_text(left, len(pages))] if left else []
    return replace(text, text="\n".join(new), pages=starts, sections=sections, notes=tuple(notes))


def _moved(section: Section, old: tuple[int, ...], new: tuple[int, ...]) -> Section:
    page = sum(start <= section.start for start in old) - 1
    return replace(section, start=section.start + new[page] - old[page])


def read_picture(png: bytes, language: str = "") -> str:
    """The words of a picture; "" where there are none, or tesseract fails or takes more than LIMIT_S."""
    tesseract = shutil.which("tesseract")
    if not png or tesseract is None:
        return ""
    environment = {
        name: os.environ[name] for name in ("TESSDATA_PREFIX", "LD_LIBRARY_PATH") if name in os.environ
    }
    try:
        done = subprocess.run(
            [*python(_RUN), tesseract, language],
            input=png,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "OMP_THREAD_LIMIT": "1"},
            timeout=LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else storable(done.stdout.decode(errors="replace")).strip("\f\n ")


def main(tesseract: str, language: str) -> None:
    """Become tesseract, from standard input to standard output, confined."""
    limit_memory(MEMORY_BYTES)
    confine(may_run=True)
    os.execv(tesseract, [tesseract, "stdin", "stdout", *(["-l", language] if language else [])])
