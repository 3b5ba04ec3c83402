"""The command `rlm`: what it prints, and that bad input is one sentence and exit code 2."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.index import Index
from index_store.types import MODES
from rlm.asking.questions import read_questions
from rlm.audit import Trace, read, verify
from rlm.cli import main
from rlm.commands.search import excerpt
from rlm.errors import RlmError
from tests.helpers.model_server import MODEL, ModelServer, error, slow
from tests.helpers.places import ROOT
from tests.helpers.toy import TEXTS, index_of, publish_toy, toy_draft

COMMANDS = ["search", "ask", "chat", "shell", "mcp", "trace", "review", "models", "doctor"]
# fmt: off
HEAVY = [
    "numpy", "litellm", "torch", "faiss", "sklearn", "umap", "sentence_transformers", "bm25s", "numba", "scipy",
    "tiktoken", "pydantic",
]
# fmt: on
QUESTION = "How many masts has the ketch?"


@pytest.fixture(scope="module")
def folder(index: Index) -> Path:
    return index.path


@pytest.fixture(scope="module")
def run_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert main(["ask", str(folder), QUESTION, "--runs", str(runs)]) == 0
    (run,) = runs.iterdir()
    return run


@pytest.fixture
def rlm(capsys: pytest.CaptureFixture[str]) -> Any:
    """(exit code, standard output, standard error) of a command."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as e:  # argparse
            code = int(str(e.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def subprocess_rlm(*arguments: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlm.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


# -- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_ends_with_an_example(rlm: Any, arguments: list[str]) -> None:
    code, out, _ = rlm(*arguments)
    assert code == 0
    *_, heading, example = out.rstrip().splitlines()
    assert heading == "example:"
    assert example.startswith(f"  rlm {arguments[0] if len(arguments) > 1 else 'ask'}")


def test_help_imports_nothing_heavy() -> None:
    show = "import sys, rlm.cli\ntry: rlm.cli.main(['ask', '--help'])\nexcept SystemExit: pass\n"
    show += f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)), len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=240)
    assert "HEAVY [] " in done.stdout, done.stderr


def test_the_first_sign_of_life_comes_before_anything_heavy_is_imported(folder: Path, tmp_path: Path) -> None:
    code = f"""
import os, sys
class Tell:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            print("IMPORT", name, file=sys.stderr, flush=True)
            os._exit(0)  # the first is enough
sys.meta_path.insert(0, Tell())
import rlm.cli
rlm.cli.main(["ask", {str(folder)!r}, "How many masts?", "--runs", {str(tmp_path / "runs")!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    opening, heavy = done.stderr.splitlines()
    assert (opening, heavy.partition(" ")[0]) == (f"opening {folder}", "IMPORT")


def test_a_question_to_the_offline_models_imports_nothing_that_they_do_not_need(
    folder: Path, tmp_path: Path
) -> None:
    """litellm alone took two seconds before the first event; it is for models that are asked over a network."""
    code = f"""
import sys
from index_store.index import Index
from tests.helpers.rlm_toy import ToyEmbedder
import rlm
Index._embedder = ToyEmbedder()
seen = []
answer = rlm.ask({str(folder)!r}, {QUESTION!r}, runs={str(tmp_path / "runs")!r}, watch=lambda *event: seen.append(
    sorted(set({HEAVY!r}) & set(sys.modules))))
print(answer.stop, seen[0], seen[-1])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout == "answer ['numpy'] ['numpy', 'tiktoken']\n", done.stderr


def test_the_folder_of_a_run_is_there_before_its_index_is_opened(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[Path] = []

    def opening(*_: Any, **__: Any) -> None:
        there.extend((tmp_path / "runs").iterdir())
        raise RlmError("no")

    monkeypatch.setattr("rlm.commands.ask.open_any", opening)
    assert rlm("ask", folder, QUESTION, "--runs", tmp_path / "runs")[0] == 2
    assert len(there) == 1
    assert not (tmp_path / "runs").exists()  # nothing was asked


# -- bad input ---------------------------------------------------------------------------------------------

BAD: list[tuple[str, str]] = [
    ("search nowhere.index words", "there is no index folder at nowhere.index"),
    ("search INDEX", "give one query, or --queries FILE"),
    ("search INDEX words --queries QUERIES", "give one query, or --queries FILE"),
    ("search INDEX ''", "the query is empty"),
    ("search INDEX \udcff", "is not Unicode text"),
    ("search INDEX words -k 0", "k is 0"),
    ("search INDEX words -k x", "invalid int value: 'x'"),
    ("search INDEX words --mode best", "invalid choice: 'best'"),
    ("search INDEX words --level 9", "no level 9; this index has levels 0 to 2"),
    ("search INDEX words --level -1", "no level -1"),
    ("search INDEX words --doc boat.txt", "did you mean 'boats.txt'?"),
    ("search INDEX words --where year", "write it as KEY=VALUE"),
    ("search INDEX --queries nowhere.jsonl", "cannot read the questions nowhere.jsonl: No such file"),
    ("search INDEX --queries INDEX", "cannot read the questions"),
    ("ask nowhere.index why", "there is no index folder at nowhere.index"),
    ("ask INDEX", "give one question, or --questions FILE"),
    ("ask INDEX why --each-usd 1", "--each-usd goes with --questions; for one question there is --max-usd"),
    ("ask INDEX --questions QUERIES --answers a --each-calls 0", "--each-calls is 0; give more than 0"),
    ("ask INDEX ''", "the question is empty"),
    ("ask INDEX \udcff", "is not Unicode text"),
    (
        "ask INDEX why --model offline/nobody",
        "the offline models are offline/extractive, offline/judge, offline/navigator",
    ),
    ("ask INDEX why --child-model offline/nobody", "unknown model 'offline/nobody'"),
    ("ask INDEX why --model nonsense", "unknown model 'nonsense'"),
    ("ask INDEX why --model anthropic/claude-sonnet-4-5", "needs ANTHROPIC_API_KEY in the environment"),
    ("ask INDEX why --max-usd inf", "usd is inf; give a number from 0 to 1e+09"),
    ("ask INDEX why --max-usd nan", "usd is nan"),
    ("ask INDEX why --max-calls -1", "calls is -1"),
    (
        "ask INDEX why --max-calls 0",
        "--max-calls is 0, and no question is answered without a call; give at least 1",
    ),
    ("ask INDEX why --max-tokens 0", "--max-tokens is 0, and no question is answered without a call"),
    (
        "ask INDEX --questions QUERIES --answers a --max-calls 0",
        "--max-calls is 0, and no question is answered",
    ),
    ("chat INDEX --max-calls 0", "--max-calls is 0, and no question is answered"),
    ("chat INDEX --where year", "write it as KEY=VALUE"),
    ("chat INDEX --schema nowhere.json", "the schema nowhere.json cannot be read"),
    ("ask INDEX why --schema nowhere.json", "the schema nowhere.json cannot be read"),
    ("ask INDEX why --where year", "write it as KEY=VALUE"),
    ("ask INDEX why --models nowhere.toml", "cannot read the models nowhere.toml"),
    ("ask INDEX why --answers a", "--answers goes with --questions"),
    ("ask INDEX why --doc boat.txt", "no document 'boat.txt'; did you mean 'boats.txt'?"),
    ("ask INDEX --questions QUERIES", "name the file that answers go to"),
    ("ask INDEX --questions nowhere.jsonl --answers a", "cannot read the questions nowhere.jsonl"),
    ("ask INDEX --questions QUERIES --answers QUERIES", "holds the questions"),
    ("ask INDEX why --max-turns 0", "turns is 0; give more than 0"),
    ("ask INDEX why --timeout 0", "timeout_s is 0.0"),
    ("ask INDEX why --timeout soon", "invalid float value: 'soon'"),
    ("ask INDEX why --max-tokens " + "9" * 400, "tokens is 999"),
    ("ask INDEX why --runs QUERIES", "cannot make a run folder in"),
    ("ask INDEX why --runs s3://bucket/runs", "it is a URL, and this is kept on this machine; name a folder"),
    ("shell INDEX --runs gs://bucket/runs", "it is a URL"),
    ("map INDEX why --field a=yes/no --runs az://bucket/runs", "it is a URL"),
    ("eval INDEX QUERIES -o s3://bucket/eval", "it is a URL"),
    ("shell nowhere.index", "there is no index folder at nowhere.index"),
    ("shell INDEX --model offline/nobody", "offline/navigator"),
    ("shell INDEX --backend docker", "invalid choice: 'docker'"),
    ("shell INDEX --cell-timeout 0", "cell_timeout_s is 0.0"),
    ("shell INDEX --cell-timeout nan", "cell_timeout_s is nan"),
    ("trace show nowhere", "no trace at nowhere"),
    ("trace verify nowhere", "no trace at nowhere"),
    ("trace burn RUN", "invalid choice: 'burn'"),
    ("review nowhere -o PAGE", "no trace at nowhere"),
    ("review RUN", "the following arguments are required: -o/--output"),
    ("review RUN -o no/such/folder/page.html", "cannot write the page no/such/folder/page.html"),
    ("review RUN -o .", "it is a folder"),
    ("review RUN -o ''", "it is a folder"),
    ("review RUN -o INDEX", "it is a folder"),
    ("review RUN -o QUERIES/page.html", "cannot write the page"),
    ("", "the following arguments are required: COMMAND"),
    ("dance", "invalid choice: 'dance'"),
]


@pytest.mark.parametrize(("line", "sentence"), BAD, ids=[line[:60] for line, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_code_2(
    rlm: Any,
    folder: Path,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    sentence: str,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "QUERIES").write_text('{"_id": 1, "text": "mast"}\n')
    places = {"INDEX": folder, "RUN": run_folder, "PAGE": tmp_path / "page.html", "''": ""}
    code, out, err = rlm(*(places.get(word, word) for word in line.split()))
    assert (code, out) == (2, "")
    *usage, said = [line for line in err.splitlines() if not line.startswith("opening ")]
    assert said.startswith("rlm")
    assert sentence in said
    assert "Traceback" not in err
    assert not usage or usage[0].startswith("usage: rlm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["QUERIES"]


@pytest.mark.parametrize(
    "line",
    [
        "ask INDEX why --schema nowhere.json",
        "ask INDEX why --max-calls 0",
        "ask INDEX why --max-usd -1",
        "ask INDEX why --where year",
        "ask INDEX why --models nowhere.toml",
        "ask INDEX why --model-option x",
        "ask INDEX ''",
        "ask INDEX --questions nowhere.jsonl --answers a",
        "ask INDEX --questions q",
        "chat INDEX --schema nowhere.json",
        "chat INDEX --timeout 0",
        "search INDEX why --where year",
        "search INDEX ''",
    ],
)
def test_an_argument_that_cannot_be_is_told_before_the_index_is_opened(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def opening(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    for module in ("ask", "chat", "search"):
        monkeypatch.setattr(f"rlm.commands.{module}.open_any", opening)
    monkeypatch.chdir(tmp_path)
    words = (folder if word == "INDEX" else word.strip("'") for word in line.split())
    code, out, err = rlm(*words)
    assert (code, out, err.count("\n"), err.startswith("rlm: ")) == (2, "", 1, True)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{}", 'line 2: expected {"_id": ..., "text": "..."'),
        ('{"_id": 1, "text": 5}', "line 2: expected"),
        ('{"_id": 1, "text": " "}', "line 2: the question is empty"),
        ('{"_id": 1, "text": "\\ud800"}', "line 2: the question '\\ud800' is not Unicode text"),
        ('{"_id": 1, "text": "a", "scope": ["x"]}', "line 2: the scope is list"),
        ('{"_id": 1, "text": "a", "scope": "boat.txt"}', "line 2: no document 'boat.txt'; did you mean"),
        ("not json", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("\udcff", "line 2 is not UTF-8"),
    ],
)
def test_a_bad_line_of_queries_is_named(
    rlm: Any, folder: Path, tmp_path: Path, row: str, sentence: str
) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_bytes(b'{"_id": 0, "text": "mast"}\n' + row.encode("utf-8", "surrogateescape") + b"\n")
    code, _, err = rlm("search", folder, "--queries", queries)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "extra"), [("ask", ["--json"]), ("search", ["--json", "--mode", "lexical"])]
)
def test_a_question_is_read_from_standard_input_where_a_dash_stands_for_it(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, extra: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def piped(raw: bytes | None) -> Any:
        monkeypatch.setattr(sys, "stdin", None if raw is None else io.TextIOWrapper(io.BytesIO(raw)))
        return rlm(command, folder, "-", *extra)

    code, out, _ = piped(b"Who has a\nmizzen?\n")
    assert (code, "mizzen" in out) == (0, True)
    for raw, sentence in (
        (b"", "is empty"),
        (None, "is empty"),
        (b"\n", "is empty"),
        (b"\xff?", "is not Unicode text"),
    ):
        code, out, err = piped(raw)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert sentence in err


# -- search ------------------------------------------------------------------------------------------------


def test_search_as_json_is_a_list_of_places(rlm: Any, folder: Path) -> None:
    code, out, err = rlm("search", folder, "Birnen wiegen", "--mode", "lexical", "--json", "-k", "3")
    hits = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert 0 < len(hits) <= 3
    for hit in hits:
        assert set(hit) == {
            *(
                "node",
                "level",
                "doc",
                "start",
                "end",
                "title",
                "section",
                "page",
                "score",
                "label",
                "text",
                "match",
                "also_in",
            )
        }
        assert hit["text"] == TEXTS[hit["doc"]][hit["start"] : hit["end"]]
    assert TEXTS[hits[0]["doc"]][hits[0]["start"] : hits[0]["end"]].endswith("Birnen wiegen mehr.")


def test_a_summary_that_is_found_has_no_place(rlm: Any, folder: Path) -> None:
    hits = json.loads(rlm("search", folder, "mizzen", "--level", 1, "--json")[1])
    assert {(h["level"], h["doc"], h["start"], h["end"]) for h in hits} == {(1, None, None, None)}
    everything = json.loads(rlm("search", folder, "mizzen", "--mode", "tree", "--json", "-k", 20)[1])
    assert {h["level"] for h in everything} == {0, 1, 2}


def test_many_queries_give_one_line_each_in_order(rlm: Any, folder: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries.jsonl"
    rows = [{"_id": i, "text": text} for i, text in enumerate(["mizzen", "Birnen", "nichts"])]
    rows.append({"_id": {"any": "thing"}, "text": "mizzen", "scope": "größe.md"})
    queries.write_text("\n\n".join(map(json.dumps, rows)))
    lines = [
        json.loads(line) for line in rlm("search", folder, "--queries", queries, "-k", 2)[1].splitlines()
    ]
    assert [line["_id"] for line in lines] == [row["_id"] for row in rows]
    assert [set(line) for line in lines] == [{"_id", "hits"}] * 4
    assert {hit["doc"] for hit in lines[3]["hits"]} == {"größe.md"}
    one = json.loads(rlm("search", folder, "mizzen", "-k", 2, "--json")[1])
    assert lines[0]["hits"] == one


def test_many_queries_need_no_embedder_in_mode_lexical(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Index, "_embedder")
    (tmp_path / "q").write_text('{"_id": 1, "text": "mizzen"}')
    code, out, _ = rlm("search", folder, "--queries", tmp_path / "q", "--mode", "lexical")
    assert (code, json.loads(out)["hits"][0]["doc"]) == (0, "boats.txt")


def test_search_for_a_person_shows_the_words(rlm: Any, folder: Path) -> None:
    code, out, _ = rlm("search", folder, "mizzen rudder", "--mode", "lexical")
    assert code == 0
    assert "L0-00002  boats.txt 48-" in out
    assert "A yawl differs: its mizzen" in out
    alone = rlm("search", folder, "single", "--doc", "one.txt")[1]  # its score has nothing to compare with
    assert alone.startswith(" 1. L0-00005  one.txt 0-6\n")
    assert rlm("search", folder, "zebra", "--mode", "lexical")[1] == "nothing found\n"


def test_a_document_is_named_by_its_path_or_a_pattern_wherever_a_scope_is_given(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def docs(*more: str) -> set[str]:
        hits = json.loads(
            rlm("search", folder, "wiegen mizzen single", "--mode", "lexical", "--json", *more)[1]
        )
        return {hit["doc"] for hit in hits}

    assert docs() == set(TEXTS)
    assert docs("--doc", "*.txt") == {"boats.txt", "one.txt"}
    assert docs("--doc", "./one.txt") == docs("--doc", str(tmp_path / "one.txt")) == {"one.txt"}
    assert "did you mean 'boats.txt'" in rlm("search", folder, "mizzen", "--doc", "boat*.tx")[2]
    rows = [
        {"_id": "a", "text": "Birnen?", "scope": "*.md"},
        {"_id": "b", "text": "x?", "scope": {"doc": "./o*"}},
    ]
    (tmp_path / "q").write_text("\n".join(map(json.dumps, rows)))
    assert rlm("ask", folder, "--questions", "q", "--answers", "a", "--quiet")[0] == 0
    told = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    assert {row["_id"]: {cited["doc"] for cited in row["citations"]} for row in told}["a"] <= {"größe.md"}
    code, out, _ = rlm("ask", folder, "Who has a mizzen?", "--doc", "boats*", "--json")
    assert (code, {cited["doc"] for cited in json.loads(out)["citations"]}) == (0, {"boats.txt"})


LONG = (
    "Much is said of the town. " * 30 + "The notice period is three months. " + "And of the river too. " * 30
)


def test_a_hit_shows_the_part_that_fits_the_query_best(rlm: Any, tmp_path: Path) -> None:
    index_of(tmp_path / "i", {"a.txt": [LONG]}, [0])
    ask = ("search", tmp_path / "i", "how long is the notice period of the town?", "--mode", "lexical")
    shown = rlm(*ask)[1].splitlines()[1].strip()
    assert shown.startswith("…") and shown.endswith("…")
    assert "The notice period is three months." in shown
    assert json.loads(rlm(*ask, "--json")[1])[0]["match"] == shown
    (tmp_path / "q").write_text('{"text": "notice period"}')
    line = json.loads(rlm("search", tmp_path / "i", "--queries", tmp_path / "q", "--mode", "lexical")[1])
    assert "three months" in line["hits"][0]["match"]


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        (LONG, "zebra", "Much is said of the town. Much…"),
        (
            "日本語の文章です。" * 60 + "契約は三年。",
            "契約",
            "…の文章です。日本語の文章です。日本語の文章です。契約は三年。",
        ),
        ("two  words\n", "word", "two words"),
        ("a " * 50 + "to be or not" + " a" * 50, "to be", "…a a a a a a to be or not a a…"),
        ("x" * 90, "x" * 90, "…" + "x" * 30 + "…"),
        ("", "word", ""),
    ],
)
def test_what_is_shown_of_a_text_is_its_best_part_or_its_beginning(text: str, query: str, shown: str) -> None:
    assert excerpt(text, query, 30) == shown


@given(st.text(max_size=300), st.text(max_size=20), st.integers(1, 80))
def test_what_is_shown_of_a_text_stands_in_it_and_is_no_longer_than_asked(
    text: str, query: str, chars: int
) -> None:
    shown = excerpt(text, query, chars)
    bare = shown.removeprefix("…").removesuffix("…") if "…" not in text else ""
    assert bare in " ".join(text.split())
    assert len(shown) <= chars + 2


def test_a_hit_shows_its_page_and_section_and_has_the_same_fields_in_every_mode(
    rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = toy_draft()
    boats = replace(draft.documents[0][0], pages=(0, 20), sections=((0, 1, "Rigs"), (21, 2, "Masts")))
    publish_toy(tmp_path / "i", replace(draft, documents=[(boats, TEXTS["boats.txt"]), *draft.documents[1:]]))
    out = rlm("search", tmp_path / "i", "mizzen", "--mode", "lexical")[1]
    assert "L0-00001  boats.txt 25-48, page 2, Rigs › Masts\n" in out
    fields = set()
    for mode in MODES:
        hits = json.loads(rlm("search", tmp_path / "i", "mizzen", "--mode", mode, "--json", "-k", 2)[1])
        assert len(hits) == 2
        fields |= {tuple(hit) for hit in hits}
    assert len(fields) == 1
    hit = json.loads(rlm("search", tmp_path / "i", "mizzen", "--mode", "lexical", "--json")[1])[0]
    assert (hit["title"], hit["section"], hit["page"], hit["also_in"]) == ("boats", "Rigs › Masts", 2, [])


def test_passages_of_near_duplicates_are_one_hit_unless_all_are_asked_for(rlm: Any, tmp_path: Path) -> None:
    lease = "The rent is due on the first day of each month."
    index_of(tmp_path / "i", {"a.txt": [lease], "b.txt": [lease], "c.txt": [lease + " Or not."]}, [0, 0, 0])
    ask = ("search", tmp_path / "i", "rent", "--mode", "lexical")
    lines = rlm(*ask)[1].splitlines()
    assert lines[2] == "      also in: b.txt"
    assert len(lines) == 5
    assert len(rlm(*ask, "--no-fold")[1].splitlines()) == 6
    assert [hit["also_in"] for hit in json.loads(rlm(*ask, "--json")[1])] == [["b.txt"], []]
    assert [hit["doc"] for hit in json.loads(rlm(*ask, "--json", "--doc", "b.txt")[1])] == ["b.txt"]


def test_a_query_without_an_id_has_its_line_as_text_as_a_question_has(
    rlm: Any, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "q").write_text('\n{"text": "mizzen"}\n')
    out = rlm("search", folder, "--queries", tmp_path / "q", "--mode", "lexical")[1]
    assert json.loads(out)["_id"] == read_questions(tmp_path / "q")[0].id == "2"


def test_many_queries_of_a_text_file_are_searched_by_words_as_one_is(rlm: Any, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("A ketch has a mizzen.")
    (tmp_path / "q").write_text('{"_id": 1, "text": "mizzen"}')
    code, out, _ = rlm("search", tmp_path / "t.txt", "--queries", tmp_path / "q")
    assert (code, json.loads(out)["hits"][0]["doc"]) == (0, "t.txt")


@pytest.mark.parametrize("command", ["search", "ask"])
@pytest.mark.parametrize("option", ["--doc", "--section"])
def test_a_scope_that_is_given_twice_is_refused(rlm: Any, folder: Path, command: str, option: str) -> None:
    code, _, err = rlm(command, folder, QUESTION, option, "boats.txt", option, "fruit.txt")
    assert code == 2 and f"argument {option}: it is given twice" in err


# -- ask ---------------------------------------------------------------------------------------------------


def test_ask_as_json_is_the_shape_that_is_promised(rlm: Any, folder: Path, tmp_path: Path) -> None:
    code, out, err = rlm("ask", folder, QUESTION, "--json", "--runs", tmp_path / "runs")
    said = json.loads(out)
    assert (code, out.count("\n")) == (0, 1)
    told = {"why", "lacks", "read_by", "warnings", "priced"}
    assert set(said) == {"answer", "citations", "stop", "usage", "trace", "head"} | told
    assert (said["why"], said["lacks"], said["priced"]) == (None, None, True)
    used = {"calls", "prompt_tokens", "completion_tokens", "usd"}
    assert set(said["usage"]) == used | {"cached_tokens", "stored"}
    (citation, *_) = said["citations"]
    assert set(citation) == {"doc", "start", "end", "quote", "page", "supported", "similarity", "also_in"}
    assert TEXTS[citation["doc"]][citation["start"] : citation["end"]] == citation["quote"] in said["answer"]
    assert verify(said["trace"], expected_head=said["head"]).ok
    assert "context.branches(" in err


def test_ask_for_a_person_shows_answer_sources_branches_and_cost(
    rlm: Any, folder: Path, tmp_path: Path
) -> None:
    code, out, _ = rlm("ask", folder, QUESTION, "--runs", tmp_path)
    assert code == 0
    assert '[1] boats.txt 0-24 (verbatim): "The ketch has two masts."' in out
    assert "L1-00000    Boats and masts" in out
    assert "stop: answer; " in out
    assert "$0.0000" in out
    (run,) = tmp_path.iterdir()
    assert f"trace: {run}\nhead:  {verify(run).head}\n" in out


def test_a_limit_is_a_result_and_no_error(rlm: Any, folder: Path, tmp_path: Path) -> None:
    code, out, _ = rlm("ask", folder, QUESTION, "--runs", tmp_path, "--max-calls", 1, "--route", "rlm")
    assert code == 3
    assert out.startswith("(no answer: stopped by budget)")
    code, out, _ = rlm("ask", folder, QUESTION, "--runs", tmp_path, "--max-tokens", 1, "--json")
    assert (code, json.loads(out)["stop"]) == (3, "budget")


def test_a_price_that_nobody_knows_is_not_told_as_none(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(["```python\nFINAL('Two.')\n```"]) as server:
        server.use(monkeypatch)
        words = ("ask", folder, QUESTION, "--runs", tmp_path, "--model", MODEL)
        out, told = rlm(*words)[1], json.loads(rlm(*words, "--json")[1])
    assert "price unknown" in out
    assert "(no citations: nothing of this was looked up in the documents)" in out
    assert told["priced"] is False


@pytest.mark.slow  # a process of its own imports litellm
@pytest.mark.parametrize("in_background", [False, True])
def test_a_stop_by_the_system_closes_the_trace_too(folder: Path, tmp_path: Path, in_background: bool) -> None:
    with ModelServer([slow("late", 30)]) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test"}
        words = [sys.executable, "-m", "rlm.cli", "ask", str(folder), "why", "--model", MODEL]
        # A shell that starts a program in the background has it ignore Ctrl-C.
        background = ["env", "--ignore-signal=INT"] if in_background else []
        command = [*background, *words, "--runs", str(tmp_path)]
        asking = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        while not server.requests and asking.poll() is None:
            time.sleep(0.05)
        asking.terminate()
        _, err = asking.communicate(timeout=120)
    (run,) = tmp_path.iterdir()
    assert (asking.returncode, err.splitlines()[-1]) == (130, b"rlm: stopped")
    assert verify(run).ok


def test_few_calls_are_enough_for_an_answer(rlm: Any, folder: Path, tmp_path: Path) -> None:
    code, out, _ = rlm("ask", folder, QUESTION, "--runs", tmp_path, "--max-calls", 1)
    assert code == 0
    assert 'boats.txt 0-24 (verbatim): "The ketch has two masts."' in out


def test_nothing_that_a_document_or_model_says_acts_on_the_terminal(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "```python\nprint('\\x1b[31m')\nraise ValueError('\\x1b[2J')\n```"
    final = "```python\nFINAL('\\x1b]0;x\\x07', citations=['\\x1b[8m\\u202e'])\n```"
    with ModelServer([code, final]) as server:
        server.use(monkeypatch)
        done, out, err = rlm("ask", folder, "why", "--model", MODEL, "--runs", tmp_path)
    assert done == 0
    assert "\x1b" not in out + err
    assert "\\x1b]0;x\\x07" in out
    assert "ValueError: \\x1b[2J" in err


def test_a_model_that_fails_is_one_sentence_that_names_the_trace(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer([error(400, "no\nsuch\x1b[31m thing")]) as server:
        server.use(monkeypatch)
        code, out, err = rlm("ask", folder, "why", "--model", MODEL, "--runs", tmp_path)
    (run,) = tmp_path.iterdir()
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("rlm: the call to openai/test-model failed")
    assert f"(trace: {run})" in err
    assert "\x1b" not in err
    assert verify(run).ok


@pytest.mark.slow  # a process of its own imports litellm
def test_ctrl_c_leaves_a_closed_trace(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer([slow("", 60)]) as server:
        server.use(monkeypatch)
        command = [sys.executable, "-m", "rlm.cli", "ask", str(folder), "why", "--model", MODEL]
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path)], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while not server.calls and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        _, err = process.communicate(timeout=120)
    opening, charged, trace, head, stopped = err.splitlines()
    assert (process.returncode, stopped) == (130, "rlm: stopped")
    assert opening.startswith("opening ") and "failed: cancelled; charged: 1 call" in charged
    (run,) = tmp_path.iterdir()
    events, verdict = read(run, head.removeprefix("head:  "))
    assert verdict.ok and trace == f"trace: {run}"
    assert [e["kind"] for e in events[-2:]] == ["model_failed", "run_closed"]
    assert events[-1]["stop"] == "cancelled"


# -- traces ------------------------------------------------------------------------------------------------


def test_a_whole_trace_verifies(rlm: Any, run_folder: Path) -> None:
    code, out, _ = rlm("trace", "verify", run_folder)
    assert code == 0
    assert out.startswith("ok: ")
    said = json.loads(rlm("trace", "verify", run_folder, "--json")[1])
    beside = {"signed", "signatures", "timestamp", "review"}
    assert set(said) == {"ok", "unclosed", "events", "line", "reason", "head", "closed", "redacted"} | beside
    assert said["ok"] is True
    assert rlm("trace", "verify", run_folder, "--head", said["head"])[0] == 0
    code, out, _ = rlm("trace", "verify", run_folder, "--head", "0" * 64)
    assert code == 1
    assert "its head is not the expected one" in out
    assert "None" not in out


def test_one_changed_character_anywhere_is_found_at_its_line(
    rlm: Any, run_folder: Path, tmp_path: Path
) -> None:
    raw = (run_folder / "trace.jsonl").read_bytes()
    changed = tmp_path / "trace.jsonl"
    places = [*range(0, len(raw), max(len(raw) // 50, 1)), len(raw) - 1]
    for at in places:
        changed.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        line = raw[:at].count(b"\n") + 1
        code, out, err = rlm("trace", "verify", tmp_path)
        assert (code, err) == (1, "")
        assert out.startswith(f"line {line}: "), (at, out)
        assert json.loads(rlm("trace", "verify", tmp_path, "--json")[1])["line"] == line


def test_a_trace_is_shown_as_text_and_as_its_events(rlm: Any, run_folder: Path) -> None:
    code, out, _ = rlm("trace", "show", run_folder)
    assert code == 0
    assert QUESTION in out
    assert "The trace is whole" in out
    events = [json.loads(line) for line in rlm("trace", "show", run_folder, "--json")[1].splitlines()]
    assert events == read(run_folder)[0]


def test_a_broken_trace_is_shown_as_far_as_it_stands_and_says_so(
    rlm: Any, run_folder: Path, tmp_path: Path
) -> None:
    lines = (run_folder / "trace.jsonl").read_bytes().splitlines(keepends=True)
    for kept, content in ((3, b"".join(lines[:3])), (0, b""), (0, b"\xff\x00garbage")):
        (tmp_path / "trace.jsonl").write_bytes(content)
        code, out, _ = rlm("trace", "show", tmp_path)
        assert code == 1
        assert ("THE TRACE IS UNCLOSED" if kept else "NOT AS IT WAS WRITTEN") in out
        code, out, _ = rlm("trace", "show", tmp_path, "--json")
        assert (code, len(out.strip().splitlines())) == (1, kept)
        page = tmp_path / "page.html"
        page.unlink(missing_ok=True)
        code, out, err = rlm("review", tmp_path, "-o", page)
        assert (code, out, page.exists()) == (1, f"{page}\n", True)
        what = "has no end" if kept else "is not as it was written"
        assert err.startswith(f"rlm: the trace {what}: line ") and err.count("\n") == 1
        assert content or "the trace is empty" in err


def test_what_is_wrong_with_a_trace_is_told_before_its_page_and_of_nothing_no_summary_is_made(
    rlm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "trace.jsonl").write_bytes(b"\xff\x00garbage")
    assert "No branch was entered" not in rlm("trace", "show", tmp_path / "runs" / "a")[1]
    page, site, told = tmp_path / "page.html", tmp_path / "site", io.StringIO()
    monkeypatch.setattr(sys, "stdout", told)
    monkeypatch.setattr(sys, "stderr", told)
    assert main(["review", str(tmp_path / "runs" / "a"), "-o", str(page)]) == 1
    assert main(["review", str(tmp_path / "runs"), "-o", str(site)]) == 1
    of_one, its_page, of_many, its_site = told.getvalue().splitlines()
    assert of_one.startswith("rlm: the trace is not as it was written: line 1:")
    assert of_one.endswith("; the page holds nothing of it")
    assert of_many.startswith("rlm: 2 runs with a fault, such as a: line 1:")
    assert (its_page, its_site) == (str(page), str(site / "index.html"))


@pytest.mark.parametrize("target", ["run/trace.jsonl", "index/CURRENT", "notes.md"])
def test_a_page_is_written_over_nothing_but_a_page(
    rlm: Any, run_folder: Path, folder: Path, tmp_path: Path, target: str
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    shutil.copytree(folder, tmp_path / "index")
    (tmp_path / "notes.md").write_text("mine")
    before = (tmp_path / target).read_bytes()
    code, _, err = rlm("review", run_folder, "-o", tmp_path / target)
    assert code == 2 and "what is there is no page; name another file" in err
    assert (tmp_path / target).read_bytes() == before
    page = tmp_path / "page.html"
    assert [rlm("review", run_folder, "-o", page)[0] for _ in range(2)] == [0, 0]


def test_the_review_page_is_written_whole(rlm: Any, run_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html>an older one")
    code, out, _ = rlm("review", run_folder, "-o", page)
    assert (code, out) == (0, f"{page}\n")
    assert QUESTION in page.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


# -- streams -----------------------------------------------------------------------------------------------


def test_a_terminal_that_lacks_a_character_gets_an_escape(folder: Path) -> None:
    done = subprocess_rlm(
        "search", folder, "Birnen", "--mode", "lexical", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfe.md" in done.stdout


@pytest.mark.parametrize("action", ["verify", "show"])
def test_a_reader_that_goes_away_is_no_error(run_folder: Path, action: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "rlm.cli", "trace", action, str(run_folder), "--json"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, env=buffered, timeout=240)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["run_opened", "visited", "run_closed"])
def test_a_disk_that_is_full_is_told_of_with_the_trace_that_it_cannot_hold_and_a_remedy(
    rlm: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What was left in a buffer was written again when the trace was closed, and that failed without a name."""
    write = Trace._write

    def written(trace: Trace, line: bytes) -> None:
        if f'"kind":"{kind}"'.encode() in line:
            fill(trace._file.fileno())
        write(trace, line)

    monkeypatch.setattr(Trace, "_write", written)
    code, out, err = rlm("ask", folder, QUESTION, "--route", "rlm", "--runs", tmp_path, "--quiet")
    (trace,) = tmp_path.glob("*/trace.jsonl")
    assert (code, out) == (2, "")
    assert err == (
        f"rlm: cannot write the trace {trace}: No space left on device; make room, or name another folder by --runs\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "answers.jsonl",
            ["ask", "INDEX", "--questions", "QUESTIONS", "--runs", "RUNS", "--answers", "FILE"],
        ),
        (".evaluation.json.partial", ["eval", "INDEX", "QUESTIONS", "-o", "FOLDER"]),
        (".figures.json.partial", ["eval", "INDEX", "QUESTIONS", "-o", "FOLDER"]),
        (".page.html.partial", ["overview", "INDEX", "-o", "PAGE"]),
        (".run.md.partial", ["trace", "export", "RUN", "--markdown", "-o", "TEXT"]),
    ],
)
def test_a_disk_that_is_full_is_told_of_with_the_file_that_it_cannot_hold(
    rlm: Any,
    folder: Path,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: list[str],
) -> None:
    places = {
        "QUESTIONS": tmp_path / "questions.jsonl",
        "RUNS": tmp_path / "runs",
        "FILE": tmp_path / "answers.jsonl",
        "FOLDER": tmp_path / "eval",
        "PAGE": tmp_path / "page.html",
        "TEXT": tmp_path / "run.md",
    }
    places |= {"INDEX": folder, "RUN": run_folder}
    places["QUESTIONS"].write_text(json.dumps({"_id": "1", "text": QUESTION, "answers": ["two"]}) + "\n")
    real = Path.open

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = real(path, mode, *args, **options)
        if path.name == name and mode != "r":
            fill(file.fileno())
        return file

    monkeypatch.setattr(Path, "open", opened)
    code, _, err = rlm(*(places.get(word, word) for word in words))
    told = err.strip().split("\n")[-1]
    assert code == 2 and "No space left on device" in told
    assert name.removeprefix(".").removesuffix(".partial") in told


def fill(handle: int) -> None:
    """Let nothing more be written to an open file, for want of room."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, handle)
    os.close(full)
