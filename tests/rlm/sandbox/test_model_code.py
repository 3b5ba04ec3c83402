"""Code that real models wrote runs in the sandbox as it does under plain CPython."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from index_store.types import Json
from rlm.sandbox import CellResult, SandboxLimits, open_session
from tests.helpers.places import HELPERS, data_file
from tests.helpers.sandbox_plain import PRELUDE, tool_definitions

BLOCKS = "repl/model_code.jsonl"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
CALLS = frozenset({"llm_query", "llm_query_batched"})


def serve(name: str, arguments: list[Any], named: dict[str, Json]) -> Json:
    return "a reply" if name == "llm_query" else ["a reply" for _ in arguments[0]]


def sessions() -> Iterator[list[str]]:
    """Per log file: a prelude that binds what the log's own harness supplied, then its blocks in order."""
    with data_file(BLOCKS).open(encoding="utf-8", newline="\n") as lines:
        blocks = [json.loads(line) for line in lines]
    for _, group in groupby(blocks, key=lambda block: (block["repo"], block["path"])):
        cells = sorted(group, key=lambda block: block["seq"])
        names = {name for cell in cells for name in cell["free_names"] or []}
        yield [PRELUDE, tool_definitions(names), *(cell["code"] for cell in cells)]


def run_plain(cells: list[list[str]], folder: Path) -> list[list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, str(HELPERS / "sandbox_plain.py")],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
    )
    ran: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return ran


def run_confined(cells: list[str]) -> list[CellResult]:
    limits = SandboxLimits(output_chars=2_000_000, session_output_chars=1 << 30)
    with open_session(serve, CALLS, limits) as session:
        return [session.run(cell) for cell in cells]


def same(got: CellResult, want: dict[str, Any], code: str) -> bool:
    """Equal but for memory addresses; SHOW_VARS has a layout of its own, and chance is seeded."""
    if got.status != "ok" or "SHOW_VARS" in code or "random_number" in code or "randint" in code:
        return got.status == "ok"
    return ADDRESS.sub("", got.stdout) == ADDRESS.sub("", want["stdout"])


def test_what_models_write_runs_as_under_plain_python(tmp_path: Path) -> None:
    cells = list(sessions())
    ran, different = 0, []
    for codes, expected in zip(cells, run_plain(cells, tmp_path), strict=True):
        results = run_confined(codes)
        for code, want, got in list(zip(codes, expected, results, strict=True))[2:]:
            ran += want["ok"]
            if want["ok"] and not same(got, want, code):
                different.append(f"{code[-300:]}\n--- {got.status} {got.error} {got.rule}")
    assert ran > 400
    assert len(different) <= ran / 100, f"{len(different)} of {ran} differ:\n" + "\n=====\n".join(different)
