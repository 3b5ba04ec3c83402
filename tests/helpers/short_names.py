"""Short names of models in a user's own file, and what a command sends by them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]


def own_models(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """The file of short names with this text, in a folder for configuration below `home`."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    path = home / "config" / "raptor-rlm" / "models.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def commands(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> Command:
    """What runs a command line, and gives (exit code, standard output, standard error)."""

    def call(*words: Any) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def sent(body: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request that a server got."""
    return {name: value for name, value in body.items() if name not in ("model", "messages", "max_tokens")}
