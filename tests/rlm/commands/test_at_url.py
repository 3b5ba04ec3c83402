"""Commands that read an index take its URL: it is asked, served and checked as one in a folder."""

import json
from pathlib import Path

import pytest

from index_store.index import open_index
from index_store.stores.pushing import push
from rlm.asking.asking import ask
from rlm.cli import main
from rlm.limits import Limits, Models
from rlm.memo import memo_path
from rlm.serving import shelf
from rlm.serving.settings import named_indexes
from rlm.serving.shelf import Shelf
from rlm.serving.types import Grant
from tests.helpers.object_store import KEY, new_bucket, object_store
from tests.helpers.rlm_toy import embedded
from tests.helpers.toy import toy_index
from tests.index_store.stores.test_stores import change


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    embedded(monkeypatch)


@pytest.fixture
def url(tmp_path: Path) -> str:
    place = (tmp_path / "shared" / "toy.index").as_uri()
    push(toy_index(tmp_path / "own" / "toy.index").path, place)
    return place


def test_an_index_in_a_bucket_is_asked_and_its_run_is_checked_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = toy_index(tmp_path / "toy.index")
    with object_store() as address:
        url = f"{new_bucket(address)}/toy.index"
        push(own.path, url)
        assert main(["ask", url, "What has two masts?", "--runs", str(tmp_path / "runs"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["citations"][0]["doc"] == "boats.txt"
        change(own.path, "Masts")
        push(own.path, url)
        (run,) = (tmp_path / "runs").iterdir()
        assert main(["trace", "verify", str(run), "--index", url]) == 0, "of the generation that was asked"
        assert main(["trace", "check", str(run), "--index", url]) == 0
        assert main(["search", url, "mizzen", "--mode", "lexical", "--lazy"]) == 0
        assert main(["overview", url]) == 0
    text = (run / "trace.jsonl").read_text(encoding="utf-8") + capsys.readouterr().out
    assert own.digest in text
    assert KEY not in text
    assert '"name": "toy.index"' in text or '"name":"toy.index"' in text


def test_what_was_answered_is_kept_in_the_users_own_folder(url: str, tmp_path: Path) -> None:
    index = open_index(url)
    assert memo_path(index.beside).parent.parent.name == "stores"
    assert not memo_path(index.beside).is_relative_to(tmp_path / "cache")
    ask(index, "mast", models=Models(), limits=Limits(), runs=tmp_path / "runs")
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["toy.index"], (
        "nothing beside the store"
    )


def test_what_is_served_from_a_url_is_what_is_live_there(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Shelf(named_indexes([f"boats={url}"]), tmp_path / "made", None)
    first = served.open("boats", Grant())
    second = change(tmp_path / "own" / "toy.index", "Masts")
    push(tmp_path / "own" / "toy.index", url)
    assert served.open("boats", Grant()) is first, "it is looked up every few seconds"
    monkeypatch.setattr(shelf, "AGAIN_S", 0.0)
    assert served.open("boats", Grant()).digest == second
    current = Path(url.removeprefix("file://"), "CURRENT")
    current.rename(current.with_name("away"))
    assert served.open("boats", Grant()).digest == second, "it is read on"


def test_a_reader_sees_of_an_index_at_a_url_what_they_may(url: str) -> None:
    index = open_index(url, access="hr")
    assert (index.named, index.access) == (url, frozenset({"hr"}))


def test_an_index_at_a_url_has_the_name_of_its_last_part(url: str) -> None:
    assert named_indexes([url]) == {"toy": url}


def test_a_url_in_raptor_toml_is_the_index(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raptor.toml").write_text(f'index = "{url}"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["search", "mizzen", "--mode", "lexical"]) == 0
    assert "boats.txt" in capsys.readouterr().out
