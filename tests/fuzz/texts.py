"""Documents that are text: each is read as documents, or one sentence says why not, and what was read can be cut up."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from raptor.chunking import chunk
from raptor.errors import RaptorError
from raptor.loading.kinds import is_slow
from raptor.loading.load import load
from raptor.loading.metadata import read_metadata
from raptor.loading.readers import read_file
from raptor.loading.types import Failure, SourceFile, Text
from tests.fuzz.mutate import mutated_bytes
from tests.fuzz.target import Target

HONEST = {
    ".html": "<!DOCTYPE html><html><head><meta charset='utf-8'><title>Boats</title><style>p {}</style></head><body>"
    "<h1>Ketches &amp; yawls</h1><p>Two <b>masts</b>.</p><pre>a\n b</pre><table><tr><td>1<td>2</table><ul><li>x</ul>"
    "<script>if (a < b) {}</script><!-- gone --><svg><path d='M0'/></svg><textarea>t</textarea></body></html>",
    ".md": "---\ntitle: Boats\n---\n# Ketches\n\nTwo masts.\n\n## The mizzen\n\n```python\n# no heading\n```\n\n"
    "Setext\n======\n\n- one\n- two\n\n> said\n\n[a]: http://x\n",
    ".jsonl": '{"_id": "a", "title": "Ketch", "text": "Two masts.", "meta": {"year": 1999}}\n{"_id": 2, "text": "x"}\n',
    ".txt": "The ketch has two masts.\nThe mizzen is shorter.\n\n\fA yawl differs, é.\n",
    ".csv": 'name,masts\n"ketch, the",2\nyawl,"2\n"\n',
}
WORDS = (
    b"<", b">", b"<a ", b"</", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<script>", b"</script", b"<title>",
    b"<pre>", b"<h1>",
    b"<svg>", b"='", b'="', b"&", b"&#", b"&#x110000;", b"&#9999999999999;", b"&amp", b"#", b"# ",
    b"###### x\n", b"```", b"\n", b"\r",
    b"\n\n", b" ", b"\t", b"===\n", b"---\n", b"\0", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\\ud800", b'"_id": ', b"{", b"[" * 2_000, b'{"a":' * 2_000, b"9" * 5_000, b"1e999", b"NaN", b"null",
    b'"', b",", b"\xe2\x80\xa8",
    b"<meta charset='utf-7'>", b"<meta charset=idna>", b"<meta charset=punycode>", b"<meta charset=zlib>",
    b"<meta charset=unicode_escape>",
    b"<meta charset=undefined>", b"<meta charset=rot13>", b"<meta charset=utf-16>", b"<meta charset=mbcs>",
    b"charset=", b"\x0c", b"\x85", b"\xe3\x80\x82",
)  # fmt: skip
CHARS = 200_000


def drawn(rng: random.Random) -> tuple[str, bytes]:
    """(the suffix, the bytes) of a file."""
    suffix = rng.choice([*HONEST, ".html"])
    raw = HONEST[suffix].encode()
    if rng.random() < 0.15:
        part = b"".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2, 3])))
        head = raw if rng.random() < 0.5 else b""
        return suffix, (head + part * (CHARS // len(part)))[:CHARS] + rng.choice(WORDS)
    return suffix, mutated_bytes(rng, raw, WORDS)


def offsets(batch: Sequence[str]) -> list[list[tuple[int, int]]]:
    """A token for each three characters that are no white space."""
    return [
        [(i, min(i + 3, len(text))) for i in range(0, len(text), 3) if not text[i].isspace()]
        for text in batch
    ]


def _sound(text: Text) -> None:
    text.text.encode()
    text.title.encode()
    assert len(text.title) <= 1_000
    assert all(0 <= a <= b <= len(text.text) for a, b in pairwise((0, *text.pages, len(text.text))))
    assert all(0 <= section.start <= len(text.text) for section in text.sections)
    spans = chunk(text.text, offsets, 100)
    assert "".join(text.text[a:b] for a, b in spans) == text.text


@contextmanager
def texts(folder: Path) -> Iterator[Target]:
    """The readers of text, in this process, and what cuts their texts into chunks."""

    def check(example: tuple[str, bytes]) -> None:
        suffix, raw = example
        path = folder / f"file{suffix}"
        path.write_bytes(raw)
        file = SourceFile(path, path.name)
        loaded = read_file(file) if is_slow(file) else list(load([file]))
        assert loaded or suffix == ".jsonl", "neither a document nor why there is none"
        for item in loaded:
            if isinstance(item, Failure):
                assert "\n" not in item.reason and len(item.reason) < 1_000, item.reason[:2_000]
            elif not is_slow(file):  # the others are checked on their way out of their process
                _sound(item)
        if suffix == ".jsonl":
            try:
                read_metadata(path)
            except RaptorError as error:
                assert "\n" not in str(error)

    yield Target(drawn, check)
