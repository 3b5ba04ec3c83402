"""What is packed in archives, books and mails is read like files in a folder, and a bomb is one sentence."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from index_store import open_index
from raptor.cli import main
from raptor.loading import archives
from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.readers import read_file
from raptor.loading.types import Failure, SourceFile, Text
from tests.helpers import tiny_embedder
from tests.raptor.loading.test_loading import Remembered, pdf

Content = str | bytes


def zipped(members: Mapping[str, Content], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return out.getvalue()


def put(path: Path, raw: Content) -> Path:
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def documents(path: Path, password: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """What a file holds: texts by their ids, and why others were skipped by where they are below its folder."""
    loaded = list(load([SourceFile(path, path.name, password=password)]))
    skipped = {
        str(Path(f.source).relative_to(path.parent)): f.reason for f in loaded if isinstance(f, Failure)
    }
    assert not any("\n" in reason for reason in skipped.values())
    return {text.id: text.text for text in loaded if isinstance(text, Text)}, skipped


def one(path: Path) -> Text:
    (text,) = load(find([str(path)]))
    assert isinstance(text, Text), text
    return text


# -- .tar ---------------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, **facts: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def tarred(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as package:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            package.addfile(info, io.BytesIO(content))
    return path


FILES = [
    (member("./docs", tarfile.DIRTYPE), b""),
    (member("./docs/b.md"), b"# Title\n\nWords."),
    (member("a.txt"), b"old"),
    (member(".hidden/x.txt"), b"no"),
    (member("a.txt"), b"Ketches."),
]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("x.tar", "w"),
        ("x.tar.gz", "w:gz"),
        ("x.tgz", "w:gz"),
        ("x.tar.bz2", "w:bz2"),
        ("x.tar.xz", "w:xz"),
        ("x.txz", "w:xz"),
        ("archive", "w"),
        ("archive", "w:xz"),
        ("archive", "w:bz2"),
    ],
)
def test_each_readable_file_in_a_tar_is_a_document_under_its_path(
    tmp_path: Path, name: str, mode: str
) -> None:
    texts, skipped = documents(tarred(tmp_path / name, FILES, mode))
    assert texts == {f"{name}/a.txt": "Ketches.", f"{name}/docs/b.md": "# Title\n\nWords."}
    assert skipped == {}


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "x/../../a.txt", "C:/a.txt", "..\\a.txt"])
def test_no_id_leads_out_of_a_tar(tmp_path: Path, name: str) -> None:
    texts, skipped = documents(
        tarred(tmp_path / "x.tar", [(member(name), b"words"), (member("b.txt"), b"fine")])
    )
    assert texts == {"x.tar/b.txt": "fine"}
    assert "leads out of the archive" in next(iter(skipped.values()))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "it is a link;"),
        (tarfile.LNKTYPE, "it is a link;"),
        (tarfile.CHRTYPE, "it is a device or a pipe;"),
        (tarfile.BLKTYPE, "it is a device or a pipe;"),
        (tarfile.FIFOTYPE, "it is a device or a pipe;"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, reason: str) -> None:
    odd = member("a.txt", kind, linkname="/etc/passwd")
    texts, skipped = documents(tarred(tmp_path / "x.tar", [(odd, b""), (member("b.txt"), b"fine")]))
    assert texts == {"x.tar/b.txt": "fine"}
    assert skipped["x.tar/a.txt"].startswith(reason)


def test_a_sparse_file_in_a_tar_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sparse = member("a.txt", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**12)})
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as package:
        sparse.size = 1
        package.addfile(sparse, io.BytesIO(b"x"))
        package.addfile(member("b.txt"), io.BytesIO(b""))
    assert "it is a sparse file" in documents(tmp_path / "x.tar")[1]["x.tar/a.txt"]


def test_a_bomb_of_a_tar_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tarred(tmp_path / "x.tgz", [(member("a.txt"), b"a" * (40 << 20))], "w:gz")
    ((_, reason),) = documents(raw)[1].items()
    assert "it unpacks to more than 100 times its size" in reason
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    many = tarred(tmp_path / "y.tar", [(member(f"{n}.txt"), b"w") for n in range(4)])
    (loaded,) = read_file(SourceFile(many, "y.tar"))
    assert isinstance(loaded, Failure)
    assert "it holds more than 3 files" in loaded.reason


def test_the_size_of_a_compressed_tar_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    whole = tarred(tmp_path / "x.tar.gz", [(member("a.txt"), b"word " * 12_000)], "w:gz")
    (loaded,) = read_file(SourceFile(whole, "x"))
    assert isinstance(loaded, Text), loaded


@pytest.mark.parametrize("cut", [100, 600, 1_300, 3_000])
def test_a_damaged_tar_is_a_sentence(tmp_path: Path, cut: int) -> None:
    raw = tarred(tmp_path / "x.tar", [(member(f"{n}.txt"), b"words " * 99) for n in range(4)]).read_bytes()
    assert documents(put(tmp_path / "cut.tar", raw[:cut]))[1]
    header = cut // 1_536 * 1_536  # of what stands there; the bytes of a file have no sum in a .tar
    assert documents(put(tmp_path / "bad.tar", raw[:header] + b"\xff" * 512 + raw[header + 512 :]))[1]


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
def test_a_file_that_is_compressed_alone_is_the_file_inside(tmp_path: Path, suffix: str) -> None:
    compress = bz2.compress if suffix == ".bz2" else lzma.compress
    texts, _ = documents(put(tmp_path / f"a.md{suffix}", compress(b"# One\n") + compress(b"two")))
    assert texts == {f"a.md{suffix}": "# One\ntwo"}
    assert documents(put(tmp_path / f"b.txt{suffix}", compress(b"one")[:-4]))[1]


# -- .zip and .gz ------------------------------------------------------------------------------------------


def test_each_readable_file_in_a_zip_is_a_document_under_its_path(tmp_path: Path) -> None:
    sheet = pdf(tmp_path / "sheet.pdf", "A sheet.").read_bytes()
    members: dict[str, Content] = {
        "a/": "",
        "a/größe.md": "# Boats\n\nTwo masts.",
        "b.html": "<p>A page.",
        "./c/sheet.pdf": sheet,
        "old.txt": "Die Größe, das Übermaß und die Füße.".encode("latin-1"),
        "rows.jsonl": '{"_id": "r1", "text": "row"}\n',
        "LICENSE": "Permission.",
        "image.png": b"\x89PNG",
        ".hidden.txt": "x",
        "__MACOSX/a.txt": "x",
    }
    texts, skipped = documents(put(tmp_path / "x.zip", zipped(members)))
    assert {name: text.strip() for name, text in texts.items()} == {
        "x.zip/a/größe.md": "# Boats\n\nTwo masts.",
        "x.zip/b.html": "A page.",
        "x.zip/c/sheet.pdf": "A sheet.",
        "x.zip/old.txt": "Die Größe, das Übermaß und die Füße.",
        "x.zip/LICENSE": "Permission.",
        "r1": "row",
    }
    assert skipped.keys() == {"x.zip/image.png"}
    assert "its type '.png' is unknown; leave it out" in skipped["x.zip/image.png"]


def test_a_gz_is_the_file_inside_by_its_inner_suffix(tmp_path: Path) -> None:
    page = one(put(tmp_path / "a.html.gz", gzip.compress(b"<h1>Boats</h1>Words.")))
    assert (page.id, page.text, page.title) == ("a.html.gz", "Boats\n\nWords.", "Boats")
    rows = b'{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n'
    assert documents(put(tmp_path / "b.jsonl.gz", gzip.compress(rows)))[0] == {"1": "one", "2": "two"}
    assert one(put(tmp_path / "c.gz", gzip.compress(b"plain words"))).text == "plain words"
    assert one(put(tmp_path / "d", gzip.compress(b"plain words"))).text == "plain words"
    two = gzip.compress(b"one ") + gzip.compress(b"two")
    assert one(put(tmp_path / "e.txt.gz", two)).text == "one two"


def test_an_archive_in_an_archive_is_read_up_to_a_depth(tmp_path: Path) -> None:
    raw: bytes = b"words"
    for depth in range(5):
        raw = zipped({f"{depth}.zip" if depth else "a.txt": raw})
    texts, skipped = documents(put(tmp_path / "x.zip", raw))
    assert texts == {}
    assert skipped == {
        "x.zip/4.zip/3.zip/2.zip/1.zip": "it lies in more than 3 archives; unpack the outer one"
    }
    nested = zipped({"in.zip": zipped({"a.txt.gz": gzip.compress(b"words")})})
    assert documents(put(tmp_path / "y.zip", nested))[0] == {"y.zip/in.zip/a.txt.gz": "words"}


@pytest.mark.parametrize(
    "name", ["../up.txt", "a/../../up.txt", "/etc/abs.txt", "..\\up.txt", "C:\\up.txt", "a/.."]
)
def test_no_id_leads_out_of_an_archive(tmp_path: Path, name: str) -> None:
    texts, skipped = documents(put(tmp_path / "x.zip", zipped({name: "words", "a.txt": "words"})))
    assert texts == {"x.zip/a.txt": "words"}
    assert ["leads out of the archive" in reason for reason in skipped.values()] == [True]


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        info = zipfile.ZipInfo("a.txt")
        info.external_attr = 0o120777 << 16
        package.writestr(info, "/etc/passwd")
    assert "it is a link" in documents(put(tmp_path / "x.zip", out.getvalue()))[1]["x.zip/a.txt"]


# -- bombs -------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    """The one sentence that the file is refused with, in this process."""
    (failure,) = read_file(SourceFile(path, path.name))
    assert isinstance(failure, Failure), failure
    assert failure.source == str(path)
    assert "; " in failure.reason
    return failure.reason


def test_a_bomb_is_one_sentence(tmp_path: Path) -> None:
    zeros = b"0" * (40 * 2**20)
    bomb = zipped({"a.txt": zeros, "b.txt": "words"})
    assert len(bomb) < 100_000
    (failure,) = load(find([str(put(tmp_path / "x.zip", bomb))]))
    assert isinstance(failure, Failure)
    assert "unpacks to more than 100 times its size" in failure.reason
    assert "100 times" in refused(put(tmp_path / "x.txt.gz", gzip.compress(zeros)))
    inner = zipped({f"{n}.zip": zipped({"a.txt": b"0" * (10 * 2**20)}) for n in range(5)})
    assert "100 times" in refused(put(tmp_path / "y.zip", inner))


def test_a_bomb_that_lies_about_its_size_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000)
    raw = zipped({"a.txt": b"0" * 100_000})
    lying = raw.replace((100_000).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    loaded = read_file(SourceFile(put(tmp_path / "x.zip", lying), "x.zip"))
    assert all(isinstance(item, Failure) for item in loaded)
    assert "more than 10,000 bytes" in refused(put(tmp_path / "y.zip", raw))
    assert "more than 10,000 bytes" in refused(put(tmp_path / "z.gz", gzip.compress(b"0" * 100_000)))


def test_parts_that_overlap_are_counted_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 50_000)
    many = zipped({f"{n}.txt": b"word " * 2_000 for n in range(20)})
    assert "more than 50,000 bytes" in refused(put(tmp_path / "x.zip", many))


def test_too_many_files_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    many = {f"{n}.txt": "x" for n in range(11)}
    assert "more than 10 files" in refused(put(tmp_path / "x.zip", zipped(many)))
    halves = {f"{n}.zip": zipped({f"{m}.txt": "x" for m in range(6)}) for n in range(2)}
    assert "more than 10 files" in refused(put(tmp_path / "y.zip", zipped(halves)))


def test_an_archive_that_holds_itself_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "x.zip", zipped({"a.zip": b"x", "a.txt": "words"}))
    itself = path.read_bytes()
    monkeypatch.setattr(
        archives, "unpacked", lambda package, info, _="": itself if info.filename == "a.zip" else b"words"
    )
    loaded = read_file(SourceFile(path, "x.zip"))
    assert len([item for item in loaded if isinstance(item, Text)]) == 3
    assert "more than 3 archives" in next(item.reason for item in loaded if isinstance(item, Failure))


def test_a_damaged_archive_is_a_sentence_and_whole_members_load(tmp_path: Path) -> None:
    whole = zipped({"a.txt": "words " * 100, "b.txt": "other " * 100}, zipfile.ZIP_STORED)
    broken = whole.replace(b"words words", b"wards words", 1)
    texts, skipped = documents(put(tmp_path / "x.zip", broken))
    assert texts.keys() == {"x.zip/b.txt"}
    assert "it cannot be unpacked (BadZipFile" in skipped["x.zip/a.txt"]
    packed = gzip.compress(b"words " * 100)
    for number, raw in enumerate([b"", b"PK\x03\x04 nonsense", whole[:-30], whole[50:]]):
        for item in load(find([str(put(tmp_path / f"{number}.zip", raw))])):
            assert isinstance(item, Text) or "; " in item.reason
    for raw in (b"", b"\x1f\x8b", packed[:-12], packed[:15] + b"\xff\xff" + packed[17:], b"words"):
        (item,) = load(find([str(put(tmp_path / "y.txt.gz", raw))]))
        assert isinstance(item, Failure), raw
        assert "; " in item.reason
    for at in range(0, len(whole), 40):
        damaged = whole[:at] + b"\xff" + whole[at + 1 :]
        for item in read_file(SourceFile(put(tmp_path / "z.zip", damaged), "z.zip")):
            assert isinstance(item, Text) or "; " in item.reason


def encrypted(words: bytes, password: bytes) -> bytes:
    """A .zip whose one member is encrypted as PKZIP did; the standard library only decrypts."""
    table: list[int] = [*range(256)]
    for _ in range(8):
        table = [(value >> 1) ^ (0xEDB88320 * (value & 1)) for value in table]

    def crc(byte: int, value: int) -> int:
        return (value >> 8) ^ table[(value ^ byte) & 0xFF]

    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = crc(byte, keys[0])
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc(keys[1] >> 24, keys[2])

    for byte in password:
        update(byte)
    out = bytearray()
    for byte in bytes(11) + bytes([zlib.crc32(words) >> 24]) + words:
        mask = (keys[2] | 2) & 0xFFFF
        out.append(byte ^ ((mask * (mask ^ 1) >> 8) & 0xFF))
        update(byte)
    raw = bytearray(zipped({"a.txt": words}, zipfile.ZIP_STORED))
    start = raw.index(words)
    raw[start : start + len(words)] = out
    at = raw.index(b"PK\x01\x02")
    size = len(out).to_bytes(4, "little")
    raw[6] |= 1
    raw[18:22] = size
    raw[at + 8] |= 1
    raw[at + 20 : at + 24] = size
    end = raw.index(b"PK\x05\x06")
    raw[end + 16 : end + 20] = at.to_bytes(4, "little")
    return bytes(raw)


def test_an_encrypted_member_is_opened_by_the_password(tmp_path: Path) -> None:
    path = put(tmp_path / "x.zip", encrypted(b"Secret words.", b"open"))
    assert documents(path)[1] == {"x.zip/a.txt": "it is encrypted; give --password"}
    assert "it cannot be decrypted" in documents(path, "wrong")[1]["x.zip/a.txt"]
    assert documents(path, "open")[0] == {"x.zip/a.txt": "Secret words."}


def test_what_is_packed_is_never_remembered_under_the_name_of_the_archive(tmp_path: Path) -> None:
    kept = Remembered()
    path = put(tmp_path / "x.zip", zipped({"a.html": "<p>A page."}))
    put(tmp_path / "y.html.gz", gzip.compress(b"<p>A page."))
    first, again = (list(load(find([str(tmp_path)]), kept)) for _ in range(2))
    assert first == again
    assert [item.id for item in first if isinstance(item, Text)] == ["x.zip/a.html", "y.html.gz"]
    assert path.exists()
    assert not kept


# -- books -------------------------------------------------------------------------------------------------

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
OPF = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
><metadata><dc:title>The  Book</dc:title><dc:creator>A. Author</dc:creator><dc:language>en</dc:language></metadata>
<manifest><item id="c2" href="text/b%20two.xhtml"/><item id="c1" href="one.xhtml"/></manifest>
<spine><itemref idref="c1"/><itemref idref="c2"/></spine></package>"""
BOOK: dict[str, Content] = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OPS/book.opf": OPF,
    "OPS/text/b two.xhtml": "<html><head><title>Second</title></head><body><p>Words of two.</p></body></html>",
    "OPS/one.xhtml": "<html><body><h1>First</h1><p>Words of one.</p></body></html>",
}


def test_a_book_is_its_chapters_in_reading_order(tmp_path: Path) -> None:
    for name in ("a.epub", "a"):
        text = one(put(tmp_path / name, zipped(BOOK)))
        assert (text.title, text.text) == ("The Book", "First\n\nWords of one.\n\nWords of two.")
        assert [(s.start, s.level, s.heading) for s in text.sections] == [(0, 1, "First"), (22, 1, "Second")]
        assert text.meta == {"creator": "A. Author", "language": "en"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"META-INF/container.xml": "<a/>"}, "names no package document"),
        ({"META-INF/container.xml": '<!DOCTYPE x [<!ENTITY a "b">]><x/>'}, "declares the entity"),
        ({"OPS/book.opf": "<package"}, "not well-formed"),
        ({"OPS/book.opf": OPF.replace("one.xhtml", "gone.xhtml")}, "cannot be read as .epub (KeyError"),
        ({"OPS/book.opf": OPF.replace('idref="c1"', 'idref="c9"')}, "cannot be read as .epub (KeyError"),
        ({"META-INF/encryption.xml": '<e URI="OPS/one.xhtml"/>'}, "encrypted (DRM)"),
        ({"OPS/one.xhtml": "", "OPS/text/b two.xhtml": ""}, "holds no text"),
        ({"OPS/one.xhtml": b"0" * (40 * 2**20)}, "100 times its size"),
    ],
)
def test_a_book_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, change: dict[str, Content], words: str
) -> None:
    (failure,) = load(find([str(put(tmp_path / "a.epub", zipped(BOOK | change)))]))
    assert isinstance(failure, Failure)
    assert words in failure.reason
    assert "\n" not in failure.reason


# -- mail ----------------------------------------------------------------------------------------------------


def mail(words: str = "Hello,\n\nTwo masts.\n", **headers: str) -> EmailMessage:
    message = EmailMessage()
    given = {"From": "Ann <ann@x.org>", "To": "Bob <bob@x.org>", "Date": "Mon, 01 Jan 2001 10:00:00 +0000"}
    for name, value in {**given, "Subject": "Über Boote", **headers}.items():
        message[name] = value
    message.set_content(words)
    return message


TOP = "From: Ann <ann@x.org>\nTo: Bob <bob@x.org>\nDate: Mon, 01 Jan 2001 10:00:00 +0000\nSubject: Über Boote\n\n"


def test_a_mail_begins_with_its_headers_which_are_metadata(tmp_path: Path) -> None:
    for name in ("a.eml", "1."):
        text = one(put(tmp_path / name, mail().as_bytes()))
        assert text.text == f"{TOP}Hello,\n\nTwo masts."
        assert text.title == "Über Boote"
        assert text.meta == {
            "from": "Ann <ann@x.org>",
            "to": "Bob <bob@x.org>",
            "date": "Mon, 01 Jan 2001 10:00:00 +0000",
            "subject": "Über Boote",
        }


def test_the_plain_words_of_a_mail_are_preferred_and_html_is_extracted(tmp_path: Path) -> None:
    both = mail("Plain words.")
    both.add_alternative("<p>Rich <b>words</b>.", subtype="html")
    assert one(put(tmp_path / "a.eml", both.as_bytes())).text == f"{TOP}Plain words."
    rich = mail()
    rich.set_content("<p>Rich <b>words</b>.<script>x</script>", subtype="html")
    assert one(put(tmp_path / "b.eml", rich.as_bytes())).text == f"{TOP}Rich words."


def part(kind: str, *parts: EmailMessage | str, **headers: str) -> EmailMessage:
    """A part with these parts in it, or of words."""
    made = EmailMessage()
    made["Content-Type"] = kind
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_payload(parts[0] if isinstance(parts[0], str) else list(parts))
    return made


ONE, PAGE, TWO = part("text/plain", "One."), part("text/html", "<p>Page.</p>"), part("text/plain", "Two.")
SHEET = part("text/csv", "a,b\n1,Sheet.\n")
INLINE = part("text/html", "<p>Named.</p>", Content_Disposition='inline; filename="n.html"')
LOGO = part("image/png", "x", Content_ID="<1>", Content_Disposition='inline; filename="l.png"')


@pytest.mark.parametrize(
    ("mail", "read", "left"),
    [
        (part("multipart/mixed", ONE, PAGE), ["One.", "Page."], []),
        (part("multipart/mixed", PAGE, ONE), ["Page.", "One."], []),
        (part("multipart/mixed", PAGE, PAGE, TWO), ["Page.", "Page.", "Two."], []),
        (part("multipart/alternative", ONE, PAGE), ["One."], ["Page."]),
        (part("multipart/alternative", part("text/plain", "\n"), PAGE), ["Page."], []),
        (part("multipart/mixed", part("multipart/alternative", ONE, PAGE), TWO), ["One.", "Two."], ["Page."]),
        (
            part("multipart/mixed", part("multipart/alternative", ONE, PAGE), part("text/html", "<p>Foot.")),
            ["One.", "Foot."],
            ["Page."],
        ),
        (part("multipart/mixed", ONE, part("multipart/related", PAGE, LOGO)), ["One.", "Page."], []),
        (part("multipart/related", PAGE, TWO), ["Page.", "Two."], []),
        (
            part("multipart/alternative", ONE, part("multipart/related", PAGE, LOGO)),
            ["One."],
            ["Page.", "l.png"],
        ),
        (
            part("multipart/alternative", ONE, part("multipart/mixed", PAGE, INLINE)),
            ["One.", "Named."],
            ["Page."],
        ),
        (part("multipart/mixed", ONE, part("multipart/mixed", TWO, PAGE)), ["One.", "Two.", "Page."], []),
        (part("multipart/mixed", ONE, INLINE), ["One.", "Named."], []),
        (part("multipart/mixed", ONE, SHEET), ["One.", "Sheet."], []),
        (part("multipart/alternative", SHEET), ["Sheet."], []),
        (SHEET, ["Sheet."], []),
        (INLINE, ["Named."], []),
        (part("multipart/mixed", "No parts."), ["No parts."], []),
        (
            part("multipart/report", ONE, part("message/delivery-status", part("text/plain", "To."))),
            ["One.", "To."],
            [],
        ),
    ],
)
def test_every_text_of_a_mail_that_is_no_alternative_of_one_that_is_read_is_read_or_named(
    tmp_path: Path, mail: EmailMessage, read: list[str], left: list[str]
) -> None:
    texts, skipped = documents(put(tmp_path / "a.eml", mail.as_bytes()))
    found = "\n".join([*texts.values(), *skipped])
    assert all(found.count(words) == read.count(words) for words in read), found
    assert not any(words in found for words in left), found


@pytest.mark.parametrize(("words", "charset"), [("これは日本語です", "iso-2022-jp"), ("Größe", "latin-1")])
def test_a_mail_is_read_in_the_charset_it_declares(tmp_path: Path, words: str, charset: str) -> None:
    message = mail()
    message.set_content(words, charset=charset)
    assert words in one(put(tmp_path / "a.eml", message.as_bytes())).text
    wrong = b"Subject: x\nContent-Type: text/plain; charset=no-such\n\n" + "Die Größe, die Füße.".encode(
        "latin-1"
    )
    assert "Die Größe" in one(put(tmp_path / "b.eml", wrong)).text


def test_attachments_are_documents_or_named_as_skipped(tmp_path: Path) -> None:
    message = mail()
    message.add_attachment("# Notes\n", filename="notes.md")
    message.add_attachment("other notes", filename="../notes.md")
    message.add_attachment(
        pdf(tmp_path / "p", "A sheet.").read_bytes(), "application", "pdf", filename="s.pdf"
    )
    message.add_attachment(b"\x89PNG", "image", "png", filename="logo.png")
    message.add_attachment(zipped({"a.txt": "packed"}), "application", "zip", filename="z.zip")
    message.add_attachment(mail("Forwarded.", Subject="Old"))
    message.add_attachment(b"words", "text", "plain")
    texts, skipped = documents(put(tmp_path / "a.eml", message.as_bytes()))
    assert {name: text.strip().split("\n")[-1] for name, text in texts.items()} == {
        "a.eml": "Two masts.",
        "a.eml/notes.md": "# Notes",
        "a.eml/2-notes.md": "other notes",
        "a.eml/s.pdf": "A sheet.",
        "a.eml/z.zip/a.txt": "packed",
        "a.eml/attachment-6.eml": "Forwarded.",
        "a.eml/attachment-7.txt": "words",
    }
    assert skipped.keys() == {"a.eml/logo.png"}


MAILS = [
    b"",
    b"From: \xff\xfe\nSubject: =?utf-8?b?////?=\n\nwords",
    b"From: a@\n\t(((((((\nTo: ;;;<<<\nDate: never\n\nwords",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
    b"Content-Type: multipart/mixed\n\nwords",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!",
    b"Content-Type: text/plain; charset*=utf-8''%ff\n\nwords",
    b"\0" * 100,
    b"A: b\n" * 50_000,
]
NESTED = b"Content-Type: multipart/mixed; boundary=a\n\n"
NESTED += b"--a\nContent-Type: multipart/mixed; boundary=a\n\n" * 3000


@pytest.mark.parametrize(
    "raws", [pytest.param(MAILS, id="each"), pytest.param([NESTED], id="nested", marks=pytest.mark.slow)]
)
def test_any_mail_gives_documents_or_sentences(tmp_path: Path, raws: list[bytes]) -> None:
    for number, raw in enumerate(raws):
        put(tmp_path / f"{number}.eml", raw)
    for item in load(find([str(tmp_path)])):  # at once: each alone would start a parser of its own
        told = isinstance(item, Text) or ("; " in item.reason and "\n" not in item.reason)
        assert told, item


def test_a_told_encoding_and_a_password_reach_what_is_packed(tmp_path: Path) -> None:
    raw = zipped({"a.txt": "Привет".encode("cp1251")})
    (text,) = load([SourceFile(put(tmp_path / "x.zip", raw), "x", encoding="cp1251", password="p")])
    assert isinstance(text, Text)
    assert text.text == "Привет"
    assert "p" not in repr(SourceFile(tmp_path, "x", password="password")).split("password")


def test_json_that_is_packed_stays_json(tmp_path: Path) -> None:
    value: Any = {"name": "Boats"}
    path = put(tmp_path / "a.json.gz", gzip.compress(json.dumps(value).encode()))
    assert json.loads(one(path).text) == value


def test_a_build_lists_what_it_skipped_at_the_end_with_what_to_do_and_takes_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_embedder.use(monkeypatch)
    docs, index = tmp_path / "docs", tmp_path / "i"
    docs.mkdir()
    put(docs / "x.zip", encrypted(b"Secret words.", b"open"))
    put(docs / "a.txt", "Plain words.")
    assert main(["build", str(docs), "-o", str(index)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"skipped {docs / 'x.zip/a.txt'}: it is encrypted; give --password"
    assert main(["update", str(index), str(docs), "--password", "open"]) == 0
    assert "skipped" not in capsys.readouterr().err
    assert open_index(index).document_text("x.zip/a.txt") == "Secret words."
    assert not any(b'"open"' in path.read_bytes() for path in index.rglob("*") if path.is_file())
