"""The command `raptor`: what it prints where, how it refuses bad input, and that it starts at once."""

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from zipfile import ZipFile

import pytest
from rich.console import Console

from index_store import open_index
from index_store.graph import level_stats, to_networkx
from index_store.terminal import byte_size, count
from raptor.cli import main, parser
from raptor.errors import RaptorError
from raptor.loading.types import SourceFile
from raptor.progress import progress_bars, progress_lines
from raptor.settings import BuildSettings, read_settings
from rlm.cli import main as rlm_main
from tests.helpers import tiny_embedder
from tests.helpers.places import ROOT
from tests.helpers.toy import publish_toy, toy_draft, toy_index

HEAVY = "numpy torch litellm sklearn umap faiss numba sentence_transformers transformers networkx bm25s pypdf rich"
STAGE_LINE = re.compile(r"[a-z]+( level \d+)?: [\d,]+ in \d")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_embedder.use(monkeypatch)
    return tiny_embedder.write_documents(tmp_path / "docs", 3)


def raptor(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command run in this process."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def in_a_process(code: str, *arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-c", code, *arguments]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240, **given)


# -- help --------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    choices = next(action.choices for action in parser()._actions if action.dest == "command")
    return list(choices or ())


def test_help_imports_nothing_heavy_and_ends_with_an_example() -> None:
    code = (
        "import sys; from raptor.cli import main\n"
        "for command in sys.argv[2:]:\n"
        "    try: main(command.split())\n"
        "    except SystemExit as e: print('EXIT', e.code)\n"
        "print([name for name in sys.argv[1].split() if name in sys.modules])"
    )
    helps = ["--help", *(f"{command} --help" for command in commands())]
    ran = in_a_process(code, HEAVY, *helps)
    *texts, last = ran.stdout.split("EXIT 0\n")
    assert last == "[]\n"
    assert len(texts) == len(helps)
    for text in texts:
        example = text.partition("\nexample:\n")[2].strip().splitlines()
        assert len(example) == 1
        assert example[0].strip().startswith("raptor ")
    assert ran.stderr == ""


def test_every_command_names_a_function_that_there_is() -> None:
    subparsers = next(action.choices for action in parser()._actions if action.dest == "command")
    assert isinstance(subparsers, dict)
    for command in subparsers.values():
        assert callable(resolve_name(command.get_default("run")))


def test_every_example_is_a_command_that_exists() -> None:
    for command in commands():
        choices = next(action.choices for action in parser()._actions if action.dest == "command")
        assert isinstance(choices, dict)
        example = choices[command].epilog.partition("example:")[2].strip()
        parser().parse_args(example.split()[1:])


# -- output ------------------------------------------------------------------------------------------------


def test_a_build_prints_its_report_on_standard_output_and_the_rest_on_standard_error(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    (docs / "bad.txt").write_bytes(b"\xff")
    code, out, err = raptor(capsys, "build", docs, "-o", tmp_path / "i")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'i'}: generation 1, ")
    assert "3 documents, 1 skipped; nodes a level: " in out
    assert "skipped " + str(docs / "bad.txt") + ": it is not UTF-8" in err
    assert " in 0." not in out
    assert "bad.txt" not in out
    again = raptor(capsys, "build", docs, "-o", tmp_path / "i")[1]
    assert "generation 1 (unchanged: nothing new was published)" in again


def test_the_name_of_a_file_that_is_skipped_is_spelled_out_with_its_blanks(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    (docs / "bad\nand  worse\t.txt").write_bytes(b"\xff")
    _, _, err = raptor(capsys, "build", docs, "-o", tmp_path / "i")
    assert f"skipped {docs}/bad\\nand  worse\\t.txt: it is not UTF-8" in err


def test_a_report_as_json_is_all_of_standard_output(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = raptor(capsys, "build", docs, "-o", tmp_path / "i", "--json")
    report = json.loads(out)
    assert code == 0
    wanted = {
        "documents",
        "chunks",
        "levels",
        "calls",
        "tokens",
        "prompt_tokens",
        "completion_tokens",
        "usd",
        "seconds",
    }
    assert wanted | {"index", "generation", "digest", "new", "failures", "bytes"} <= report.keys()
    assert report["chunks"] == report["levels"][0]
    assert report["tokens"] == report["prompt_tokens"] + report["completion_tokens"] > 0
    assert report["usd"] == 0
    assert all(isinstance(seconds, float) for seconds in report["seconds"].values())


def test_a_log_has_one_line_a_stage_and_no_control_characters(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # which are about colours in what is piped
        monkeypatch.setenv(name, "1")
    err = raptor(capsys, "build", docs, "-o", tmp_path / "i")[2]
    lines = err.splitlines()
    assert all(STAGE_LINE.match(line) for line in lines)
    stages = [line.partition(":")[0] for line in lines]
    assert len(stages) == len(set(stages))
    assert stages[:3] == ["load", "chunk", "embed"]
    assert stages[-1] == "write"
    assert lines[0].startswith("load: 3 in 0.")
    assert err.replace("\n", "").isprintable()


def test_an_index_is_updated_with_the_settings_it_was_built_with(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    raptor(capsys, "build", docs, "-o", tmp_path / "i")
    (docs / "d000.txt").write_text("other words")
    code, out, _ = raptor(capsys, "update", tmp_path / "i", docs)
    assert code == 0
    assert "generation 2" in out
    assert open_index(tmp_path / "i").manifest.settings["cluster"]["method"] == "fast"


def test_each_skipped_file_has_a_line_at_the_end(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    for number in range(40):
        (docs / f"{number}.bin").write_bytes(b"\0")
    code, out, err = raptor(capsys, "build", docs, "-o", tmp_path / "i")
    assert code == 0
    assert "40 skipped" in out
    assert err.splitlines()[-40:] == [line for line in err.splitlines() if line.startswith("skipped ")]


@pytest.mark.slow
def test_what_cannot_be_printed_is_escaped_not_a_traceback(docs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tests.helpers import tiny_embedder; import index_store.embedder\n"
        "index_store.embedder.load_embedder = tiny_embedder.load\n"
        "from raptor.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = os.fsdecode(bytes(tmp_path / "i") + b"\xff\xc3\xbc")
    ran = in_a_process(code, "build", str(docs), "-o", out, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False)
    assert "\\udcff\\xfc: generation 1" in ran.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    publish_toy(tmp_path / "i")
    script = [sys.executable, "-m", "raptor.cli", "inspect", str(tmp_path / "i")]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(script, cwd=ROOT, env=buffered, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# -- an index and its sources ------------------------------------------------------------------------------


def test_sync_is_counted_in_words_and_in_json_with_and_without_dry_run(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "d000.txt").rename(docs / "renamed.txt")
    (docs / "d001.txt").unlink()
    (docs / "new.txt").write_text("Words.")
    counts = "1 added, 0 changed, 1 renamed, 1 removed"
    code, out, _ = raptor(capsys, "sync", index, "--dry-run")
    names = "  added: new.txt\n  renamed: d000.txt -> renamed.txt\n  removed: d001.txt\n"
    assert (code, out) == (
        0,
        f"{index}: generation 1, 3 documents; would be {counts}; nothing was written\n{names}",
    )
    expected = json.loads(raptor(capsys, "sync", index, "--dry-run", "--json")[1])
    code, out, _ = raptor(capsys, "sync", index, "--json")
    report = json.loads(out)
    assert (report["changes"], report["differences"]) == (expected["changes"], expected["differences"])
    assert report["differences"] == {
        "added": ["new.txt"],
        "changed": [],
        "renamed": [["d000.txt", "renamed.txt"]],
        "removed": ["d001.txt"],
    }
    assert report["changes"] == {"added": 1, "changed": 0, "removed": 1, "unchanged": 1, "renamed": 1}
    assert (expected["dry_run"], report["dry_run"], report["generation"]) == (True, False, 2)
    (docs / "new.txt").unlink()
    code, out, _ = raptor(capsys, "update", index, docs)
    assert f"1 document (new.txt) vanished from the sources; take them out with: raptor sync {index}" in out


def test_the_first_documents_of_each_kind_are_named_and_json_lists_all(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "d000.txt").write_text("Other words.")
    for n in range(15):
        (docs / f"new {n:02}.txt").write_text(f"Words {n}.")
    _, out, _ = raptor(capsys, "update", index, docs)
    added = [f"new {n:02}.txt" for n in range(15)]
    assert out.splitlines()[-2:] == [f"  added: {', '.join(added[:10])} and 5 more", "  changed: d000.txt"]
    assert raptor(capsys, "remove", index, *added[:11], "--dry-run")[1].endswith(
        f"\n  removed: {', '.join(added[:10])} and 1 more\n"
    )
    report = json.loads(raptor(capsys, "remove", index, *added, "--json")[1])
    assert (report["documents"], report["differences"]["removed"]) == (3, added)


def test_a_document_that_can_no_longer_be_read_is_kept_and_named_apart_from_what_never_was(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "d001.txt").write_text("")
    (docs / "never.txt").write_text("")
    line = (
        "d001.txt can no longer be read (it holds no text); its old text is kept, raptor remove takes it out"
    )
    for more in (["--dry-run"], []):
        code, out, err = raptor(capsys, "sync", index, *more)
        assert code == 0
        assert "3 documents, 1 skipped, 1 kept that can no longer be read" in out
        assert line in err.splitlines()
        assert [said.split(":")[0] for said in err.splitlines() if "skipped" in said] == [
            f"skipped {docs}/never.txt"
        ]
        report = json.loads(raptor(capsys, "sync", index, *more, "--json")[1])
        assert [kept["doc"] for kept in report["kept"]] == ["d001.txt"]
        assert len(report["failures"]) == 2
    assert "1 kept" in raptor(capsys, "update", index, docs, "-q")[1]
    assert raptor(capsys, "remove", index, "d001.txt")[1].endswith("\n")
    code, out, err = raptor(capsys, "sync", index)
    assert ("2 skipped" in out, "kept" in out, "no longer" in err) == (True, False, False)


def test_of_an_archive_that_can_no_longer_be_read_all_documents_are_kept(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    with ZipFile(docs / "x.zip", "w") as packed:
        packed.writestr("a.txt", "Words of a.")
        packed.writestr("b.txt", "Words of b.")
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "x.zip").write_bytes(b"PK")
    _, out, err = raptor(capsys, "sync", index)
    assert "5 documents, 2 kept that can no longer be read" in out
    assert "; the old text of its 2 documents is kept, raptor remove takes it out\n" in err


def test_the_types_that_are_known_are_listed_once(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        (docs / name).write_text("words")
    _, _, err = raptor(capsys, "build", docs, "-o", tmp_path / "i")
    assert err.count("raptor build --help lists the types") == 1 and ".docx" not in err
    assert err.count("its type '.xyz' is unknown; leave it out, or convert it") == 3


def test_generations_shows_when_and_what_changed(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "d000.txt").rename(docs / "renamed.txt")
    (docs / "d001.txt").write_text("Words.")
    raptor(capsys, "sync", index)
    raptor(capsys, "remove", index, "renamed.txt")
    os.utime(index / "generations/000001/manifest.json", (0, 1_700_000_000))
    lines = raptor(capsys, "generations", index)[1].splitlines()
    assert re.search(r"  2023-11-1[45] \d\d:\d\d  3 documents  .*  the first$", lines[0])
    assert lines[1].endswith("  1 changed, 1 renamed since 1")
    assert lines[2].endswith("  1 removed since 2")
    first, _, third = json.loads(raptor(capsys, "generations", index, "--json")[1])
    assert first["published"] == "2023-11-14T22:13:20+00:00"
    assert third["changes"]["removed"] == 1
    raptor(capsys, "prune", index)
    (only,) = json.loads(raptor(capsys, "generations", index, "--json")[1])
    assert only["changes"] is None
    assert (
        "generation 2, which it changed, cannot be read any more" in raptor(capsys, "generations", index)[1]
    )


def test_remove_says_where_the_text_still_is_and_offers_purge(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    _, out, _ = raptor(capsys, "remove", index, "d000.txt", "--dry-run")
    assert "would be 0 added, 0 changed, 1 removed; nothing was written" in out
    _, out, _ = raptor(capsys, "remove", index, "d000.txt")
    assert "still in generation 1 and in build.sqlite, and in runs that quoted it; delete it" in out
    assert f"raptor prune {index} (or at once, by remove --purge)" in out
    assert [g.name for g in sorted((index / "generations").iterdir())] == ["000001", "000002"]
    _, out, _ = raptor(capsys, "remove", index, "d001.txt", "--purge")
    assert "no longer in the index folder, nor in your cache; runs that quoted it have it still" in out
    assert [g.name for g in (index / "generations").iterdir()] == ["000003"]
    raptor(capsys, "update", index, docs)
    report = json.loads(raptor(capsys, "remove", index, docs / "d00[01].txt", "--json")[1])
    assert report["text_still_in"] == ["generation 4", "build.sqlite"]


def test_build_onto_an_index_names_what_it_would_drop_until_replace_is_given(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    (docs / "d000.txt").unlink()
    code, out, err = raptor(capsys, "build", docs, "-o", index)
    assert (code, out) == (2, "")
    assert f"{index} is an index, of which this build would drop 1 document (d000.txt); give --replace" in err
    code, out, err = raptor(capsys, "build", docs, "-o", index, "--dry-run", "--json")
    assert (code, json.loads(out)["dropped"]) == (0, ["d000.txt"])
    assert "it would drop 1 document (d000.txt), and so needs --replace" in err
    assert raptor(capsys, "build", docs, "-o", index, "--replace")[0] == 0
    assert len(open_index(index).documents) == 2


def test_check_sources_names_each_file_that_differs_and_exits_with_1(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    assert raptor(capsys, "check-sources", index)[:2] == (0, "3 same\n")
    (docs / "d000.txt").write_text("Words.")
    (docs / "d001.txt").unlink()
    code, out, _ = raptor(capsys, "check-sources", index)
    assert code == 1
    assert out.splitlines() == [
        f"changed d000.txt: {docs / 'd000.txt'}; 0 of 2 chunks still stand there",
        f"gone d001.txt: {docs / 'd001.txt'}",
        "1 same, 1 changed, 1 gone",
    ]
    code, out, _ = raptor(capsys, "check-sources", index, "--json")
    facts = json.loads(out)
    assert (code, facts["ok"], facts["same"], facts["changed"], facts["gone"]) == (1, False, 1, 1, 1)
    assert [source["doc"] for source in facts["sources"]] == ["d000.txt", "d001.txt"]
    assert "cannot read the run" in check_refused(capsys, tmp_path, "check-sources", index, "--run", "none")


# -- progress in a terminal --------------------------------------------------------------------------------


def terminal() -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, force_terminal=True, width=120, color_system=None, legacy_windows=False), shown


def test_a_terminal_has_a_bar_with_count_for_each_stage() -> None:
    console, shown = terminal()
    with progress_bars(console) as progress:
        progress("load", 3, 0)
        for done in (0, 512, 768, 1024):
            progress("embed", done, 1024)
            time.sleep(0.01)
    last = shown.getvalue().split("\x1b[2K")[-1]
    assert re.search(r"load .* 3 ", last)  # it ended without a total
    assert "1,024 of 1,024" in last
    assert "/s" in last


def test_what_is_copied_and_verified_is_told_in_bytes(capsys: Capture) -> None:
    console, shown = terminal()
    for bars in (progress_bars(console), progress_lines()):
        with bars as progress:
            progress("push", 3_000_000, 5_000_000)
            progress("embed", 7, 0)
    assert "3.0 MB of 5.0 MB" in shown.getvalue()
    assert [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "push: 3.0 MB",
        "embed: 7",
    ]


def test_a_failure_before_the_first_stage_leaves_no_bar() -> None:
    console, shown = terminal()
    with pytest.raises(RaptorError), progress_bars(console):
        raise RaptorError("no such file")
    drawn = re.sub(r"\x1b\[\??\d+\w", "", shown.getvalue())
    assert drawn.strip() == ""


def test_a_failure_in_a_log_ends_no_stage(capsys: Capture) -> None:
    with pytest.raises(RaptorError), progress_lines() as progress:
        progress("load", 0, 0)
        progress("embed", 1, 4)
        raise RaptorError("the disk is gone")
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["load"]


def test_quiet_says_nothing_but_errors_and_the_result(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    (docs / "twin.txt").write_text((docs / "d000.txt").read_text())  # something to note
    (docs / "bad.txt").write_bytes(b"\xff")
    index = tmp_path / "i"
    code, out, err = raptor(capsys, "build", docs, "-o", index, "--quiet")
    assert (code, out.startswith(f"{index}: generation 1")) == (0, True)
    assert ("1 skipped" in out, err) == (True, "")
    for command in (["update", index, docs / "d000.txt"], ["verify", index], ["check-sources", index]):
        assert raptor(capsys, *command, "-q")[2].replace(err, "") == ""
    assert raptor(capsys, "build", "none", "-o", index, "-q")[2].startswith("raptor: there is no file")


def test_every_command_that_shows_progress_can_be_quiet() -> None:
    for command in ("build", "update", "sync", "remove", "verify", "check-sources"):
        arguments = {"build": ["x", "-o", "i"], "update": ["i", "x"], "remove": ["i", "x"]}.get(
            command, ["i"]
        )
        assert parser().parse_args([command, *arguments, "--quiet"]).quiet is True


@pytest.mark.parametrize(("flags", "levels"), [([], set()), (["-v"], {"INFO"}), (["-vv"], {"INFO", "DEBUG"})])
def test_logs_go_to_standard_error_when_they_are_asked_for(
    docs: Path, tmp_path: Path, capsys: Capture, flags: list[str], levels: set[str]
) -> None:
    strange = docs.rename(tmp_path / "a\x1b[2Jb\nc")
    before = dict(logging.getLogger("raptor").__dict__)
    index = tmp_path / "i\x1b[2J\n2026-01-01 00:00:00,000 ERROR raptor: forged"
    err = raptor(capsys, *flags, "build", strange, "-o", index)[2]
    logged = re.findall(
        r"^\d{4}-\d\d-\d\d [\d:,]+ ([A-Z]+) (?:raptor|index_store|rlm)[.\w]*: ", err, re.MULTILINE
    )
    assert set(logged) == levels
    assert "\x1b" not in err
    assert len(logged) == len([line for line in err.splitlines() if not STAGE_LINE.match(line)])
    assert dict(logging.getLogger("raptor").__dict__) == before


def test_both_programs_say_their_version_without_importing_anything_heavy() -> None:
    for name in ("raptor", "rlm"):
        code = (
            f"import sys; from {name}.cli import main\n"
            "try: main(['--version'])\n"
            "except SystemExit as e: print('EXIT', e.code)\n"
            "print([name for name in sys.argv[1].split() if name in sys.modules])"
        )
        said = in_a_process(code, HEAVY).stdout
        assert re.fullmatch(rf"{name} \d+\.\d+\S*\nEXIT 0\n\[\]\n", said)


def test_options_may_stand_among_the_other_arguments() -> None:
    args = parser().parse_args(["build", "a", "--json", "b", "-o", "i", "c"])
    assert (args.source, args.output, args.json) == (["a", "b", "c"], "i", True)
    args = parser().parse_args(["remove", "i", "-q", "one", "--dry-run", "--", "-two"])
    assert (args.index, args.doc, args.dry_run, args.quiet) == ("i", ["one", "-two"], True, True)


# -- an index that came from elsewhere ---------------------------------------------------------------------


def given_away(index: Path, copy: Path) -> Path:
    """The index as another machine gets it: the same bytes in new files."""
    shutil.copytree(index, copy)
    return copy


def test_sync_reads_no_source_outside_of_the_folder_that_a_stranger_named(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raptor(capsys, "build", docs, "-o", tmp_path / "i")
    (docs / "secret.txt").write_text("A key that is nobody's business.")
    copy = given_away(tmp_path / "i", tmp_path / "copy")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for more in ([], ["--dry-run"]):
        err = check_refused(capsys, tmp_path, "sync", copy, *more)
        assert f"names sources outside of this folder: {str(docs)!r}; give --yes" in err
    raptor(capsys, "update", copy, docs / "d000.txt")  # which makes nothing of the stranger's one's own
    assert "give --yes" in check_refused(capsys, tmp_path, "sync", copy)
    assert len(open_index(copy).documents) == 3
    assert raptor(capsys, "sync", copy, "--yes")[0] == 0
    assert len(open_index(copy).documents) == 4
    (docs / "secret.txt").unlink()
    assert raptor(capsys, "sync", copy)[0] == 0  # asked once
    assert len(open_index(copy).documents) == 3


def test_check_sources_reads_no_file_outside_of_the_folder_that_a_stranger_named(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raptor(capsys, "build", docs, "-o", tmp_path / "i")
    copy, run = given_away(tmp_path / "i", tmp_path / "copy"), tmp_path / "runs"
    rlm_main(["ask", str(copy), "Which mast is it?", "--runs", str(run), "--quiet"])
    capsys.readouterr()
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    read = list[Path]()
    monkeypatch.setattr(SourceFile, "raw", lambda file: read.append(file.path))
    for more in ([], ["--json"], ["--run", next(run.iterdir())]):
        err = check_refused(capsys, tmp_path, "check-sources", copy, *more)
        assert "names sources outside of this folder: " in err and err.endswith(
            "; give --yes to have them read"
        )
    (copy / "build.sqlite").unlink()  # then only the documents say their files
    assert "give --yes" in check_refused(capsys, tmp_path, "check-sources", copy)
    assert read == []
    monkeypatch.undo()
    tiny_embedder.use(monkeypatch)
    monkeypatch.chdir(here)
    assert raptor(capsys, "check-sources", copy, "--yes")[:2] == (0, "3 same\n")
    assert raptor(capsys, "check-sources", tmp_path / "i")[:2] == (0, "3 same\n")  # it was built here
    monkeypatch.chdir(tmp_path)
    assert raptor(capsys, "check-sources", copy)[:2] == (0, "3 same\n")  # its files lie below


def test_check_sources_reads_no_file_that_a_link_below_the_folder_leads_to(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    (here / "a.txt").write_text("Words of a.")
    raptor(capsys, "build", "a.txt", "-o", "i")
    given_away(Path("i"), Path("copy"))
    (here / "a.txt").unlink()
    (here / "a.txt").symlink_to(docs / "d000.txt")
    assert "give --yes" in check_refused(capsys, tmp_path, "check-sources", "copy")


def test_sync_of_an_index_that_was_built_here_or_of_sources_below_asks_nothing(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raptor(capsys, "build", docs, "-o", tmp_path / "i")
    copy = given_away(tmp_path / "i", tmp_path / "copy")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert raptor(capsys, "sync", tmp_path / "i")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert raptor(capsys, "sync", copy)[0] == 0


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("no\n", 2), ("\n", 2), ("", 2)])
def test_at_a_terminal_sync_lists_such_sources_and_asks(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    raptor(capsys, "build", docs, "-o", tmp_path / "i")
    copy = given_away(tmp_path / "i", tmp_path / "copy")
    monkeypatch.chdir(ROOT)
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    given, _, err = raptor(capsys, "sync", copy, "-q")
    assert given == code
    assert f"  {docs}\n" in err


def test_what_was_removed_stays_out_of_a_sync_until_it_is_named_again(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = tmp_path / "i"
    raptor(capsys, "build", docs, "-o", index)
    raptor(capsys, "remove", index, "d000.txt", "d001.txt")
    for _ in range(2):
        out = raptor(capsys, "sync", index)[1]
        assert "2 documents (d000.txt, d001.txt) were removed and stay out; bring back" in out
        assert f"raptor sync {index} --again" in out
        assert [d.id for d in open_index(index).documents] == ["d002.txt"]
    raptor(capsys, "update", index, docs / "d001.txt")
    report = json.loads(raptor(capsys, "sync", index, "--json")[1])
    assert report["left_out"] == ["d000.txt"]
    assert len(open_index(index).documents) == 2
    raptor(capsys, "sync", index, "--again")
    assert len(open_index(index).documents) == 3
    assert json.loads(raptor(capsys, "sync", index, "--json")[1])["left_out"] == []


# -- bad input ---------------------------------------------------------------------------------------------


def encrypted_pdf() -> bytes:
    from pypdf import PdfWriter

    writer, raw = PdfWriter(), io.BytesIO()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(raw)
    return raw.getvalue()


BAD_FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "an empty file": ("a.txt", bytes, "holds no text"),
    "white space": ("a.md", lambda: b" \n\t", "holds no text"),
    "not UTF-8": ("a.txt", lambda: b"caf\xe9", "is not UTF-8 (byte 0xe9 at offset 3)"),
    "an encrypted PDF": ("a.pdf", encrypted_pdf, "encrypted"),
    "no PDF": ("a.pdf", lambda: b"%PDF-1.4 nothing", "cannot be read as PDF"),
    "an unknown type": ("a.exe", lambda: b"MZ", "known types are .txt"),
    "no JSON lines": ("a.jsonl", lambda: b"{]\n", "is a document"),
}


def check_refused(capsys: Capture, tmp_path: Path, *arguments: object) -> str:
    """The one sentence of a refused command, which changed nothing."""
    before = sorted(tmp_path.rglob("*"))
    code, out, err = raptor(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sorted(tmp_path.rglob("*")) == before
    said = [line for line in err.splitlines() if not STAGE_LINE.match(line)]
    assert len(said) == 1
    assert said[0].startswith("raptor: ")
    return said[0]


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_holds_no_document_is_refused(
    docs: Path, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    name, content, reason = BAD_FILES[kind]
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / name).write_bytes(content())
    assert reason in check_refused(capsys, tmp_path, "build", bad, "-o", tmp_path / "i")
    assert reason in check_refused(capsys, tmp_path, "build", bad / name, "-o", tmp_path / "i")


@pytest.mark.parametrize("kind", BAD_FILES)
def test_one_bad_file_among_good_ones_is_skipped_and_counted(
    docs: Path, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    name, content, _ = BAD_FILES[kind]
    (docs / name).write_bytes(content())
    code, out, _ = raptor(capsys, "build", docs, "-o", tmp_path / "i", "--json")
    report = json.loads(out)
    assert (code, report["documents"], len(report["failures"])) == (0, 3, 1)
    assert report["failures"][0]["source"].startswith(str(docs / name))


def test_missing_and_empty_sources_are_refused(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    out = ("-o", tmp_path / "i")
    assert "holds no files" in check_refused(capsys, tmp_path, "build", tmp_path / "empty", *out)
    assert "there is no file or folder" in check_refused(
        capsys, tmp_path, "build", tmp_path / "nowhere", *out
    )
    assert "there is no file or folder" in check_refused(
        capsys, tmp_path, "build", docs, tmp_path / "nowhere", *out
    )
    assert "no file matches" in check_refused(capsys, tmp_path, "build", tmp_path / "*.nope", *out)


def test_unknown_models_and_missing_keys_are_refused_before_any_work(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    build = ("build", docs, "-o", tmp_path / "i", "--summarizer")
    assert "offline/extractive" in check_refused(capsys, tmp_path, *build, "offline/nonsense")
    assert "nonsense" in check_refused(capsys, tmp_path, *build, "nonsense/nonsense-1")
    assert "OPENAI_API_KEY" in check_refused(capsys, tmp_path, *build, "openai/gpt-4o-mini")


def test_a_bad_output_is_refused(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in check_refused(capsys, tmp_path, "build", docs, "-o", tmp_path / "file")
    assert "other files in it" in check_refused(capsys, tmp_path, "build", docs, "-o", docs)


@pytest.mark.parametrize("option", [("--max-usd", "nan"), ("--max-usd", "-1"), ("--max-errors", "-1")])
def test_a_cap_that_is_none_is_refused(
    docs: Path, tmp_path: Path, capsys: Capture, option: tuple[str, str]
) -> None:
    for more in ([], ["--dry-run"]):
        said = check_refused(capsys, tmp_path, "build", docs, "-o", tmp_path / "i", *option, *more)
        assert f"{option[0][2:]} is {option[1]}" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_output_that_cannot_be_written_is_refused(docs: Path, tmp_path: Path, capsys: Capture) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "is read-only" in check_refused(capsys, tmp_path, "build", docs, "-o", locked / "i")


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="only Linux has a folder that not even root writes"
)
def test_an_output_that_turns_out_unwritable_is_a_sentence(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    said = check_refused(capsys, tmp_path, "build", docs, "-o", "/proc/raptor/i")
    assert "/proc" in said


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"chunk_token = 100", "sets 'chunk_token', which is unknown; did you mean chunk_tokens?"),
        (b'chunk_tokens = "many"', "sets chunk_tokens to 'many'; give a whole number"),
        (b"chunk_tokens = true", "sets chunk_tokens to True"),
        (b"chunk_tokens = 100.0", "sets chunk_tokens to 100.0"),
        (b"chunk_tokens = 3", "chunk_tokens is 3; give at least 16"),
        (b"chunk_tokens = 5000", "chunk_tokens is 5000, but the embedder minilm reads only"),
        (b"concurrency = 0", "concurrency is 0; give at least 1"),
        (b"cluster = 3", "sets cluster to 3; write a table [cluster]"),
        (b"[cluster]\nmethod = 'best'", "method is 'best'; give 'fast' or 'paper'"),
        (b"[cluster]\nmethod = 3", "sets method to 3"),
        (b"[cluster]\nsize = 3", "sets 'size', which is unknown; did you mean part_size?"),
        (b"[cluster]\nthreshold = nan", "threshold is nan"),
        (b"[cluster]\nseed = -1", "seed is -1"),
        (b"[cluster]\nseed = 4294967296", "seed is 4294967296"),
        (b"[cluster]\nmax_tokens = 0", "max_tokens is 0"),
        (b"chunk_tokens = ", "are not TOML"),
        (b"\xff\xfe", "are not TOML"),
        (b"a = " + b"[" * 100_000, "are not TOML"),
        (None, "No such file"),
    ],
)
def test_a_bad_config_is_refused(
    docs: Path, tmp_path: Path, capsys: Capture, config: bytes | None, reason: str
) -> None:
    path = tmp_path / "raptor.toml"
    if config is not None:
        path.write_bytes(config)
    said = check_refused(capsys, tmp_path, "build", docs, "-o", tmp_path / "i", "--config", path)
    assert reason in said
    assert len(said) < 500


def test_a_config_sets_every_setting_and_a_manifest_gives_it_back(tmp_path: Path) -> None:
    path, default = tmp_path / "raptor.toml", BuildSettings()
    others = {"threshold": 0.5, "method": "paper", "encoding": "latin-1", "ocr_language": "deu+eng"}
    others["precision"] = "bfloat16"
    # The rest are whole numbers.

    def lines(settings: object) -> str:
        named = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "cluster"}  # type: ignore[arg-type]
        return "".join(
            f"{name} = {json.dumps(others.get(name) or usual + 1)}\n" for name, usual in named.items()
        )

    path.write_text(f"{lines(default)}[cluster]\n{lines(default.cluster)}")
    settings = read_settings(path)
    for given, usual in ((settings, default), (settings.cluster, default.cluster)):
        assert all(getattr(given, f.name) != getattr(usual, f.name) for f in fields(usual))
    assert BuildSettings.from_json(json.loads(json.dumps(asdict(settings)))) == settings


def test_usage_errors_exit_with_2_as_well(capsys: Capture) -> None:
    for wrong in ([], ["build"], ["build", "x"], ["inspect", "--depth", "x", "i"], ["bild"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
        assert capsys.readouterr().out == ""


def test_an_interrupted_build_says_that_nothing_was_published(
    docs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raptor.grower.Grower.plan", interrupt)
    code, out, err = raptor(capsys, "build", docs, "-o", tmp_path / "i")
    assert (code, out) == (130, "")
    assert err.endswith("raptor: stopped; nothing was published; the same command goes on\n")


@pytest.mark.slow
def test_a_folder_that_is_no_embedder_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "model").mkdir()
    build = ("build", tmp_path / "a.txt", "-o", tmp_path / "i", "--embedder", tmp_path / "model")
    assert "cannot be loaded" in check_refused(capsys, tmp_path, *build)


@pytest.mark.slow
def test_a_line_of_a_megabyte_builds(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_embedder.use(monkeypatch)
    (tmp_path / "a.txt").write_text(" ".join(f"word{i % 977} of line." for i in range(60_000)))
    assert (tmp_path / "a.txt").stat().st_size > 10**6
    code, _, _ = raptor(capsys, "build", tmp_path / "a.txt", "-o", tmp_path / "i")
    assert code == 0
    assert open_index(tmp_path / "i").levels[0] > 1000


# -- inspect -----------------------------------------------------------------------------------------------


def test_inspect_shows_levels_models_and_the_tree(tmp_path: Path, capsys: Capture) -> None:
    publish_toy(tmp_path / "i")
    code, out, err = raptor(capsys, "inspect", tmp_path / "i")
    assert (code, err) == (0, "")
    assert "generation 1, 3 documents, " in out
    assert "models: embedder minilm, summarizer hand" in out
    assert "level 1: 2 nodes, 10 tokens, 3.5 children each" in out
    assert "level 0: 6 nodes, 30 tokens (chunks)" in out
    assert (
        "\nL2-00000  All  (2 below)\n  L1-00000  Boats and masts  (3 below)\n    L0-00000  boats: The ketch"
        in out
    )
    code, _, err = raptor(capsys, "inspect", tmp_path / "i", "--depth", -1)
    assert (code, err) == (2, "raptor: --depth is -1; give 0, which shows the root alone, or more\n")
    assert raptor(capsys, "inspect", tmp_path / "i", "--depth", 0)[1].endswith("L2-00000  All  (2 below)\n")
    assert raptor(capsys, "inspect", tmp_path / "i", "--depth", 99)[1] == out


def test_inspect_lists_the_documents(tmp_path: Path, capsys: Capture) -> None:
    publish_toy(tmp_path / "i")
    lines = raptor(capsys, "inspect", tmp_path / "i", "--documents")[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["boats.txt", "größe.md", "one.txt"]
    assert lines[2] == "one.txt\t6\tone"
    rows = raptor(capsys, "inspect", tmp_path / "i", "--documents", "--json")[1].splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["boats.txt", "größe.md", "one.txt"]


def test_one_is_not_spoken_of_as_many_and_little_not_as_nothing() -> None:
    assert [count(n, "call") for n in (0, 1, 1200)] == ["0 calls", "1 call", "1,200 calls"]
    assert [byte_size(n) for n in (9, 4_200, 1_250_000)] == ["9 bytes", "4 kB", "1.2 MB"]


def test_a_folder_of_documents_is_told_apart_from_an_index(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    said = check_refused(capsys, tmp_path, "inspect", docs)
    assert f"raptor build {docs} -o {docs}.index" in said


def test_metadata_about_no_document_is_no_skipped_document(
    docs: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "m.csv").write_text("doc,year\nnone.txt,2001\n")
    code, out, err = raptor(capsys, "build", docs, "-o", tmp_path / "i", "--meta", tmp_path / "m.csv")
    assert (code, "skipped" in out + err) == (0, False)
    assert f"metadata {tmp_path / 'm.csv'}:2: there is no document 'none.txt'; check the id" in err


def test_inspect_as_json_says_the_same(tmp_path: Path, capsys: Capture) -> None:
    publish_toy(tmp_path / "i")
    facts = json.loads(raptor(capsys, "inspect", tmp_path / "i", "--json", "--depth", 1)[1])
    assert [level["nodes"] for level in facts["levels"]] == [6, 2, 1]
    assert facts["levels"][0]["mean_parents"] == 1.17  # chunk 2 has two
    assert [child["node"] for child in facts["tree"]["shown"]] == ["L1-00000", "L1-00001"]
    assert (facts["nodes"], facts["documents"], facts["generation"]) == (9, 3, 1)


def test_labels_cannot_command_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    labels = ["\x1b[2J\x1b]0;owned\x07", "a\u202eb\nc", "All"]
    publish_toy(tmp_path / "i", replace(toy_draft(), labels=labels))
    out = raptor(capsys, "inspect", tmp_path / "i")[1]
    assert r"L1-00000  \x1b[2J\x1b]0;owned\x07" in out
    assert r"L1-00001  a\u202eb c" in out
    facts = raptor(capsys, "inspect", tmp_path / "i", "--node", "L1-00000")[1]
    assert r"label: \x1b[2J\x1b]0;owned\x07" in facts
    assert "\x1b" not in out + facts


def test_a_document_is_one_line_that_other_programs_can_cut(tmp_path: Path, capsys: Capture) -> None:
    documents = [(replace(d, id=f"a  {d.id}\n\t"), text) for d, text in toy_draft().documents]
    publish_toy(tmp_path / "i", replace(toy_draft(), documents=documents))
    lines = raptor(capsys, "inspect", tmp_path / "i", "--documents")[1].splitlines()
    assert lines[0].split("\t")[0] == r"a  boats.txt\n\t"
    assert len(lines) == 3


def test_inspecting_what_is_no_index_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("x")
    assert "there is no index folder" in check_refused(capsys, tmp_path, "inspect", tmp_path / "nowhere")
    assert "there is no index folder" in check_refused(capsys, tmp_path, "inspect", tmp_path / "file")
    assert "it has no file CURRENT" in check_refused(capsys, tmp_path, "inspect", tmp_path)


def test_the_graph_has_every_node_and_edge(tmp_path: Path) -> None:
    index = toy_index(tmp_path)
    graph = to_networkx(index)
    assert graph.number_of_nodes() == len(index)
    assert set(graph.successors("L1-00001")) == {"L0-00002", "L0-00003", "L0-00004", "L0-00005"}
    assert set(graph.predecessors("L0-00002")) == {"L1-00000", "L1-00001"}
    assert graph.nodes["L1-00000"]["label"] == "Boats and masts"
    assert set(to_networkx(index, leaves=False)) == {"L1-00000", "L1-00001", "L2-00000"}
    assert [s.nodes for s in level_stats(index)] == [6, 2, 1]
