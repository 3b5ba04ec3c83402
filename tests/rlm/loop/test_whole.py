"""Which questions are about all that there is, and which only sound like it."""

import pytest
from hypothesis import given, strategies as st

from rlm.loop.whole import is_about_all, is_about_every

ABOUT_ALL = """
What is in here?
what's in this index
What is in these documents?
What are these documents about?
What is this corpus about?
What is it all about?
What does this collection cover?
What kinds of documents are in here?
What sort of texts are there?
What are the main themes?
What are the main topics of this corpus?
Which topics are covered in these files?
What themes are there?
What topics do these documents cover?
Summarise everything.
Summarize all the documents
Give me an overview of this collection.
Please give me a short overview of the corpus
Can you describe this dataset?
What is this collection?
Overview of everything
What do we have here?
What are the key themes across these papers?
How many documents are in here?
How many files are there?
What files are there?
What topics are covered here?
""".strip().splitlines()
NOT_ABOUT_ALL = """
What is in the box?
What is in it for the tenant?
What are the main themes of The Happy Prince?
What are the main themes of the Happy Prince in these documents?
What is the main topic of the first meeting?
What topics did the committee discuss on Monday?
Summarise chapter 3.
Give me an overview of the BM25 algorithm.
Give me an overview of the lease.
What is this document's notice period?
What are these documents signed by?
Who wrote these documents?
What is here called a ketch?
Describe the ketch.
What does the lease cover?
What does this clause cover?
Which areas are flooded?
Which areas of the brain are active in the documents of the trial?
What is there to pay?
How many documents mention the lease?
Which files are missing?
What kinds of documents must a tenant show?
Compare Microsoft with Apple.
What is the subject of the sentence?
What are the themes of "Hamlet"?
When was the corpus made?
What is the database?
Describe the index.
Describe the dataset.
What is in the library?
What does the library cover?
""".strip().splitlines()


@pytest.mark.parametrize("question", ABOUT_ALL)
def test_a_question_about_all_is_known(question: str) -> None:
    assert is_about_all(question)
    assert is_about_all(f"  {question}\n")


@pytest.mark.parametrize("question", NOT_ABOUT_ALL)
def test_a_question_that_looks_like_one_is_not(question: str) -> None:
    assert not is_about_all(question)


@given(st.text(max_size=600))
def test_any_text_is_judged(question: str) -> None:
    assert is_about_all(question) in (True, False)


def test_a_long_question_quotes_something() -> None:
    assert not is_about_all("What is in here? " + " " * 400)


EVERY = """
How many complaints name a late delivery, by month?
How many functions of these modules are deprecated?
Count all messages that are spam
how many messages are spam?
List all contracts that mention arbitration
Which label is most frequent in all messages?
What share of the reviews is negative?
How many of the emails mention Enron, per month?
How many documents are about water?
How many tickets were closed without an answer?
How many paragraphs name Brandt?
List all customers
List every complaint
How many errors are in the log?
How many messages are about "Project X"?
""".strip().splitlines()
NOT_EVERY = """
How many films did Hitchcock direct?
How many employees does Acme have?
How many pages has Ulysses?
How many days of notice are required?
How many people live in the city where Einstein was born?
What is the number of employees?
How many sections does the Treaty of Rome have?
How many members are in the committee?
How many cases per week were there on the island?
How many people have come in contact and how many of these are in observation?
What does heapq.merge return?
Who approves travel?
""".strip().splitlines()


@pytest.mark.parametrize("question", EVERY)
def test_a_question_that_counts_or_lists_over_everything_is_recognised(question: str) -> None:
    assert is_about_every(question)


@pytest.mark.parametrize("question", NOT_EVERY)
def test_a_question_that_counts_one_thing_is_not_about_everything(question: str) -> None:
    assert not is_about_every(question)


@given(st.text(max_size=600))
def test_no_text_makes_the_rules_about_everything_slow_or_fail(question: str) -> None:
    assert is_about_every(question) in (True, False)
