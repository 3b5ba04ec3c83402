"""Attempts to see, through what a reader may ask, something of a document that they may not read: none succeeds."""

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from index_store.errors import IndexStoreError
from index_store.generations import list_generations
from index_store.index import Index, narrowed, open_generation, open_index
from index_store.types import MODES, Scope, Span
from index_store.view import View
from raptor.cli import main as raptor_main
from rlm.answers.citations import resolve
from rlm.asking.replaying.replay import opened_as_asked
from rlm.audit import read
from rlm.audit.consistency.conversations import reader_has_labels
from rlm.audit.consistency.story import Story
from rlm.audit.sources import generation_asked
from rlm.cli import main as rlm_main
from rlm.errors import RlmError
from rlm.loop.checks import Refused
from rlm.loop.verbs import Verbs
from rlm.memo import memo_path
from tests.helpers.labelled import OTHERS, READER, Source, draft, seen, written
from tests.helpers.rlm_toy import embedded
from tests.helpers.toy import publish_toy

NEVER = "q0never0000000z"


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole index, what READER sees of it, and what is hidden from them."""

    whole: Index
    index: Index
    hidden: list[Source]

    @property
    def word(self) -> str:
        return self.hidden[0].word

    @property
    def doc(self) -> str:
        return self.hidden[0].document.id

    def verb(self, name: str, *given: Any, **named: Any) -> str:
        """What a verb gives, and what its visit shows."""
        visits = list[Any]()
        try:
            said = json.dumps(Verbs(self.index, visits.append).serve(name, list(given), named))
        except Refused as e:
            said = str(e)
        return said + str([(visit.shown, visit.not_taken, visit.cut) for visit in visits])

    def each(self, name: str) -> str:
        """A verb of every node, and of those that only the whole index has."""
        numbers = range(max(len(self.whole), len(self.index)))
        ids = {tree.id_of(n) for tree in (self.whole, self.index) for n in numbers if n < len(tree)}
        return "".join(self.verb(name, node) for node in sorted(ids))

    def unlike(self, ask: Callable[[str], str]) -> str:
        """What is said of the hidden word otherwise than of one that never was; an id's hint goes by its letters."""
        never = self.word[:2] + "7" * (len(self.word) - 3) + "z"
        one, other = (_hintless(ask(word).replace(word, "~")) for word in (self.word, never))
        return "" if one == other else f"differs {self.word}: {one} != {other}"


def _hintless(said: str) -> str:
    return re.sub(r"(no document '[^']*');[^\[]*", r"\1", said)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    rng = random.Random(11)
    content, hidden = draft(rng, seen(rng))
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        whole = written(tmp_path_factory.mktemp("unseen") / "corpus.index", content)
        yield Scene(whole, narrowed(whole, list(READER)), hidden)


def _file_names_and_contents(scene: Scene) -> str:
    files = sorted(path for path in scene.index.path.parent.rglob("*") if path.is_file())
    return "".join(path.name + path.read_bytes().decode("utf-8", "replace") for path in files)


def _said(ask: Callable[[], object]) -> str:
    try:
        return str(ask())
    except (IndexStoreError, RlmError) as e:
        return str(e)


def _scoped(scene: Scene, word: str, **scope: Any) -> str:
    scope = {name: value.format(word) if isinstance(value, str) else value for name, value in scope.items()}
    return _said(lambda: View(scene.index, scope=Scope(**scope)).chunks)


def _named(scene: Scene, pattern: str) -> list[str]:
    with suppress(IndexStoreError):
        return [scene.index.documents[n].id for n in scene.index.documents_named(pattern).tolist()]
    return []


def _cited(scene: Scene, *claims: Any) -> str:
    return "".join(str(resolve(View(scene.index), "see", [claim])) for claim in claims)


def _doc(scene: Scene, word: str) -> str:
    return scene.doc.replace(scene.word, word)


ATTEMPTS: dict[str, Callable[[Scene], str]] = {
    "overview": lambda s: s.verb("overview"),
    "documents": lambda s: s.verb("documents"),
    "all text": lambda s: s.verb("text"),
    "areas": lambda s: s.verb("areas") + s.unlike(lambda w: s.verb("contains", w)),
    "paths": lambda s: s.each("path"),
    "parents": lambda s: s.each("parents"),
    "children": lambda s: s.each("children"),
    "leaves": lambda s: s.each("leaves"),
    "heads": lambda s: s.each("peek"),
    "texts of nodes": lambda s: s.each("read"),
    "a list of its spans": lambda s: s.unlike(lambda w: s.verb("read", [{"doc": _doc(s, w), "start": 0, "end": 9}])),
    "a span of it": lambda s: s.unlike(lambda w: s.verb("read", {"doc": _doc(s, w), "start": 0, "end": 9})),
    "characters of it": lambda s: s.unlike(lambda w: s.verb("read", _doc(s, w), 0, 9)),
    "slices past the end": lambda s: s.verb("slice", 0, 10**6) + s.verb("slice", s.index.chars - 5, 10**9),
    "grep from the start": lambda s: s.verb("grep", r"(?s)\A.*"),
    "grep to the end": lambda s: s.verb("grep", r"(?s).{0,500}\z"),
    "grep over borders": lambda s: s.verb("grep", r"(?s)\.\n.{0,80}"),
    "grep looking around": lambda s: s.verb("grep", r"(?<=q).*") + s.verb("grep", r"(?=q)."),
    "grep in it": lambda s: s.unlike(lambda w: s.verb("grep", ".", doc=_doc(s, w))),
    "grep its word": lambda s: s.unlike(lambda w: s.verb("grep", w)),
    "search by words": lambda s: s.unlike(lambda w: s.verb("search", w, k=200, mode="lexical")),
    "search in all modes": lambda s: "".join(s.verb("search", s.word, k=200, mode=mode) for mode in MODES),
    "search in it": lambda s: s.unlike(lambda w: s.verb("search", "mast", doc=_doc(s, w))),
    "a folder of ids": lambda s: "".join(str(_named(s, f"{part}/*")) for part in "abc"),
    "search its metadata": lambda s: s.unlike(lambda w: s.verb("search", "mast", where={"note": f"n{w}"})),
    "search its section": lambda s: s.unlike(lambda w: s.verb("search", "mast", section=f"Part {w}")),
    "branches": lambda s: s.verb("branches", s.word, k=100),
    "gather": lambda s: s.verb("gather", s.word, chars=50_000),
    "packs": lambda s: s.unlike(lambda w: s.verb("packs", nodes=[{"doc": _doc(s, w), "start": 0, "end": 9}])),
    "rows": lambda s: "".join(s.verb("rows", split) for split in ("document", "section", "chunk", "line")),
    "rows of its metadata": lambda s: s.unlike(lambda w: s.verb("rows", "line", where={"note": f"n{w}"})),
    "pages of rows": lambda s: s.verb("read_rows", json.dumps({"split": "document"}), 0, len(s.index.documents)),
    "a scope": lambda s: s.unlike(lambda w: _scoped(s, w, doc=_doc(s, w))),
    "a scope by metadata": lambda s: s.unlike(lambda w: _scoped(s, w, where={"note": f"n{w}"})),
    "a scope by section": lambda s: s.unlike(lambda w: _scoped(s, w, section="Part {}")),
    "a citation of its span": lambda s: s.unlike(lambda w: _cited(s, {"doc": _doc(s, w), "start": 0, "end": 9})),
    "a citation of its words": lambda s: s.unlike(
        lambda w: _cited(s, {"quote": s.hidden[0].parts[0].replace(s.word, w)})
    ),
    "a citation of a node": lambda s: _cited(s, *(s.whole.id_of(n) for n in range(len(s.whole)))),
    "its span": lambda s: s.unlike(lambda w: _said(lambda: s.index.span_text(Span(_doc(s, w), 0, 5)))),
    "names": lambda s: str([s.index.names and s.index.names.in_words(n) for n in range(len(s.index.names or ()))]),
    "near-duplicates": lambda s: str(
        [s.index.documents[c].id for n in range(len(s.index.documents)) for c in s.index.copies(n)]
    ),
    "the manifest": lambda s: str(s.index.manifest),
    "all files": _file_names_and_contents,
    "earlier generations": lambda s: str(list_generations(s.index.path)),
}  # fmt: skip


def _is_clean(scene: Scene, said: str) -> bool:
    return not any(one.word in said for one in scene.hidden)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_sees_nothing(scene: Scene, attempt: str) -> None:
    said = ATTEMPTS[attempt](scene)
    typed = attempt in ("branches", "gather", "search in all modes")
    assert _is_clean(scene, said), attempt
    assert said or not typed


def test_the_attempts_see_what_is_there_where_nothing_is_hidden(scene: Scene) -> None:
    """Else they would prove nothing."""
    open_to_all = Scene(scene.whole, scene.whole, scene.hidden)
    blind = [name for name, attempt in ATTEMPTS.items() if _is_clean(open_to_all, attempt(open_to_all))]
    assert set(blind) <= {
        "grep looking around",
        "packs",
        "names",
        "earlier generations",
        "the manifest",
        "near-duplicates",
    }


def test_counts_are_those_of_what_may_be_read(scene: Scene) -> None:
    index, shown = scene.index, json.loads(scene.verb("overview").partition("[(")[0].removesuffix("["))
    assert index.manifest.documents == len(index.documents) == shown["documents"]
    assert len(index.documents) < len(scene.whole.documents)
    assert index.chars == sum(document.chars for document in index.documents)
    assert (index.generation, index.manifest.parent, index.access) == (1, None, frozenset(READER))


def test_labels_of_others_are_not_told(scene: Scene) -> None:
    said = [scene.verb("search", "mast", where={"access": label}) for label in (*OTHERS, "z")]
    assert len({re.sub("'[xyz]'", "", one) for one in said}) == 1
    told = [document.meta.get("access", "") for document in scene.index.documents]
    assert not [label for label in ",".join(told).split(",") if label.strip() in OTHERS]


def test_the_store_of_answers_stands_beside_what_a_reader_sees_alone(scene: Scene) -> None:
    others = narrowed(scene.whole, "a"), narrowed(scene.whole, ""), scene.whole
    assert memo_path(scene.index.path) not in {memo_path(other.path) for other in others}
    assert memo_path(scene.index.path).parent.stat().st_mode & 0o077 == 0


def test_what_is_open_stays_what_it_was_and_what_is_opened_next_is_of_now(
    scene: Scene, tmp_path: Path
) -> None:
    rng = random.Random(11)
    content, hidden = draft(rng, seen(rng))
    path = tmp_path / "i.index"
    publish_toy(path, content)
    before = open_index(path, access=list(READER))
    number = next(n for n, (d, _) in enumerate(content.documents) if d.id == hidden[0].document.id)
    documents = list(content.documents)
    documents[number] = (replace(documents[number][0], meta={"access": "a"}), documents[number][1])
    publish_toy(path, replace(content, documents=documents))
    assert not before.has_document(hidden[0].document.id)
    assert open_index(path, access="a").has_document(hidden[0].document.id)
    assert not open_index(path, access=["b", "c"]).has_document(hidden[0].document.id)
    publish_toy(path, content)  # taken away again
    assert not open_index(path, access=list(READER)).has_document(hidden[0].document.id)


def test_an_index_that_was_narrowed_is_not_widened(scene: Scene) -> None:
    with pytest.raises(IndexStoreError, match="narrowed to another reader already"):
        narrowed(scene.index, [*READER, *OTHERS])


def test_a_run_of_another_reader_is_held_against_nothing_that_is_hidden(scene: Scene) -> None:
    for access in (None, [], ["x"], ["x", "y"]):
        opened = {"index": {"digest": scene.whole.digest}, **({} if access is None else {"access": access})}
        assert generation_asked(scene.index, opened) is None
        with pytest.raises(RlmError, match="another index than the run asked"):
            opened_as_asked(scene.index, {"index": {"digest": scene.whole.digest}, **opened}, anyway=False)


def test_an_index_in_which_nothing_is_hidden_leads_to_no_earlier_generation(tmp_path: Path) -> None:
    rng = random.Random(3)
    content, hidden = draft(rng, seen(rng))
    publish_toy(tmp_path / "i.index", content)
    secret = open_index(tmp_path / "i.index").digest
    lines = [(replace(d, meta={}), text) for d, text in content.documents]
    publish_toy(tmp_path / "i.index", replace(content, documents=lines))
    reader = open_index(tmp_path / "i.index", access="")
    assert reader.path == tmp_path / "i.index"
    assert generation_asked(reader, {"index": {"digest": secret}}) is None
    assert open_generation(reader.path, 1).has_document(
        hidden[0].document.id
    )  # else this would prove nothing


@pytest.mark.parametrize(
    "command",
    [
        "search I mast -k 99 --json --as R",
        "search I mast --doc D --as R",
        "search I W --mode lexical --as R",
        "search I mast --where note=nW --as R",
        "overview I --json --as R",
        "overview I --depth 9 --as R",
    ],
)
def test_a_command_as_a_reader_tells_nothing(
    command: str, scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def said(word: str) -> str:
        given = {"I": str(scene.whole.path), "R": ",".join(READER), "D": _doc(scene, word)}
        parts = [given.get(part, part.replace("W", word)) for part in command.split()]
        with suppress(SystemExit):
            rlm_main(parts)
        out = capfd.readouterr()
        return out.out + out.err

    assert _is_clean(scene, scene.unlike(said))
    assert said(NEVER)


@pytest.mark.parametrize(
    "more", [[], ["--json"], ["--documents", "--json"], ["--depth", "9"], ["--node", "L0-00000"]]
)
def test_inspecting_as_a_reader_tells_nothing(
    more: list[str], scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    assert raptor_main(["inspect", str(scene.whole.path), "--as", ",".join(READER), *more]) == 0
    assert _is_clean(scene, capfd.readouterr().out)


@pytest.mark.slow
def test_a_run_records_its_reader_and_nothing_of_what_is_hidden_and_can_be_done_again(
    scene: Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, runs = str(scene.whole.path), tmp_path / "runs"
    asked = [
        "ask",
        whole,
        "What of the mast and the mizzen?",
        "--as",
        ",".join(READER),
        "--runs",
        str(runs),
        "--quiet",
    ]
    assert rlm_main(asked) in (0, 3)
    (run,) = runs.iterdir()
    assert _is_clean(
        scene, "".join(p.read_text() for p in run.rglob("*") if p.is_file()) + capfd.readouterr().out
    )
    events, verdict = read(run)
    assert verdict.ok
    assert events[0]["access"] == sorted(READER)
    for command in (["verify"], ["replay"], ["check"]):
        assert rlm_main(["trace", *command, str(run), "--index", whole]) == 0, capfd.readouterr()
    assert "reads as   'a', 'b', 'c'" in _shown(run, capfd)
    page = tmp_path / "page.html"
    assert rlm_main(["review", str(run), "--index", whole, "-o", str(page)]) == 0
    assert "Reads as" in page.read_text()
    assert _is_clean(scene, page.read_text() + capfd.readouterr().out)


def _shown(run: Path, capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    rlm_main(["trace", "show", str(run)])
    return capfd.readouterr().out


@pytest.mark.parametrize("labels", [["b", "a"], ["a", "a"], ["a,b"], [""], ["\x07"]])
def test_a_trace_whose_reader_has_no_labels_that_can_be_is_not_as_it_was_written(labels: list[str]) -> None:
    said = reader_has_labels(Story(), {"conversation": "0", "access": labels})
    assert said.startswith("the run is said to read as ")
    assert reader_has_labels(Story(), {"conversation": "0", "access": ["a", "b"]}) == ""
