"""One of anything is singular, in what people and models are told."""

from pathlib import Path

import pytest

from index_store.errors import NoSuchNode
from index_store.index import open_text
from rlm import prompts
from rlm.commands.live import Now, line_of


def test_one_of_anything_is_singular(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    index = open_text(tmp_path / "a.txt")
    with pytest.raises(NoSuchNode, match=r"there is 1 document$"):
        index.document_number("zzzzzzzzzz")
    assert "a text of 1 character in 1 line, cut into 1 chunk;" in index.text_at(len(index) - 1)
    assert "is the whole corpus: 1 document, 1 node, 1 character. Begin." in prompts.opening(
        "Q", "the whole corpus", 1, 1, 1
    )
    assert Now(calls=1, tokens=1).line().endswith("1 call, 1 token, $0.0000")
    visit = {"verb": "search", "arguments": {}, "result": [{}], "shown": []}
    assert line_of("visited", "0", visit).endswith("-> 1 item")
