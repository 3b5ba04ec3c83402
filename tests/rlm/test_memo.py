"""The store of answers: what was kept comes back, what was damaged or planted does not, and trouble stops nothing."""

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.memo import (
    BYTES,
    KEY_FILE,
    TROUBLE,
    VALUE_BYTES,
    Memo,
    is_repeatable,
    is_whole,
    memo_path,
    open_memo,
    reply_key,
    user_key,
)
from tests.helpers.places import ROOT


def key(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return memo_path(tmp_path / "my.index")


def filled(path: Path, count: int = 6) -> dict[str, Any]:
    """A store with a few values of several kinds, by their keys."""
    values: dict[str, Any] = {key(f"q{n}"): {"label": f"word {n}", "n": n} for n in range(count)}
    Memo(path).keep(values)
    return values


# -- what is kept ------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    values=st.dictionaries(st.text(max_size=8).map(key), JSON, max_size=8),
    others=st.lists(st.text().map(key)),
)
@example(values={key(""): "\u2028 \x00 \ud800"}, others=[key(""), key("")])
@example(values={key("a"): ""}, others=[])
def test_what_was_kept_comes_back_in_order_and_nothing_else_does(
    values: dict[str, Any], others: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("memo") / "a.memo.sqlite"
    memo = Memo(path)
    memo.keep(values)
    asked = [*others, *values, *reversed(list(values))]
    assert memo.recall(asked) == Memo(path).recall(asked) == [values.get(one) for one in asked]
    assert memo.trouble() == ""


def test_the_store_stands_beside_the_index_and_is_made_when_there_is_something_to_keep(
    tmp_path: Path,
) -> None:
    memo = open_memo(tmp_path / "my.index")
    assert memo.recall([key("a")]) == [None]
    memo.keep({})
    memo.keep({key("a"): None, key("b"): "x" * VALUE_BYTES})
    assert list(tmp_path.iterdir()) == []
    memo.keep({key("a"): "yes"})
    assert [one.name for one in tmp_path.iterdir()] == ["my.index.memo.sqlite"]
    assert (tmp_path / "my.index.memo.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_value_that_is_kept_again_takes_the_place_of_the_first(path: Path) -> None:
    memo = Memo(path)
    memo.keep({key("a"): 1})
    memo.keep({key("a"): 2})
    assert memo.recall([key("a")]) == [2]


def test_thousands_are_recalled_at_once(path: Path) -> None:
    values: dict[str, Any] = {key(str(n)): n + 1 for n in range(1_700)}
    Memo(path).keep(values)
    assert Memo(path).recall(list(values)) == list(values.values())


# -- bounds ------------------------------------------------------------------------------------------------


def test_of_too_many_records_the_least_recently_used_go(path: Path) -> None:
    memo = Memo(path, records=10)
    for n in range(10):
        memo.keep({key(str(n)): n + 1})
    assert memo.recall([key("0")]) == [1]  # so it was used last
    memo.keep({key("new"): "new"})
    assert memo.recall([key("0"), key("1"), key("2"), key("new")]) == [1, None, 3, "new"]


def test_of_too_many_bytes_the_least_recently_used_go_and_the_file_does_not_grow_on(path: Path) -> None:
    memo = Memo(path, size=400_000)
    for n in range(100):
        memo.keep({key(f"{n} {i}"): f"{n} {i} {'x' * 10_000}" for i in range(10)})
    assert path.stat().st_size < 600_000
    last = memo.recall([key(f"99 {i}") for i in range(10)])
    assert all(last) and memo.recall([key("0 0")]) == [None]


def test_one_keep_of_more_than_all_leaves_nothing_too_large(path: Path) -> None:
    memo = Memo(path, size=100_000)
    memo.keep({key(str(n)): "x" * 10_000 for n in range(100)})
    memo.keep({key("a"): "a"})
    assert memo.recall([key("a")]) == ["a"] and memo.trouble() == ""
    assert BYTES > VALUE_BYTES


# -- what is not believed ----------------------------------------------------------------------------------


def flipped(path: Path, at: int, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


def where(path: Path, *parts: bytes) -> Iterator[int]:
    """The places of all bytes of these parts in a file."""
    raw = path.read_bytes()
    for part in parts:
        at = raw.index(part)
        yield from range(at, at + len(part))


def test_a_bit_that_is_flipped_in_any_byte_of_a_record_has_it_asked_again_and_mended(path: Path) -> None:
    values = filled(path, 1)
    ((name, value),) = values.items()
    with closing(sqlite3.connect(path)) as db:
        ((raw, seal),) = db.execute("SELECT value, seal FROM answers").fetchall()
    whole = path.read_bytes()
    for at in where(path, raw, seal):
        for bit in (0, 5, 7):
            path.write_bytes(whole)
            flipped(path, at, bit)
            memo = Memo(path)
            assert memo.recall([name]) == [None], (at, bit)
            memo.keep({name: value})
            assert memo.recall([name]) == [value], (at, bit)


@pytest.mark.slow
def test_a_bit_that_is_flipped_anywhere_in_the_file_never_has_another_value_served(path: Path) -> None:
    values = filled(path)
    whole, chance = path.read_bytes(), random.Random(1)
    header = list(range(120))
    for at in [*header, *chance.sample(range(len(whole)), 400)]:
        for leftover in path.parent.glob("*"):
            leftover.unlink()
        path.write_bytes(whole)
        flipped(path, at, chance.randrange(8))
        memo = Memo(path)
        got = memo.recall(list(values))
        assert all(one in (None, value) for one, value in zip(got, values.values(), strict=True)), at
        memo.keep(values)
        told = memo.trouble()
        assert told == "" or told.startswith(TROUBLE)
        assert told or memo.recall(list(values)) == list(values.values()), at


def test_a_record_is_not_believed_under_another_key_nor_of_another_user(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = filled(path, 2)
    one, other = values
    with closing(sqlite3.connect(path)) as db, db:
        ((value, seal),) = db.execute("SELECT value, seal FROM answers WHERE key = ?", [bytes.fromhex(one)])
        db.execute(
            "UPDATE answers SET value = ?, seal = ? WHERE key = ?", (value, seal, bytes.fromhex(other))
        )
    assert Memo(path).recall([one, other]) == [values[one], None]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    assert Memo(path).recall([one]) == [None]


def test_a_record_of_another_type_or_size_is_passed_over(path: Path) -> None:
    values = filled(path, 3)
    one, two, three = values
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE answers SET value = 7 WHERE key = ?", [bytes.fromhex(one)])
        db.execute("UPDATE answers SET seal = 'text' WHERE key = ?", [bytes.fromhex(two)])
        db.execute(
            "UPDATE answers SET value = zeroblob(?) WHERE key = ?", [VALUE_BYTES * 8, bytes.fromhex(three)]
        )
    assert Memo(path).recall([one, two, three]) == [None, None, None]


# -- trouble -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [b"", b"no database at all " * 200, b"SQLite format 3\0" + b"\xff" * 5_000],
    ids=["empty", "words", "noise"],
)
def test_a_file_that_is_no_store_is_moved_aside_and_the_next_run_begins_another(
    path: Path, raw: bytes
) -> None:
    path.write_bytes(raw)
    memo = Memo(path)
    assert memo.recall([key("a")]) == [None]
    told = memo.trouble()
    assert told.startswith(f"{TROUBLE}{path.name}: ") and told.endswith(
        f"; it is now {path.name}.broken, and the next run begins another"
    )
    assert str(path.parent) not in told
    memo.keep({key("a"): 1})  # without it
    assert (memo.recall([key("a")]), memo.trouble()) == ([None], "")
    assert path.with_name(f"{path.name}.broken").read_bytes() == raw
    assert filled(path) and not Memo(path).trouble()


def test_a_store_with_a_trigger_or_a_view_is_none_of_ours(path: Path) -> None:
    values = filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TRIGGER t AFTER UPDATE ON answers BEGIN DELETE FROM answers; END")
    memo = Memo(path)
    assert memo.recall(list(values)) == [None] * len(values)
    assert "other tables than a store of answers" in memo.trouble()


def test_a_link_is_not_followed_and_a_folder_or_a_pipe_is_left(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    memo = Memo(path)
    memo.keep({key("a"): 1})
    assert f"{TROUBLE}{path.name}: {path.name} is a link" in memo.trouble() or "link" in memo.trouble()
    assert not elsewhere.exists() and path.is_symlink()
    path.unlink()
    for make in (Path.mkdir, os.mkfifo):
        make(path)
        memo = Memo(path)
        assert memo.recall([key("a")]) == [None] and memo.trouble()
        path.rmdir() if path.is_dir() else path.unlink()


def test_where_nothing_can_be_written_all_goes_on_without_it(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("in the way")
    memo = Memo(tmp_path / "a file" / "my.index.memo.sqlite")
    memo.keep({key("a"): 1})
    assert memo.trouble().startswith(TROUBLE)
    assert memo.recall([key("a")]) == [None]


def test_a_journal_that_a_stranger_left_is_not_played(path: Path, tmp_path: Path) -> None:
    values = filled(path)
    journal = path.with_name(f"{path.name}-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    assert Memo(path).recall(list(values)) == list(values.values())
    assert not journal.exists()


def test_the_key_is_the_users_own_and_a_short_one_is_told(tmp_path: Path, path: Path) -> None:
    made = user_key()
    file = Path(os.environ["XDG_DATA_HOME"]) / "raptor-rlm" / KEY_FILE
    assert (user_key(), len(made), file.stat().st_mode & 0o777) == (made, 32, 0o600)
    values = filled(path)
    file.write_bytes(made[:31])
    memo = Memo(path)
    assert memo.recall(list(values)) == [None] * len(values)
    assert memo.trouble().endswith(
        "memo.key in your folder for data has not 32 bytes; delete it, and one is made anew"
    )


# -- several at once ---------------------------------------------------------------------------------------

WRITER = """
import hashlib, sys
from pathlib import Path
from rlm.memo import Memo
memo, who = Memo(Path(sys.argv[1])), sys.argv[2]
for n in range(40):
    memo.keep({hashlib.sha256(f"{who} {n}".encode()).hexdigest(): f"{who} said {n}"})
assert not (trouble := memo.trouble()), trouble
"""


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(path), who], env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for who in ("a", "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    for who in ("a", "b", "c"):
        got = Memo(path).recall([key(f"{who} {n}") for n in range(40)])
        assert got == [f"{who} said {n}" for n in range(40)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_threads_share_a_store(path: Path) -> None:
    memo = Memo(path)

    def work(who: int) -> None:
        for n in range(10):
            memo.keep({key(f"{who} {n}"): [who, n]})
            assert memo.recall([key(f"{who} {n}")]) == [[who, n]]

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memo.recall([key(f"{who} {n}") for who in range(4) for n in range(10)]) == [
        [who, n] for who in range(4) for n in range(10)
    ]


# -- keys of replies ---------------------------------------------------------------------------------------


def asking(content: str = "a?", model: str = "openai/test-model", **fields: Any) -> Request:
    return Request(model, (Message(role="user", content=content),), **fields)


def test_a_reply_is_told_apart_by_all_that_it_was_asked_with_and_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = {
        reply_key(asking()),
        reply_key(asking("b?")),
        reply_key(asking(model="openai/other")),
        reply_key(asking(max_tokens=7)),
        reply_key(asking(options={"top_p": 0.5})),
        reply_key(asking(response_format={"type": "json_object"})),
        reply_key(asking(temperature=0.5)),
    }
    assert len(base) == 7
    assert reply_key(asking()) == reply_key(asking(temperature=0, options={}))
    for variable in ("OPENAI_BASE_URL", "HOSTED_VLLM_API_BASE", "AWS_REGION_NAME"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
        assert reply_key(asking()) not in base, variable
        monkeypatch.delenv(variable)
    assert reply_key(asking()) in base


def test_only_whole_replies_at_temperature_0_of_models_that_cost_something_are_kept() -> None:
    assert is_repeatable(asking()) and is_repeatable(asking(options={"temperature": 0}))
    assert not is_repeatable(asking(options={"temperature": 0.1}))
    assert not is_repeatable(asking(model="offline/reader"))

    def reply(text: str = "yes", reason: str = "stop", tool: str = "") -> Reply:
        return Reply(text, "m", Usage(), reason, 0.1, tool)

    assert is_whole(reply())
    others = [
        reply(reason="length"),
        reply(reason="refusal"),
        reply(reason="content_filter"),
        reply(""),
        reply(tool="{}"),
    ]
    assert not any(map(is_whole, others))
