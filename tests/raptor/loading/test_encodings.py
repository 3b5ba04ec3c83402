"""Text in other encodings than UTF-8 is read as what it is, and a user is told where that was a guess."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index_store import open_index
from raptor.build import build_index, update_index
from raptor.cli import main
from raptor.errors import RaptorError
from raptor.loading import processes
from raptor.loading.encodings import Undecodable, decode_bytes
from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.types import Failure, SourceFile, Text
from raptor.settings import BuildSettings
from tests.helpers import tiny_embedder

GERMAN = "Der Käufer schuldet die Größe, das Übermaß und die Füße."
FRENCH = "Le garçon naïf a mangé des crêpes à Noël."
QUOTES = "“Smart quotes” — and it’s only a café… for €5."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю."
JAPANESE = "これは日本語のテキストです。文字コードの判定を試します。"


def read(path: Path, raw: bytes, encoding: str = "") -> Text | Failure:
    path.write_bytes(raw)
    (loaded,) = load([SourceFile(path, path.name, encoding=encoding)])
    return loaded


def text(loaded: Text | Failure) -> str:
    assert isinstance(loaded, Text), loaded
    return loaded.text


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("One café.", "latin-1"),
        (GERMAN, "latin-1"),
        (FRENCH, "latin-1"),
        (QUOTES, "cp1252"),
        ("It’s only one mark in much that is plain. " + "Plain words. " * 9_000, "cp1252"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "cp1250"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy.", "iso8859-2"),
        ("Türkçe metin: şimdi ığdır'da çay içiyoruz, öğretmenler ve öğrenciler.", "cp1254"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("Αυτό είναι ένα ελληνικό κείμενο για δοκιμή.", "cp1253"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        ("这是一个中文文本，用于测试编码检测。我们希望它能够被正确识别。", "gb18030"),
        ("이것은 한국어 텍스트입니다. 인코딩 감지를 시험합니다.", "euc-kr"),
    ],
)
def test_an_old_encoding_is_found_out_and_told(tmp_path: Path, words: str, encoding: str) -> None:
    for name in ("a.txt", "a.md", "a.py"):
        loaded = read(tmp_path / name, words.encode(encoding))
        assert text(loaded) == words
        assert isinstance(loaded, Text)
        assert "give --encoding NAME where its words look wrong" in "".join(loaded.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_is_read_in_each_of_its_forms(tmp_path: Path, encoding: str) -> None:
    words = "Größe and – “quotes”.\r\nA second line."
    loaded = read(tmp_path / "a.txt", words.encode(encoding))
    assert text(loaded).removeprefix("\ufeff") == words
    assert isinstance(loaded, Text)
    assert bool(loaded.notes) == (encoding in ("utf-16-le", "utf-16-be"))


@pytest.mark.parametrize(
    "raw",
    [
        "Привет".encode("cp1251"),
        bytes(range(256)),
        "Größe, Füße".encode() + b"\xff",
        b"\xff",
        b"a \xff\xfe b",
        b"\x89PNG\r\n\x1a\n\x00\x01\xff",
    ],
)
def test_what_cannot_be_told_for_certain_is_skipped_with_what_to_do(tmp_path: Path, raw: bytes) -> None:
    loaded = read(tmp_path / "a.txt", raw)
    assert isinstance(loaded, Failure)
    assert "give --encoding NAME" in loaded.reason


def test_a_told_encoding_counts_whatever_the_bytes_look_like(tmp_path: Path) -> None:
    assert text(read(tmp_path / "a.txt", "Привет".encode("cp1251"), "cp1251")) == "Привет"
    assert text(read(tmp_path / "b.txt", "日本".encode("iso2022_jp"), "iso2022_jp")) == "日本"
    assert text(read(tmp_path / "c.txt", "é".encode(), "latin-1")) == "Ã©"
    page = b'<meta charset="utf-8"><p>' + RUSSIAN.encode("koi8-r")
    assert text(read(tmp_path / "d.html", page, "koi8-r")) == RUSSIAN
    row = json.dumps({"_id": "x", "text": GERMAN}, ensure_ascii=False)
    assert text(read(tmp_path / "e.jsonl", row.encode("utf-16"), "utf-16")) == GERMAN


def test_a_told_encoding_that_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    for name in ("a.txt", "a.html", "a.jsonl"):
        loaded = read(tmp_path / name, "Größe".encode("latin-1"), "utf-8")
        assert isinstance(loaded, Failure)
        assert loaded.reason.startswith(
            "it is not utf-8 (byte 0xf6 at offset 2), as --encoding says; give another"
        )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_text_or_one_sentence(raw: bytes) -> None:
    try:
        decode_bytes(raw)
    except Undecodable as fault:
        assert "\n" not in str(fault)
        assert "; " in str(fault)


@pytest.mark.parametrize("name", ["nonsense", "rot13", "hex", "a\0b"])
def test_an_unknown_encoding_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RaptorError, match="is unknown; give one such as latin-1"):
        BuildSettings(encoding=name)
    assert main(["build", str(tmp_path), "-o", str(tmp_path / "i"), "--encoding", name]) == 2
    assert "is unknown; give one such as latin-1" in capsys.readouterr().err


# -- through a build -------------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_embedder.use(monkeypatch)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.txt").write_bytes(RUSSIAN.encode("cp1251"))
    (tmp_path / "docs/b.html").write_bytes(b"<p>" + GERMAN.encode("cp1252"))
    return tmp_path / "docs"


def test_the_report_tells_which_encodings_were_guessed(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # what is parsed no more is told again
        assert main(["build", str(docs), "-o", str(tmp_path / "i"), "--json"]) == 0
        out, err = capsys.readouterr()
        assert f"note {docs / 'a.txt'}: it is not UTF-8 and was read as cp1251; give --encoding NAME" in err
        assert [note["source"] for note in json.loads(out)["notes"]] == [
            str(docs / "a.txt"),
            str(docs / "b.html"),
        ]


def test_an_update_reads_as_the_build_was_told_to(docs: Path, tmp_path: Path) -> None:
    build_index(docs, tmp_path / "i", settings=BuildSettings(encoding="cp866"))
    wrong = open_index(tmp_path / "i").document_text("a.txt")
    assert wrong == RUSSIAN.encode("cp1251").decode("cp866")
    assert not update_index(tmp_path / "i", docs).new
    assert update_index(tmp_path / "i", docs, encoding="cp1251").changes.changed == 2
    assert open_index(tmp_path / "i").document_text("a.txt") == RUSSIAN
    assert not update_index(tmp_path / "i", docs).new


def test_a_page_that_was_parsed_in_one_encoding_is_parsed_anew_in_another(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = processes._Parsers.parse

    def counted(parsers: Any, file: SourceFile) -> Any:
        parsed.append(file.encoding)
        return parse(parsers, file)

    monkeypatch.setattr(processes._Parsers, "parse", counted)
    for encoding in ("", "", "cp850", "cp850", ""):
        build_index(docs, tmp_path / "i", settings=BuildSettings(encoding=encoding))
    assert parsed == ["", "cp850"]


def test_an_index_built_without_an_encoding_says_nothing_of_one(docs: Path, tmp_path: Path) -> None:
    build_index(docs, tmp_path / "i")
    assert "encoding" not in open_index(tmp_path / "i").manifest.settings
    assert find([str(docs)])[0].encoding == ""
