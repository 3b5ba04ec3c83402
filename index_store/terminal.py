"""What both command lines print with: text made safe to look at, numbers with their units, subcommands with examples.

Text from documents, models and code is escaped, so that nothing in it acts on a terminal or a page. This is the only
module that prints.
"""

import argparse
import io
import json
import math
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeAlias

if TYPE_CHECKING:
    from rich.text import Text

    #: What `add_subparsers` gives.
    Subcommands: TypeAlias = "argparse._SubParsersAction[Parser]"

# What acts without being seen: control characters drive terminals; bidi marks, overrides and isolates reorder words;
# what Unicode calls default-ignorable (zero-width characters, fillers, variation selectors, tags) hides words in a text
# or keeps two names apart that look the same; U+2028, U+2029 and U+0085 begin a line; lone surrogates cannot be
# encoded. Newline and tab stay. Private use stays too: it is drawn, if only as a box.
_ACTING = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Three of these are letters of a script, or parts of a picture, where they shape what is drawn beside them; written out
# there, every line of Persian or Hindi and every family of emoji could not be read. So they stay in these places, each
# between two characters that are seen: the rules of RFC 5892, A.1 and A.2, for joiners in the names of hosts, with
# emoji beside them. Anywhere else they are written out like the rest.
_PICTURE = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
_ARABIC = "\u0620-\u063f\u0641-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f"
_SHAPING = (
    f"(?<=[{_VIRAMA}])[\u200c\u200d](?=\\w)"
    f"|(?<=[{_ARABIC}])\u200c(?=[{_ARABIC}])"
    f"|(?:(?<=[{_PICTURE}])|(?<=[{_PICTURE}]\ufe0f))\u200d(?=[{_PICTURE}])"
    f"|(?<=[{_PICTURE}])[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0f(?=\u20e3)"
)
_UNSEEN = re.compile(f"(?:{_SHAPING})|({_ACTING})")


def visible(text: str) -> str:
    r"""The text with every character that acts without being seen written out, as in `\x1b` or `\u202e`."""
    return _UNSEEN.sub(_escape, text.replace("\r\n", "\n"))


def spelled(text: str) -> str:
    r"""The text on one line and in full, newlines and tabs written out as `\n` and `\t`: no space of a name is lost."""
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


def one_line(text: str, width: int) -> str:
    """The text on one line, in at most `width` characters; '…' stands for what was left out."""
    line = visible(" ".join(text[: 8 * width].split()))
    return line if len(line) <= width and len(text) <= 8 * width else line[: max(width - 1, 0)] + "…"


def say(*values: object, end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print, with every character that acts without being seen written out; newlines and tabs stay.

    All that the command lines write goes through this or `print_json`; a test holds that nothing else prints. What must
    not begin a line of its own (a name, a label) goes through `one_line` or `spelled` before.
    """
    _print(visible(" ".join(map(str, values))) + end, file, flush)


_one_writer = threading.RLock()  # a signal's handler may say something while its thread does


def _print(text: str, file: TextIO | None, flush: bool) -> None:
    """Write a text at once: where two threads say something, no line stands in another."""
    with _one_writer:
        print(text, end="", file=file, flush=flush)


def print_json(value: object, indent: int | None = None, flush: bool = False) -> None:
    """Print a value as JSON in printable ASCII."""
    # Escapes stand in texts only, so a DEL, which JSON leaves as it is, stands in one too.
    _print(json.dumps(value, indent=indent).replace("\x7f", "\\u007f") + "\n", None, flush)


def styled(text: str, **style: Any) -> "Text":
    """A line for rich to draw, which is given nothing else; `style` as `rich.text.Text` takes it."""
    from rich.text import Text

    return Text(spelled(text), **style)


def brief(value: object) -> str:
    """A value as an error quotes it: in at most 80 characters, all of them seen, whatever its sender made of it.

    A container, which may be deep, is named by its type; of a whole number of more than 20 digits the first are shown.
    """
    if isinstance(value, str):
        quoted = repr(value[:80])
        return quoted if len(quoted) <= 80 else quoted[:79] + "…"
    if isinstance(value, int) and abs(value) >= 10**20:
        least = int(math.log10(2) * (abs(value).bit_length() - 1))  # its digits, or one less
        return f"{'-' * (value < 0)}{abs(value) // 10 ** (least - 11)}…"
    return repr(value) if value is None or isinstance(value, int | float) else type(value).__name__


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 node`, `2,000 nodes`, `3 replies`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """A share in whole percent: `34%`, and `<1%` of what is less than one and not nothing."""
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _escape(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]
    code = ord(match[1])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def byte_size(size: int) -> str:
    """Bytes in the unit that leaves a few digits: `9 bytes`, `4 kB`, `1.2 MB`."""
    kilo, mega = size / 1e3, size / 1e6
    return f"{size} bytes" if size < 1000 else f"{kilo:.0f} kB" if mega < 1 else f"{mega:,.1f} MB"


def span_of_time(low: float, high: float) -> str:
    """From so many seconds to so many, rounded outwards: `40 s to 3 min`, `3 to 5 h`, `4 s`."""
    lower, upper = _time(low, math.floor), _time(high, math.ceil)
    if lower == upper:
        return f"{lower[0]} {lower[1]}"
    return f"{lower[0]}{'' if lower[1] == upper[1] else ' ' + lower[1]} to {upper[0]} {upper[1]}"


def _time(seconds: float, rounded: Callable[[float], int]) -> tuple[int, str]:
    number, unit = next(
        ((seconds / size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds >= 2 * size),
        (seconds, "s"),
    )
    step = 1 if number < 10 else 5
    return rounded(number / step) * step, unit


def prepare(*streams: TextIO) -> None:
    """Let any text be written: characters that a stream's encoding lacks as escapes instead of ending the command, and
    what Python itself prints (warnings, errors that nothing caught, logs that nobody wanted) as `say` does."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _warning
    sys.excepthook = _uncaught
    import logging  # here, as --help needs none

    class Seen(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return visible(super().format(record))

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Seen())


#: The loggers of all that is ours.
LOGGERS = ("index_store", "raptor", "rlm")
#: Others' that say on their own what we say in our words.
_TALKATIVE = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


@contextmanager
def logged(verbose: int, *, quiet: bool = False) -> Iterator[None]:
    """What we log goes to standard error while the block runs: warnings; with `verbose` 1 what is done, with 2 each
    step of it; only errors if `quiet`. For command lines: a program that imports us configures its own logging."""
    import logging

    class ToStandardError(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines = self.format(record).split("\n") if record.exc_info else [self.format(record)]
            say("\n    ".join(map(spelled, lines)), file=sys.stderr, flush=True)

    handler = ToStandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    loggers = [logging.getLogger(name) for name in (*LOGGERS, *_TALKATIVE)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        ours = logger.name in LOGGERS
        logger.setLevel(level if ours else logging.CRITICAL)
        if ours:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.setLevel(was)
            logger.removeHandler(handler)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return visible(_python_warning(message, category, filename, lineno, line))


_python_warning = warnings.formatwarning


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    say("".join(traceback.format_exception(kind, error, trace)), file=sys.stderr, end="")


class Parser(argparse.ArgumentParser):
    """A parser whose messages may quote arguments, which a shell may have made from a stranger's file names.

    `mixed`: options may stand among the other arguments: `rlm ask my.index --route rlm "who?"`.
    """

    def __init__(self, *args: Any, mixed: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._mixed = mixed
        self.color = False  # from Python 3.14 on it would be written as escapes

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does; what a subcommand is given is parsed by this."""
        if not self._mixed or self._subparsers:  # words of a subcommand are mixed there
            return super().parse_known_args(args, namespace)
        self._mixed = False  # what is called next calls this again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixed = True

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message, 2_000))

    def _print_message(self, message: str, file: Any = None) -> None:  # what argparse prints everything with
        say(message, file=file or sys.stderr, end="")


class _Version(argparse.Action):
    """Says the program's name and version, which is looked up only now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        say(f"{parser.prog} {version('raptor-rlm')}")
        sys.exit(0)


#: What an argument completes to, by its name in the help.
_COMPLETED = {
    "DIR": "dirs",
    "FOLDER": "dirs",
    "INDEX": "dirs",
    "RUN": "dirs",
    "RUNS": "dirs",
    "NEWRUN": "dirs",
} | dict.fromkeys(("FILE", "PAGE", "QUESTIONS", "OTHER"), "files")


class _Completion(argparse.Action):
    """Says what a shell reads to complete the program's commands, options and files."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> NoReturn:
        import shtab  # here, as nothing else needs it

        _complete_files(parser, {"dirs": shtab.DIRECTORY, "files": shtab.FILE})
        say(shtab.complete(parser, values))
        sys.exit(0)


def _complete_files(parser: argparse.ArgumentParser, kinds: dict[str, Any]) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, kinds)
        elif action.choices is None and (kind := _kind_of(action)):
            action.complete = kinds[kind]  # type: ignore[attr-defined]


def _kind_of(action: argparse.Action) -> str:
    names = action.metavar if isinstance(action.metavar, str) else ""
    return "files" if action.dest == "source" else _COMPLETED.get(names, "")


def _verbose_option(parser: argparse.ArgumentParser, **options: Any) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        help="log what is done on standard error; -vv: each step",
        **options,
    )


def command_line(prog: str, description: str, example: str) -> "tuple[Parser, Subcommands]":
    """A program's parser, whose --help ends with an example, and the place of its subcommands."""
    parser = Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say the version")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        help="say what a shell reads to complete this program",
    )
    _verbose_option(parser, default=0)
    parser.set_defaults(quiet=False)
    return parser, parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def add_command(
    commands: "Subcommands", name: str, help: str, example: str, run: str, *, progress: bool = False
) -> Parser:
    """A subcommand's parser, whose description is its `help` as a sentence, and whose --help ends with an example.

    `run` names the function that runs it, as `module:function`, so that --help imports none of them. `progress`:
    whether it shows any, so that there is --quiet.
    """
    command = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        mixed=True,
    )
    command.set_defaults(run=run)
    _verbose_option(command, default=argparse.SUPPRESS)
    if progress:
        command.add_argument(
            "-q", "--quiet", action="store_true", help="print nothing but errors and the result"
        )
    return command
