"""The reply cache: shared between threads and processes, and plain about damage."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.gateway.cache import Cache, key_of
from rlm.gateway.errors import BrokenCache


def test_what_is_put_is_got_and_the_last_put_counts(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "replies.sqlite")
    assert cache.get("k") is None
    for value in ({"text": "\u2028 \ud800 ä"}, {"text": ""}):
        cache.put("k", value)
        assert cache.get("k") == value
    assert Cache(tmp_path / "replies.sqlite").get("k") == {"text": ""}


def test_threads_and_processes_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    cache = Cache(path)
    code = (
        "import sys; from pathlib import Path; from rlm.gateway.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for i in range(30): cache.put(f'process {i}', {'i': i})"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": "."})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: cache.put(f"thread {i}", {"i": i}), range(30)))
    assert other.wait() == 0
    assert all(cache.get(f"{who} {i}") == {"i": i} for who in ("thread", "process") for i in range(30))


@pytest.mark.parametrize("content", [b"not a database" * 50, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_bytes(content)
    with pytest.raises(BrokenCache, match=r"the reply cache .*replies\.sqlite cannot be used .*; delete it"):
        Cache(path).get("k")


def test_a_folder_that_is_not_there_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenCache, match="unable to open"):
        Cache(tmp_path / "missing" / "replies.sqlite")


@pytest.mark.parametrize("value", ["{half", "[1]", '"text"', "[" * 100_000])
def test_a_value_that_is_not_an_object_is_the_same_error(tmp_path: Path, value: str) -> None:
    cache = Cache(tmp_path / "replies.sqlite")
    with sqlite3.connect(cache.path) as database:
        database.execute("INSERT INTO replies VALUES ('k', ?)", (value,))
    database.close()
    with pytest.raises(BrokenCache):
        cache.get("k")


json_values = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(json_values, json_values)
def test_keys_are_equal_exactly_when_the_values_are(a: object, b: object) -> None:
    assert (key_of(a) == key_of(b)) == (a == b)
