"""Counting tokens: exact where it can be, never below, never on the network."""

import subprocess
import sys
import time

import pytest
from hypothesis import example, given, strategies as st

from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Message


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_counting_imports_no_litellm_and_opens_no_socket() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket = refuse\n"
        "from rlm.gateway.tokens import count_tokens\n"
        "counts = [count_tokens(model, 'hello world') for model in ('gpt-4', 'gpt-5-mini')]\n"
        "print(*counts, 'litellm' in sys.modules)"
    )
    assert in_a_fresh_python(code) == "2 2 False"


def test_the_gateway_can_be_imported_without_litellm_numpy_or_tiktoken() -> None:
    code = (
        "import sys\n"
        "import rlm.gateway.gateway\n"
        "print(sorted({'litellm', 'numpy', 'tiktoken', 'Stemmer', 'openai'} & set(sys.modules)))"
    )
    assert in_a_fresh_python(code) == "[]"


def test_models_are_counted_with_their_own_vocabulary_and_others_with_a_margin() -> None:
    text = "Der Donaudampfschifffahrtskapitän 漢字 def f(x): return x"
    old, new = count_tokens("gpt-4-turbo", text), count_tokens("openai/gpt-5-mini", text)
    assert old > new
    assert count_tokens("openai/gpt-4o", text) == count_tokens("offline/reader", text) == new
    assert new * 1.2 <= count_tokens("anthropic/claude-sonnet-4-5", text) < new * 1.2 + 1


def test_a_conversation_counts_its_framing() -> None:
    messages = [Message(role="system", content="hello"), Message(role="user", content="world")]
    assert count_tokens("gpt-5-mini", messages) == 1 + 1 + 2 * 4 + 3
    assert count_tokens("gpt-5-mini", []) == 3


@pytest.mark.parametrize(
    "text", [" " * 1_000_000, "a" * 1_000_000, "^" * 500_000, "\ud800" * 10], ids=str.__len__
)
def test_texts_that_break_the_tokenizer_when_whole_are_counted(text: str) -> None:
    started = time.process_time()
    assert count_tokens("gpt-5-mini", text) > 0
    assert time.process_time() - started < 5


def test_marks_of_the_chat_format_in_a_text_are_text() -> None:
    assert count_tokens("gpt-5-mini", "<|endoftext|>") > 1


@given(st.text(max_size=200), st.integers(0, 40))
@example("漢字" * 20, 3)
@example("👩‍👩‍👧" * 5, 2)
def test_a_truncated_text_is_a_start_of_the_text(text: str, max_tokens: int) -> None:
    start = truncate(text, max_tokens)
    assert text.startswith(start)
    assert len(start) <= len(text)
    if count_tokens("offline/reader", text) <= max_tokens:
        assert start == text
    if max_tokens == 0:
        assert start == ""
