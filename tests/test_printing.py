"""One function prints, and what it prints acts on no terminal: read from the source, and tried with hostile texts."""

import ast
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index_store.types import Json
from tests.helpers import tiny_embedder
from tests.helpers.audit_sample import sample_run
from tests.helpers.imports import modules, name_of, tree_of
from tests.helpers.places import ROOT
from tests.helpers.toy import publish_toy, toy_draft

# -- the source --------------------------------------------------------------------------------------------

PRINTER = "index_store.terminal"
#: In the cage a cell's own `print` is made, over a buffer; the process has no streams.
CAGE = "rlm.sandbox.cage"
#: Who may be handed a stream: what prints, what draws with the printer's lines, and what sets the streams up.
TAKERS = {"say", "prepare", "live"}
#: What is asked of a stream without writing to it.
ASKED = {"flush", "fileno", "isatty", "buffer"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
#: Modules that draw with rich; that silence logs of other packages, or log under our names, which `logged` writes out.
RICH = {"raptor.progress", "rlm.commands.live"}
LOGS = {
    *("index_store.embedder", "index_store.index", "index_store.lazy"),
    *("raptor.build", "raptor.engines.on_ray", "raptor.grower", "raptor.loading.pdf", "raptor.workspace"),
    *("rlm.adapters.mcp", "rlm.serving.guard", "rlm.serving.problems", "rlm.serving.shelf"),
    "rlm.serving.state.database",
    *("rlm.asking.asking", "rlm.gateway.provider", "rlm.loop.cells", "rlm.loop.recording"),
}
PRINTING = {"tqdm", "click", "getpass", "pprint", "curses", "faulthandler"}


def ways_to_print(tree: ast.AST, module: str) -> Iterator[str]:
    """Every way in a module, other than the printer, by which text could reach standard output or error."""
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        found = ast.unparse(node)[:80] if _prints(node, above, module) else ""
        if found:
            yield f"{module}:{getattr(node, 'lineno', '?')}: {found}"


def _prints(node: ast.AST, above: dict[ast.AST, ast.AST], module: str) -> bool:
    match node:
        case ast.Name(id="print" | "breakpoint" | "help"):
            return True
        case ast.Call(func=ast.Name(id="input")):
            return "input" not in ast.unparse(node) or any(_is_foreign(given) for given in node.args)
        case ast.Attribute(value=ast.Name(id="sys"), attr=attr) if attr in STREAMS:
            return not _is_harmless(node, above)
        case ast.Attribute(attr="print") if isinstance(above[node], ast.Call):
            return not _is_styled(above[node])
        case ast.Attribute(value=ast.Name(id="warnings"), attr="warn" | "warn_explicit"):
            return True
        case ast.Attribute(value=ast.Name(id="traceback"), attr=attr):
            return attr.startswith("print")
        case ast.Attribute(attr="ArgumentParser"):
            return not isinstance(above[node], ast.Subscript | ast.arg | ast.FunctionDef)
        case ast.Attribute(
            attr="debug" | "info" | "warning" | "error" | "critical" | "exception", value=owner
        ):
            return "log" in ast.unparse(owner) and module not in LOGS
        case ast.Call(func=ast.Attribute(value=ast.Name(id="subprocess"), attr="run" | "Popen" | "call")):
            return not {"stdout", "stderr"} <= {k.arg for k in node.keywords} and "capture_output" not in {
                k.arg for k in node.keywords
            }
        case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="system" | "write")):
            return True
        case ast.Import(names=names):
            return any(_is_barred(name.name, module) for name in names)
        case ast.ImportFrom(module=source, names=names):
            return _is_barred(source or "", module) or (
                source == "sys" and any(n.name in STREAMS for n in names)
            )
    return False


def _is_foreign(prompt: ast.expr) -> bool:
    """Whether a prompt holds anything but constants."""
    return any(not isinstance(n, ast.Constant | ast.IfExp | ast.Name | ast.Load) for n in ast.walk(prompt))


def _is_harmless(stream: ast.Attribute, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether a stream is only handed to the printer, asked something, or set."""
    holder = above[stream]
    taker = above[holder] if isinstance(holder, ast.keyword) else holder
    handed = isinstance(taker, ast.Call) and isinstance(taker.func, ast.Name) and taker.func.id in TAKERS
    asked = isinstance(holder, ast.Attribute) and holder.attr in ASKED
    return handed or asked or isinstance(stream.ctx, ast.Store)


def _is_styled(call: ast.AST) -> bool:
    given = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return isinstance(given, ast.Call) and ast.unparse(given.func) == "styled"


def _is_barred(source: str, module: str) -> bool:
    package = source.partition(".")[0]
    if package == "rich":
        return module not in RICH or source == "rich.text"
    return package in PRINTING or (package == "logging" and module not in LOGS)


def sources() -> list[tuple[str, ast.Module]]:
    """Every module of ours but the printer and the cage, by name; a notebook prints as its user would, on a page."""
    ours = [(name_of(path), tree_of(path)) for path in modules()]
    return [(n, t) for n, t in ours if n != PRINTER and not n.startswith(CAGE)]


def test_one_module_prints_and_no_other_finds_a_way() -> None:
    assert [way for name, tree in sources() for way in ways_to_print(tree, name)] == []


@pytest.mark.parametrize(
    "code",
    [
        "print(x)",
        "show = print",
        "sys.stdout.write(x)",
        "out = sys.stderr",
        "sys.__stderr__.writelines(x)",
        "from sys import stdout",
        "warnings.warn(x)",
        "traceback.print_exc()",
        "logging.getLogger('a').warning(x)",
        "import logging",
        "argparse.ArgumentParser(x)",
        "console.print(x)",
        "console.print(Text(x))",
        "from rich.text import Text",
        "from rich import print as show",
        "import tqdm.auto",
        "input(x.name)",
        "input(f'{x}? ')",
        "subprocess.run(x)",
        "subprocess.Popen(x, stdout=y)",
        "os.write(1, x)",
        "os.system(x)",
    ],
)
def test_a_way_to_print_is_noticed(code: str) -> None:
    assert list(ways_to_print(ast.parse(code), "rlm.somewhere"))


# -- processes ---------------------------------------------------------------------------------------------

#: Everything that acts unseen, of each kind one or more, with a line that claims to be another.
ACTING = "\x1b]0;owned\x07\x1b[2J\x08\x7f\x9b31m\xad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202e\u2066\u2060"
ACTING += "\u3164\ufe01\ufe0f\ufeff\ufff9\U000e0041\U000e0101"
FORGED = ACTING + "\r\x85\u2028\u2029\x1c\nFORGED: ok"
HOSTILE_NAME = ACTING.replace("/", "") + "\nFORGED: ok"


@pytest.fixture(scope="module", autouse=True)
def on_path(warmed: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{warmed}{os.pathsep}{os.environ['PATH']}")
        yield


def said(program: str, *arguments: object, typed: str = "") -> str:
    """Standard output and error of a command, run as a process that its terminal would see."""
    words = [program, *map(str, arguments)]
    ran = subprocess.run(words, cwd=ROOT, input=typed.encode(), capture_output=True, check=False, timeout=240)
    text = ran.stdout.decode() + ran.stderr.decode()
    assert text and "Traceback" not in text, text
    return text


def check(text: str) -> str:
    """The text, once no character of it acts unseen, and no line of it begins as the hostile texts would have it."""
    unseen = {
        c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c not in "\n\t"
    }
    acting = unseen | {c for c in text if c in ACTING and not c.isascii()}
    assert not acting, sorted(map(ascii, acting))
    return text


def no_forgery(text: str) -> None:
    assert not re.search(r"^FORGED", check(text), re.MULTILINE), text


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile documents: names, titles, headings, texts and metadata."""
    folder = tiny_embedder.write_documents(tmp_path_factory.mktemp("hostile") / "docs", 3)
    prose = f"# Boats {FORGED}\n\nThe ketch {FORGED} has two masts.\n\n" * 30
    (folder / f"{HOSTILE_NAME}.md").write_text(prose, encoding="utf-8")
    (folder / f"bad {HOSTILE_NAME}.txt").write_bytes(b"\xff")
    (folder / f"bad {HOSTILE_NAME}.pdf").write_bytes(b"%PDF-1.4 \x1b[2J")
    (folder / "page.html").write_text(
        f"<title>{FORGED}</title><h1>{FORGED}</h1><p>{FORGED} masts", encoding="utf-8"
    )
    rows: list[Json] = [
        {"id": f"r{FORGED}", "title": FORGED, "text": f"Masts {FORGED}.", "meta": {FORGED: FORGED}}
    ]
    rows.append({FORGED: FORGED})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(documents: Path) -> Path:
    index = documents.parent / "built.index"
    out = said("raptor", "build", documents, "-o", index)
    no_forgery(out)
    assert out.count("skipped ") >= 2
    return index


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by hand whose labels, summaries, ids and titles are hostile."""
    draft = toy_draft()
    named = [(replace(d, id=f"{d.id}{FORGED}", title=FORGED, source=FORGED), t) for d, t in draft.documents]
    labels, words = [FORGED for _ in draft.labels], [f"masts {FORGED}" for _ in draft.summaries]
    folder = tmp_path_factory.mktemp("labelled") / f"i{HOSTILE_NAME}.index"
    publish_toy(folder, replace(draft, documents=named, labels=labels, summaries=words))
    return folder


@pytest.mark.slow
def test_no_document_acts_on_the_terminal_that_builds_and_looks_at_its_index(
    built: Path, documents: Path
) -> None:
    no_forgery(said("raptor", "update", built, documents / f"{HOSTILE_NAME}.md"))
    no_forgery(said("raptor", "build", documents, "-o", built, "--dry-run"))
    no_forgery(said("raptor", "inspect", built, "--depth", 9))
    no_forgery(said("raptor", "inspect", built, "--documents"))
    no_forgery(said("raptor", "verify", built))
    for node in ("L0-00000", "L0-00003", "L1-00000"):
        no_forgery(said("raptor", "inspect", built, "--node", node))
        check(said("raptor", "inspect", built, "--node", node, "--json"))
    no_forgery(said("raptor", "remove", built, f"nothing {HOSTILE_NAME}"))
    no_forgery(said("raptor", "update", built, f"nothing {HOSTILE_NAME}"))


@pytest.mark.slow
def test_no_label_acts_on_the_terminal(labelled: Path, tmp_path: Path) -> None:
    for arguments in (["--documents"], ["--node", "L1-00000"], ["--node", "L0-00001"], ["--depth", "9"]):
        no_forgery(said("raptor", "inspect", labelled, *arguments))
        check(said("raptor", "inspect", labelled, *arguments, "--json"))
    no_forgery(said("raptor", "verify", labelled))
    (summaries,) = labelled.glob("generations/*/summaries.bin")
    summaries.write_bytes(b"\x1b[2J" + summaries.read_bytes())
    no_forgery(said("raptor", "verify", labelled))


@pytest.mark.slow
def test_nothing_that_is_found_or_answered_acts_on_the_terminal(built: Path, tmp_path: Path) -> None:
    runs = tmp_path / f"runs{HOSTILE_NAME}"
    no_forgery(said("rlm", "search", built, "masts ketch", "--mode", "lexical"))
    check(said("rlm", "search", built, "masts ketch", "--mode", "lexical", "--json"))
    check(said("rlm", "ask", built, f"masts {FORGED}?", "--runs", runs))
    (run,) = runs.iterdir()
    no_forgery(said("rlm", "trace", "verify", run))
    check(said("rlm", "trace", "show", run))
    check(said("rlm", "trace", "show", run, "--json"))
    cell = f"print({FORGED!r}, *context.search('masts'))\nprint(context.read('L0-00003'))\n\n"
    check(
        said(
            "rlm",
            "shell",
            built,
            typed=cell + f"raise ValueError({FORGED!r})\n\ncontext.peek({FORGED!r})\n\n",
        )
    )
    check(said("rlm", "shell", built, "--json", typed=json.dumps({"code": cell}) + f"\n{FORGED}\n"))
    check(said("rlm", "chat", built, "--runs", runs, typed=f"masts {ACTING}?\n"))


@pytest.mark.slow
def test_no_trace_acts_on_the_terminal(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", FORGED)
    check(said("rlm", "trace", "show", run))
    check(said("rlm", "trace", "show", run, "--json"))
    no_forgery(said("rlm", "trace", "verify", run))
    no_forgery(said("rlm", "review", run, "-o", tmp_path / f"page{HOSTILE_NAME}.html"))


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("raptor", [FORGED]),
        ("raptor", ["inspect", FORGED, FORGED]),
        ("raptor", ["inspect", "--depth", FORGED, "i"]),
        ("raptor", ["inspect", FORGED]),
        ("rlm", ["trace", FORGED, "i"]),
        ("rlm", ["search", "i", "q", "--mode", FORGED]),
        ("rlm", ["trace", "verify", FORGED]),
        ("rlm", ["trace", "verify", "i", "--head", FORGED]),
        ("rlm", ["ask", FORGED, "a question"]),
    ],
)
def test_no_argument_that_an_error_quotes_acts_on_the_terminal(program: str, arguments: list[Any]) -> None:
    no_forgery(said(program, *arguments))


def test_what_python_itself_prints_acts_on_no_terminal() -> None:
    code = (
        "import logging, sys, warnings\nfrom index_store.terminal import prepare\n"
        f"prepare(sys.stdout, sys.stderr)\nwarnings.warn({FORGED!r})\nlogging.getLogger('x').warning({FORGED!r})\n"
        f"raise ValueError({FORGED!r})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=240
    )
    assert check(ran.stderr.decode()).count("owned") >= 3
