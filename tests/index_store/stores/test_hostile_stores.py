"""A store may come from a stranger, or be one's own and badly named: each has its sentence, and costs little."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from index_store.errors import BrokenIndex, IndexStoreError, StoreError
from index_store.files import sha256_of
from index_store.generations import list_generations
from index_store.index import open_index
from index_store.manifest import FileEntry, digest_of, dumps, loads
from index_store.stores import layout
from index_store.stores.layout import objects_at
from index_store.stores.objects import PIECE
from index_store.stores.pruning import prune_store
from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.stores.urls import url_of
from index_store.verify import verify_index
from tests.helpers.object_store import KEY, Meddler, meddling
from tests.helpers.toy import toy_index
from tests.index_store.stores.test_stores import change


@pytest.fixture
def pushed(url: str, tmp_path: Path) -> str:
    push(toy_index(tmp_path / "toy.index").path, url)
    return url


def put(url: str, key: str, content: bytes) -> None:
    file = Path(os.environ["XDG_CACHE_HOME"]).parent / "content"
    file.write_bytes(content)
    objects_at(url).send(key, file, lambda size: None)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("s3://", "BUCKET/PATH"),
        ("s3://b/../c", "without . and .."),
        ("s3://b/a//c", "without . and .."),
        ("s3://b\n/c", "signs that no URL has"),
        ("s3://b/" + "x" * 1001, "longer than 1,000"),
        ("s3://user:geheim@host/b", "by the environment"),
        ("s3://b/c?X-Amz-Signature=geheim", "by the environment"),
        ("file://host/share", "names no folder of this machine"),
        ("file:///a/%2e%2e/b", "without . and .."),
        ("file:///a/%00", "no path of a folder"),
        ("file:///a/b#geheim", "as %3F and %23"),
        ("gcs://user:geheim@b/c", "gcs:// is no URL of a store"),
        (str(Path("https://b/c")), "https:// is no URL of a store"),
    ],
)
def test_what_is_no_url_of_a_store_is_one_sentence_without_its_secrets(wrong: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as error:
        open_index(wrong)
    assert "geheim" not in str(error.value)


def test_a_url_names_what_its_text_says() -> None:
    assert str(url_of("s3://bucket/some/my.index/")) == "s3://bucket/some/my.index"
    assert str(url_of("S3://bucket/a")) == "s3://bucket/a"
    assert (str(url_of("gs://bucket")), url_of("gs://bucket").name) == ("gs://bucket", "bucket")
    assert url_of("file:///a%20b/c").prefix == "/a b/c"
    assert str(url_of("file://localhost/a b")) == "file:///a%20b"
    assert str(url_of(Path("az://box/x")) / "shards/one") == "az://box/x/shards/one"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"x" * (1 << 20), "more than 80 bytes|1,048,576 bytes"),
        (b"000001\n", "names no generation"),
        (b"000001 ../../../etc\n", "names no generation"),
        (b"000001 " + b"0" * 64 + b"\n", "does not hold the generation 000000000000 whole"),
    ],
)
def test_a_pointer_that_no_publisher_writes_is_refused(pushed: str, line: bytes, sentence: str) -> None:
    put(pushed, "CURRENT", line)
    with pytest.raises(IndexStoreError, match=sentence):
        open_index(pushed)


def test_a_damaged_pointer_is_replaced_where_that_is_asked_for(pushed: str, tmp_path: Path) -> None:
    put(pushed, "CURRENT", b"?")
    with pytest.raises(BrokenIndex, match="names no generation"):
        push(tmp_path / "toy.index", pushed)
    push(tmp_path / "toy.index", pushed, replace=True)
    assert verify_index(pushed) == []


def test_a_manifest_names_no_other_files_and_no_more_bytes_than_there_is_room_for(
    pushed: str, tmp_path: Path, cache_folder: Path
) -> None:
    whole = loads((tmp_path / "toy.index/generations/000001/manifest.json").read_bytes(), Path("m"))
    outside = {**whole.files, "../../outside": FileEntry(1, "0" * 64)}
    for files, sentence in (
        (outside, "unknown"),
        ({**whole.files, "text.bin": FileEntry(1 << 62, "0" * 64)}, "bytes, and .* are free"),
    ):
        wrong = replace(whole, files=files, digest="")
        wrong = replace(wrong, digest=digest_of(wrong))
        put(pushed, f"generations/{wrong.digest}/manifest.json", dumps(wrong))
        put(pushed, "CURRENT", f"000001 {wrong.digest}\n".encode())
        with pytest.raises(IndexStoreError, match=sentence):
            open_index(pushed)
    put(pushed, f"generations/{wrong.digest}/manifest.json", b"[" * (5 << 20))
    with pytest.raises(StoreError, match="no such file has"):
        open_index(pushed)
    put(pushed, f"generations/{wrong.digest}/manifest.json", dumps(whole))
    with pytest.raises(BrokenIndex, match="the manifest of another generation"):
        open_index(pushed)
    assert list((cache_folder / "pulled").iterdir()) == []


def test_objects_that_no_publisher_writes_are_left_alone(
    pushed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        "generations/x/manifest.json",
        f"generations/{'0' * 63}/a",
        "other/file",
        f"generations/{'a' * 64}",
    ]
    for key in odd:
        put(pushed, key, b"?")
    assert prune_store(pushed, grace_h=0).deleted == []
    assert len(list_generations(pushed)) == 1
    assert {one.key for one in objects_at(pushed).list("")} >= {*odd}
    assert verify_index(pushed) == []
    monkeypatch.setattr(layout, "MOST_OBJECTS", 10)
    with pytest.raises(StoreError, match="more than 10 objects"):
        verify_index(pushed)


def test_what_is_young_or_among_the_last_is_not_pruned(pushed: str, tmp_path: Path) -> None:
    digests = [open_index(pushed).digest]
    for label in ("a", "b"):
        digests.append(change(tmp_path / "toy.index", label))
        push(tmp_path / "toy.index", pushed)
    assert prune_store(pushed).young == 2
    assert prune_store(pushed, grace_h=0, keep=2).deleted == digests[:1]
    assert [one.digest for one in list_generations(pushed)] == digests[1:]
    assert prune_store(pushed, grace_h=0, keep=2).deleted == []
    assert prune_store(pushed, grace_h=0).deleted == digests[1:2]
    assert verify_index(pushed) == []
    with pytest.raises(StoreError, match="give 1 or more"):
        prune_store(pushed, keep=0)


# -- a shared folder ---------------------------------------------------------------------------------------


def _link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("name", ["CURRENT", "generations", "manifest.json", "text.bin"])
@pytest.mark.parametrize("change", [_link, _pipe])
def test_links_and_pipes_in_a_shared_folder_are_not_followed(
    tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    url = (tmp_path / "shared").as_uri()
    digest = push(toy_index(tmp_path / "toy.index").path, url).digest
    root = tmp_path / "shared"
    place = root / name if name in ("CURRENT", "generations") else root / "generations" / digest / name
    if change is _pipe and name == "generations":
        place.rename(place.with_name("away"))
        place.touch()
    change(place)
    with pytest.raises(IndexStoreError, match=r"is a link|is no file|does not hold"):
        open_index(url)
    if change is _link:  # a file takes the place of a pipe
        with pytest.raises(StoreError, match="is a link"):
            push(tmp_path / "toy.index", url, replace=True)


def test_an_index_folder_is_no_store_and_a_store_no_index_folder(tmp_path: Path) -> None:
    index = toy_index(tmp_path / "toy.index").path
    with pytest.raises(BrokenIndex, match="if this is an index folder and no store, give its path"):
        open_index(index.as_uri())
    with pytest.raises(StoreError, match="is an index folder, and no store"):
        push(index, index.as_uri())
    with pytest.raises(StoreError, match="push an index folder"):
        push(index.as_uri(), index.as_uri())
    push(index, (tmp_path / "shared").as_uri())
    with pytest.raises(StoreError, match="name a folder"):
        pull((tmp_path / "shared").as_uri(), "s3://b/c")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(StoreError, match="no index folder, and not empty"):
        pull((tmp_path / "shared").as_uri(), tmp_path / "full")
    with pytest.raises(StoreError, match="is a folder with other files in it"):
        push(index, (tmp_path / "full").as_uri())
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    for store in (tmp_path / "shared", tmp_path / "link"):
        with pytest.raises(StoreError, match="is a store, which is read and changed by its URL alone"):
            pull((tmp_path / "shared").as_uri(), store)
        with pytest.raises(
            BrokenIndex, match=r"is a store, and no index folder; give its URL: file:///\S+/shared$"
        ):
            open_index(store)
    assert pull((tmp_path / "shared").as_uri(), tmp_path / "own.index").new


# -- what is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["nonsense", "http://[::1", "http://127.0.0.1:99999", "ftp://user:geheim@host", "http://"]
)
def test_an_address_in_the_environment_that_is_none_is_one_sentence_without_its_secrets(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(StoreError, match=r"^AWS_ENDPOINT_URL is set to what is no address") as error:
        open_index("s3://bucket/toy")
    assert "geheim" not in str(error.value)


def test_what_obstore_gives_up_on_in_a_panic_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index_store.stores.cloud._ENDPOINTS", ())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(StoreError, match=r"^cannot use s3://bucket/toy"):
        open_index("s3://bucket/toy")


@pytest.mark.parametrize("code", [403, 500, 301])
def test_what_a_store_answers_is_told_in_words_of_ours(
    server: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_store.stores.cloud.RETRIES", {"max_retries": 0})
    with (
        meddling(server, Meddler(status=code, change=lambda path, body: KEY.encode())),
        pytest.raises(StoreError) as error,
    ):
        open_index("s3://bucket/toy")
    said = str(error.value)
    assert KEY not in said and "127.0.0.1" not in said and "Debug" not in said
    assert "s3://bucket/toy/CURRENT" in said


def test_who_stops_a_push_leaves_nothing_that_a_reader_sees(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(done: int, total: int) -> None:
        raise KeyboardInterrupt

    index = toy_index(tmp_path / "toy.index").path
    with pytest.raises(KeyboardInterrupt):
        push(index, url, progress=stopped)
    with pytest.raises(BrokenIndex, match="there is no index"):
        open_index(url)
    push(index, url)
    with pytest.raises(KeyboardInterrupt):
        pull(url, tmp_path / "other", progress=stopped)
    assert not list((tmp_path / "other" / "generations").iterdir())


def test_large_files_go_in_pieces(url: str, tmp_path: Path) -> None:
    file, back = tmp_path / "large", tmp_path / "back"
    file.write_bytes(os.urandom((17 << 20) + 5))
    objects, told = objects_at(url), list[int]()
    sent = objects.send("generations/x", file, told.append)
    back.touch()
    for at in (9 << 20, 0):
        objects.fetch("generations/x", at, min(9 << 20, (17 << 20) + 5 - at), back, told.append)
    assert back.read_bytes() == file.read_bytes()
    assert max(told) <= PIECE
    assert sent == sha256_of(file)
    with pytest.raises(StoreError):
        objects.fetch("generations/x", 16 << 20, 9 << 20, back, told.append)
