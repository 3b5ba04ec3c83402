"""What an answer without a language model says of itself, and for which questions it warns."""

import json
import time
from pathlib import Path

import pytest

from index_store.index import Index
from index_store.types import Scope
from rlm import Demands, Models, RlmError, ask
from rlm.asking.offline import (
    COMPARING,
    COUNTING,
    LISTING,
    NOT_ENGLISH,
    READ_BY,
    doubts,
    is_english,
    read_by,
)
from rlm.cli import main
from rlm.gateway.offline.questions import (
    NOT_COMPARED,
    NOT_COUNTED,
    NOT_DECIDED,
    compares,
    counts,
    lists,
    what_quotes_are,
)
from tests.helpers.model_server import MODEL, ModelServer

ENGLISH = [
    "Who signed the lease, and when does it end?",
    "What changed in 2021?",
    "Who is Don Quijote de la Mancha?",
    "Ludwig Mies van der Rohe",
    "Charles de Gaulle biography",
    "What does Qui-Gon say?",
    "Crédit Agricole S.A. guidance",
    "Notice period",
    "Did Société Générale merge with Crédit du Nord?",
    "São Paulo office rent",
    "When was El Niño first described?",
    "lease term Müller GmbH",
    "Is Van Gogh in the collection?",
    "Summarise section 4",
    "termination",
    "Was ist das Thema? means what in English",
    "What is Die Welt?",
    "Who wrote Les Misérables, and where?",
    "What do the terms 'Sturm und Drang' and 'Weltschmerz' mean?",
    "Which bank is called Banco de España?",
    "COVID-19 vaccine efficacy",
    "How does Kia compare with BMW?",
    "What is La La Land about?",
    "Je Suis Charlie slogan origin",
    "Explain the term raison d'être",
    "USD/EUR exchange rate risk",
    "Is Il Sole 24 Ore a newspaper?",
    "Aida by Verdi",
    "Who are the members of ABBA?",
    "What does 株式会社 mean?",
    "2021",
    "???",
    "max depth",
    "Por favor",
    "Tell me about Ho Chi Minh",
    "Ai Weiwei exhibitions",
    "Kim Jong Un speech",
    "Na Hong-jin films",
    "Ki energy in Aikido",
]
OTHERS = [
    "Wer hat den Vertrag unterschrieben?",
    "Wie hoch ist die Kaution?",
    "Wann endet der Mietvertrag und wer zahlt?",
    "Welche Kündigungsfrist gilt für die Mieter?",
    "Qui a signé le bail ?",
    "Quelle est la durée du contrat ?",
    "Combien coûte le loyer ?",
    "Qu'est-ce que le contrat dit sur le préavis ?",
    "¿Quién firmó el contrato?",
    "¿Cuántos empleados tiene la empresa?",
    "Chi ha firmato il contratto?",
    "Quanto dura il contratto di locazione?",
    "Quem assinou o contrato?",
    "Hoeveel werknemers heeft het bedrijf?",
    "Wat is de opzegtermijn?",
    "Kto podpisał umowę?",
    "Jaki jest okres wypowiedzenia?",
    "Vem skrev under avtalet?",
    "Hvem underskrev kontrakten?",
    "Kuka allekirjoitti sopimuksen?",
    "Sözleşmeyi kim imzaladı ve ne zaman?",
    "Kolik zaměstnanců má firma?",
    "Berapa jumlah karyawan perusahaan?",
    "Кто подписал договор?",
    "契約書に署名したのは誰ですか？",
    "谁签署了合同？",
    "계약서에 누가 서명했습니까?",
    "من وقع العقد؟",
    "מי חתם על החוזה?",
    "Ποιος υπέγραψε τη σύμβαση;",
    "अनुबंध पर किसने हस्ताक्षर किए?",
]
COUNTS = [
    "How many employees are there?",
    "What is the total rent?",
    "Total revenue by segment",
    "What is the average salary?",
    "How much is paid per month?",
    "List all contracts",
    "list every supplier",
    "How often was it changed?",
    "What is the number of tenants?",
    "Name all parties",
    "Which word is most common?",
]
NO_COUNTS = [
    "Who signed the lease?",
    "What did Total S.A. report?",
    "Who is Count Dracula?",
    "What does the clause mean?",
    "When does the lease end?",
    "What is The Sum of All Fears about?",
    "Which account was closed?",
    "Is the list attached?",
    "Why was the discount refused?",
    "Totality of the eclipse",
]

COMPARES = [
    "Which is longest, the lease or the licence?",
    "What is the earliest of the dates?",
    "Which contracts run for more than five years?",
    "Who earns the most?",
    "Which town has the rainiest summer?",
    "Which is longer, the lease or the licence?",
    "Which of the two is cheaper?",
    "Who was older?",
    "What is the most expensive item?",
    "Which supplier is least reliable?",
    "Is the second lease longer than the first?",
    "Compare the two leases",
    "What is the difference between the two drafts?",
    "How do the drafts differ?",
    "Rank the towns by size",
    "What are the top five suppliers?",
    "Which invoices are over $500?",
    "Which tenants have stayed at least 10 years?",
    "Which hotel is the best?",
    "Which lease ends first?",
    "Longest river in the report",
    "Does rent exceed income?",
    "Which boat has fewer masts than the yawl?",
    "What do the two leases have in common?",
]
NO_COMPARES = [
    "Who signed the lease?",
    "What interest is paid on the deposit?",
    "When must notice be given at the latest?",
    "What does the West wing hold?",
    "Which request was refused?",
    "What is the rest of the clause?",
    "Is a test required?",
    "What is best practice for backups?",
    "How does the shortest path function work?",
    "What is nearest-neighbour search?",
    "Who may sign rather than the tenant?",
    "Is anyone other than the tenant liable?",
    "Must notice be given no later than 30 days before?",
    "What applies for the most part?",
    "What is allowed under 4.2?",
    "What is the lower limit?",
    "What does heapq.merge return, and how does bisect.insort keep a list sorted?",
    "Who approves travel, and what is the hotel limit?",
    "What happens later?",
    "How long is the notice period?",
    "What is the first duty of the tenant?",
    "Where is the Most Holy Church?",
    "What is said of the last will?",
    "Is at least one witness needed?",
    "What did the guest suggest?",
    "Who is the Greatest Showman?",
    "What did the youngest princess carry?",
    "What is she most known for?",
]


@pytest.mark.parametrize("question", ENGLISH)
def test_english_and_names_are_no_other_language(question: str) -> None:
    assert is_english(question)


@pytest.mark.parametrize("question", OTHERS)
def test_another_language_is_noticed(question: str) -> None:
    assert not is_english(question)


@pytest.mark.parametrize("question", COUNTS)
def test_a_question_that_counts_is_noticed(question: str) -> None:
    assert counts(question)


@pytest.mark.parametrize("question", NO_COUNTS)
def test_a_question_that_counts_nothing_is_not_warned_of(question: str) -> None:
    assert not counts(question)


@pytest.mark.parametrize("question", COMPARES)
def test_a_question_that_compares_is_noticed(question: str) -> None:
    assert compares(question)


@pytest.mark.parametrize("question", NO_COMPARES)
def test_a_question_that_compares_nothing_is_not_warned_of(question: str) -> None:
    assert not compares(question)


def test_a_long_question_is_looked_at_in_no_time() -> None:
    for part in ("which ", "the same ", "a" * 50 + " ", "difference ", "more x ", "sort "):
        began = time.process_time()
        compares(part * 50_000)
        assert time.process_time() - began < 10


def test_each_doubt_is_a_sentence() -> None:
    assert doubts("Who signed?") == ()
    assert doubts("How many employees?") == (COUNTING,)
    assert doubts("Who has the most employees?") == (COMPARING,)
    assert doubts("Wer hat unterschrieben?") == (NOT_ENGLISH,)


def test_only_models_that_are_all_offline_are_no_language_model() -> None:
    assert read_by(Models()) == READ_BY
    assert read_by(Models("offline/navigator", MODEL)) == read_by(Models(MODEL)) == ""


def test_an_offline_answer_says_that_no_language_model_read_the_text(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "ask",
        str(index.path),
        "Wie viele Masten hat die Ketsch und wer zahlt?",
        "--runs",
        str(tmp_path),
    ]
    main(words)
    out = capsys.readouterr().out
    assert f"read by: {READ_BY}" in out
    assert f"warning: {NOT_ENGLISH}" in out
    main([*words[:2], "How many masts has a ketch?", *words[3:], "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["read_by"], said["warnings"]) == (READ_BY, [COUNTING])


def test_an_answer_of_a_language_model_says_nothing_of_that(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(['```python\nFINAL("Two.")\n```']) as server:
        server.use(monkeypatch)
        answer = ask(index, "How many masts has a ketch?", route="rlm", models=Models(MODEL), runs=tmp_path)
    assert (answer.as_json()["read_by"], answer.as_json()["warnings"]) == (None, [])


@pytest.mark.parametrize(
    ("schema", "fills"),
    [
        ({"type": "string"}, True),
        ({"type": ["string", "null"]}, True),
        ({"type": "object"}, False),
        ({"type": "string", "enum": ["yes", "no"]}, False),
        ({"type": "string", "maxLength": 5}, False),
        ({"type": "integer"}, False),
    ],
)
def test_offline_models_are_not_asked_to_fill_a_schema_that_their_quotes_do_not_fit(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str], schema: dict[str, str], fills: bool
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(schema))
    words = ["ask", str(index.path), "Has the ketch two masts?", "--schema", str(tmp_path / "s.json")]
    code = main([*words, "--runs", str(tmp_path / "runs")])
    told = capsys.readouterr().err
    assert code == (0 if fills else 2)
    if fills:
        return
    assert told.startswith(
        "rlm: offline/navigator quotes sentences and fills no schema but one that takes any text;"
    )
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    with pytest.raises(RlmError, match="fills no schema"):
        ask(index, "Has the ketch two masts?", demands=Demands(schema=schema), runs=tmp_path / "runs")


@pytest.mark.parametrize(
    "question",
    [
        "Is the rent due on the first?", "and does it allow pets?", "Were both brothers painters?", "Isn't it red?",
        "Can you tell me whether the lease ends in May?", "“Was it signed?”", "Check if the clause survives.",
        "Are Random House Tower and 888 7th Avenue both used for real estate?", "Whether pets are allowed?",
    ],
)  # fmt: skip
def test_a_question_for_yes_or_no_is_known(question: str) -> None:
    assert what_quotes_are(question) == NOT_DECIDED


@pytest.mark.parametrize(
    "question",
    [
        "Who is the keeper?", "What does it allow?", "Where was it signed?", "Tell me about Will Smith",
        "Canada's capital?",
        "Which month does it end in?", "Island names", "Doe v. Roe",
        "What is the capital of Isle of Man?", "If Gallu is a demon Lilu is what?",
    ],
)  # fmt: skip
def test_a_question_that_quotes_may_answer_is_left_alone(question: str) -> None:
    assert what_quotes_are(question) == ""


def test_quotes_that_are_no_answer_say_so_on_every_route(index: Index, tmp_path: Path) -> None:
    for question, words in {
        "How many masts has the ketch?": NOT_COUNTED,
        "Has the ketch two masts?": NOT_DECIDED,
        "Which boat has the tallest mast of the two?": NOT_COMPARED,
    }.items():
        for route in ("retrieve", "direct", "rlm"):
            answer = ask(index, question, route=route, runs=tmp_path)
            first, *quotes = answer.content.split("\n")
            assert first == words, route
            assert quotes and all(line.startswith('"') and line.endswith("]") for line in quotes)
            assert {c.supported for c in answer.citations} <= {"verbatim", "respaced"} and answer.citations


@pytest.mark.parametrize(
    "question",
    [
        "Which offices have a canteen?", "What functions are defined in util.py?", "And which keepers of it were paid?",
        "Name the heads of the offices.", "What new rules must be kept?", "List the heads of all offices.",
    ],
)  # fmt: skip
def test_a_question_for_all_of_a_kind_is_warned_of(question: str) -> None:
    assert lists(question) or counts(question)
    assert {LISTING, COUNTING} & {*doubts(question)}


@pytest.mark.parametrize(
    "question",
    [
        "Which office has a canteen?", "What bus do I take?", "Which class has a method?", "What process is used?",
        "What did his brothers do?", "What is the name of the ship?", "Which campus are we on?",
    ],
)  # fmt: skip
def test_a_question_for_one_thing_is_not(question: str) -> None:
    assert LISTING not in doubts(question)


def test_a_question_longer_than_code_may_be_is_searched_for_by_its_beginning(
    index: Index, tmp_path: Path
) -> None:
    answer = ask(index, "How long is the mizzen? " + "mast " * 20_000, route="rlm", runs=tmp_path)
    assert answer.stop == "answer" and answer.citations
    assert "the first 1,000 of 100,024 characters" in answer.content


@pytest.mark.parametrize("doc", ["one.txt", "größe.md"])
def test_what_is_in_a_part_is_told_by_its_own_words_where_no_summary_is_of_it_alone(
    index: Index, tmp_path: Path, doc: str
) -> None:
    answer = ask(index, "What is in here?", route="overview", scope=Scope(doc), runs=tmp_path)
    assert "of 1 document lies" in answer.content
    assert {c.supported for c in answer.citations} == {"verbatim"} and {c.doc for c in answer.citations} == {
        doc
    }
