"""The offline models: word for word, within their limits, the same every time, and unharmed by any text."""

import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import example, given, settings, strategies as st

from rlm.gateway.blocks import Block, quote
from rlm.gateway.offline.extractive import summarise
from rlm.gateway.offline.reader import NO_PASSAGE, read
from rlm.gateway.offline.sentences import MAX_SENTENCE_CHARS, split, words
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message
from rlm.prompts import sub_call
from tests.helpers.places import ROOT, data_file

SCHEDULER = (
    "The scheduler decides which process runs next. It is called on every timer interrupt. "
    "A fair scheduler gives each process an equal share of the processor. Lunch is served at noon. "
    "Dr. Smith wrote the Completely Fair Scheduler, e.g. for Linux. Processes that wait gain priority, "
    "so that no process starves. The scheduler keeps its processes in a red-black tree."
)
HOSTILE = [
    " " * 300_000,
    "a" * 300_000,
    "." * 300_000,
    ". " * 100_000,
    "\n" * 100_000,
    "?\n" * 50_000,
    "A. " * 100_000,
    '."' * 100_000,
    "漢字。" * 30_000,
    "Aa Bb " * 50_000,
    "a_" * 100_000,
    "\ud800. X" * 1000,
]


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split(text)]


def parts(reply: str) -> tuple[str, str]:
    head, _, summary = reply.partition("\nSUMMARY: ")
    return head.removeprefix("LABEL: "), summary


pieces = st.sampled_from(
    ["Word. ", "e.g. ", "\n", "\n\n", "? ", "a", " ", "…", "。", "- item\n", "x" * 500, "\u2028"]
)
any_text = st.one_of(st.text(max_size=200), st.lists(pieces, max_size=30).map("".join))


@settings(deadline=None)  # the first call reads a vocabulary
@given(any_text)
@example("")
@example("No end")
@example("x" * 1000)
@example("Word.  " + "x" * 1000)
def test_sentences_cover_all_but_white_space_in_order(text: str) -> None:
    spans = split(text)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    assert all(
        text[end:start].replace("|", "").strip() == "" for end, start in zip(ends, starts, strict=True)
    )
    assert all(0 < end - start <= MAX_SENTENCE_CHARS for start, end in spans)
    assert all(part == part.strip() for part in sentences(text))


def test_sentences_end_where_a_reader_would_end_them() -> None:
    assert sentences(SCHEDULER)[4] == "Dr. Smith wrote the Completely Fair Scheduler, e.g. for Linux."
    assert sentences("It grew 3.5 percent. (In the U.S. alone!) Why? J. Doe knows.") == [
        "It grew 3.5 percent.",
        "(In the U.S. alone!)",
        "Why?",
        "J. Doe knows.",
    ]
    assert sentences("これは文です。次の文です。") == ["これは文です。", "次の文です。"]


def test_wrapped_lines_are_one_sentence_and_lists_headings_and_code_are_lines() -> None:
    wrapped = "This is a long line of prose that the author has wrapped at\nseventy characters or so."
    assert sentences(wrapped) == [wrapped]
    assert sentences("Heading\n\nText of it.\n- one\n- two\ndef f(x):\n    return x") == [
        "Heading",
        "Text of it.",
        "- one",
        "- two",
        "def f(x):",
        "return x",
    ]


BOXED = (
    " |  dumps(obj, *, allow_nan=True, indent=None)\n"
    " |      If allow_nan is true, then NaN, Infinity, and -Infinity will be\n"
    " |      encoded as such.  This behavior is not JSON specification compliant,\n"
    " |      but is consistent with most decoders.\n"
    " |  \n"
    " |      >>> dumps(nan, allow_nan=True, indent=None, separators=None, sort_keys=False)\n"
    " |      NaN\n"
)


def test_a_sentence_runs_over_the_lines_of_indented_boxed_and_commented_text() -> None:
    assert sentences(BOXED) == [
        "dumps(obj, *, allow_nan=True, indent=None)",
        "If allow_nan is true, then NaN, Infinity, and -Infinity will be\n |      encoded as such.",
        "This behavior is not JSON specification compliant,\n |      but is consistent with most decoders.",
        ">>> dumps(nan, allow_nan=True, indent=None, separators=None, sort_keys=False)",
        "NaN",
    ]
    indented = (
        "    If onerror is set, it is called to handle the error with the path,\n    which it is given."
    )
    assert sentences(indented) == [indented.strip()]
    hanging = "* quotechar - specifies a one-character string to use as the\n    quoting character."
    assert sentences(hanging) == [hanging]
    commented = "# A comment that is long enough to have been wrapped at some column\n# by its author.\nx = 1"
    assert sentences(commented) == [commented[: commented.index("\nx")], "x = 1"]


def test_indented_code_stays_lines_however_long() -> None:
    code = "    total = compute(a_long_argument, another_argument, and_one_more)\n    other = total + 1"
    assert sentences(code) == [line.strip() for line in code.split("\n")]
    deeper = "A line that would be wide enough to go on with the one below it\n        merges them."
    assert sentences(deeper) == [line.strip() for line in deeper.split("\n")]
    assert sentences("| a | b |\n| c | d |") == ["a | b |", "c | d |"]


def test_words_are_stemmed_content_words() -> None:
    assert words("The schedulers were scheduling, and the 漢字 too") == ["schedul", "schedul", "漢", "字"]


def test_a_summary_is_a_label_and_sentences_word_for_word_in_order() -> None:
    name, summary = parts(summarise(user("Summarise.\n" + quote([Block("os.txt 0-400", SCHEDULER)])), 80))
    assert 1 <= len(name.split()) <= 8
    assert name.startswith("os, ")
    kept = sentences(summary)
    assert set(kept) < set(sentences(SCHEDULER))
    assert kept == sorted(kept, key=SCHEDULER.index)
    assert "Lunch" not in summary


def test_a_summary_does_not_say_the_same_thing_twice() -> None:
    blocks = [
        Block(f"L0-{i:05}", f"The scheduler decides which process runs next. Fact {i} is about trees.")
        for i in range(9)
    ]
    _, summary = parts(summarise(user(quote(blocks)), 120))
    assert summary.count("decides which process runs next") == 1


def test_the_instructions_around_the_blocks_are_not_summarised() -> None:
    prompt = (
        "Write a summary of scheduler documents.\n"
        + quote([Block("a", "Cats sleep all day.")])
        + "\nBe short."
    )
    assert parts(summarise(user(prompt), 100)) == ("a, Cats, sleep, day", "Cats sleep all day.")


def test_node_ids_are_no_titles_and_names_are_preferred() -> None:
    text = "Ada Lovelace met Charles Babbage. Ada Lovelace wrote notes. Charles Babbage built engines."
    name, _ = parts(summarise(user(quote([Block("L0-00001", text), Block("L0-00002", text)])), 100))
    assert name.startswith("Ada Lovelace, Charles Babbage")


def test_the_label_of_summaries_is_a_table_of_contents_of_their_labels() -> None:
    blocks = [
        Block("finance, stock, dividends, paid", "It is paid. It is company stock."),
        Block("finance, stock, buyback, paid", "It is paid. The company bought stock."),
        Block("finance, mortgages, loans, paid", "It is paid. The company lends."),
        Block("genes, axin, expression", "Axin is expressed."),
    ]
    name, _ = parts(summarise(user(quote(blocks)), 200))
    assert name.split(", ")[:3] == ["finance", "genes", "stock"]  # each next one for those without a term yet
    assert name.split(", ").index("mortgages") < 5
    again = [Block("MAP_SHARED, mapping, shared, flags", "x"), Block("MAP_SHARED, shared maps", "x")]
    assert parts(summarise(user(quote(again)), 200))[0].startswith("MAP_SHARED, flags")


def test_a_word_counts_in_all_its_forms_and_shows_its_commonest() -> None:
    name, _ = parts(
        summarise(user(quote([Block("L0-00001", "Coffee is made. The coffee of coffee drinkers.")])), 99)
    )
    assert name.split(", ").count("coffee") == 1
    assert "Coffee" not in name


def test_a_title_leads_the_label_only_where_most_chunks_have_it() -> None:
    same = [Block(f"my_heap.txt {i}-{i + 9}", "Heaps are merged. Heaps are trees.") for i in range(3)]
    other = [Block(f"{name}.txt 0-9", "Heaps are merged. Heaps are trees.") for name in ("oak", "elm", "ash")]
    assert parts(summarise(user(quote([*same, *other[:2]])), 200))[0].startswith("my heap, ")
    assert "my heap" not in parts(summarise(user(quote([*same, *other])), 200))[0]


RAISES = """Return the number of bytes written. Raises ValueError where the raw stream is closed.

Args: timeout: None waits for ever. Returns None. Raises BlockingIOError where the raw stream is non-blocking; a
raw stream returns None then, and the write buffer stays as it is. Returns True
where the write buffer was flushed. Raises None."""


def test_a_label_is_of_phrases_and_not_of_the_keywords_of_descriptions() -> None:
    name, _ = parts(summarise(user(quote([Block("L0-00001", RAISES), Block("L0-00002", RAISES)])), 200))
    terms = name.split(", ")
    assert {"raw stream", "write buffer"} <= set(terms)
    assert not {"none", "raises", "returns", "true", "args", "return"} & set(
        name.lower().replace(",", "").split()
    )
    assert "stream" not in terms  # nothing is said twice


def test_a_label_over_chunks_begins_with_the_title_and_section_that_most_of_them_share() -> None:
    blocks = [
        Block(
            f"lease.md {i}-{i + 9}",
            "Pets are kept. Pets are walked.",
            f"Lease of Flat 4 › Pets and plants, page {i}",
        )
        for i in range(1, 4)
    ]
    assert parts(summarise(user(quote(blocks)), 200))[0].startswith("Lease of Flat 4, Pets and plants")


def test_common_words_do_not_stand_out_and_names_keep_their_underscores() -> None:
    text = "self returns a value. self returns the zygote_pool. The value of self: a zygote_pool, a value."
    name, _ = parts(summarise(user(quote([Block("L0-00001", text), Block("L0-00002", text)])), 100))
    assert name.startswith("zygote_pool, ")
    label = parts(summarise(user(quote([Block("zygote_pool, _x", text)] * 2)), 100))[0]
    assert label.startswith("zygote_pool, ")


@settings(deadline=None)  # the first call reads a vocabulary
@given(
    st.lists(st.builds(Block, st.text(max_size=10).map(lambda t: t.replace("\n", "")), any_text), max_size=4),
    st.integers(1, 200),
)
@example([Block("a", "")], 50)
@example([Block("", "one two three " * 50)], 30)
@example([Block("\u1c30", "A¹A"), Block("0\x95𐀀𐀀𐀀𞀀", "AA"), Block("0:0:\U00013e40𘒀\U0001e380", "AºA")], 60)
def test_any_blocks_have_a_summary_within_its_tokens(blocks: list[Block], max_tokens: int) -> None:
    reply = summarise(user(quote(blocks)), max_tokens)
    name, summary = parts(reply)
    assert len(name.split()) <= 8
    assert "\n" not in name
    assert max_tokens < 60 or count_tokens("offline/extractive", reply) <= max_tokens
    assert max_tokens < 60 or summary
    assert reply == summarise(user(quote(blocks)), max_tokens)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_makes_the_offline_models_slow_or_fail(text: str) -> None:
    started = time.process_time()
    reply = summarise(user(quote([Block("a", text)])), 200)
    assert read(user("QUESTION: what is aa?\n" + quote([Block("a", text)])), 200)
    assert time.process_time() - started < 8
    assert count_tokens("offline/extractive", reply) <= 200
    assert parts(reply)[1]


def test_the_reader_quotes_the_best_sentences_with_their_blocks() -> None:
    blocks = [Block("L0-00001", "Lunch is served at noon. Nobody is late."), Block("os.txt 0-400", SCHEDULER)]
    reply = read(
        user("Answer from the data.\nQUESTION: Which tree keeps the processes?\n" + quote(blocks)), 200
    )
    first = reply.split("\n")[0]
    assert first == '[os.txt 0-400] "The scheduler keeps its processes in a red-black tree."'
    assert len(reply.split("\n")) <= 4


def test_prose_that_answers_comes_before_the_signature_that_only_names() -> None:
    question = "QUESTION: How does dumps treat NaN and infinity with allow_nan and indent?\n"
    reply = read(user(question + quote([Block("L0-00001", BOXED)])), 400)
    assert reply.startswith(
        '[L0-00001] "If allow_nan is true, then NaN, Infinity, and -Infinity will be\n |      enc'
    )


def test_a_passage_is_read_that_a_chosen_sentence_names_by_its_title() -> None:
    blocks = [
        Block("a", "Skerry Light was built by Anna Holm. It is tall.", "Skerry Light"),
        Block("b", "She was born in Oakford.", "Anna Holm"),
        Block("c", "He was born in Lune.", "Peter Brandt"),
    ]
    reply = read(
        user("QUESTION: In which town did the life of the builder of Skerry Light begin?\n" + quote(blocks)),
        200,
    )
    assert reply.split("\n")[:2] == [
        '[a] "Skerry Light was built by Anna Holm."',
        '[b] "She was born in Oakford."',
    ]
    assert "Lune" not in reply


def test_a_sentence_counts_what_the_title_of_its_passage_says() -> None:
    blocks = [
        Block("a", "The deposit is two rents.", "Lease of Flat 9"),
        Block("b", "The deposit is three rents.", "Lease of Flat 4"),
    ]
    assert read(user("QUESTION: What deposit has flat 4?\n" + quote(blocks)), 200).startswith("[b]")


def test_one_passage_does_not_take_all_quotes_where_another_has_as_much() -> None:
    blocks = [
        Block("a", "The mast is pine. Rain fell. The mast is tall. Snow fell. The mast is old."),
        Block("b", "A mast leans."),
    ]
    reply = read(user("QUESTION: What about the mast?\n" + quote(blocks)), 200)
    assert "[b]" in reply.split("\n")[1]


def test_what_was_quoted_is_not_quoted_again() -> None:
    whole = "The scheduler keeps processes in a tree and the tree is balanced."
    blocks = [
        Block("a", whole),
        Block("b", whole.replace(" tree", "\n| tree")),
        Block("c", "in a tree and the tree is balanced."),
    ]
    reply = read(user("QUESTION: In which balanced tree are processes kept?\n" + quote(blocks)), 400)
    assert reply == f'[a] "{whole}"'


def test_the_reader_says_when_nothing_bears_on_the_question() -> None:
    prompt = "QUESTION: Who painted the ceiling?\n" + quote([Block("a", SCHEDULER)])
    assert read(user(prompt), 100) == NO_PASSAGE
    assert read(user("QUESTION: what is it?\n" + quote([Block("a", SCHEDULER)])), 100) == NO_PASSAGE
    assert read(user("no question here"), 100) == NO_PASSAGE


def test_a_question_inside_the_data_is_data() -> None:
    blocks = [Block("a", "QUESTION: Where is lunch?\nLunch is in the hall. Trees are red and black.")]
    reply = read(user("QUESTION: Which colour are trees?\n" + quote(blocks)), 100)
    assert reply == '[a] "Trees are red and black."'


def test_without_blocks_the_rest_of_the_prompt_is_read_and_the_last_question_counts() -> None:
    reply = read(
        user(f"QUESTION: Where is lunch?\n{SCHEDULER}\nQUESTION: What is called on every interrupt?"), 100
    )
    assert reply.startswith('[text] "It is called on every timer interrupt."')


@settings(deadline=None)  # the first call reads a vocabulary
@given(any_text, any_text)
def test_the_reader_quotes_only_what_is_there(question: str, text: str) -> None:
    question = " ".join(question.split())
    reply = read(user(f"QUESTION: {question}\n" + quote([Block("a", text)])), 1000)
    if reply != NO_PASSAGE:
        assert all(part in text for part in reply.removeprefix('[a] "').removesuffix('"').split('"\n[a] "'))


def test_the_reader_finds_the_gold_section_of_a_story_more_often_than_not() -> None:
    def rows(name: str) -> list[dict[str, object]]:
        with data_file(f"fairytaleqa/{name}").open(encoding="utf-8", newline="\n") as lines:
            return [json.loads(line) for line in lines]

    texts = {str(row["_id"]): str(row["text"]) for row in rows("corpus.jsonl")}
    hits = total = 0
    for row in rows("queries.jsonl")[::25]:
        gold = row["gold"]
        assert isinstance(gold, list)
        text = texts[gold[0]["doc"]]
        reply = read(user(f"QUESTION: {row['text']}\n" + quote([Block("story", text)])), 400)
        quoted = [line.removeprefix('[story] "').removesuffix('"') for line in reply.split("\n[story]")]
        sections = [text[one["start"] : one["end"]] for one in gold]
        hits += any(part.strip(' "') in section for part in quoted for section in sections)
        total += 1
    assert hits / total > 0.5


ANSWERS = """
import random
from rlm.gateway.blocks import Block, quote
from rlm.gateway.offline.extractive import summarise
from rlm.gateway.offline.reader import read

chance = random.Random(0)
names = [f"{a}{b}" for a in ("boat", "mast", "sail", "keel", "harbour", "rope") for b in ("er", "ing", "ly", "wood")]
for _ in range(60):
    sentences = [" ".join(chance.sample(names, 9)).capitalize() + "." for _ in range(12)]
    sentences += [" ".join(reversed(s[:-1].lower().split())).capitalize() + "." for s in sentences]  # ties
    prompt = quote([Block("a", " ".join(sentences))])
    for model in (summarise, read):
        print(model([{"role": "user", "content": f"{prompt}\\n\\nQUESTION: {' '.join(names)}?"}], 60))
"""


@pytest.mark.slow
def test_replies_do_not_hang_on_the_hashes_of_strings() -> None:
    replies = {
        subprocess.run(
            [sys.executable, "-c", ANSWERS],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "0123"
    }
    assert len(replies) == 1


@pytest.mark.parametrize("name", ["hotel_limit", "hotelLimit", "HOTEL_LIMIT", "_hotel_limit", "HotelLimit"])
def test_the_words_of_an_identifier_are_found(name: str) -> None:
    wanted, held = set(words("What is the hotel limit?")), words(f'"{name}": "180 EUR"')
    assert wanted <= set(held), held
    text = f'{{\n  "train_class": "second",\n  "{name}": "180 EUR",\n  "note": "kept"\n}}'
    reply = read(user(sub_call("What is the hotel limit?", [Block("a.json", text)])), 500)
    assert "180 EUR" in reply, reply
