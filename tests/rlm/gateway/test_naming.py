"""Options that go with a call, and short names for models: what is taken, what is refused, where it is looked for."""

import argparse
import inspect
import math
from pathlib import Path
from typing import Any

import pytest

from rlm import Models
from rlm.gateway.errors import GatewayError
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.naming import Named, add_model_options, aliases, named_by, user_file
from rlm.gateway.options import check_options, is_reserved, parse_option

#: The parameters of litellm that a caller may set.
FREE = {
    "temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs",
    "top_logprobs", "reasoning_effort", "thinking", "verbosity", "user", "safety_identifier",
}  # fmt: skip
FAST = '[fast]\nmodel = "openai/gpt-5-mini"\ntemperature = 0\nreasoning_effort = "low"\n'


# -- options -----------------------------------------------------------------------------------------------


def test_every_parameter_of_litellm_is_either_free_or_refused() -> None:
    module = litellm()
    from litellm.types.utils import all_litellm_params

    names = {*inspect.signature(module.acompletion).parameters, *all_litellm_params}
    names |= set(module.constants.DEFAULT_CHAT_COMPLETION_PARAM_VALUES)
    taken = {name for name in names if name.isidentifier() and not is_reserved(name) and name[0] != "_"}
    assert taken == FREE


@pytest.mark.parametrize(
    "name",
    [
        "model", "messages", "max_tokens", "max_completion_tokens", "maxOutputTokens", "api_key", "apiKey", "api_base",
        "base_url", "stream", "n", "N", "tools", "tool_choice", "functions", "num_retries", "fallbacks", "extra_body",
        "extra_headers", "headers", "timeout", "response_format", "service_tier", "mock_response", "best_of", "input",
        "input_cost_per_token", "custom_llm_provider", "num_predict", "candidateCount", "web_search_options",
        "metadata", "aws_secret_access_key", "vertex_credentials", "drop_params", "callbacks", "", "_hidden", "a b",
        "top-p", "x" * 99,
    ],
)  # fmt: skip
def test_what_would_change_the_cost_the_target_or_the_call_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(GatewayError) as refused:
        check_options({name: 1})
    assert "\n" not in str(refused.value) and repr(name[:80]) in str(refused.value)
    with pytest.raises(GatewayError):
        Models("openai/gpt-5-mini", options={name: 1})


@pytest.mark.parametrize(
    "value",
    [
        {"max_tokens": 10**6}, {"deep": {"maxOutputTokens": 1}}, [{"api_key": "x"}], {"a": [[{"num_predict": 5}]]},
    ],
)  # fmt: skip
def test_a_refused_name_is_found_inside_a_value_too(value: Any) -> None:
    with pytest.raises(GatewayError, match=r"'reasoning' holds '.*', which cannot be set"):
        check_options({"reasoning": value})


def looped() -> list[Any]:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", -0.1, "is -0.1; give a number from 0 to 2"),
        ("temperature", 2.1, "is 2.1"),
        ("temperature", math.nan, "is nan"),
        ("temperature", True, "is True"),
        ("temperature", "hot", "is 'hot'"),
        ("reasoning_effort", "huge", "give one of none, minimal, low"),
        ("reasoning_effort", ["low"], "give one of none, minimal, low"),
        ("top_p", math.inf, "is inf, which JSON cannot say"),
        ("top_p", {1, 2}, "which JSON cannot say"),
        ("stop", "\ud800", "which JSON cannot say"),
        ("stop", "x" * 20_000, "has 20,002 characters; at most 10,000"),
        ("stop", looped(), "is nested more than 8 deep"),
    ],
)
def test_a_value_that_cannot_be_sent_is_refused_before_anything_is_spent(
    name: str, value: Any, words: str
) -> None:
    with pytest.raises(GatewayError) as refused:
        check_options({name: value})
    assert words in str(refused.value) and len(str(refused.value)) < 400


def test_options_that_are_no_object_are_refused() -> None:
    with pytest.raises(GatewayError, match="the model options are a list"):
        Models("openai/gpt-5-mini", options=["temperature"])  # type: ignore[arg-type]


def test_what_a_provider_has_of_its_own_passes() -> None:
    given = {
        "top_k": 40, "min_p": 0.05, "num_ctx": 8192, "safety_settings": [{"category": "a", "threshold": "b"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "logit_bias": {"50256": -100}, "stop": ["\n\n"],
    }  # fmt: skip
    assert check_options(given) == given


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("a=0.9", 0.9),
        ("a=low", "low"),
        ('a="0.9"', "0.9"),
        ("a=[1, 2]", [1, 2]),
        ('a={"b": 1}', {"b": 1}),
        ("a=b=c", "b=c"),
        ("a=", ""),
        ("a=true", True),
        ("a=" + "[" * 100_000, "[" * 100_000),
    ],
)
def test_a_typed_value_is_json_where_it_is_and_else_text(pair: str, value: Any) -> None:
    assert parse_option(pair) == ("a", value)


@pytest.mark.parametrize("pair", ["", "=1", "top_p", "top_p 0.9"])
def test_a_typed_option_without_name_or_value_is_refused(pair: str) -> None:
    with pytest.raises(GatewayError, match="write it as NAME=VALUE"):
        parse_option(pair)


def test_the_child_is_sent_the_same_options_unless_it_has_its_own() -> None:
    both = Models("a/b", options={"temperature": 1})
    assert both.child_options == both.options == {"temperature": 1}
    own = Models("a/b", "c/d", {"temperature": 1}, {"seed": 7})
    assert (own.sub_call_options("c/d"), own.sub_call_options("a/b")) == ({"seed": 7}, {"temperature": 1})
    assert Models("a/b").as_json() == {"root": "a/b", "child": "a/b"}


# -- short names -------------------------------------------------------------------------------------------


def typed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    return parser.parse_args(words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(FAST + '\n[own]\nmodel = "openai/x"\nwindow = 9_000\nusd_per_million = [0.5, 2]\n')
    return path


def test_a_short_name_stands_for_a_model_with_its_options(file: Path) -> None:
    fast, own = aliases(file)["fast"], aliases(file)["own"]
    assert fast == Named("openai/gpt-5-mini", {"temperature": 0, "reasoning_effort": "low"})
    assert own == Named("openai/x", {}, (0.5, 2.0), 9_000)


def test_what_is_typed_goes_before_what_the_short_name_says(file: Path) -> None:
    args = typed("--models", str(file), "--temperature", "0.7", "--model-option", "seed=7")
    assert named_by("fast", args).options == {"temperature": 0.7, "reasoning_effort": "low", "seed": 7}
    assert named_by("openai/other", args) == Named("openai/other", {"temperature": 0.7, "seed": 7})


def test_an_option_that_is_given_twice_is_refused() -> None:
    for words in (["--temperature", "1", "--model-option", "temperature=0"], ["--model-option", "a=1"] * 2):
        with pytest.raises(GatewayError, match="given twice"):
            named_by("openai/x", typed(*words))


def test_short_names_are_looked_for_in_the_users_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "raptor-rlm", tmp_path / "docs", tmp_path / "my.index"):
        folder.mkdir(exist_ok=True)
        for name in ("models.toml", "rlm.toml"):
            (folder / name).write_text(FAST)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    for named in ("", ".", "raptor-rlm/.."):  # no absolute path, and so none
        monkeypatch.setenv("XDG_CONFIG_HOME", named)
        assert user_file() == home / ".config" / "raptor-rlm" / "models.toml" and aliases() == {}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert set(aliases()) == {"fast"}


def test_without_a_home_there_are_no_short_names_whatever_stands_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~/.config/raptor-rlm").mkdir(parents=True)
    (tmp_path / "~/.config/raptor-rlm/models.toml").write_text(FAST)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where nothing names one
    assert aliases() == {}
    with pytest.raises(FileNotFoundError, match="there is no home folder"):
        user_file()


def test_elsewhere_a_file_is_where_that_system_has_it_and_one_that_is_where_it_was_before_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "Library", tmp_path / ".config" / "raptor-rlm"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name, appauthor: str(new / name))
    assert user_file() == new / "raptor-rlm" / "models.toml"
    old.mkdir(parents=True)
    (old / "models.toml").write_text(FAST)
    assert user_file() == old / "models.toml" and set(aliases()) == {"fast"}
    (new / "raptor-rlm").mkdir(parents=True)
    (new / "raptor-rlm" / "models.toml").write_text("")
    assert user_file() == new / "raptor-rlm" / "models.toml" and aliases() == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fast", "are not TOML"),
        ("a = " + "[" * 50_000, "are not TOML"),
        ('fast = "openai/x"', "'fast' is no table; write [fast]"),
        ("[fast]\ntemperature = 0", "'fast' names no model"),
        ("[fast]\nmodel = 3", "'fast' names no model"),
        ('[fast]\nmodel = " "', "'fast' names no model"),
        ('["openai/gpt-5"]\nmodel = "openai/x"', "is no short name"),
        ('["a\\nb"]\nmodel = "openai/x"', "is no short name"),
        ('[a]\nmodel = "b"\n[b]\nmodel = "openai/x"', "'a' names 'b', which is a short name too"),
        ('[a]\nmodel = "a"', "'a' names 'a', which is a short name too"),
        ('[a]\nmodel = "openai/x"\nmax_tokens = 5', "'max_tokens' cannot be set"),
        ('[a]\nmodel = "openai/x"\napi_key = "k"', "'api_key' cannot be set"),
        ('[a]\nmodel = "openai/x"\ntemperature = 9', "'temperature' is 9; give a number"),
        ('[a]\nmodel = "openai/x"\nsince = 2026-01-01', "which JSON cannot say"),
        ('[a]\nmodel = "openai/x"\ntop_p = inf', "which JSON cannot say"),
        ('[a]\nmodel = "openai/x"\nwindow = -1', "sets window to something else"),
        ('[a]\nmodel = "openai/x"\nwindow = true', "sets window to something else"),
        ('[a]\nmodel = "openai/x"\nusd_per_million = [1]', "sets usd_per_million to something else"),
        ('[a]\nmodel = "openai/x"\nusd_per_million = [-1, 1]', "sets usd_per_million to something else"),
        ('[a]\nmodel = "openai/x"\nusd_per_million = [nan, 1]', "sets usd_per_million to something else"),
    ],
)
def test_what_is_wrong_in_a_file_of_short_names_is_one_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(GatewayError) as refused:
        aliases(path)
    assert words in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_named_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"cannot read the models .*No such file"):
        aliases(tmp_path / "none.toml")
    with pytest.raises(GatewayError, match=r"cannot read the models .*directory"):
        aliases(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(GatewayError, match="are not TOML"):
        aliases(tmp_path / "bytes.toml")
    (tmp_path / "long.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(GatewayError, match="more than 1,048,576 bytes"):
        aliases(tmp_path / "long.toml")
