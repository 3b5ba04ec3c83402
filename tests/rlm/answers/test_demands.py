"""What an answer must satisfy: told to the model in words that it can act on."""

from typing import Any

import pytest

from rlm.answers.citations import Citation
from rlm.answers.demands import Demands, is_not_found, unmet
from rlm.prompts import NOT_IN_DOCUMENTS

VERBATIM = Citation("a.txt", 0, 3, "two", None, "verbatim")
NEAREST = Citation("a.txt", 0, 3, "two", None, "nearest", claimed="tow", similarity=0.8)
UNSUPPORTED = Citation(None, None, None, "three " * 50, None, "unsupported", similarity=0.0)
CITED = Demands(citations=True)
YEAR = Demands(schema={"type": "object", "properties": {"year": {"type": "integer"}}})


def test_where_nothing_is_demanded_everything_will_do() -> None:
    for content in ("", "Two.", {"year": "x"}, None):
        assert unmet(Demands(), content, [UNSUPPORTED]) is None


@pytest.mark.parametrize("citations", [[VERBATIM], [NEAREST], [VERBATIM, NEAREST]])
def test_an_answer_with_citations_that_stand_in_the_documents_is_taken(citations: list[Citation]) -> None:
    assert unmet(CITED, "Two.", citations) is None


@pytest.mark.parametrize(
    ("claimed", "stands", "taken"),
    [
        ("The limit is 140 euros", "the limit is 140 euros a night (section 3)", True),
        ("The limit is 150 euros", "the limit is 140 euros a night", False),
        ("within 14 days", "within 14 or 30 days", True),
        ("within 14 or 41 days", "within 14 or 30 days", False),
        ("It must not be approved", "it must be approved", False),
        ("It must be approved", "it mustn't be approved", False),
        ("It cannot be approved", "it can not be approved by him", True),
    ],
)
def test_a_quote_in_other_words_stands_only_with_its_numbers_and_denied_as_often(
    claimed: str, stands: str, taken: bool
) -> None:
    cited = Citation("a.txt", 0, 9, stands, None, "nearest", claimed=claimed, similarity=0.9)
    said = unmet(CITED, "Two.", [VERBATIM, cited])
    assert (said is None) is taken
    if said is not None:
        assert said.startswith(f"1 of 2 quotes does not stand in the documents: {claimed!r}")


def test_an_answer_without_citations_is_returned() -> None:
    said = unmet(CITED, "Two.", [])
    assert said is not None
    assert said.startswith("it cites nothing; quote the exact words")
    assert NOT_IN_DOCUMENTS in said
    assert unmet(CITED, {"year": 2021}, []) == said
    assert unmet(CITED, "", []) == said


def test_citations_that_stand_nowhere_are_named() -> None:
    said = unmet(CITED, "Two.", [VERBATIM, UNSUPPORTED, UNSUPPORTED])
    assert said is not None
    assert said.startswith("2 of 3 quotes do not stand in the documents: 'three three")
    assert said.endswith("copy the exact words, or leave them out.")
    assert len(unmet(CITED, "Two.", [UNSUPPORTED] * 100) or "") < 1_000
    assert unmet(CITED, NOT_IN_DOCUMENTS, [UNSUPPORTED]) is not None


@pytest.mark.parametrize(
    "content",
    [
        NOT_IN_DOCUMENTS,
        "not in these documents.",
        "**Not in these documents**",
        '"Not in these documents."',
        "Not in these documents: they end in 2019.",
        "Not in these documents. They end in 2019.",
        "Not in these documents – they end in 2019.",
        "Not in these documents\n\nThey end in 2019.",
    ],
)
def test_not_in_these_documents_is_an_answer_that_needs_no_citation_and_no_schema(content: str) -> None:
    assert is_not_found(content)
    assert unmet(Demands(citations=True, schema=YEAR.schema), content, []) is None


@pytest.mark.parametrize(
    "content",
    [
        "Not in these documents alone: in all.",
        "Not in these documents-to-be",
        "It is not in these documents.",
        "",
        None,
        {},
    ],
)
def test_other_answers_do_not_say_that_nothing_was_found(content: Any) -> None:
    assert not is_not_found(content)


def test_an_answer_that_does_not_fit_the_schema_is_returned_with_each_error_and_its_place() -> None:
    said = "it does not fit the schema: $.year: '2O21' is not of type 'integer'"
    assert unmet(YEAR, '{"year": "2O21"}', []) == said
    assert unmet(YEAR, '{"year": 2021}', []) is None
    assert unmet(YEAR, {"year": 2021}, []) is None
    both = unmet(Demands(True, YEAR.schema), '{"year": "2O21"}', [])
    assert both is not None
    assert both.splitlines()[1] == said
