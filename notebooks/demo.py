"""The demo: real documents, the real commands, nothing else. `make demo` runs it.

Without --docs the documents are Python's own: the text that `pydoc` renders for standard library modules.
"""

import argparse
import importlib
import pydoc
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import raptor.cli
import rlm.cli

MODULES = """
abc argparse array asyncio.events asyncio.queues asyncio.streams asyncio.tasks base64 bisect bz2 calendar cmath
concurrent.futures contextlib copy csv dataclasses datetime dis errno fileinput fnmatch fractions functools gc
getopt getpass gettext glob gzip hashlib heapq hmac html html.parser http.cookies importlib.resources itertools
json json.decoder json.encoder keyword linecache locale logging.config lzma marshal math mimetypes mmap
multiprocessing multiprocessing.pool netrc numbers operator os.path pickle pkgutil platform plistlib poplib
pprint profile pstats queue random re reprlib sched secrets select selectors shelve shlex shutil stat statistics
string struct subprocess symtable sys sysconfig tempfile textwrap time timeit tokenize trace traceback
tracemalloc unicodedata uuid venv warnings wave weakref xml.etree.ElementTree xml.sax zipapp zipfile zipimport
zlib zoneinfo
""".split()  # noqa: SIM905

QUESTIONS = [
    "How does json.dumps treat NaN and infinity when allow_nan is false?",
    "What does heapq.merge return, and how does bisect.insort keep a list sorted?",
    "What happens in shutil.rmtree when ignore_errors is set?",
    "How many functions of these modules are deprecated?",
]


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    docs = args.docs or str(_python_documentation(out / "docs"))
    index = str(out / "demo.index")
    code = _run(raptor.cli.main, "raptor", "build", docs, "-o", index)
    code = code or _run(raptor.cli.main, "raptor", "inspect", index, "--depth", "1")
    for question in args.question or ([] if code else QUESTIONS):
        code = code or _ask(index, question, out)
    print(f"\n{'done' if not code else 'stopped'} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example:\n  make demo")
    parser.add_argument("--out", default="demo-out", help="where everything is written (%(default)s)")
    parser.add_argument("--docs", help="a folder of your own documents")
    parser.add_argument("--question", action="append", help="a question of your own; may be given again")
    return parser.parse_args(argv)


def _ask(index: str, question: str, out: Path) -> int:
    """Ask, and write the audit page of the run beside its trace."""
    runs = out / "runs"
    before = set(runs.glob("*"))
    code = _run(rlm.cli.main, "rlm", "ask", index, question, "--runs", str(runs))
    for folder in sorted(set(runs.glob("*")) - before):
        code = code or _run(rlm.cli.main, "rlm", "trace", "verify", str(folder))
        code = code or _run(rlm.cli.main, "rlm", "review", str(folder), "-o", str(folder / "audit.html"))
    return code


def _run(command: object, name: str, *arguments: str) -> int:
    """Print a command as one would type it, and run it in this process."""
    print(f"\n$ {name} {shlex.join(arguments)}", flush=True)
    return int(command(list(arguments)))  # type: ignore[operator]


def _python_documentation(folder: Path) -> Path:
    """One text file for each module, as `pydoc` renders it; modules that this Python lacks are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as e:
            print(f"left out {name}: {e}", file=sys.stderr)
            continue
        text = pydoc.render_doc(module, "Python library documentation: %s", renderer=pydoc.plaintext)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


if __name__ == "__main__":
    sys.exit(main())
