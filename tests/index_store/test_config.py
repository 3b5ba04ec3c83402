"""raptor.toml: found upwards, under the command line and over the environment, and never a stranger's."""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import raptor.cli
import rlm.cli
from index_store import config
from index_store.config import KEYS, ConfigError, found_above, parsed, read, settled
from raptor.clustering.settings import ClusterSettings
from raptor.settings import BuildSettings
from rlm.commands.given import _LIMITS
from rlm.errors import RlmError
from rlm.gateway.options import EFFORTS, MOST_TEMPERATURE
from rlm.limits import ROUTES, Limits
from rlm.sandbox.opening import choices

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two below one with a raptor.toml, in which commands run."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    written(tmp_path, "")
    return folder


def written(folder: Path, text: str) -> Path:
    path = folder / config.NAME
    path.write_text(text)
    path.chmod(0o644)
    return path


def rlm_args(*line: str) -> dict[str, object]:
    return vars(parsed(rlm.cli.parser(), "ask", line))


def raptor_args(*line: str) -> dict[str, object]:
    return vars(parsed(raptor.cli.parser(), "build", line))


# -- what holds --------------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_file_and_the_file_over_the_environment(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAPTOR_ASK_MODEL", "offline/of-the-environment")
    monkeypatch.setenv("RAPTOR_ASK_DEPTH", "3")
    assert rlm_args("ask", "i", "q")["model"] == "offline/of-the-environment"
    written(tmp_path, '[ask]\nmodel = "offline/of-the-file"\n')
    assert (rlm_args("ask", "i", "q")["model"], rlm_args("ask", "i", "q")["depth"]) == (
        "offline/of-the-file",
        3,
    )
    assert rlm_args("ask", "i", "q", "--model", "offline/typed")["model"] == "offline/typed"


def test_each_setting_of_a_question_is_an_option_of_rlm_ask_and_each_of_a_build_one_that_it_takes() -> None:
    asks = config._commands(rlm.cli.parser())["ask"]
    builds = config._commands(raptor.cli.parser())["build"]
    options = {a.dest for a in asks._actions}
    assert {key.name.removeprefix("ask.") for key in KEYS if key.name.startswith("ask.")} <= options
    own = {f"build.{field.name}" for field in fields(BuildSettings)} - {config.CLUSTER}
    flags = {f"build.{a.dest}" for a in builds._actions}
    of_a_build = {key.name for key in KEYS if key.name.startswith("build.")}
    assert own <= of_a_build <= own | flags


def test_the_defaults_that_a_new_file_names_are_those_that_hold(tmp_path: Path) -> None:
    head, settings = config.template().split("\n\n", 1)
    assert all(line.startswith("#") for line in head.splitlines())
    path = written(tmp_path, settings.replace("\n# ", "\n").removeprefix("# "))
    assert {*read(path)} == {*(key.name for key in KEYS), config.CLUSTER}
    defaults = BuildSettings()
    for key in KEYS:
        name = key.name.removeprefix("build.")
        if key.name.startswith("build.") and hasattr(defaults, name):
            assert key.default == getattr(defaults, name), key.name
    assert written(tmp_path, config.template()) and read(tmp_path / config.NAME) == {}


def test_the_index_may_be_left_out_wherever_it_stands_in_the_file(here: Path, tmp_path: Path) -> None:
    written(tmp_path, 'index = "my.index"\nruns = "/kept"\n')
    mine = "../../my.index"
    assert raptor_args("build", "docs")["output"] == raptor_args("inspect")["index"] == mine
    asked = rlm_args("ask", "who signed?")
    assert (asked["index"], asked["question"], asked["runs"]) == (
        mine,
        "who signed?",
        os.path.relpath("/kept"),
    )
    assert rlm_args("search", "lease", "-k", "3")["query"] == "lease"
    assert raptor_args("update", "x.md", "y.md")["source"] == ["x.md", "y.md"]
    (here / "other.index").mkdir()
    (here / "other.index" / "CURRENT").touch()
    assert rlm_args("ask", "other.index", "who?")["index"] == "other.index"
    assert raptor_args("update", "other.index", "y.md")["source"] == ["y.md"]


def test_an_old_file_of_a_build_still_says_the_same(here: Path) -> None:
    old = here / "old.toml"
    old.write_text("chunk_tokens = 50\n[cluster]\ntarget_size = 5\n")
    args = raptor_args("build", "docs", "-o", "i", "--config", str(old))
    assert args["settings"] == {"chunk_tokens": 50, "cluster": {"target_size": 5}}
    assert raptor.read_settings(old) == BuildSettings(chunk_tokens=50, cluster=ClusterSettings(target_size=5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chunk_token = 3", "sets 'chunk_token', which is unknown; did you mean chunk_tokens?"),
        ("[ask]\nmax_usdd = 3", "sets 'ask.max_usdd', which is unknown; did you mean max_usd?"),
        ("[askk]\nmodel = 'x'", "has a table ['askk'], which is unknown; did you mean [ask]?"),
        (
            "[zzz]\nmodel = 'x'",
            "has a table ['zzz'], which is unknown; there are [ask], [build.cluster], [build]",
        ),
        ("[ask]\napi_base = 'http://x'", "sets 'ask.api_base', and keys and addresses do not belong there"),
        ("[ask]\napi_key = 'x'", "sets 'ask.api_key', and keys and addresses do not belong there"),
        ("[api_keys]\nopenai = 'x'", "sets 'api_keys', and keys and addresses do not belong there"),
        ("[ask]\nmax_usd = -1", "sets max_usd to -1; give a number from 0 to 1e+09"),
        ("[ask]\nmax_usd = nan", "sets max_usd to nan; give a number"),
        ("[ask]\ntimeout = 0.0", "sets timeout to 0.0; give more than 0"),
        ("[ask]\nbackend = 'docker'", "sets backend to 'docker'; give one of auto, linux, monty"),
        ("[ask]\nmax_usd = '3'", "sets max_usd to '3'; give a number"),
        ("[ask]\nmax_calls = 3.5", "sets max_calls to 3.5; give a whole number"),
        ("[ask]\nroute = 'best'", "sets route to 'best'; give one of auto, direct"),
        ("ask = 3", "sets ask to 3; write a table [ask]"),
        ("[build]\nexclude = '*.tmp'", "sets exclude to '*.tmp'; give a list of patterns"),
        ("chunk_tokens = 50\n[build]\nchunk_tokens = 60", "sets build.chunk_tokens twice"),
        ("[ask", "are not TOML"),
    ],
)
def test_what_is_wrong_in_it_is_one_sentence(
    here: Path, tmp_path: Path, capsys: Capture, text: str, said: str
) -> None:
    written(tmp_path, text)
    assert rlm.cli.main(["ask", "my.index", "who?"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ask]\nmax_usd = -1", "sets max_usd to -1; give a number from 0"),
        ("[ask]\nroute = 'foo'", "sets route to 'foo'; give one of auto, direct"),
        ("[build]\nchunk_tokens = 1", "chunk_tokens is 1; give at least 16"),
        ("[build]\nmax_usd = -1", "max-usd is -1; give a number of dollars"),
        ("[build]\nencoding = 'latin-99'", "the encoding 'latin-99' is unknown"),
        ("[build.cluster]\nfoo = 1", "sets 'foo', which is unknown; there are"),
        ("[build.cluster]\nmethod = 'x'", "method is 'x'; give 'fast' or 'paper'"),
    ],
)
def test_config_refuses_what_the_commands_refuse(
    here: Path, tmp_path: Path, capsys: Capture, text: str, said: str
) -> None:
    written(tmp_path, text)
    assert raptor.cli.main(["config"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_what_a_setting_of_a_question_may_be_is_what_a_question_takes() -> None:
    named = config.BY_NAME
    assert named["ask.route"].choices == ROUTES
    assert [*named["ask.backend"].choices] == choices()
    assert named["ask.reasoning_effort"].choices == EFFORTS
    assert named["ask.temperature"].bounds == (0, MOST_TEMPERATURE)
    for option, limit in _LIMITS.items():
        if (key := named.get(f"ask.{option}")) is not None and key.bounds is not None:
            least, most = key.bounds
            for bad in (
                -1,
                float("nan") if key.kind is float else -1,
                int(most) + 1,
                *([0] if least else []),
            ):
                values: dict[str, Any] = {limit: bad}
                with pytest.raises(RlmError, match="; give "):
                    Limits(**values)
            values = {limit: int(most) if least else 0}
            Limits(**values)


def test_a_variable_that_is_nearly_a_setting_is_told_of(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("RAPTOR_ASK_MODLE", "x")
    monkeypatch.setenv("RAPTOR_HOME", "x")
    assert raptor.cli.main(["config"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == "note: the environment has 'RAPTOR_ASK_MODLE', which is no setting; did you mean RAPTOR_ASK_MODEL?"
    )


# -- whose it is -------------------------------------------------------------------------------------------


def test_the_nearest_one_counts_and_none_above_home(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_above(here) == tmp_path / config.NAME
    nearer = written(here.parent, "")
    assert found_above(here) == nearer
    nearer.unlink()
    monkeypatch.setenv("HOME", str(here.parent))
    assert found_above(here) is None


def test_one_that_others_can_write_is_refused_and_the_way_out_is_named(
    here: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = written(tmp_path, "")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert rlm.cli.main(["ask", "my.index", "who?"]) == 2
        said = capsys.readouterr().err
        assert "can be written by others (chmod go-w" in said and "--config FILE" in said
    own = here / "own.toml"
    own.write_text('[ask]\nmodel = "offline/own"\n')
    assert rlm_args("ask", "i", "q", "--config", str(own))["model"] == "offline/own"


def test_a_link_and_a_file_of_another_user_are_refused(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    if path.stat().st_uid:  # root's, an administrator's, is believed
        with pytest.raises(ConfigError, match="belongs to another user"):
            found_above(here)
    else:
        os.chown(path, 12_345, -1)
        with pytest.raises(ConfigError, match="belongs to another user"):
            found_above(here)
    path.rename(tmp_path / "elsewhere.toml")
    path.symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match="is no plain file"):
        found_above(here)


# -- the commands ------------------------------------------------------------------------------------------


def test_init_writes_what_is_read_and_never_over_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = os.umask(0)  # a mask that would let others write
    try:
        assert raptor.cli.main(["init", str(tmp_path / "new")]) == 0
    finally:
        os.umask(before)
    path = tmp_path / "new" / config.NAME
    assert found_above(tmp_path / "new") == path
    path.write_text("[ask]\ndepth = 2\n")
    assert raptor.cli.main(["init", str(tmp_path / "new")]) == 2
    assert "exists already" in capsys.readouterr().err and path.read_text() == "[ask]\ndepth = 2\n"


def test_config_shows_each_value_and_where_it_is_from(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = written(tmp_path, "[build]\nchunk_tokens = 50\n")
    monkeypatch.setenv("RAPTOR_ASK_MAX_USD", "2.5")
    assert raptor.cli.main(["config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["build.chunk_tokens"] == {"value": 50, "from": str(path)}
    assert shown["ask.max_usd"] == {"value": 2.5, "from": "RAPTOR_ASK_MAX_USD"}
    assert shown["ask.depth"] == {"value": 1, "from": "default"}
    assert raptor.cli.main(["config"]) == 0
    assert f"build.chunk_tokens       50                       {path}" in capsys.readouterr().out
    monkeypatch.setenv("RAPTOR_ASK_MAX_USD", "much")
    with pytest.raises(ConfigError, match="RAPTOR_ASK_MAX_USD\\) sets max_usd to 'much'; give a number"):
        settled(None)


@pytest.mark.parametrize(
    "line", [["config"], ["config", "--json"], ["ask", "who?"], ["map", "who?"], ["chat"]]
)
def test_a_url_that_holds_a_password_is_refused_and_shown_nowhere(
    here: Path, tmp_path: Path, capsys: Capture, line: list[str]
) -> None:
    written(tmp_path, 'index = "s3://user:hunter2@bucket/handbook"\n')
    program = raptor.cli.main if line[0] == "config" else rlm.cli.main
    assert program(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "give keys and passwords by the environment" in err and "hunter2" not in err
