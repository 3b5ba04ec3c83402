"""The code blocks of a page of the documentation, run one after another in one folder, as a reader would."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
TITLE = re.compile(r'title="([^"]+)"')
#: What a block may be: commands with what they print, a program, a file that its title names, or words alone.
LANGUAGES = ("console", "python", "file", "text")
_PATIENCE_S = 600  # a busy machine is slow; only a block that hangs waits so long


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page. `title`: the file that it is the content of; '' where it is none."""

    language: str
    title: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A line that is typed, and the lines that the page shows of what it prints."""

    typed: str
    shown: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order. Those in a language of files (TOML, JSON, ...) are files, by their title."""
    for match in FENCE.finditer(page):
        title = TITLE.search(match["rest"])
        language = match["language"]
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
        if title and language != "python":
            language = "file"
        yield Block(language, title[1] if title else "", text, page.count("\n", 0, match.start()) + 1)


def commands(block: Block) -> list[Command]:
    """What a console block types: lines that begin with `$ `, each with what the page shows below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [Command(typed, tuple(shown)) for typed, shown in found]


def plain(text: str) -> str:
    """A text without what differs between two runs: digits, hashes, the ends of lines."""
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "HASH", text)
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.]*", "N", text)).strip()


def run(page: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Run the blocks of a page in `folder`. Returns its first fault, as a sentence; empty where all is as it says."""
    faults = list[str]()
    for block in blocks(page):
        if block.language == "file":
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            faults += _ran(f"line {block.line}", ["python", "-c", block.text], folder, environment, ())
        elif block.language == "console":
            for command in commands(block):
                words = ["bash", "-c", f"set -eo pipefail; {command.typed}"]
                faults += _ran(command.typed, words, folder, environment, command.shown)
        elif block.language not in LANGUAGES:
            faults.append(f"line {block.line}: a block in {block.language or 'no language'} is not run")
        if faults:
            break
    return faults


def _ran(
    what: str, words: list[str], folder: Path, environment: Mapping[str, str], shown: tuple[str, ...]
) -> list[str]:
    """The faults of one command: it fails without the page saying so, or prints other lines than the page shows."""
    ends = [re.fullmatch(r"\(exit code (\d+)\)", line) for line in shown]
    expected = next((int(end[1]) for end in ends if end), 0)
    with (folder / ".output").open(
        "w+b"
    ) as output:  # a file, as a server in the background would hold a pipe open
        done = subprocess.run(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
        output.seek(0)
        printed = output.read().decode()
    if done.returncode != expected:
        return [f"{what}: exit code {done.returncode}, and printed\n{printed[-2000:]}"]
    whole = plain(printed)
    missing = [
        line
        for line in shown
        if plain(line) not in whole and line.strip() not in ("...", f"(exit code {expected})")
    ]
    return [f"{what}: the page shows {line!r}, and it printed\n{printed[-3000:]}" for line in missing[:1]]
