"""What a map over every row is held against: questions, scores, a simulated model, and code as models write it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import Options
from benchmarks._oolong import Answer, Form, Question, Seen, answer, made_up, score
from benchmarks._report import Claim, Loss, Table
from benchmarks._simulated import CHEAP, NEVER, PROSE, STRONG, Asked, Child, Faults, Spent, errs, rows_in
from benchmarks.map import (
    CURVED_PACKS,
    CURVES,
    DEFAULT,
    FAULTS,
    WAYS,
    Found,
    Trial,
    Whole,
    chunks,
    claims,
    corpora,
    flat,
    mapped,
    overlap,
    plain,
    plumbing,
    read_counts,
    read_lines,
    task_of,
    told_of_curves,
    wholes,
)
from rlm.mapping.types import Prompt, Reading
from rlm.mapping.wording import messages

SEEN = [
    Seen(1, "2024-01", "mast"),
    Seen(1, "2024-02", "mast"),
    Seen(2, "2024-02", "mast"),
    Seen(2, "2024-02", "sail"),
    Seen(3, "2024-03", "sail"),
    Seen(3, "2024-03", "keel"),
]
LABELS = ("mast", "sail", "keel")
ROWS = {f"row {number}": LABELS[number % 3] for number in range(8_000)}


@pytest.mark.parametrize(
    ("form", "labels", "least", "true"),
    [
        ("number", ("mast",), 0, 3),
        ("label", (), 0, "mast"),
        ("comparison", ("mast", "sail"), 0, "more common"),
        ("comparison", ("keel", "sail"), 0, "less common"),
        ("comparison", ("sail", "sail"), 0, "same"),
        ("user", ("sail",), 0, "2"),  # as many as user 3, and first in order
        ("month", ("mast",), 0, "2024-02"),
        ("pairs", ("mast",), 1, frozenset({(1, 2)})),
        ("pairs", ("mast", "sail"), 1, frozenset({(1, 2), (1, 3), (2, 3)})),
        ("pairs", ("sail", "mast"), 1, frozenset({(1, 2), (1, 3), (2, 3)})),
        ("pairs", ("mast", "keel"), 2, frozenset()),
    ],
)
def test_each_form_of_question_is_answered_from_its_rows(
    form: Form, labels: tuple[str, ...], least: int, true: Answer
) -> None:
    assert answer(Question("any", form, labels, least=least), SEEN) == true


def test_a_question_about_a_user_or_a_month_is_about_their_rows_alone() -> None:
    assert [row.label for row in SEEN if Question("by user", "number", user=2).holds(row)] == ["mast", "sail"]
    assert len([row for row in SEEN if Question("by month", "number", month="2024-03").holds(row)]) == 2


def test_scores_are_those_of_the_papers() -> None:
    assert score(7, 10) == 0.75**3 and score(10, 10) == 1
    assert score("same", "more common") == 0 and score("same", "same") == 1
    assert score(frozenset({(1, 2), (1, 3)}), frozenset({(1, 2)})) == pytest.approx(2 / 3)
    assert score(frozenset(), frozenset()) == 1 and score(frozenset(), frozenset({(1, 2)})) == 0


def test_a_made_up_corpus_repeats_and_two_of_its_labels_are_equally_frequent() -> None:
    corpus = made_up(10_000, 3)
    assert corpus == made_up(10_000, 3) != made_up(10_000, 4)
    counts = sorted(sum(row.label == label for row in corpus.rows) for label in corpus.labels)
    assert counts[0] == counts[1] < counts[2]
    true = [answer(q, [row.seen for row in corpus.rows if q.holds(row)]) for q in corpus.questions]
    assert "same" in true and "more common" in true
    assert {question.kind for question in corpus.questions} == {
        "count", "most frequent", "comparison", "by user", "by month", "pairs",
    }  # fmt: skip


# -- the simulated model -------------------------------------------------------------------------------------


def wrong(tokens: int, model: str = CHEAP, company: bytes = b"one") -> set[str]:
    """The rows that the model misreads or passes over in a prompt of so many tokens."""
    labels = Child(ROWS, LABELS).read(Asked(model, tokens, company), list(ROWS))
    return {row for row, label in zip(ROWS, labels, strict=True) if label != ROWS[row]}


def test_between_the_points_of_its_curve_the_model_errs_by_the_logarithm_of_the_tokens() -> None:
    assert [errs(tokens) for tokens in (10, 250, 1_000, 4_000, 10**9)] == [0.005, 0.005, 0.01, 0.03, 0.5]
    assert errs(2_000) == pytest.approx(0.02)


def test_the_model_errs_as_often_as_its_curve_says_and_passes_over_a_quarter_as_many() -> None:
    for tokens in (1_000, 4_000, 16_000):
        assert len(wrong(tokens)) / len(ROWS) == pytest.approx(1.25 * errs(tokens), rel=0.2)
    assert len(wrong(16_000, STRONG)) / len(ROWS) == pytest.approx(1.25 * errs(16_000) / 3, rel=0.2)
    labels = Child(ROWS, LABELS).read(Asked(CHEAP, 16_000, b"one"), list(ROWS))
    assert labels.count(None) / len(ROWS) == pytest.approx(0.25 * errs(16_000), rel=0.3)


def test_the_same_prompt_is_read_alike_and_other_company_otherwise_but_for_what_is_hard() -> None:
    one, other = wrong(16_000), wrong(16_000, company=b"other")
    assert one == wrong(16_000) != other
    by_chance = len(one) * len(other) / len(ROWS)
    assert len(one & other) > 2 * by_chance


def test_the_model_sees_the_rows_of_a_pack_with_their_breaks() -> None:
    task = task_of(LABELS)
    assert rows_in(messages(task, ["a", "b: c\n2: d", "e"])[-1]["content"]) == ["a", "b: c\n2: d", "e"]


def test_a_reply_that_has_no_room_is_cut_and_every_call_is_charged() -> None:
    task, child = task_of(LABELS), Child(ROWS, LABELS, curve=NEVER)
    prompt = Prompt(messages(task, list(ROWS)[:50]), 100, CHEAP, tuple(range(50)))
    taken = list[Reading]()

    async def take(place: int, reading: Reading) -> None:
        taken.append(reading)

    asyncio.run(child([prompt], take))
    (reading,) = taken
    assert reading.cut and 0 < reading.text.count("\n") < 50
    assert child.spent.calls == 1 and child.spent.prompt_tokens > 50 and child.spent.reply_tokens <= 101
    dollars = (child.spent.prompt_tokens * 0.25 + child.spent.reply_tokens * 2.0) / 1e6
    assert child.spent.usd == pytest.approx(dollars)


# -- the ways ------------------------------------------------------------------------------------------------


def test_code_as_models_write_it_takes_counts_and_lines_and_loses_a_reply_in_prose() -> None:
    question = Question("by user", "number", ("mast",), user=4)
    assert read_counts('```json\n{"mast": 2, "sail": 1}\n```', question) == [
        Seen(4, "", "mast"), Seen(4, "", "mast"), Seen(4, "", "sail"),
    ]  # fmt: skip
    assert read_lines("2024-05-06 | 4 | Mast \nand | more | words") == [Seen(4, "2024-05", "mast")]
    assert read_counts(PROSE, question) == [] == read_lines(PROSE)


def test_chunks_hold_every_row_once_in_order() -> None:
    rows = made_up(2_000, 0).rows
    pieces = list(chunks(rows, 1_000))
    assert [row for piece in pieces for row in piece] == list(rows)
    assert all(sum(len(row.line) for row in piece) <= 1_000 for piece in pieces) and len(pieces) > 3


def test_without_errors_every_way_answers_every_question_right(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial.of(made_up(2_000, 0))
    monkeypatch.setattr(Trial, "child", lambda _: Child(trial.truth, trial.corpus.labels, curve=NEVER))
    for question in trial.corpus.questions:
        for read in (flat, mapped):
            seen = [row for row in read(trial, question)[0] if question.holds(row)]
            assert score(answer(question, seen), trial.truly(question)) == 1
        for counts in (True, False):
            assert answer(question, plain(1_000, counts, trial, question)[0]) == trial.truly(question)


def test_a_flat_call_sees_no_more_than_its_window_holds() -> None:
    trial = Trial.of(made_up(2_000, 0))
    cut = Trial(trial.corpus, trial.truth, trial.text[: len(trial.text) // 2])
    half = cut.text.count("\n")
    assert half - 5 < len(flat(cut, trial.corpus.questions[0])[0]) <= half


def test_rows_that_are_seen_right_are_counted_as_often_as_they_are_there() -> None:
    assert overlap(SEEN, SEEN) == 1
    assert overlap([SEEN[0], SEEN[0]], SEEN) == pytest.approx(1 / 6)


def test_a_map_is_exact_whatever_fails_and_full_where_nothing_does() -> None:
    truth = {row.line: row.label for row in made_up(30_000, 0).rows}
    none, some = plumbing(truth, Faults()), plumbing(truth, FAULTS)
    assert (none.wrong, none.again) == (0, 0) and 3 < none.full <= none.calls <= none.full + 1
    assert some.wrong == 0 and some.again > 50 and some.calls > some.full
    assert 1 < none.sent < 1.2 < some.sent


def test_without_the_given_messages_the_made_up_rows_are_asked_about_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.map.CORPORA", {2_000: 2})
    assert {source for source, _, _ in corpora(Options(tmp_path, tmp_path))} == {"made-up rows"}
    (tmp_path / "sms_spam.tsv").write_text("".join(f"ham\tword {n}\nspam\tbuy {n}\n" for n in range(99)))
    asked = [(source, tokens) for source, tokens, _ in corpora(Options(tmp_path, tmp_path))]
    assert asked == [("made-up rows", 2_000)] * 2 + [("sms_spam.tsv", 2_000)] * 2


# -- what is claimed -----------------------------------------------------------------------------------------


def told(scores: dict[str, float], dollars: dict[str, float]) -> tuple[list[Claim], list[Loss]]:
    """The claims and losses of two questions, where a way that is not named scores 0.5 for 1 dollar."""
    found = [
        Found("toy", 9, "count", name, scores.get(name, 0.5), 1.0, Spent(usd=dollars.get(name, 1.0)), 0.1)
        for name in WAYS
        for _ in range(2)
    ]
    items: Sequence[object] = list(claims(9, found))
    return [one for one in items if isinstance(one, Claim)], [one for one in items if isinstance(one, Loss)]


def test_the_map_is_held_against_the_best_of_the_others_and_the_cheapest_code() -> None:
    few, many = (f"plain code, {form}, 10k characters" for form in ("counts", "lines"))
    (best, dear, cheap, shared), losses = told({DEFAULT: 0.8, many: 0.7}, {few: 0.6})
    assert best.holds and best.peer == f"70.0 {many}" and best.interval == "+10.0 [+10.0 +10.0]"
    assert dear.holds and dear.figure == "1.00000 (1.00 times)"
    assert cheap.holds is False and cheap.peer == f"0.60000 {few}"
    assert shared.text.endswith("all asked of one map") and shared.peer == dear.peer
    assert losses == [Loss(few, "dollars of a question at 9 tokens", "0.60000", "1.00000")]


def test_where_code_scores_more_it_is_said() -> None:
    many = "plain code, lines, 30k characters"
    (best, *_), losses = told({many: 0.75}, {})
    assert best.holds is False and best.figure == "50.0"
    assert losses == [Loss(many, "score at 9 tokens", "75.0", "50.0", "[+25.0 +25.0]")]


@pytest.mark.parametrize(
    ("score", "dollars", "holds"),
    [(60.0, 2.0, True), (50.0, 0.9, True), (50.0, 1.0, False), (40.0, 0.5, False)],
)
def test_calibrated_packs_are_to_score_more_than_each_fixed_size_or_as_much_for_less(
    score: float, dollars: float, holds: bool
) -> None:
    fixed = [Whole(curve, size, size, (50.0, 50.0), 0.9, 1.0) for curve in CURVES for size in CURVED_PACKS]
    ours = [Whole(curve, 0, 375, (score, score), 0.9, dollars) for curve in CURVES]
    shown, *said = told_of_curves([*fixed, *ours])
    assert isinstance(shown, Table) and [row[0] for row in shown.rows] == [
        "375",
        "750",
        "3,000",
        "6,000",
        "calibrated",
    ]
    assert shown.rows[-1][1:4] == (f"{score:.1f}", "90.0", f"{dollars:.4f}")
    assert [one.holds for one in said if isinstance(one, Claim)] == [holds] * len(CURVED_PACKS)


def test_a_corpus_is_read_whole_by_a_model_of_each_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.map.CURVED_TOKENS", 20_000)
    done = {one.size: one for one in wholes(("steep", 0))}
    assert list(done) == [*CURVED_PACKS, 0] and done[0].taken in (375, 1_000)
    assert done[375].right > done[6_000].right and done[375].usd > done[6_000].usd
