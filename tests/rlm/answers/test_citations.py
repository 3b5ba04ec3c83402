"""Citations: whatever a model offers, a supported one stands word for word in the source at its place."""

import random
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from index_store.errors import BadQuery
from index_store.index import Index, open_index, open_text
from index_store.types import Json, Scope, Span
from index_store.view import View
from rlm.answers.citations import (
    MAX_CITATIONS,
    NEAREST,
    QUOTE_CHARS,
    WHOLE_CHARS,
    Citation,
    event_of,
    find_exactly,
    find_nearly,
    resolve,
)
from rlm.answers.similar import cuts_word
from rlm.audit.events import CITATION
from rlm.audit.likeness import same_words
from tests.helpers.audit_sample import LETTER, REPORT
from tests.helpers.toy import TEXTS, document, publish_toy, toy_draft, toy_index
from tests.index_store.test_grep import index_of

LONG = "Dear reader, " * 1_000
PAGED = (
    "Page one says “yes” — twice.\nIt\u00a0ends here.\fPage two says it's over; see node L0-00002.\x00 End."
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    yield toy_index(tmp_path_factory.mktemp("answer") / "toy.index")


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """As the toy, but the third document has pages, odd characters, and a fourth is long."""
    import numpy as np

    draft = toy_draft()
    texts = [*list(TEXTS.items())[:2], ("paged.pdf", PAGED), ("long.txt", LONG)]
    documents = [document(name, text, (0, 43) if name == "paged.pdf" else ()) for name, text in texts]
    chunks = [*draft.chunks[:5].tolist(), [2, 0, len(PAGED)], [3, 0, len(LONG)]]
    path = tmp_path_factory.mktemp("paged") / "paged.index"
    from dataclasses import replace

    children = [np.array([0, 1, 2]), np.array([2, 3, 4, 5, 6]), np.array([7, 8])]
    more: dict[str, Any] = {
        "documents": documents,
        "chunks": np.array(chunks),
        "children": children,
        "levels": [7, 2, 1],
        "tokens": np.full(10, 5, dtype=np.int64),
        "vectors": np.vstack([draft.vectors, draft.vectors[:1]]),
    }
    publish_toy(path, replace(draft, **more))
    yield open_index(path)


def one(index: Index, offered: Any, content: str = "") -> Citation:
    (citation,) = resolve(View(index), content, offered)
    return citation


def place(citation: Citation) -> tuple[Any, ...]:
    return citation.doc, citation.start, citation.end, citation.quote, citation.supported


KETCH = "The ketch has two masts."
KETCH_PLACE = ("boats.txt", 0, 24, KETCH, "verbatim")


@pytest.mark.parametrize(
    "offered",
    [
        {"node": "L0-00000", "quote": KETCH},
        {"doc": "boats.txt", "start": 0, "end": 24},
        {"doc": "boats.txt", "start": 0, "end": 25, "quote": KETCH},
        {"doc": "boats.txt", "start": 90, "end": 95, "quote": KETCH},  # the right words, the wrong place
        {"doc": "boats.txt", "quote": KETCH},
        {"node": "L0-00002", "quote": KETCH},  # another chunk of the same document
        {"node": "L0-99999", "quote": KETCH},
        {"doc": "one.txt", "quote": KETCH},  # another document's words: they stand where they stand
        {"doc": "one.txt", "start": 0, "end": 6, "quote": KETCH},
        {"quote": KETCH},
        KETCH,
    ],
)
def test_words_that_stand_in_the_source_are_found_at_their_place(index: Index, offered: Any) -> None:
    for given_as in (offered, [offered]):
        assert place(one(index, given_as)) == KETCH_PLACE
    assert one(index, offered).node == "L0-00000"
    assert one(index, offered).claimed is None


def test_a_chunk_without_a_quote_is_cited_whole(index: Index) -> None:
    assert place(one(index, ["L0-00005"])) == ("one.txt", 0, 6, "single", "verbatim")
    assert place(one(index, [{"node": "L0-00005"}])) == ("one.txt", 0, 6, "single", "verbatim")


def test_without_citations_the_chunk_ids_in_the_answer_are_cited(index: Index) -> None:
    found = resolve(View(index), "Two (L0-00000, L0-00005), as L0-00000 says; L0-77777 and L1-00000 too.", [])
    assert [(c.node, c.supported) for c in found] == [
        ("L0-00000", "verbatim"),
        ("L0-00005", "verbatim"),
        (None, "unsupported"),
    ]
    assert found[2].quote == "L0-77777"
    assert [c.node for c in resolve(View(index), "see L0-00000", ["L0-00005"])] == ["L0-00005"]


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ('Page one says "yes" - twice. It ends here.', "Page one says “yes” — twice.\nIt\u00a0ends here."),
        ("two says it’s over", "two says it's over"),
        ("  It ends   here.\n", "It\u00a0ends here."),
        ("over; see node L0-00002.\x00  End.", "over; see node L0-00002.\x00 End."),
    ],
)
@pytest.mark.parametrize("where", [{}, {"doc": "paged.pdf"}, {"node": "L0-00005"}])
def test_words_that_differ_in_white_space_quotation_marks_and_dashes_alone_are_the_same(
    paged: Index, quote: str, found: str, where: Any
) -> None:
    citation = one(paged, [where | {"quote": quote}])
    start = PAGED.index(found)
    assert place(citation) == ("paged.pdf", start, start + len(found), found, "respaced")
    assert citation.claimed == quote


def test_a_citation_knows_its_page(paged: Index) -> None:
    assert one(paged, "Page one says").page == 1
    assert one(paged, "Page two says").page == 2
    assert one(paged, KETCH).page is None


@pytest.mark.parametrize(
    "offered",
    [
        "The ketch has three masts.",
        {"doc": "one.txt", "start": 0, "end": 24},  # another document's offsets
        {"doc": "one.txt", "start": -3, "end": 2},
        {"doc": "one.txt", "start": 4, "end": 2},
        {"doc": "one.txt", "start": True, "end": 2},
        {"doc": "one.txt", "start": 0, "end": 10**30},
        {"doc": "nowhere.txt", "start": 0, "end": 1},
        {"node": "L1-00000"},
        {"node": ["L0-00000"]},
        {"doc": {"doc": "one.txt"}, "start": [0], "end": None},
        {"quote": "It rains in three towns all the year round.", "doc": "boats.txt"},
        {"quote": "   "},
        {"quote": 7},
        {},
        None,
        3.5,
        [[[["L0-00000"]]]],
        "L2-00000",
        "\\" * 3_000,
        "\x00" * 3_000,
        "(" * 3_000,
        "\ud800",
    ],
)
def test_what_does_not_stand_in_the_source_is_unsupported(index: Index, offered: Any) -> None:
    citation = one(index, [offered])
    assert place(citation)[:3] == (None, None, None)
    assert citation.supported == "unsupported"
    assert isinstance(citation.quote, str)


def test_an_id_of_a_summary_is_no_source(index: Index) -> None:
    assert one(index, ["L1-00000"]).supported == "unsupported"


@pytest.mark.parametrize("offered", [None, [], {}, "", 0, False])
def test_nothing_offered_is_nothing_cited(index: Index, offered: Any) -> None:
    assert resolve(View(index), "No idea.", offered) == []


def test_the_same_place_is_cited_once_and_no_more_than_a_hundred(index: Index) -> None:
    assert (
        len(
            resolve(
                View(index),
                "",
                ["L0-00000", {"node": "L0-00000"}, {"doc": "boats.txt", "start": 0, "end": 25}],
            )
        )
        == 1
    )
    many: list[Json] = [
        {"doc": "boats.txt", "start": i % 50, "end": 51 + i // 50} for i in range(2 * MAX_CITATIONS)
    ]
    assert len(resolve(View(index), "", many)) == MAX_CITATIONS


def test_where_the_answer_names_citations_by_number_each_keeps_its_own(index: Index) -> None:
    offered: list[Json] = [KETCH, KETCH, "It has nine oars."]
    numbered = resolve(View(index), "Two [1]. Yes [2]. Nine [3].", offered)
    assert [citation.supported for citation in numbered] == ["verbatim", "verbatim", "unsupported"]
    assert len(resolve(View(index), "Two. Nine.", offered)) == 2


def test_a_long_claim_is_told_by_its_beginning(paged: Index) -> None:
    for offered in ("L0-00006", {"doc": "long.txt", "start": 13, "end": 12_000}, LONG, {"quote": LONG[13:]}):
        citation = one(paged, [offered])
        assert citation.supported == "verbatim"
        assert QUOTE_CHARS - 20 < len(citation.quote) <= QUOTE_CHARS
        assert citation.quote == LONG[citation.start : citation.end]
    assert QUOTE_CHARS - 20 < len(one(paged, "Not there. " * 5_000).quote) <= QUOTE_CHARS


def test_a_quote_that_many_documents_hold_is_cited_from_the_first(paged: Index) -> None:
    assert one(paged, "reader").start == 5
    assert one(paged, "mizzen").doc == "boats.txt"


def test_words_are_found_exactly_or_nearly() -> None:
    assert find_exactly("a  b a b", "a b") == (5, 8)
    assert find_exactly("a  b", "a b") is None
    assert find_exactly("unable, able", "able") == (8, 12)
    assert find_nearly("x a\n b", "a b ") == (2, 6)
    assert find_nearly("a.b", "a b") is None
    assert find_nearly("text", "  ") is None
    assert find_nearly("", "x") is None


def test_exact_words_in_a_later_document_go_before_nearly_the_same_in_an_earlier_one(index: Index) -> None:
    assert place(one(index, "mehr.")) == ("größe.md", 55, 60, "mehr.", "verbatim")
    assert place(one(index, " two\n")) == ("boats.txt", 14, 17, "two", "respaced")
    assert place(one(index, "differs: its\n")) == ("boats.txt", 55, 67, "differs: its", "respaced")


def test_the_trace_keeps_a_citation_with_the_words_around_it(index: Index) -> None:
    for offered in (KETCH, {"doc": "boats.txt", "quote": "The  ketch has"}, "not there"):
        event: dict[str, Any] = event_of(index, one(index, offered))
        assert CITATION.problem(event) == ""
        if event["doc"]:
            start, end, text = event["start"], event["end"], TEXTS["boats.txt"]
            assert event["context_before"] + event["found"] + event["context_after"] == text[: end + 200]
            assert event["found"] == text[start:end]


ALTERED = {
    "A yawl differs; its mizen stands aft of the rudder.": (
        "A yawl differs: its mizzen stands aft of the rudder",
        0.9,
    ),
    "its mizzen stands ... of the rudder": ("its mizzen stands aft of the rudder", 0.99),
    "A yawl ... stands ... the rudder": None,  # of pieces so short anything can be made
    "THE KETCH HAS **TWO** MASTS": ("The ketch has two masts", 0.99),
    "the ketch has two-\nmasts": None,
    "ketch has two masts. [...] A yawl differs": (
        "ketch has two masts. The mizzen is shorter.\nA yawl differs",
        0.99,
    ),
}


@pytest.mark.parametrize("quote", ALTERED)
@pytest.mark.parametrize("where", [{}, {"doc": "boats.txt"}, {"node": "L0-00001"}, {"doc": "one.txt"}])
def test_a_quote_that_was_altered_is_cited_by_the_nearest_words_of_the_source(
    index: Index, quote: str, where: Any
) -> None:
    citation = one(index, [where | {"quote": quote}])
    if (expected := ALTERED[quote]) is None:
        assert citation.supported == "unsupported"
        return
    start = TEXTS["boats.txt"].index(expected[0])
    assert place(citation) == ("boats.txt", start, start + len(expected[0]), expected[0], "nearest")
    assert (citation.similarity, citation.claimed) == (expected[1], quote)
    assert event_of(index, citation)["similarity"] == citation.as_json()["similarity"] == expected[1]


@pytest.mark.parametrize(
    "quote", ["wiegen 50 g", "wiegen 150", "ketch has two mast", "its mizzen stands not aft of the rudder."]
)
def test_a_cut_word_a_changed_number_or_negation_is_never_verbatim(index: Index, quote: str) -> None:
    citation = one(index, [quote])
    assert citation.supported == "verbatim" if quote == "wiegen 150" else citation.similarity < 1


def test_what_looks_like_nothing_in_the_index_is_unsupported_at_once(paged: Index) -> None:
    hostile = ["a b " * 1_250, "reader, " * 600, "... " * 1_200, "Dear\x00reader" * 400, "1,2" * 1_600]
    for citation in resolve(View(paged), "", [{"doc": "long.txt", "quote": quote} for quote in hostile]):
        assert (citation.supported, citation.similarity) == ("unsupported", 0.0)


def set_anew(text: str, rng: random.Random) -> str:
    """The text as a PDF may hold it: lines that break anywhere, within words too, ligatures, soft hyphens, blanks."""

    def broken(match: re.Match[str]) -> str:
        return match[0] if rng.random() < 0.9 else rng.choice(["-\n", "\u00ad", "\u00ad\n", "-\n    "])

    text = re.sub(r"(?<=[a-z])(?=[a-z])", broken, text)
    text = re.sub(" ", lambda _: rng.choice([" ", " ", "\n", "  ", " \n "]), text)
    return text.replace("fi", "ﬁ").replace("'", "’")


SENTENCES = [s for text in (REPORT, LETTER) for s in re.findall(r"[A-Z][^.]{40,}\.(?= |\n)", text)]


@pytest.mark.parametrize("seed", range(3))
def test_a_sentence_stands_however_its_lines_are_broken_and_no_longer_with_a_digit_or_word_changed(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    texts = {"plain.txt": REPORT + LETTER, "broken.txt": set_anew(REPORT + LETTER, rng)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        index = open_text(tmp_path / name)
        for sentence in SENTENCES:
            for quote in (sentence, set_anew(sentence, rng)):
                citation = one(index, [quote])
                assert citation.supported in ("verbatim", "respaced"), (name, quote)
                assert same_words(citation.quote, sentence)
            words = sentence.split()
            at = rng.randrange(1, len(words) - 1)
            others = [" ".join([*words[:at], "xylophone", *words[at + 1 :]])]
            others += [re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), sentence, count=1)] * (
                "3" in sentence
            )
            for other in others:
                assert one(index, [set_anew(other, rng)]).supported in ("nearest", "unsupported"), other


def test_a_quote_ends_with_the_marks_that_it_has_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "He said: “The inter-\nnational office (of 1995) is closed.” Then he left."
    )
    index = open_text(tmp_path / "a.txt")
    in_full, inner = "The inter-\nnational office (of 1995) is closed", "inter-\nnational office (of 1995)"
    for quote, found, kind in (
        ('"The international office (of 1995) is closed."', f"“{in_full}.”", "respaced"),
        ("international office (of 1995)", inner, "respaced"),
        ("The international office (of 1995) is closed!", in_full, "nearest"),
        ("the international office (of 1995) is closed", in_full, "nearest"),
        ("The international office of 1995 is closed", in_full, "nearest"),
    ):
        citation = one(index, [quote])
        assert (citation.quote, citation.supported) == (found, kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 120) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def claims(draw: Any) -> Any:
    """Citations that are right, nearly right, or wrong in one field."""
    doc = draw(st.sampled_from(list(TEXTS)))
    text = TEXTS[doc]
    a, b = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    quote = text[a:b].replace(" ", draw(st.sampled_from([" ", "\n", "  "])))
    claim: dict[str, Any] = {"doc": doc, "start": a, "end": b, "quote": quote}
    for name in draw(st.lists(st.sampled_from(["doc", "start", "end", "quote", "node"]), max_size=2)):
        claim[name] = draw(JSON | st.sampled_from(["L0-00002", "one.txt", 10**20, -1, "mizzen"]))
    for name in draw(st.lists(st.sampled_from(list(claim)), max_size=2)):
        claim.pop(name, None)
    return claim


@settings(max_examples=300)
@given(offered=JSON | st.lists(claims() | JSON, max_size=4) | claims(), content=st.text(max_size=40))
@example(offered=[{"doc": "größe.md", "quote": "g - höchstens. \U0001f34e Birnen"}], content="")
@example(offered={"doc": "größe.md", "start": 0, "end": 62}, content="L0-00004")
def test_whatever_is_offered_a_supported_citation_is_in_the_source(
    index: Index, offered: Any, content: str
) -> None:
    for citation in resolve(View(index), content, offered):
        assert CITATION.problem(event_of(index, citation)) == ""
        if citation.supported == "unsupported":
            assert (citation.doc, citation.start, citation.end, citation.node) == (None,) * 4
            continue
        assert citation.doc is not None and citation.start is not None and citation.end is not None
        words = TEXTS[citation.doc][citation.start : citation.end]
        assert citation.quote == words != ""
        assert index.span_text(Span(citation.doc, citation.start, citation.end)) == words
        assert citation.claimed != words
        if citation.supported == "verbatim":
            assert (citation.claimed, citation.similarity) == (None, 1.0)
        else:
            assert NEAREST <= citation.similarity < 1


@settings(max_examples=100)
@given(data=st.data())
def test_every_stretch_of_the_source_is_found_wherever_it_is_looked_for(index: Index, data: Any) -> None:
    doc = data.draw(st.sampled_from(list(TEXTS)))
    text = TEXTS[doc]
    a = data.draw(st.integers(0, len(text) - 1))
    quote = text[a : data.draw(st.integers(a + 1, len(text)))]
    if quote.strip() and not cuts_word(text, a) and not cuts_word(text, a + len(quote)):
        citation = one(index, [{"quote": quote}])
        assert citation.supported == "verbatim"
        assert one(index, [{"quote": quote, "doc": doc}]).doc == doc


@settings(max_examples=100)
@given(data=st.data())
def test_in_a_long_document_a_quote_is_found_as_in_a_short_one(index: Index, data: Any) -> None:
    doc = data.draw(st.sampled_from(list(TEXTS)))
    text = TEXTS[doc]
    a = data.draw(st.integers(0, len(text) - 1))
    quote = text[a : data.draw(st.integers(a + 1, len(text)))]
    if len(quote.split()) < 2 or cuts_word(text, a) or cuts_word(text, a + len(quote)):
        return
    quote = data.draw(st.sampled_from([quote, "  ".join(quote.split()), quote.replace("–", "-")]))
    offered = [{"quote": quote, "doc": doc}]
    short = one(index, offered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlm.answers.citations.WHOLE_CHARS", 5)
        assert one(index, offered) == short


def test_a_quote_of_too_many_words_for_a_long_text_is_looked_for_by_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_store.grep.LARGE_PROGRAM", 100)
    monkeypatch.setattr("index_store.grep.MOST_STEPS", 1_000_000)
    quote = " ".join(f"word{n}" for n in range(90))
    (tmp_path / "long.txt").write_text("x " * 2_000 + quote + " y" * 2_000)
    index = open_text(tmp_path / "long.txt")
    with pytest.raises(BadQuery):
        index.grep(quote.replace(" ", r"[\s\pZ]+"))
    assert one(index, [quote]).supported == "verbatim"


def test_a_long_document_is_not_read_whole_to_look_for_a_quote(tmp_path: Path) -> None:
    words, times = "The ketch lies in the bay with all her sails set and nobody on deck. ", 30_000
    assert len(words) * times > 2 * WHOLE_CHARS
    (tmp_path / "long.txt").write_text(words * times + "The mate was – ashore.")
    index = open_text(tmp_path / "long.txt")
    tracemalloc.start()
    found = [
        one(index, [{"quote": q, "doc": "long.txt"}])
        for q in ("The mate was - ashore.", "A cook was aboard.")
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [citation.supported for citation in found] == ["respaced", "unsupported"]
    assert found[0].quote == "The mate was – ashore."
    assert peak < 6 * len(words) * times  # most of it the words of the index; it took 16 times as much


def test_a_citation_as_json_is_a_place_its_words_and_how_they_stand(tmp_path: Path) -> None:
    assert resolve(View(toy_index(tmp_path / "t")), "", KETCH)[0].as_json() == {
        "doc": "boats.txt",
        "start": 0,
        "end": 24,
        "quote": KETCH,
        "page": None,
        "supported": "verbatim",
        "similarity": 1.0,
    }


# -- words of a summary ------------------------------------------------------------------------------------


def test_words_that_only_a_summary_has_are_cited_to_its_node(tmp_path: Path) -> None:
    view = View(toy_index(tmp_path / "toy.index"))
    for quote in ("have a mizzen.", "have  a\nmizzen.", "Boats and masts"):
        (citation,) = resolve(view, "", [{"node": "L1-00000", "quote": quote}])
        assert (citation.supported, citation.node, citation.doc) == ("summary", "L1-00000", None)
        assert " ".join(quote.split()) == citation.quote
        assert not CITATION.problem(event_of(view.index, citation))


def test_words_of_a_document_are_cited_to_it_though_a_summary_is_named(tmp_path: Path) -> None:
    view = View(toy_index(tmp_path / "toy.index"))
    (citation,) = resolve(view, "", [{"node": "L1-00000", "quote": "The ketch has two masts."}])
    assert (citation.supported, citation.doc, citation.node) == ("verbatim", "boats.txt", "L0-00000")


@pytest.mark.parametrize(
    "offered",
    [
        {"node": "L1-00001", "quote": "have a mizzen."},  # another node's
        {"quote": "have a mizzen."},
        {"node": "L1-00000", "quote": "has a mizzens."},
        {"node": "L9-00000", "quote": "have a mizzen."},
        {"node": {}, "quote": "have a mizzen."},
    ],
)
def test_words_that_the_named_node_does_not_have_stand_in_no_summary(tmp_path: Path, offered: Json) -> None:
    view = View(toy_index(tmp_path / "toy.index"))
    assert {citation.supported for citation in resolve(view, "", [offered])} <= {"unsupported", "nearest"}


def test_a_summary_of_what_is_outside_too_is_not_cited(tmp_path: Path) -> None:
    view = View(toy_index(tmp_path / "toy.index"), scope=Scope(doc="one.txt"))
    (citation,) = resolve(view, "", [{"node": "L1-00001", "quote": "Äpfel und"}])
    assert citation.supported == "unsupported"


def test_a_sentence_that_other_documents_have_too_names_them(tmp_path: Path) -> None:
    same = "It has a canteen."
    texts = [
        f"Oslo. {same}",
        f"Rome. {same} Yes.",
        f"{same[:-1]}ette.",
        "It has none. Yes.",
        f"Cork has no name. {same}",
    ]
    index = index_of(tmp_path / "i", texts, width=40)
    assert one(index, [{"quote": same}]).also_in == ("001.txt", "004.txt")
    (scoped,) = resolve(View(index, scope=Scope(doc="000.txt")), "", [{"quote": same}])
    assert scoped.also_in == ()
    assert one(index, [{"quote": "Yes."}]).also_in == ()
