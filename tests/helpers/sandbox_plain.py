"""Runs model-written cells under plain CPython, as the yardstick for the sandbox: `python sandbox_plain.py <
in > out`.

In: JSON list of sessions, each a list of cells. Out: the same shape, each cell `{"ok": bool, "stdout": str}`.
"""

import ast
import collections
import contextlib
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Iterable
from typing import Any, Never

PRELUDE = '''
class Text(str):
    """A stand-in for whatever object a log's own harness bound: text that also answers any method."""
    def info(self): return {"chars": len(self), "lines": self.line_count()}
    def line_count(self): return len(self.splitlines())
    def read(self, start=0, end=None): return str(self)[start:end]
    def lines(self, start=0, end=None): return self.splitlines()[start:end]
    def head(self, n=10): return self.splitlines()[:n]
    def grep(self, pattern, max_results=20, **more):
        return [(i, line) for i, line in enumerate(self.splitlines()) if re.search(pattern, line)][:max_results]
    def tree(self, *more): return "root"

CONTEXT = Text("First line: 12 apples.\\nSecond line: a needle.\\nThird line, the last.\\n" * 40)
context = str(CONTEXT)
question = "How many apples are there?"
SESSION = CONTEXT
'''
OWN = {
    "FINAL",
    "FINAL_VAR",
    "SUBMIT",
    "SHOW_VARS",
    "llm_query",
    "llm_query_batched",
    "context",
    "CONTEXT",
    "answer",
}
OWN |= {
    "rlm_query",
    "rlm_query_batched",
    "question",
    "SESSION",
    "re",
    "json",
    "math",
    "collections",
    "itertools",
}


def tool_definitions(free_names: Iterable[str]) -> str:
    """Code that binds each free name a log's harness supplied to a function that replies with text."""
    return "".join(
        f"def {name}(*values, **named): return {{'name': {name!r}, 'text': 'reply of {name}', 'results': [1, 2]}}\n"
        for name in sorted(set(free_names) - OWN)
    )


class _NoAwait(ast.NodeTransformer):
    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)


class _Finished(BaseException):
    pass


def _finish(*values: Any, **named: Any) -> Never:
    raise _Finished


def _final_var(names: dict[str, Any], name: Any) -> Never:
    if isinstance(name, str) and name.isidentifier() and name not in names:
        raise NameError(name)
    raise _Finished


def _namespace() -> dict[str, Any]:
    names: dict[str, Any] = {
        "re": re,
        "json": json,
        "math": math,
        "collections": collections,
        "itertools": itertools,
    }
    names |= {"__name__": "__main__", "FINAL": _finish, "SUBMIT": _finish, "answer": {}}
    names |= {"SHOW_VARS": lambda: "no variables yet", "llm_query": lambda *a, **k: "a reply"}
    names["FINAL_VAR"] = lambda name: _final_var(names, name)
    names["llm_query_batched"] = lambda prompts, **k: ["a reply" for _ in prompts]
    return names


def _run_cell(code: str, names: dict[str, Any]) -> dict[str, Any]:
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            tree = ast.fix_missing_locations(_NoAwait().visit(ast.parse(code)))
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None  # noqa: S307
            if value is not None:
                print(repr(value))
    except _Finished:
        pass
    except BaseException as error:
        return {"ok": False, "stdout": out.getvalue(), "error": repr(error)[:200]}
    return {"ok": True, "stdout": out.getvalue()}


def _run_session(cells: list[str]) -> list[dict[str, Any]]:
    names = _namespace()
    return [_run_cell(cell, names) for cell in cells]


if __name__ == "__main__":
    json.dump([_run_session(cells) for cells in json.load(sys.stdin)], sys.stdout)
