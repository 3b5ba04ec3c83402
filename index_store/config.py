"""`raptor.toml`: what both commands take where a command line says nothing, and where each value is from.

It is looked for upwards from the working folder, to the user's home or the border of the file system, and the nearest
counts. A command line wins over it, and it over the environment (`RAPTOR_ASK_MODEL` is `ask.model`). As it names models
and what they may spend, one that others could have written is refused; no key, no code, and no address but an index's
URL can be named.
"""

import argparse
import difflib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index_store.errors import IndexStoreError
from index_store.files import opening
from index_store.paths import is_url
from index_store.terminal import Parser, brief, say
from index_store.types import Json

NAME = "raptor.toml"
PREFIX = "RAPTOR_"
MOST_BYTES = 1 << 20
_MOST_PATTERNS, _PATTERN_CHARS = 1_000, 1_000
#: The value of a list of patterns, in `Key.kind`.
PATTERNS = "patterns"


class ConfigError(IndexStoreError):
    """Settings that cannot be used."""


@dataclass(frozen=True, slots=True)
class Key:
    """A setting. `name`: as `table.key`, without a table at the top; `kind`: the type of its value, float for any
    number; `default`: what is written as an example, and what holds where nothing else is said; `choices`: all that a
    text may be, () for any; `bounds`: the least and the most of a number, as a question has them; None for any, as
    those of a build are checked by the build."""

    name: str
    kind: type | str
    default: Json
    about: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting is, and where that is from: a file, a variable of the environment, or "" for no more than the
    default."""

    key: Key
    value: Json
    origin: str = ""


_MOST = 1e9
_FROM_0, _ABOVE_0 = (0.0, _MOST), (math.nextafter(0, 1), _MOST)
_ROUTES = ("auto", "direct", "retrieve", "overview", "map", "rlm")
_BACKENDS = ("auto", "linux", "monty")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")

KEYS = (
    Key("index", str, "my.index", "the index: of build -o, and wherever INDEX is left out"),
    Key("runs", str, "rlm-runs", "the folder of runs"),
    Key(
        "build.summarizer", str, "offline/extractive", "who summarises, as litellm names it, or a short name"
    ),
    Key("build.embedder", str, "minilm", "minilm, a sentence-transformers name, or litellm/NAME"),
    Key(
        "build.device",
        str,
        "auto",
        "where embeddings are computed: auto, cpu, cuda, mps",
        choices=("auto", "cpu", "cuda", "mps"),
    ),
    Key(
        "build.include", PATTERNS, [], "of folders only these files, by patterns as in .gitignore; [] for all"
    ),
    Key("build.exclude", PATTERNS, [], "and of those none of these"),
    Key("build.max_usd", float, None, "hard ceiling on dollars of one build or change"),
    Key("build.max_errors", int, 10, "failed summaries after which it stops"),
    Key("build.chunk_tokens", int, 100, "most tokens in a chunk"),
    Key("build.summary_tokens", int, 200, "most tokens in a summary"),
    Key("build.concurrency", int, 16, "model calls at a time"),
    Key("build.root_children", int, 12, "a level of at most so many nodes gets the root above it"),
    Key("build.encoding", str, "", "of every text file; empty: found out"),
    Key("build.ocr_language", str, "", "of scanned pages, as tesseract names it"),
    Key(
        "build.engine",
        str,
        "local",
        "where a build is computed: local, or ray for a cluster",
        choices=("local", "ray"),
    ),
    Key("build.precision", str, "auto", "what embeddings are computed in: auto, bfloat16, float32"),
    Key("ask.model", str, "offline/navigator", "the root model, as litellm names it, or a short name"),
    Key("ask.child_model", str, None, "the model of sub-calls"),
    Key("ask.temperature", float, None, "sent with each call", bounds=(0, 2)),
    Key("ask.reasoning_effort", str, None, "of models that reason: low, medium, high", choices=_EFFORTS),
    Key("ask.route", str, "auto", "direct, retrieve, overview, map, rlm, or auto", choices=_ROUTES),
    Key("ask.backend", str, "auto", "what confines code: auto, linux, monty", choices=_BACKENDS),
    Key("ask.require_citations", bool, False, "take no answer without quotes that stand"),
    Key("ask.max_usd", float, None, "hard ceiling on dollars of one question", bounds=_FROM_0),
    Key("ask.max_tokens", int, None, "hard ceiling on tokens", bounds=_FROM_0),
    Key("ask.max_calls", int, 200, "hard ceiling on model calls", bounds=_FROM_0),
    Key("ask.max_turns", int, 16, "turns of the root, and of each child", bounds=_ABOVE_0),
    Key("ask.depth", int, 1, "levels of children with a REPL", bounds=_FROM_0),
    Key("ask.timeout", float, 600, "seconds of a run", bounds=_ABOVE_0),
    Key("ask.reply_tokens", int, 4000, "tokens of one reply", bounds=_ABOVE_0),
    Key("ask.concurrency", int, 16, "model calls at a time", bounds=_ABOVE_0),
    Key("ask.rpm", float, None, "requests a minute to each model", bounds=_ABOVE_0),
    Key("ask.tpm", float, None, "tokens a minute to each model", bounds=_ABOVE_0),
    Key(
        "ask.window",
        int,
        None,
        "tokens that the root model takes, where litellm does not know",
        bounds=_ABOVE_0,
    ),
)
BY_NAME = {key.name: key for key in KEYS}
_TABLES = ("build", "ask")
#: A table of its own in [build], whose names the build knows.
CLUSTER = "build.cluster"
#: What has the name of a key or an address.
_SECRET = re.compile(r"api|key|secret|password|credential|url|endpoint", re.IGNORECASE)
_ALIKE = 0.7  # of a variable's name, which begins as all do


# -- the file ----------------------------------------------------------------------------------------------


def found_above(folder: Path) -> Path | None:
    """The nearest raptor.toml in `folder` or above it, up to the user's home or the border of the file system.

    Raises ConfigError for one that is no file of the user's own.
    """
    try:
        here = folder.resolve()
        home, device = Path(os.path.expanduser("~")).resolve(), here.stat().st_dev  # noqa: PTH111
        for above in (here, *here.parents):
            if above.stat().st_dev != device:
                return None
            if os.path.lexists(above / NAME):
                _refuse_a_strangers(above / NAME)
                return above / NAME
            if above == home:
                return None
    except OSError:  # what cannot be looked at holds nothing for us
        return None
    return None


def _refuse_a_strangers(path: Path) -> None:
    status = path.lstat()
    fault = ""
    if not stat.S_ISREG(status.st_mode):
        fault = "is no plain file"
    elif hasattr(os, "geteuid") and status.st_uid not in (0, os.geteuid()):
        fault = "belongs to another user"
    elif hasattr(os, "geteuid") and status.st_mode & 0o022:
        fault = f"can be written by others (chmod go-w {path})"
    if fault:
        raise ConfigError(
            f"{path} {fault}, and could name models and what they may spend; take it away, or name the settings "
            "that you mean with --config FILE"
        )


def read(path: str | Path) -> dict[str, Any]:
    """The settings in a file, by their names; [build.cluster] as one. Those of a build may stand at the top, without
    their table. Raises ConfigError, in one sentence, for what cannot be read, and for an unknown name or value."""
    try:
        with os.fdopen(os.open(path, opening("RDONLY", "NONBLOCK")), "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the settings {path}: {error.strerror or error}") from error
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"the settings {path} have more than {MOST_BYTES:,} bytes; name a shorter file")
    import tomllib  # here, as most command lines have no such file

    try:
        tables = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the settings {path} are not TOML: {error}") from error
    found: dict[str, Any] = {}
    for name, value in _flat(tables, str(path)):
        if name in found:
            raise ConfigError(f"{path} sets {name} twice; leave one out")
        found[name] = value if name == CLUSTER else checked_value(BY_NAME[name], value, f"{path} sets")
    return found


def _flat(tables: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if name in _TABLES:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path} sets {name} to {brief(value)}; write a table [{name}]")
            for inner, its in value.items():
                yield _known(f"{name}.{inner}", path), its
        elif isinstance(value, Mapping) and name not in _at_top() and not _SECRET.search(name):
            known = [f"[{table}]" for table in (*_TABLES, CLUSTER)]
            raise ConfigError(
                f"{path} has a table [{brief(name)}], which is unknown{nearest(f'[{name}]', known)}"
            )
        else:
            yield _known(name, path), value


def _known(name: str, path: str) -> str:
    """The setting that a name in a file stands for; one of a build may leave out its table."""
    full = next((full for full in (name, f"build.{name}") if full in BY_NAME or full == CLUSTER), None)
    if full is None:
        table, dot, last = name.rpartition(".")
        own = [key for key in (*BY_NAME, CLUSTER) if key.startswith(table + dot)] if dot else []
        names = [key.removeprefix(table + dot) for key in own] or [*BY_NAME, *_at_top()]
        if _SECRET.search(last):
            raise ConfigError(
                f"{path} sets {brief(name)}, and keys and addresses do not belong there; put it into the environment, "
                "as OPENAI_API_KEY"
            )
        raise ConfigError(f"{path} sets {brief(name)}, which is unknown{nearest(last, names)}")
    return full


def _at_top() -> list[str]:
    """The settings of a build as they stand without their table."""
    return [key.removeprefix("build.") for key in (*BY_NAME, CLUSTER) if key.startswith("build.")]


def nearest(name: str, names: Sequence[str]) -> str:
    """The end of an error about an unknown name: the known one that is like it, or all."""
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(names))}"


def checked_value(key: Key, value: Any, where: str) -> Any:
    """The value, if it is of the setting's type and in its range. `where`: how an error begins. Raises ConfigError."""
    name = key.name.rpartition(".")[2]
    if key.kind == PATTERNS:
        fits = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
        if not fits or len(value) > _MOST_PATTERNS or max(map(len, value), default=0) > _PATTERN_CHARS:
            raise ConfigError(f'{where} {name} to {brief(value)}; give a list of patterns, as ["*.tmp"]')
        return value
    wanted = (int, float) if key.kind is float else key.kind
    assert isinstance(wanted, type | tuple)
    if not isinstance(value, wanted) or (isinstance(value, bool) and key.kind is not bool):
        word = {int: "whole number", float: "number", str: "text", bool: "true or false"}[key.kind]  # type: ignore[index]
        raise ConfigError(f"{where} {name} to {brief(value)}; give a {word}")
    if fitting := _what_fits_better(key, value):
        raise ConfigError(f"{where} {name} to {brief(value)}; give {fitting}")
    return value


def _what_fits_better(key: Key, value: Any) -> str:
    """What to give instead of a value of the right type that is out of range; "" where it is not."""
    if key.choices and value not in key.choices:
        return f"one of {', '.join(key.choices)}"
    if key.bounds is None or key.bounds[0] <= value <= key.bounds[1]:
        return ""
    least, most = key.bounds
    return f"more than 0 and at most {most:g}" if least else f"a number from 0 to {most:g}"


# -- what holds --------------------------------------------------------------------------------------------


def settled(file: str | Path | None, environment: Mapping[str, str] | None = None) -> list[Value]:
    """Every setting with its value, and where that is from; `file` wins over the environment. Paths in a file count
    from where it stands. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    given = read(file) if file is not None else {}
    if file is not None:
        for name in {"index", "runs"} & given.keys():
            if not is_url(given[name]):
                given[name] = os.path.relpath(Path(file).resolve().parent / given[name])
    values = []
    for key in KEYS:
        variable = variable_of(key)
        if key.name in given:
            values.append(Value(key, given[key.name], str(file)))
        elif environment.get(variable):
            values.append(Value(key, _of_variable(key, environment[variable], variable), variable))
        else:
            values.append(Value(key, key.default if key.name != "index" else None))
    if CLUSTER in given:
        values.append(Value(Key(CLUSTER, dict, None, ""), given[CLUSTER], str(file)))
    return values


def _of_variable(key: Key, text: str, variable: str) -> Any:
    """A variable's text as the setting's value: TOML, but for texts, which are as they stand."""
    where = f"the environment ({variable}) sets"
    if key.kind is str:
        return checked_value(key, text, where)
    import tomllib

    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text
    return checked_value(key, value, where)


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable of the environment that is no setting, and is nearly called as one."""
    known = {variable_of(key): key for key in KEYS}
    near = {
        name: difflib.get_close_matches(
            name.removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known], 1, _ALIKE
        )
        for name in environment
        if name.startswith(PREFIX) and name not in known
    }
    return [
        f"the environment has {brief(name)}, which is no setting; did you mean {PREFIX}{found[0]}?"
        for name, found in near.items()
        if found
    ]


def variable_of(key: Key) -> str:
    """The variable of the environment that gives a setting."""
    return PREFIX + key.name.upper().replace(".", "_")


# -- command lines -----------------------------------------------------------------------------------------


def parsed(parser: Parser, table: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """What a command line gives, with the settings that hold where it says nothing. `table`: that of its settings.

    Settings of a build that are no option stand in `args.settings`, by their last names, and what they are from in
    `args.settings_from`. Raises ConfigError.
    """
    line = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in line if not word.startswith("-")), "")
    chosen = _commands(parser).get(command)
    index = None
    if chosen is not None and _takes_settings(chosen) and not {"-h", "--help"} & {*line}:
        file = _typed_file(line) or found_above(Path.cwd())
        values = [value for value in settled(file) if value.origin]
        for sentence in misspelt(os.environ):
            say(f"note: {sentence}", file=sys.stderr)
        index = next((value.value for value in values if value.key.name == "index"), None)
        _fill(chosen, table, values)
    args = parser.parse_args(line)
    if index is not None and any(not a.option_strings and a.dest == "index" for a in chosen._actions):  # type: ignore[union-attr]
        _settle_index(args, str(index))
    return args


def offer(commands: Mapping[str, Parser]) -> None:
    """Give each command that takes settings the option that names their file."""
    for command in commands.values():
        if any(action.dest in _DESTS for action in command._actions):
            command.add_argument(
                "--config",
                metavar="FILE",
                help=f"settings as TOML, instead of those of a {NAME} found upwards",
            )


_DESTS = {key.name.rpartition(".")[2] for key in KEYS}


def _commands(parser: Parser) -> Mapping[str, Parser]:
    found = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return next(found, {})


def _takes_settings(command: Parser) -> bool:
    return any(action.dest == "config" for action in command._actions)


def _typed_file(line: Sequence[str]) -> str:
    """The file that a command line names by --config, before it is parsed; "" for none."""
    for word, after in zip(line, [*line[1:], ""], strict=True):
        if word == "--":
            break
        if word == "--config":
            return after
        if word.startswith("--config="):
            return word.partition("=")[2]
    return ""


def _fill(command: Parser, table: str, values: Sequence[Value]) -> None:
    """Make settings the defaults of a command's options."""
    options = {action.dest: action for action in command._actions if action.option_strings}
    others: dict[str, Any] = {}
    for value in values:
        place, _, name = value.key.name.rpartition(".")
        if name == "index":
            _fill_index(command, value)
        elif place in ("", table) and name not in _NOT_TAKEN.get(command.prog, ()):
            action = options.get(name)
            if action is None or name in _MERGED:
                others[name] = value.value
                command.set_defaults(settings_from=value.origin)
            else:
                action.default = value.value
    command.set_defaults(settings=others)


#: Settings of a build that `build` merges with its options by itself.
_MERGED = {"cluster", "encoding", "exclude", "include", "ocr_language", "precision"}
#: What a command has under the same name and another meaning.
_NOT_TAKEN = {"rlm eval": ("model",), "raptor update": ("encoding",)}


def _fill_index(command: Parser, value: Value) -> None:
    for action in command._actions:
        if action.dest == "index" and not action.option_strings:
            action.nargs, action.default, action.required = "?", value.value, False
        if command.prog in ("raptor build", "raptor shard") and action.dest == "output":
            action.default, action.required = value.value, False


def _settle_index(args: argparse.Namespace, index: str) -> None:
    """Where INDEX was left out, the first word of what follows it stands in its place: put it back."""
    typed = args.index
    if typed == index:
        return
    for name in ("source", "doc"):  # one or more of them, which may be files
        if isinstance(words := getattr(args, name, None), list) and not _is_index(typed):
            args.index = index
            setattr(args, name, [typed, *words])
    for name, many in (("question", "questions"), ("query", "queries")):
        left = getattr(args, name, "") is None and getattr(args, many, None) is None
        if left and not is_url(typed) and not os.path.lexists(typed):
            args.index = index
            setattr(args, name, typed)


def _is_index(typed: str) -> bool:
    return is_url(typed) or (Path(typed) / "CURRENT").exists()


# -- a new file --------------------------------------------------------------------------------------------

_HEAD = f"""\
# Settings of raptor and rlm, for this folder and all below it. A command line wins over this file, and this file over
# the environment ({PREFIX}ASK_MODEL is model in [ask]). `raptor config` shows what holds, and from where. Take the #
# away from what you change. No key and no address can stand here: these come from the environment.
"""


def template() -> str:
    """A raptor.toml in which every setting stands, with its default, as a comment."""
    lines, table = [_HEAD], ""
    for key in KEYS:
        place, _, name = key.name.rpartition(".")
        if place != table:
            table = place
            lines.append(f"\n[{table}]")
        lines.append(f"# {name} = {_example(key)}  # {key.about}")
    lines.append("\n# [build.cluster]  # how nodes are grouped\n# target_size = 8\n# seed = 0")
    return "\n".join(lines) + "\n"


def _example(key: Key) -> str:
    kinds: dict[Any, str] = {float: "1.0", int: "32000", str: '"..."'}
    examples = {
        "build.exclude": '["drafts/", "*.tmp"]',
        "build.include": '["*.md", "*.pdf"]',
        "ask.reasoning_effort": '"medium"',
    }
    if key.name in examples:
        return examples[key.name]
    return kinds[key.kind] if key.default is None else json.dumps(key.default)
