"""A server that echoes what it was sent puts no key into a terminal or a trace."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from index_store.index import Index
from rlm.cli import main
from rlm.gateway import gateway as gateway_module
from rlm.gateway.errors import CallFailed, GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.redaction import redacted, without_secrets
from rlm.gateway.types import Message, Request
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import MODEL, ModelServer, error

CANARY = 'sk-canary/"quoted"+0123456789abcdef'
FORMS = [CANARY, json.dumps(CANARY)[1:-1], quote(CANARY)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


def check_clean(text: str) -> None:
    assert "sk-canary" not in text
    assert "0123456789abcdef" not in text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("before", [0, 285], ids=["whole", "where the message is cut"])
def test_no_status_brings_a_key_back(monkeypatch: pytest.MonkeyPatch, status: int, before: int) -> None:
    echo = "." * before + f" you sent Authorization: Bearer {CANARY} and x-api-key={CANARY}"
    with ModelServer([error(status, echo, code=CANARY, **{"x-echo": "Bearer sk-canary"})] * 2) as server:
        server.use(monkeypatch)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        request = Request(MODEL, (Message(role="user", content="words"),), 50)
        (result,) = run(Gateway(Ledger(), attempts=2), request)
    assert isinstance(result, GatewayError)
    check_clean(f"{result} {result!r}")


@pytest.mark.parametrize("setting", ["api_key", "openai_key", "headers"])
def test_a_key_that_is_set_on_litellm_is_not_shown_either(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    value = {"Authorization": f"Bearer {CANARY}"} if setting == "headers" else CANARY
    with ModelServer(lambda body: error(401, f"you sent Bearer {CANARY}")) as server:
        server.use(monkeypatch)
        monkeypatch.setattr(litellm(), setting, value, raising=False)
        (result,) = run(
            Gateway(Ledger(), attempts=1), Request(MODEL, (Message(role="user", content="?"),), 5)
        )
    assert isinstance(result, GatewayError)
    check_clean(f"{result} {result!r}")
    assert f"[value of litellm.{setting}" in str(result)


def test_a_name_and_password_in_an_address_go_too() -> None:
    assert (
        redacted("cannot reach https://anna:s3cret@models.example/v1 (me@example.org)")
        == "cannot reach https://[name and password]@models.example/v1 (me@example.org)"
    )


def test_neither_terminal_nor_trace_shows_a_key(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ModelServer([error(401, f"Incorrect API key provided: {CANARY}")]) as server:
        server.use(monkeypatch)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        asked = [
            "ask",
            str(index.path),
            "How many masts?",
            "--model",
            MODEL,
            "--runs",
            str(tmp_path),
            "--route",
            "direct",
        ]
        assert main(asked) == 2
    out, err = capsys.readouterr()
    assert "OPENAI_API_KEY" in err
    check_clean(out + err)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        check_clean(path.read_bytes().decode("utf-8", "replace"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "hf_token", "AWS_SECRET_ACCESS", "DB_PASSWORD", "GOOGLE_CREDENTIALS"]
)
def test_each_form_of_a_secret_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.setenv(name, f" {CANARY}\n")
    assert redacted(f"a {form} b") == f"a [value of {name}] b"
    check_clean(str(CallFailed(f"it sent {form}")))


def test_a_beginning_of_a_key_at_the_end_of_a_text_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    assert redacted("sent " + CANARY[:12]) == "sent [value of MY_KEY]"


def test_words_and_other_variables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("EDITOR_NAME", "something-long")
    assert redacted("false, and something-long") == "false, and something-long"


def test_the_words_of_a_reply_stay_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_METHOD", "password")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada Lovelace")
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    assert without_secrets("Ada Lovelace asks for a password") == "Ada Lovelace asks for a password"
    assert redacted("Ada Lovelace asks") == "Ada Lovelace asks"
    assert redacted("a password") == "a [value of AUTH_METHOD]"
    check_clean(without_secrets(f"you sent {CANARY}"))
