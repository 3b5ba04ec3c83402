"""Whether a run was reasonable: its steps against an independent ranking, what it lost, and its sentences."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from index_store.index import Index, open_index
from index_store.writer import Draft
from rlm import Limits, Models, ask
from rlm.asking.chat import open_chat
from rlm.audit import Thresholds, TraceError, check, read
from rlm.audit.checking import definitions
from rlm.audit.checking.evidence import evidence_for, held_by, strong_passages
from rlm.audit.checking.sentences import checked_claims
from rlm.audit.checking.shown import areas_shown
from rlm.audit.checking.steps import Offer, judged
from rlm.audit.redacting import redact_field
from rlm.cli import main
from rlm.gateway.blocking import run_blocking
from rlm.gateway.offline.registry import register_offline
from tests.helpers.audit_sample import citation, sample_run
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.toy import document, publish_toy, toy_draft

QUESTION = "How heavy is the anchor of the lugger?"
#: One topic a branch, so that a run can go to the wrong one; each text is one chunk.
TOPICS = {
    "boats": (
        "The anchor of the lugger is as heavy as four sacks of flour, some 212 pounds.",
        "A lugger has two masts and four-cornered sails.",
        "The ketch carries its mizzen before the rudder.",
    ),
    "fruit": (
        "Pears keep until January in a cool cellar.",
        "Apples are picked when their pips are brown.",
        "Quinces are boiled before anyone eats them.",
    ),
    "stars": (
        "Vega is a star of the first magnitude in the Lyre.",
        "The Plough is seen all year round from the north.",
        "Sirius is the brightest star of the night.",
    ),
}
RIGHT, BESIDE, ELSEWHERE = "L0-00000", "L0-00003", "L0-00006"
BOATS, FRUIT = "L1-00000", "L1-00001"
JSON_KEYS = {"verdict", "reasons", "coverage", "steps", "lost", "claims"}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Nine texts in three branches."""
    texts = [text for each in TOPICS.values() for text in each]
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(13, 8)).astype(np.float32)
    draft = Draft(
        documents=[document(f"{i}.txt", text) for i, text in enumerate(texts)],
        chunks=np.array([(i, 0, len(text)) for i, text in enumerate(texts)], dtype=np.int64),
        labels=[*TOPICS, "All"],
        summaries=["Of boats.", "Of fruit.", "Of stars.", "Boats, fruit, stars."],
        levels=[9, 3, 1],
        children=[np.arange(3), np.arange(3, 6), np.arange(6, 9), np.arange(9, 12)],
        tokens=np.full(13, 5, dtype=np.int64),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )
    warm_up()
    path = tmp_path_factory.mktemp("topics") / "topics.index"
    publish_toy(path, draft)
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield open_index(path)


def finish(node: str, content: str = "", quote: str = "") -> str:
    number = int(node.split("-")[1])
    text = quote or [text for each in TOPICS.values() for text in each][number]
    return (
        f'answer["content"] = {content or text + " [1]"!r}\n'
        f'answer["citations"] = [{{"node": {node!r}, "quote": {text!r}}}]\nanswer["ready"] = True'
    )


@pytest.fixture
def run(index: Index, tmp_path: Path) -> Callable[..., Path]:
    """The folder of a real run whose root writes this code."""

    def of(code: str, question: str = QUESTION, **limits: Any) -> Path:
        register_offline("scripted", lambda messages, tokens: f"```python\n{code}\n```")
        models = Models("offline/scripted", "offline/reader")
        bounds = Limits(timeout_s=120, cell_timeout_s=60, **limits)
        return ask(index, question, route="rlm", models=models, limits=bounds, runs=tmp_path / "runs").trace

    return of


WAYS = {
    "not offered": f"context.search('pears', k=3, under={FRUIT!r})\ncontext.read({BESIDE!r})\n{finish(BESIDE)}",
    "not entered": f"context.search({QUESTION!r}, k=9)\ncontext.read({ELSEWHERE!r})\n{finish(ELSEWHERE)}",
    "not read": f"context.children({BOATS!r})\ncontext.read({ELSEWHERE!r})\n{finish(ELSEWHERE)}",
    "not cited": f"context.read({RIGHT!r})\ncontext.read({ELSEWHERE!r})\n{finish(ELSEWHERE)}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_goes_wrong_is_questionable_and_told_where_it_lost_the_evidence(
    way: str, index: Index, run: Callable[..., Path]
) -> None:
    report = check(run(WAYS[way]), index)
    assert report.verdict == "questionable" and way.removeprefix("not ") in report.reasons[0]
    assert (report.lost[0].node, report.lost[0].stage, report.lost[0].doc) == (RIGHT, way, "0.txt")


def test_a_run_that_reads_and_cites_the_best_passage_is_reasonable(
    index: Index, run: Callable[..., Path]
) -> None:
    code = f"context.children({index.root.id!r})\ncontext.children({BOATS!r})\ncontext.read({RIGHT!r})\n"
    report = check(run(code + finish(RIGHT)), index)
    assert report.verdict == "reasonable", report.reasons
    assert [(step.taken, step.rank, step.of, step.regret) for step in report.steps] == [
        (BOATS, 1, 3, 0.0),
        (RIGHT, 1, 3, 0.0),
    ]
    assert report.coverage.cited and report.coverage.cited > 0.7 and report.claims[0].supported


def test_passing_by_the_branch_that_holds_the_evidence_is_a_questionable_step(
    index: Index, run: Callable[..., Path]
) -> None:
    code = f"context.children({index.root.id!r})\ncontext.children({FRUIT!r})\ncontext.read({BESIDE!r})\n"
    first, *_ = check(run(code + finish(BESIDE)), index).steps
    assert (first.taken, first.verdict) == (FRUIT, "questionable")
    assert (
        first.regret is not None
        and first.regret > 0.5
        and f"{BOATS}, the best that was passed by" in first.why
    )


def test_a_step_is_judged_by_what_was_asked_there_too(index: Index, run: Callable[..., Path]) -> None:
    code = (
        f"context.search('How long do pears keep?', k=9)\ncontext.read({BESIDE!r})\ncontext.read({RIGHT!r})\n"
    )
    report = check(run(code + finish(RIGHT)), index)
    assert [step.verdict for step in report.steps] == ["reasonable"] and report.verdict == "reasonable"


def test_an_answer_that_finds_nothing_is_judged_by_what_was_read(
    index: Index, run: Callable[..., Path]
) -> None:
    nothing = 'answer["content"] = "Not in these documents"\nanswer["ready"] = True'
    assert check(run(f"context.read({RIGHT!r})\n{nothing}"), index).verdict == "reasonable"
    report = check(run(f"context.read({BESIDE!r})\n{nothing}"), index)
    assert report.verdict == "questionable" and report.claims == () and report.lost[0].node == RIGHT


def test_an_answer_that_finds_nothing_lost_nothing_where_a_search_finds_no_strong_evidence_either(
    index: Index, run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = 'answer["content"] = "Not in these documents"\nanswer["ready"] = True'
    folder = run(f"context.read({BESIDE!r})\n{nothing}")
    weak = check(folder, index, Thresholds(found=1.0))
    assert (weak.verdict, weak.lost, weak.coverage.cited) == ("reasonable", (), 1.0)
    assert "finds no strong evidence" in weak.reasons[0] and "coverage is whole" in weak.reasons[1]
    command = ["trace", "check", str(folder), "--index", str(index.path), "--min-coverage", "0.5"]
    assert [main([*command, "--found", share]) for share in ("0.01", "1")] == [1, 0]
    failed, *_ = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert "less than --min-coverage 0.5; the answer says that the documents do not hold it" in failed


def test_without_the_index_it_says_what_can_still_be_said(index: Index, run: Callable[..., Path]) -> None:
    good = check(run(f"context.read({RIGHT!r})\n{finish(RIGHT)}"))
    assert good.verdict == "cannot tell" and "no index was given" in good.reasons[-1]
    assert good.as_json()["coverage"] == dict.fromkeys(("offered", "entered", "read", "cited"))
    assert good.claims[0].supported and not good.lost
    passed = check(run(WAYS["not entered"]))
    assert passed.steps[0].why.endswith("(by what the run recorded)")


def test_the_report_has_the_fields_that_others_build_on(index: Index, run: Callable[..., Path]) -> None:
    told = json.loads(json.dumps(check(run(WAYS["not entered"]), index).as_json()))
    assert set(told) == JSON_KEYS and set(told["coverage"]) == {"offered", "entered", "read", "cited"}
    assert all(
        set(step) == {"seq", "taken", "rank", "of", "regret", "verdict", "why"} for step in told["steps"]
    )
    assert all(set(lost) == {"node", "doc", "start", "end", "stage"} for lost in told["lost"])
    assert all(set(claim) == {"text", "supported", "why"} for claim in told["claims"])
    assert told["steps"] and told["lost"] and told["claims"]


def test_a_check_is_the_same_each_time(index: Index, run: Callable[..., Path]) -> None:
    folder = run(WAYS["not cited"])
    assert check(folder, index).as_json() == check(folder, index).as_json()


def test_another_index_is_refused_in_one_sentence(
    index: Index, run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = run(WAYS["not cited"])
    publish_toy(tmp_path / "other.index", toy_draft())
    with pytest.raises(TraceError, match="another generation"):
        check(folder, open_index(tmp_path / "other.index"))


def test_a_trace_that_was_changed_cannot_be_told(index: Index, run: Callable[..., Path]) -> None:
    folder = run(WAYS["not cited"])
    file = folder / "trace.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"stop":"answer"', b'"stop":"budget"', 1))
    report = check(folder, index)
    assert report.verdict == "cannot tell" and "not as it was written" in report.reasons[0]


def test_a_budget_that_ended_the_search_is_named(index: Index, run: Callable[..., Path]) -> None:
    report = check(run("print('looking')", turns=1), index)
    assert report.verdict == "questionable" and any("its turns" in reason for reason in report.reasons)


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_fails_where_demands_are_not_met(
    index: Index, run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = run(WAYS["not entered"]), run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")
    made_up = run(f"context.read({RIGHT!r})\n" + finish(RIGHT, "It weighs 999 pounds [1]."))
    where = ["--index", str(index.path)]
    demands = (["--min-coverage", "0.5"], ["--max-regret", "0.1"])
    assert [main(["trace", "check", str(wrong), *where, *demand]) for demand in ([], *demands)] == [0, 1, 1]
    assert [main(["trace", "check", str(right), *where, *demand]) for demand in demands] == [0, 0]
    assert [main(["trace", "check", str(one), "--no-unsupported"]) for one in (right, made_up)] == [0, 1]
    assert "999 does not occur" in capsys.readouterr().out
    assert main(["trace", "check", str(wrong), *where, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == JSON_KEYS


def test_a_list_of_runs_tells_what_the_check_found_and_of_a_trace_that_changed_since_nothing(
    index: Index, run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")

    def row() -> dict[str, Any]:
        capsys.readouterr()
        assert main(["trace", "list", str(folder.parent), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        return next(one for one in rows if Path(one["run"]).name == folder.name)

    assert row()["coverage"] is None
    assert main(["trace", "check", str(folder), "--index", str(index.path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert row()["coverage"] == report["coverage"]["cited"] and row()["checked"] == report["verdict"]
    kept = json.loads((folder / "check.json").read_text())
    assert set(kept) == {"head", "verdict", "coverage", "regret", "unsupported"}
    (folder / "check.json").write_text(json.dumps(kept | {"head": "0" * 64}))
    assert row()["coverage"] is None


def test_wrong_demands_are_one_sentence(run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run(WAYS["not cited"]))
    for demand in (
        ["--min-coverage", "0.5"],
        ["--max-regret", "7"],
        ["--strong", "nan"],
        ["--passages", "-1"],
    ):
        assert main(["trace", "check", folder, *demand]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_definitions_are_printed_and_name_every_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["trace", "check", "--definitions"])
    page = capsys.readouterr().out
    assert page.strip() == definitions().strip()
    assert [
        name for name in Thresholds.__dataclass_fields__ if f"`--{name.replace('_', '-')}`" not in page
    ] == []


def test_the_help_and_the_definitions_tell_the_defaults_of_the_thresholds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["trace", "check", "--help"])
    helped = " ".join(capsys.readouterr().out.split())
    for name, value in asdict(Thresholds()).items():
        option = f"--{name.replace('_', '-')}"
        assert f"`{option}` {value}" in " ".join(definitions().split())
        assert f"({value})" in re.split(r" (?=--)", helped[helped.index(f" {option} ") + 1 :])[0]


def test_a_judge_gives_an_opinion_that_is_kept_and_changes_no_verdict(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")
    before = check(folder).as_json()
    assert main(["trace", "check", str(folder), "--judge", "offline/judge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "in the opinion of offline/judge it follows" in told["claims"][0]["why"]
    assert "a model's opinion" in told["reasons"][-1] and told["verdict"] == before["verdict"]
    (line,) = (folder / "judged.jsonl").read_text().splitlines()
    assert json.loads(line)["entails"] is True and check(folder).as_json() == before
    assert main(["trace", "check", str(folder), "--judge", "offline/nobody"]) == 2


def test_a_judge_may_be_named_by_a_short_name_with_its_options(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")
    (tmp_path / "models.toml").write_text('[strict]\nmodel = "offline/judge"\ntemperature = 0.5\n')
    command = ["trace", "check", str(folder), "--models", str(tmp_path / "models.toml"), "--judge", "strict"]
    assert main([*command, "--json"]) == 0
    assert "in the opinion of offline/judge" in json.loads(capsys.readouterr().out)["claims"][0]["why"]
    (line,) = (folder / "judged.jsonl").read_text().splitlines()
    assert (json.loads(line)["model"], json.loads(line)["options"]) == ("offline/judge", {"temperature": 0.5})


def test_figures_of_areas_are_held_against_what_the_run_was_shown_of_them(
    index: Index, tmp_path: Path
) -> None:
    models = Models("offline/reader", "offline/reader")
    folder = ask(index, "What is in here?", route="overview", models=models, runs=tmp_path).trace
    report = check(folder, index)
    assert report.claims and not any(claim.hard for claim in report.claims), report.claims
    events = read(folder)[0]
    (shown,) = [event["result"] for event in events if event["kind"] == "visited"]
    area = next(one for one in shown if one["label"])
    areas = areas_shown(events[0], events)
    for share, supported in ((round(100 * area["share"]), True), (round(100 * area["share"]) + 7, False)):
        content = f"- {share}% {area['label']} ({area['node']}) [1]"
        (claim,) = checked_claims("What is in here?", content, [CITED], 0.4, None, areas)
        assert claim.supported == supported, claim
    assert not checked_claims("What is in here?", content, [CITED], 0.4)[0].supported


def test_several_cited_places_count_together_and_one_place_once(index: Index) -> None:
    evidence = evidence_for(index, QUESTION, np.arange(9))
    right, beside = index.number_of(RIGHT), index.number_of(BESIDE)
    best = evidence.at(right)
    assert held_by(index, evidence, [right]) == held_by(index, evidence, [right, right, beside]) == best
    others = [int(number) for number in evidence.chunks[1:3]]
    assert held_by(index, evidence, others) == pytest.approx(min(sum(map(evidence.at, others)), best))
    assert held_by(index, evidence, []) == 0


# -- the parts ---------------------------------------------------------------------------------------------


def test_the_evidence_adds_up_and_a_branch_has_that_of_its_chunks_once(index: Index) -> None:
    evidence = evidence_for(index, QUESTION, np.arange(9))
    assert sum(evidence.at(n) for n in range(9)) == pytest.approx(1)
    assert evidence.at(len(index) - 1) == pytest.approx(1)
    assert evidence.at(index.number_of(BOATS)) == pytest.approx(sum(evidence.at(n) for n in range(3)))
    best, *_ = strong_passages(index, evidence, 0.1, 10)
    assert index.id_of(best.number) == RIGHT


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.data())
def test_the_regret_is_a_share_and_none_where_the_best_was_taken(
    masses: list[float], data: st.DataObject
) -> None:
    nodes = tuple(f"n{i}" for i in range(len(masses)))
    taken = data.draw(st.sets(st.sampled_from(nodes)))
    held = dict(zip(nodes, masses, strict=True))
    offer = Offer(3, "hits", ("q",), nodes)
    step = judged(
        offer, {"q": held.__getitem__}, taken.__contains__, most_regret=0.3, least_on_offer=0.05, ranked_by=""
    )
    assert step.of == len(nodes) and (step.regret is None or 0 <= step.regret <= 1)
    if taken and step.verdict != "cannot tell" and max(held[n] for n in taken) == max(masses):
        assert (step.rank, step.regret, step.verdict) == (1, 0.0, "reasonable")


CITED = citation("report.txt", "Operating margin fell to 17.8 per cent from 24.3 per cent.")


@pytest.mark.parametrize(
    ("content", "supported", "why"),
    [
        ("Operating margin fell to 17.8 per cent from 24.3 per cent. [1]", True, "word for word"),
        ("The margin fell from 24.3 to 17.8 per cent [1].", True, "telling words"),
        ("The margin fell to 17.9 per cent [1].", False, "17.9 does not occur"),
        ("The margin of Severn Trent fell to 17.8 per cent [1].", False, "severn trent does not occur"),
        ("Harrow & Vale's margin fell [1].", True, "telling word"),
        ("Photosynthesis drives growth in tropical orchards [1].", False, "only 0 of"),
        ('The board wrote that "nobody could have known of this frost" [1].', False, "stands nowhere"),
        ('The board spoke of "the cost of bulk purchases, and" more [1].', True, ""),
    ],
)
def test_a_sentence_is_held_against_what_it_cites(content: str, supported: bool, why: str) -> None:
    (claim,) = checked_claims("What became of Harrow & Vale's margin?", content, [CITED], 0.4)
    assert claim.supported == supported and why in claim.why


def test_a_sentence_that_cites_nothing_needs_the_words_of_what_is_cited() -> None:
    content = "Margin fell to 17.8 per cent [1]. The moon is made of 5 cheeses."
    first, second = checked_claims("What of the margin?", content, [CITED], 0.4)
    assert first.supported and not second.supported and second.hard
    (bare,) = checked_claims("What of the margin?", "It fell by half.", [], 0.4)
    assert not bare.supported and bare.why == "it cites nothing"


def test_a_citation_that_stands_nowhere_supports_nothing() -> None:
    missing = citation("report.txt", "The moon is made of cheese.")
    (claim,) = checked_claims("What of the moon?", "It is made of cheese [1].", [missing], 0.4)
    assert not claim.supported and "no citation of it stands" in claim.why


def test_the_values_of_json_are_claims() -> None:
    claims = checked_claims("What?", '{"margin": 17.8, "was": [24.3, 99], "rose": false}', [CITED], 0.4)
    assert [(claim.text, claim.supported) for claim in claims] == [
        ("17.8", True),
        ("24.3", True),
        ("99", False),
    ]


@given(st.text(max_size=300), st.text(max_size=200))
def test_no_words_of_an_answer_or_a_source_break_the_check(content: str, quote: str) -> None:
    cited = {**CITED, "quote": quote, "found": quote}
    for claim in checked_claims(content, f"{content} [1] {quote}", [cited], 0.4):
        assert claim.why


def test_the_sample_run_is_checked_without_its_index(tmp_path: Path) -> None:
    report = check(sample_run(tmp_path / "run", hostile="<script>alert(1)</script>\x1b[31m"))
    assert report.verdict in ("questionable", "cannot tell") and report.steps


def test_a_chat_is_checked_question_by_question(index: Index, tmp_path: Path) -> None:
    cells = [f"context.read({RIGHT!r})\n{finish(RIGHT)}", f"context.read({BESIDE!r})\n{finish(BESIDE)}"]
    register_offline("scripted", lambda messages, tokens: f"```python\n{cells.pop(0)}\n```")

    async def chatting() -> None:
        models = Models("offline/scripted", "offline/reader")
        async with open_chat(index, models=models, runs=tmp_path) as chat:
            for question in (QUESTION, "Which star is the brightest of the night?"):
                await chat.ask(question)

    run_blocking(chatting())
    (folder,) = tmp_path.iterdir()
    report = check(folder, index)
    assert report.verdict == "questionable" and report.reasons[0].startswith("question 2: ")
    assert any(reason.startswith("question 1: the best that is cited") for reason in report.reasons)
    assert [(claim.supported, claim.question) for claim in report.claims] == [(True, 1), (True, 2)]
    assert [claim["question"] for claim in report.as_json()["claims"]] == [1, 2]
    assert check(folder).reasons[0].startswith("question ")


@pytest.mark.parametrize(
    ("kind", "field", "told"),
    [
        ("run_opened", "question", "the question was taken out"),
        ("answered", "content", "the answer was taken out"),
        ("answered", "citations", "words of the citations were taken out"),
    ],
)
def test_what_was_taken_out_is_not_judged_by_the_words_in_its_place(
    index: Index, run: Callable[..., Path], kind: str, field: str, told: str
) -> None:
    folder = run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")
    assert check(folder, index).verdict == "reasonable"
    seq = next(event["seq"] for event in read(folder)[0] if event["kind"] == kind)
    assert redact_field(folder, seq, field, "Bob", "erasure")
    for report in (check(folder, index), check(folder)):
        assert report.verdict == "cannot tell" and told in report.reasons[0]
        assert "Bob" not in json.dumps(report.as_json()["claims"]) and report.unsupported == 0


def test_a_run_that_was_killed_is_not_called_changed(index: Index, run: Callable[..., Path]) -> None:
    folder = run(f"context.read({RIGHT!r})\n{finish(RIGHT)}")
    lines = (folder / "trace.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "trace.jsonl").write_bytes(b"".join(lines[:-1]))
    report = check(folder, index)
    assert report.verdict == "cannot tell" and report.reasons[0].startswith("the trace has no end")
